//! Reading what is stored under rows that changed, as much of it as the store can give.

use std::collections::BTreeMap;

use crate::model::row::{Row, RowKey};
use crate::model::time_bucket::day_of;
use crate::storage::writer::Lane;
use crate::storage::{Backend, StorageError};

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

/// So many parts that cannot be read one after the other mean that the store is away.
const MAX_FAILURES: usize = 3;

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
