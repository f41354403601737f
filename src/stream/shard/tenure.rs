//! A shard in a cluster: what comes from other nodes, and entities that come to this one or go to another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Key, Shard, horizon};
use crate::model::entity::Entity;
use crate::storage::Backend;
use crate::stream::increments::{Portion, merge};
use crate::stream::partitions::{Partitions, of_entity};
use crate::stream::watched::Watched;

/// How far agents' clocks may be ahead.
const AHEAD_MS: i64 = 10 * 60 * 1000;
/// How long whoever looks at values may let wait for room those of entities that go to another node.
const LAST_VALUES: Duration = Duration::from_secs(5);

impl<S: Backend + 'static> Shard<S> {
    /// Merges what was collected elsewhere.
    pub(super) fn take_in(&mut self, portion: Portion) {
        let now_ms = self.deps.clock.now_ms();
        let today = self.deps.zone.day(now_ms).unwrap_or(0);
        let increments = portion.increments;
        self.deps.metrics.facts.inc_by(increments.len() as u64);
        let mut unfit = 0;
        let mut homeless = BTreeMap::new();
        for increment in increments {
            let key = Key {
                entity: Arc::clone(&increment.entity),
                bucket: increment.minute,
            };
            let items = self.deps.plan.items(increment.entity.scope).len();
            let values = self
                .pending
                .entry(key)
                .or_insert_with(|| std::iter::repeat_with(|| None).take(items).collect());
            unfit += merge(&self.deps.plan, &increment.entity, values, increment.values);
            let has_room = !increment.is_seen || { &mut self.metadata }.touch(
                &increment.entity,
                increment.minute,
                today,
            );
            if !has_room {
                *homeless.entry(Some(increment.entity.scope)).or_default() += 1;
            }
        }
        self.unfit(unfit);
        self.shed_metadata(&homeless);
        self.absorb(portion.known);
    }

    /// Another node may have written any bucket until now, or until as far as clocks may be ahead.
    pub(super) fn acquire(&mut self) {
        let now_ms = self.deps.clock.now_ms();
        self.rows
            .read_back_until(horizon(&self.deps.zone, now_ms + AHEAD_MS));
    }

    /// Forgets all about entities that another node will write. They must be stored. Whoever looks at their values gets them
    /// before.
    pub(super) async fn forget(&mut self, partitions: Partitions) {
        self.hand_on_last(partitions).await;
        let is_gone = |entity: &Entity| partitions.contains(of_entity(entity));
        self.pending.retain(|key, _| !is_gone(&key.entity));
        let unsaved = self.rows.forget(is_gone);
        let shed = &self.deps.metrics.shed;
        shed.with_label_values(&["gone", ""]).inc_by(unsaved);
        self.metadata.forget(partitions);
        self.count();
    }

    async fn hand_on_last(&mut self, partitions: Partitions) {
        let Some(watcher) = &self.watcher else { return };
        let end = Instant::now() + LAST_VALUES;
        loop {
            let values = self.rows.take_news_of(&self.deps.plan, partitions);
            if values.is_empty() {
                return;
            }
            let count = values.len();
            let sending = watcher.send(Watched::Values(values));
            if tokio::time::timeout_at(end, sending).await.is_err() {
                self.deps.metrics.unwatched.inc_by(count as u64);
            }
        }
    }
}
