//! Hours and days after a process that was killed: their rows are written less often than those of minutes, so that they lack
//! what the last minutes say. They are made anew from these, once, before anything else is read or written.
//!
//! Only the embedded store tells that a process was killed, and can be read by time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::stages::Program;
use crate::model::id::metrics_id;
use crate::model::metrics::{Function, Value};
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::storage::{Backend, StorageError, Store, WriteOutcome};

/// Rows read by id or written at once.
const LOT: usize = 2000;
/// Minutes before the newest one whose hour may lack something: agents' clocks may be ten minutes ahead, and what they report
/// may be some minutes old.
const UNSURE_MINUTES: u64 = 20;

type Answer<T> = Result<T, StorageError>;

/// Puts the days in order that a killed process left. What cannot be repaired stays as it is.
pub(super) async fn hours_and_days(storage: &Store, program: &Program, schema: &Schema) {
    let days = storage.unclean_days();
    if days.is_empty() {
        return;
    }
    let began = Instant::now();
    match repaired(storage, &days, &program.downsampled(schema), schema).await {
        Ok(rows) => tracing::info!(
            ?days,
            rows,
            seconds = began.elapsed().as_secs_f64(),
            "the process before was killed: hours and days have again what their minutes have"
        ),
        Err(error) => tracing::warn!(
            ?days,
            %error,
            "the process before was killed, and hours and days cannot be made anew from their minutes: they may be too low"
        ),
    }
}

async fn repaired(
    storage: &Store,
    days: &[u64],
    models: &[(Arc<Model>, Function)],
    schema: &Schema,
) -> Answer<usize> {
    storage.install(schema).await?;
    let mut rows = 0;
    for day in days {
        let mut newest = None;
        for (model, _) in models {
            newest = newest.max(storage.newest_minute(model, *day).await?);
        }
        let Some(newest) = newest else { continue };
        for (model, function) in models {
            let repair = Repair {
                storage,
                model,
                function: *function,
                day: *day,
            };
            for hour in unsure_hours(newest) {
                rows += repair.make(hour, hour * 100, hour * 100 + 59).await?;
            }
            rows += repair.make(*day, day * 100, day * 100 + 23).await?;
        }
    }
    storage.forget_unclean_days();
    Ok(rows)
}

/// Hours (`yyyyMMddHH`) of a day that may lack something, by its newest minute.
fn unsure_hours(newest: u64) -> impl Iterator<Item = u64> {
    let hour = newest / 100;
    let has_earlier = newest % 100 < UNSURE_MINUTES && !hour.is_multiple_of(100);
    has_earlier.then_some(hour - 1).into_iter().chain([hour])
}

/// Of one model and day.
struct Repair<'a> {
    storage: &'a Store,
    model: &'a Arc<Model>,
    function: Function,
    day: u64,
}

impl Repair<'_> {
    /// Makes the rows of a bucket from those of finer ones, where these hold more than is stored. How many it made.
    async fn make(&self, bucket: u64, first: u64, last: u64) -> Answer<usize> {
        let merged = self.merged(first, last).await?;
        let entities: Vec<&String> = merged.keys().collect();
        let mut made = 0;
        for lot in entities.chunks(LOT) {
            let keys: Vec<RowKey> = lot
                .iter()
                .map(|entity| RowKey {
                    model: Arc::clone(self.model),
                    id: metrics_id(bucket, entity),
                    time_bucket: Some(bucket),
                })
                .collect();
            let stored = self.storage.load(&keys).await?;
            let mut rows = Vec::new();
            for ((entity, key), stored) in lot.iter().zip(keys).zip(stored) {
                let Some((about, value)) = merged.get(*entity) else {
                    continue;
                };
                let stored = stored.and_then(|row| self.value(&row));
                let is_more = stored.is_none_or(|stored| self.function.holds_more(value, &stored));
                if is_more {
                    let mut cells = about.clone();
                    cells.extend(self.function.to_cells(value, bucket));
                    rows.push(Row {
                        model: key.model,
                        id: key.id,
                        time_bucket: bucket,
                        cells,
                    });
                }
            }
            if rows.is_empty() {
                continue;
            }
            let outcomes = self.storage.write(&rows).await?;
            for outcome in outcomes {
                match outcome {
                    WriteOutcome::Stored => made += 1,
                    WriteOutcome::Retry(reason) => return Err(StorageError::Unavailable(reason)),
                    WriteOutcome::Rejected(reason) => return Err(StorageError::Refused(reason)),
                }
            }
        }
        Ok(made)
    }

    /// What the rows of some buckets come to, by entity, with the cells that say what it is about.
    async fn merged(&self, first: u64, last: u64) -> Answer<HashMap<String, (Vec<Cell>, Value)>> {
        let mut merged: HashMap<String, (Vec<Cell>, Value)> = HashMap::new();
        // Pages are in the order of buckets; there is none of this number.
        let mut after = Some((first - 1).to_string());
        while let Some(from) = after {
            let page = self.storage.page(self.model, self.day, Some(&from)).await?;
            for row in page.rows {
                if row.time_bucket > last {
                    return Ok(merged);
                }
                let Some(value) = self.value(&row) else {
                    continue;
                };
                let bucket = row.time_bucket.to_string();
                let entity = row.id.strip_prefix(&bucket).unwrap_or_default();
                let entity = entity.strip_prefix('_').unwrap_or_default();
                match merged.get_mut(entity) {
                    Some((_, sum)) => {
                        if !self.function.merge(sum, &value) {
                            let id = row.id.as_str();
                            tracing::debug!(
                                id,
                                "left out, it did not fit when it was reported either"
                            );
                        }
                    }
                    None => {
                        let about = row.cells.iter().take(self.model.entity_columns.len());
                        let about = about.cloned().collect();
                        merged.insert(entity.to_owned(), (about, value));
                    }
                }
            }
            after = page.next;
        }
        Ok(merged)
    }

    fn value(&self, row: &Row) -> Option<Value> {
        let cells = row.cells.get(self.model.entity_columns.len()..)?;
        self.function.from_cells(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_before_is_unsure_until_twenty_past() {
        for (newest, hours) in [
            (202_009_151_019, vec![2_020_091_509, 2_020_091_510]),
            (202_009_151_020, vec![2_020_091_510]),
            (202_009_150_005, vec![2_020_091_500]),
        ] {
            assert_eq!(unsure_hours(newest).collect::<Vec<_>>(), hours);
        }
    }
}
