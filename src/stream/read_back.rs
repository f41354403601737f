//! Reading what is stored under rows that changed, as much of it as the store can give, and knowing what need not be read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::model::row::{Row, RowKey};
use crate::model::schema::Model;
use crate::model::time_bucket::{Zone, day_of};
use crate::storage::writer::Lane;
use crate::storage::{Backend, Reach, StorageError};

/// What became of a key.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Row(Row),
    Nothing,
    /// The part of the store that may have it could not be read.
    Unread,
}

impl From<Option<Row>> for Found {
    fn from(row: Option<Row>) -> Found {
        row.map_or(Found::Nothing, Found::Row)
    }
}

/// How many rows there were.
pub(super) fn rows_in(found: &[Found]) -> u64 {
    let rows = found.iter().filter(|found| matches!(found, Found::Row(_)));
    rows.count() as u64
}

/// So many parts that cannot be read one after the other mean that the store is away.
const MAX_FAILURES: usize = 3;

/// Buckets that are longer ago are not looked at, but taken as stored if their day is: looking would take longer than reading
/// the few of them that change.
const LOOKED_AT_MS: i64 = 15 * 60 * 1000;
/// If the newest stored values are not older, another process may be about to end and still be writing.
const RECENT_MS: i64 = 5 * 60 * 1000;

/// What earlier processes stored, known to all shards of one process. The store is asked once, by the shard that needs it first:
/// before any of them has written.
#[derive(Debug, Default)]
pub struct Earlier {
    reach: OnceCell<Arc<Reach>>,
    asked: OnceLock<Instant>,
    /// Shards that have not read everything yet, and what the others have read.
    reading: AtomicUsize,
    rows: AtomicU64,
}

impl Earlier {
    /// One more shard reads.
    pub(super) fn join(&self) {
        self.reading.fetch_add(1, Ordering::Relaxed);
    }

    /// How far the rows of these models reach. Fails if the store cannot say; to be asked again then.
    pub(super) async fn ask<S: Backend>(
        &self,
        storage: &S,
        models: &[Arc<Model>],
        zone: &Zone,
        now_ms: i64,
    ) -> Result<Arc<Reach>, StorageError> {
        let asking = || async {
            let minute = |ms| zone.minute(ms).unwrap_or(0);
            let mut reach = storage.reach(models, minute(now_ms - LOOKED_AT_MS)).await?;
            let newest = reach.newest_minute();
            if newest >= minute(now_ms - RECENT_MS) {
                reach.extend_to(minute(now_ms));
            }
            if newest > 0 {
                tracing::info!(
                    newest,
                    "values of earlier or other processes are stored, those that go on are read back first"
                );
            }
            self.asked.get_or_init(Instant::now);
            Ok(Arc::new(reach))
        };
        self.reach.get_or_try_init(asking).await.cloned()
    }

    /// A shard has read so many rows and has to read no more of them for what was going on at the start.
    pub(super) fn leave(&self, rows: u64) {
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        if self.reading.fetch_sub(1, Ordering::Relaxed) == 1 && rows > 0 {
            let seconds = self
                .asked
                .get()
                .map_or(0, |asked| asked.elapsed().as_secs());
            tracing::info!(
                rows,
                seconds,
                "stored values of earlier or other processes are read back"
            );
        }
    }
}

/// Rows in the order of their keys: what a lane still holds is newer than what is stored, the rest is read.
pub(super) async fn held_or_stored<S: Backend>(
    lane: &Lane,
    storage: &S,
    keys: &[RowKey],
) -> Result<Vec<Found>, StorageError> {
    // Looked at before reading: what leaves the lane later is stored by then.
    let mut found: Vec<Option<Found>> = keys
        .iter()
        .map(|key| lane.held(key).map(Found::Row))
        .collect();
    let missing = keys.iter().zip(&found).filter(|(_, held)| held.is_none());
    let missing: Vec<RowKey> = missing.map(|(key, _)| key.clone()).collect();
    let mut read = read_back(storage, &missing).await?.into_iter();
    for slot in found.iter_mut().filter(|held| held.is_none()) {
        *slot = read.next();
    }
    let found = found.into_iter();
    Ok(found.map(|found| found.unwrap_or(Found::Unread)).collect())
}

/// Reads rows, in the order of their keys. If that fails, each day of a model is read by itself: one that cannot be read
/// does not keep the others. `Err` if no part can be read.
async fn read_back<S: Backend>(storage: &S, keys: &[RowKey]) -> Result<Vec<Found>, StorageError> {
    if keys.is_empty() {
        return Ok(vec![]);
    }
    let first = match storage.load(keys).await {
        Ok(rows) => return Ok(rows.into_iter().map(Found::from).collect()),
        Err(error) => error,
    };
    let mut parts: BTreeMap<(&str, Option<u64>), Vec<usize>> = BTreeMap::new();
    for (i, key) in keys.iter().enumerate() {
        let part = (key.model.name.as_str(), key.time_bucket.map(day_of));
        parts.entry(part).or_default().push(i);
    }
    let mut found = vec![Found::Unread; keys.len()];
    let (mut failures, mut is_any_read) = (0, false);
    for ((model, day), positions) in parts {
        let of_part: Vec<RowKey> = positions
            .iter()
            .filter_map(|i| keys.get(*i).cloned())
            .collect();
        match storage.load(&of_part).await {
            Ok(rows) => {
                (failures, is_any_read) = (0, true);
                for (i, row) in positions.into_iter().zip(rows) {
                    if let Some(slot) = found.get_mut(i) {
                        *slot = row.into();
                    }
                }
            }
            Err(error) => {
                tracing::debug!(model, day, %error, "read-back failed, values stay in memory");
                failures += 1;
            }
        }
        if failures >= MAX_FAILURES {
            break;
        }
    }
    if is_any_read { Ok(found) } else { Err(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schema::Schema;

    #[test]
    fn what_was_looked_for_and_not_there_is_no_row() {
        let schema = Schema::build(&[], &[], &[], false);
        let row = Row {
            model: Arc::clone(schema.model("service_traffic").unwrap()),
            id: "id".to_owned(),
            time_bucket: 202_009_081_050,
            cells: vec![],
        };
        assert_eq!(rows_in(&[Found::Nothing, Found::Unread]), 0);
        assert_eq!(rows_in(&[Found::Nothing, Found::Row(row)]), 1);
    }
}
