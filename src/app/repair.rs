//! Hours and days after a process that was killed or cut off: their rows are written less often than those of minutes, so that
//! they lack what was reported last, of whichever minute of the day it was. They are made anew from all minutes of the day,
//! once, before anything else is read or written.
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
            "the process before was killed or cut off before everything was written: hours and days have again what their minutes have"
        ),
        Err(error) => tracing::warn!(
            ?days,
            %error,
            "the process before was killed or cut off before everything was written, and hours and days cannot be made anew from their minutes: they may be too low"
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
        for (model, function) in models {
            let repair = Repair {
                storage,
                model,
                function: *function,
                day: *day,
            };
            // Minutes have the largest numbers in the file of a day: there is none before the day's first one.
            let mut looked = day * 10_000 - 1;
            while let Some(minute) = storage.minute_after(model, *day, looked).await? {
                let hour = minute / 100;
                rows += repair.make(hour, hour * 100, hour * 100 + 59).await?;
                looked = hour * 100 + 59;
            }
            rows += repair.make(*day, day * 100, day * 100 + 23).await?;
        }
    }
    storage.forget_unclean_days();
    Ok(rows)
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
    use crate::model::metrics::{Entrance, MetricDefinition};
    use crate::model::scope::Scope;
    use crate::storage::StoreKind;
    use crate::storage::embedded::Embedded;

    const DAY: u64 = 20_200_915;

    fn row(model: &Arc<Model>, bucket: u64, total: i64) -> Row {
        let mut cells: Vec<Cell> = model
            .entity_columns
            .iter()
            .map(|_| Cell::text("a"))
            .collect();
        cells.extend(Function::Cpm.to_cells(&Value::Cpm { total }, bucket));
        Row {
            model: Arc::clone(model),
            id: metrics_id(bucket, "a"),
            time_bucket: bucket,
            cells,
        }
    }

    /// Late data reach minutes of hours that are long over.
    #[tokio::test]
    async fn every_hour_of_an_unclean_day_has_what_its_minutes_have() {
        let dir = tempfile::tempdir().unwrap();
        let cpm = MetricDefinition {
            name: "service_cpm".to_owned(),
            scope: Scope::Service,
            filters: vec![],
            function: Function::Cpm,
            entrance: Entrance::One,
        };
        let schema = Schema::build(&[cpm], &[], &[], false);
        let model = schema.model("service_cpm").unwrap();
        let open = || Store::new(StoreKind::Embedded(Embedded::open(dir.path()).unwrap()));
        let killed = open();
        killed.install(&schema).await.unwrap();
        let minutes = [
            row(model, DAY * 10_000, 1),
            row(model, DAY * 10_000 + 859, 5),
            row(model, DAY * 10_000 + 901, 7),
            row(model, DAY * 10_000 + 1501, 2),
            row(model, DAY * 10_000 + 1502, 2),
            row(model, DAY * 10_000 + 2359, 3),
            // Too low, as it was; and more than the minutes say, which stays.
            row(model, DAY * 100 + 8, 4),
            row(model, DAY * 100 + 15, 9),
        ];
        killed.write(&minutes).await.unwrap();
        drop(killed);

        let store = open();
        let days = store.unclean_days();
        assert_eq!(days, [DAY]);
        let models = [(Arc::clone(model), Function::Cpm)];
        let rows = repaired(&store, &days, &models, &schema).await.unwrap();
        assert_eq!(rows, 5);
        for (bucket, total) in [
            (DAY * 100, Some(1)),
            (DAY * 100 + 8, Some(5)),
            (DAY * 100 + 9, Some(7)),
            (DAY * 100 + 15, Some(9)),
            (DAY * 100 + 16, None),
            (DAY * 100 + 23, Some(3)),
            (DAY, Some(25)),
        ] {
            let key = RowKey {
                model: Arc::clone(model),
                id: metrics_id(bucket, "a"),
                time_bucket: Some(bucket),
            };
            let stored = store.load(&[key]).await.unwrap().remove(0);
            let stored = stored.map(|row| row.cells);
            let expected = total.map(|total| row(model, bucket, total).cells);
            assert_eq!(stored, expected, "{bucket}");
        }
        assert!(store.unclean_days().is_empty());
    }
}
