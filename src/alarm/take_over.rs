//! Entities that are new here: their values wait until what is stored of them is read. Everything else goes on meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::running::Alarms;
use crate::model::minute_value::MinuteValue;
use crate::model::row::{Row, RowKey};
use crate::model::schema::Model;
use crate::model::scope::Scope;
use crate::storage::Backend;
use crate::stream::Partitions;

/// How long the store may take for the state.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to read the state, or to store it for another node.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Rough bytes of a value that waits.
pub(super) const BYTES_PER_VALUE: u64 = 256;

/// What was found under the keys, or why nothing was.
pub(super) type Answer = Result<Vec<Option<Row>>, String>;

/// Whose value it is; the oldest minutes come first.
type Place = (u64, Scope, String, String);

/// A value that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) value: MinuteValue,
    /// Epoch milliseconds in the minute of the first check that would have seen it.
    pub(super) seen_ms: i64,
}

/// What is being read, and for whom.
#[derive(Default)]
pub(super) struct TakeOver {
    entities: Partitions,
    /// Of the rules that are asked for.
    places: Vec<usize>,
    keys: Arc<[RowKey]>,
    reading: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    pause: Duration,
    has_failed: bool,
    held: BTreeMap<Place, Held>,
}

impl fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOver")
            .field("entities", &self.entities)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl TakeOver {
    /// Entities of which what is stored is not known yet.
    pub(super) fn entities(&self) -> Partitions {
        self.entities
    }

    /// The places of the rules that are asked for.
    pub(super) fn places(&self) -> &[usize] {
        &self.places
    }

    /// Values that wait.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Begins to read, anew if it was being read. Without entities nothing is read.
    pub(super) fn begin<S: Backend + 'static>(
        &mut self,
        entities: Partitions,
        alarms: &Alarms,
        state: &Arc<Model>,
        storage: &Arc<S>,
    ) {
        self.entities = entities;
        self.places = alarms.places();
        self.keys = alarms.keys(&self.places, entities, state).into();
        self.pause = FIRST_PAUSE;
        self.reading = None;
        if !entities.is_empty() {
            let (storage, keys) = (Arc::clone(storage), Arc::clone(&self.keys));
            self.reading = Some(Box::pin(read(storage, keys, Duration::ZERO)));
        }
    }

    /// Reads again after a pause. Whether this is the first time since nothing was being read.
    pub(super) fn again<S: Backend + 'static>(&mut self, storage: &Arc<S>) -> bool {
        let (storage, keys) = (Arc::clone(storage), Arc::clone(&self.keys));
        self.reading = Some(Box::pin(read(storage, keys, self.pause)));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        !std::mem::replace(&mut self.has_failed, true)
    }

    /// What the store says; for ever where nothing is being read. Can be dropped and asked for again.
    pub(super) async fn answer(&mut self) -> Answer {
        match &mut self.reading {
            Some(reading) => {
                let answer = reading.await;
                self.reading = None;
                answer
            }
            None => std::future::pending().await,
        }
    }

    /// Keeps a value until then, in the place of an earlier one of its minute. Where there are more than `max`, those of the
    /// oldest minutes go; how many.
    pub(super) fn hold(&mut self, value: &MinuteValue, seen_ms: i64, max: usize) -> u64 {
        let entity = &value.entity;
        let (metric, id) = (value.metric.name.clone(), entity.id.to_string());
        let place = (value.minute, entity.scope, metric, id);
        let value = value.clone();
        // It counts for the checks since its first version.
        let before = self.held.get(&place).map(|held| held.seen_ms);
        let seen_ms = before.unwrap_or(seen_ms);
        self.held.insert(place, Held { value, seen_ms });
        let mut dropped = 0;
        while self.held.len() > max {
            self.held.pop_first();
            dropped += 1;
        }
        dropped
    }

    /// Ends it: the values that wait, oldest minutes first, and whether reading had failed.
    pub(super) fn end(&mut self) -> (Vec<Held>, bool) {
        let TakeOver {
            held, has_failed, ..
        } = std::mem::take(self);
        (held.into_values().collect(), has_failed)
    }
}

/// Reads after a pause, once.
async fn read<S: Backend>(storage: Arc<S>, keys: Arc<[RowKey]>, pause: Duration) -> Answer {
    tokio::time::sleep(pause).await;
    match tokio::time::timeout(STORE_TIMEOUT, storage.load(&keys)).await {
        Ok(rows) => rows.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
