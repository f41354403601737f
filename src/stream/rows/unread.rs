//! Which rows have a part in the store that must be read before they can be written, and in which order that is done.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Key, MetricRow, Rows};
use crate::model::id::metrics_id;
use crate::model::row::RowKey;
use crate::model::schema::Model;
use crate::model::time_bucket::{Downsampling, day_of};
use crate::storage::Reach;
use crate::stream::plan::Plan;
use crate::stream::read_back::Found;

/// A slot whose stored part is to be read.
#[derive(Debug)]
pub(in crate::stream) struct Missing {
    key: Key,
    item: usize,
}

/// What the store may have that this process does not hold.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// What was there before anything was written; anything can be until that is known.
    earlier: Option<Arc<Reach>>,
    /// Other nodes may have written buckets up to these.
    of_others: Newest,
    /// The newest bucket of each precision that was written and forgotten, by day.
    forgotten: BTreeMap<u64, Newest>,
    /// Buckets until the end of this day may have been forgotten.
    forgotten_until: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    minute: u64,
    hour: u64,
    day: u64,
}

/// Days with something forgotten that are remembered one by one; more than there are between the oldest data that is taken and
/// tomorrow, unless data is kept for months.
const MAX_DAYS: usize = 64;

impl Newest {
    fn of(&mut self, bucket: u64) -> &mut u64 {
        match Downsampling::of(bucket) {
            Some(Downsampling::Day) => &mut self.day,
            Some(Downsampling::Hour) => &mut self.hour,
            _ => &mut self.minute,
        }
    }
}

impl Stored {
    pub(super) fn may_have(&self, model: &Model, bucket: u64) -> bool {
        let earlier = self.earlier.as_deref();
        earlier.is_none_or(|earlier| earlier.includes(&model.name, bucket))
            || self.is_of_others(bucket)
            || self.has_forgotten(bucket)
    }

    fn is_of_others(&self, bucket: u64) -> bool {
        let mut of_others = self.of_others;
        bucket <= *of_others.of(bucket)
    }

    /// Another node may have written everything up to a bucket of its precision.
    pub(super) fn expect_of_others(&mut self, bucket: u64) {
        let newest = self.of_others.of(bucket);
        *newest = bucket.max(*newest);
    }

    fn has_forgotten(&self, bucket: u64) -> bool {
        let day = day_of(bucket);
        let newest = self.forgotten.get(&day).copied();
        day <= self.forgotten_until || newest.is_some_and(|mut newest| bucket <= *newest.of(bucket))
    }

    pub(super) fn forget(&mut self, bucket: u64) {
        let newest = self.forgotten.entry(day_of(bucket)).or_default();
        let newest = newest.of(bucket);
        *newest = bucket.max(*newest);
        while self.forgotten.len() > MAX_DAYS {
            if let Some((day, _)) = self.forgotten.pop_first() {
                self.forgotten_until = day.max(self.forgotten_until);
            }
        }
    }
}

/// Minutes come before hours and those before days, as each is looked at more; newer before older, so that a flood of late
/// data does not hold up what happens now.
type Turn = (Reverse<Downsampling>, Reverse<u64>);

/// Rows that wait to be read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    queue: BTreeMap<Turn, Vec<Key>>,
    /// Could not be read at the last try.
    put_off: Vec<Key>,
}

impl Unread {
    fn push(&mut self, key: Key) {
        let step = Downsampling::of(key.bucket).unwrap_or(Downsampling::Day);
        let turn = (Reverse(step), Reverse(key.bucket));
        self.queue.entry(turn).or_default().push(key);
    }

    fn pop(&mut self) -> Option<Key> {
        let mut first = self.queue.first_entry()?;
        let key = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        key
    }
}

impl MetricRow {
    fn waits(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| slot.is_dirty && !slot.is_whole)
    }
}

impl Rows {
    /// Whether anything waits to be read that can be tried now.
    pub(in crate::stream) fn has_unread(&self) -> bool {
        !self.unread.queue.is_empty()
    }

    /// Whether anything waits to be read at all.
    pub(in crate::stream) fn is_all_read(&self) -> bool {
        self.unread.queue.is_empty() && self.unread.put_off.is_empty()
    }

    /// Whether it is known what was stored earlier.
    pub(in crate::stream) fn knows_earlier(&self) -> bool {
        self.stored.earlier.is_some()
    }

    /// The newest minute that was stored earlier, 0 without any, if that is known.
    pub(in crate::stream) fn earlier_minute(&self) -> Option<u64> {
        self.stored.earlier.as_deref().map(Reach::newest_minute)
    }

    /// Queues a row that changed, if it waits and is not queued yet.
    pub(super) fn note_unread(&mut self, key: Key) {
        if let Some(row) = self.rows.get_mut(&key)
            && !row.is_queued
            && row.waits()
        {
            row.is_queued = true;
            self.unread.push(key);
        }
    }

    /// Takes in what was stored before this process wrote anything. Rows of other buckets need not be read.
    pub(in crate::stream) fn learn_earlier(&mut self, plan: &Plan, earlier: Arc<Reach>) {
        self.stored.earlier = Some(earlier);
        let unread = std::mem::take(&mut self.unread);
        let queued = unread.queue.into_values().flatten();
        for key in queued.chain(unread.put_off) {
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            row.is_queued = false;
            for (slot, item) in row.slots.iter_mut().zip(plan.items(key.entity.scope)) {
                slot.is_whole |= !self.stored.may_have(&item.model, key.bucket);
            }
            self.note_unread(key);
        }
    }

    /// Tries again what could not be read.
    pub(in crate::stream) fn retry(&mut self) {
        for key in std::mem::take(&mut self.unread.put_off) {
            self.unread.push(key);
        }
    }

    /// Takes the next stored rows that must be read before what changed can be written, about `limit`.
    pub(in crate::stream) fn missing(
        &mut self,
        plan: &Plan,
        limit: usize,
    ) -> (Vec<Missing>, Vec<RowKey>) {
        let mut missing = Vec::new();
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(key) = self.unread.pop()
        {
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            row.is_queued = false;
            let items = plan.items(key.entity.scope);
            for (i, (slot, item)) in row.slots.iter().zip(items).enumerate() {
                if slot.is_dirty && !slot.is_whole {
                    missing.push(Missing {
                        key: key.clone(),
                        item: i,
                    });
                    keys.push(RowKey {
                        model: Arc::clone(&item.model),
                        id: metrics_id(key.bucket, &key.entity.id),
                        time_bucket: Some(key.bucket),
                    });
                }
            }
        }
        (missing, keys)
    }

    /// Merges what was stored under the slots that were missing it; those whose part could not be read are put off.
    pub(in crate::stream) fn complete(
        &mut self,
        plan: &Plan,
        missing: Vec<Missing>,
        found: Vec<Found>,
    ) {
        for (Missing { key, item: at }, found) in missing.into_iter().zip(found) {
            let stored = match found {
                Found::Unread => {
                    self.put_off(key);
                    continue;
                }
                Found::Nothing => None,
                Found::Row(row) => Some(row),
            };
            let item = plan.items(key.entity.scope).get(at);
            let row = self.rows.get_mut(&key);
            let slot = row.and_then(|row| row.slots.get_mut(at));
            let (Some(item), Some(slot)) = (item, slot) else {
                continue;
            };
            if slot.is_whole {
                continue;
            }
            slot.is_whole = true;
            let cells = stored.as_ref().map(|row| row.cells.as_slice());
            let cells = cells.and_then(|cells| cells.get(item.model.entity_columns.len()..));
            let stored = cells.and_then(|cells| item.function.from_cells(cells));
            if let (Some(mut stored), Some(value)) = (stored, &slot.value) {
                self.unfit += u64::from(!item.function.merge(&mut stored, value));
                slot.value = Some(stored);
            }
        }
    }

    /// Puts off everything of a read that failed.
    pub(in crate::stream) fn not_read(&mut self, missing: Vec<Missing>) {
        for Missing { key, .. } in missing {
            self.put_off(key);
        }
    }

    fn put_off(&mut self, key: Key) {
        if let Some(row) = self.rows.get_mut(&key)
            && !row.is_queued
        {
            row.is_queued = true;
            self.unread.put_off.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_known_by_day() {
        let mut stored = Stored {
            earlier: Some(Arc::default()),
            ..Stored::default()
        };
        for bucket in [202_009_151_059, 2_020_091_509, 202_009_131_010] {
            stored.forget(bucket);
        }
        for (bucket, want) in [
            (202_009_151_059, true),
            (202_009_151_000, true),
            (202_009_151_100, false),
            (2_020_091_509, true),
            (2_020_091_510, false),
            (20_200_915, false),
            // Nothing of this day was ever written.
            (202_009_141_059, false),
            (202_009_131_009, true),
            (202_009_131_059, false),
        ] {
            assert_eq!(stored.has_forgotten(bucket), want, "{bucket}");
        }
        // Of days that are no longer remembered anything may be stored.
        let years = (0..).map(|year| 20_300_101 + year * 10_000);
        for day in years.take(MAX_DAYS - 1) {
            stored.forget(day);
        }
        assert!(stored.has_forgotten(202_009_131_059) && !stored.has_forgotten(20_200_915));
    }

    #[test]
    fn minutes_come_first_and_newer_ones_before_older_ones() {
        use crate::model::entity::Entity;
        use crate::model::scope::{NodeType, Scope};

        let entity = Arc::new(Entity::new(Scope::Service, NodeType::Normal, "a", []));
        let mut unread = Unread::default();
        for bucket in [
            20_200_915,
            2_020_091_510,
            202_009_151_058,
            2_020_091_511,
            202_009_151_100,
        ] {
            let entity = Arc::clone(&entity);
            unread.push(Key { entity, bucket });
        }
        let turns = std::iter::from_fn(|| unread.pop()).map(|key| key.bucket);
        let want = [
            202_009_151_100,
            202_009_151_058,
            2_020_091_511,
            2_020_091_510,
            20_200_915,
        ];
        assert_eq!(turns.collect::<Vec<_>>(), want);
    }
}
