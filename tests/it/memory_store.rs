//! A store in memory that fails as a test tells it to. It keeps rows; it answers no other questions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oap::model::row::{Row, RowKey};
use oap::model::schema::{Model, Schema};
use oap::model::time_bucket::day_of;
use oap::storage::*;

type Answer<T> = Result<T, StorageError>;
/// Model, id and day.
type Key = (String, String, u64);
/// What becomes of a row at the n-th write, from 1.
type Judge = Box<dyn Fn(u32, &Row) -> WriteOutcome + Send>;

#[derive(Default)]
pub struct MemoryStore {
    rows: Mutex<BTreeMap<Key, Row>>,
    judge: Mutex<Option<Judge>>,
    writes: AtomicU32,
    is_away: AtomicBool,
    /// How long a write takes.
    delay: Mutex<Duration>,
    failing_loads: AtomicU32,
    /// Keys that were asked for, by model and bucket.
    loaded: Mutex<Vec<(String, u64)>>,
    reaches: AtomicU32,
    /// A model that cannot be read.
    unreadable: Mutex<Option<&'static str>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away<T>() -> Answer<T> {
    Err(StorageError::Unavailable("told to be away".into()))
}

fn unanswered<T>() -> Answer<T> {
    Err(StorageError::InvalidQuery(
        "this store only keeps rows".into(),
    ))
}

impl MemoryStore {
    /// From now on this decides about each row; without it every row is stored.
    pub fn judge_by(&self, judge: impl Fn(u32, &Row) -> WriteOutcome + Send + 'static) {
        *locked(&self.judge) = Some(Box::new(judge));
    }

    /// Whether every call fails.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How long each write takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        *locked(&self.delay) = delay;
    }

    /// The next loads that fail.
    pub fn fail_loads(&self, count: u32) {
        self.failing_loads.store(count, Ordering::SeqCst);
    }

    /// Which model cannot be read from now on.
    pub fn set_unreadable(&self, model: Option<&'static str>) {
        *locked(&self.unreadable) = model;
    }

    /// Model and bucket of every key with a bucket that was asked for since this was last called.
    pub fn take_loaded(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut locked(&self.loaded))
    }

    /// How often it was asked how far its rows reach.
    pub fn reaches(&self) -> u32 {
        self.reaches.load(Ordering::SeqCst)
    }

    /// How often it was written to.
    pub fn writes(&self) -> u32 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Everything stored.
    pub fn rows(&self) -> BTreeMap<Key, Row> {
        locked(&self.rows).clone()
    }

    /// The stored row of a model with an id.
    pub fn row(&self, model: &str, id: &str) -> Option<Row> {
        let rows = locked(&self.rows);
        let mut of_id = rows.iter().filter(|((m, i, _), _)| m == model && i == id);
        of_id.next().map(|(_, row)| row.clone())
    }
}

fn key(row: &Row) -> Key {
    let day = day_of(row.time_bucket);
    (row.model.name.clone(), row.id.clone(), day)
}

impl Backend for MemoryStore {
    async fn install(&self, _: &Schema) -> Answer<Vec<String>> {
        Ok(vec![])
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let delay = *locked(&self.delay);
        tokio::time::sleep(delay).await;
        if self.is_away.load(Ordering::SeqCst) {
            return away();
        }
        // The last version of a row decides for all.
        let newest: BTreeMap<Key, &Row> = rows.iter().map(|row| (key(row), row)).collect();
        let judge = locked(&self.judge);
        let outcomes: BTreeMap<Key, WriteOutcome> = newest
            .iter()
            .map(|(key, row)| {
                let judged = judge.as_ref().map(|judge| judge(number, row));
                (key.clone(), judged.unwrap_or(WriteOutcome::Stored))
            })
            .collect();
        let mut stored = locked(&self.rows);
        for (key, row) in newest {
            if outcomes[&key] == WriteOutcome::Stored {
                stored.insert(key, row.clone());
            }
        }
        Ok(rows.iter().map(|row| outcomes[&key(row)].clone()).collect())
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        let fails = |left: u32| left.checked_sub(1);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let is_failing = self.failing_loads.fetch_update(set, get, fails).is_ok();
        let unreadable = *locked(&self.unreadable);
        let is_unreadable = keys.iter().any(|key| Some(&*key.model.name) == unreadable);
        if is_failing || is_unreadable || self.is_away.load(Ordering::SeqCst) {
            return away();
        }
        let dated = keys.iter().filter_map(|key| Some((key, key.time_bucket?)));
        let dated = dated.map(|(key, bucket)| (key.model.name.clone(), bucket));
        locked(&self.loaded).extend(dated);
        let rows = locked(&self.rows);
        let find = |key: &RowKey| {
            let at = |day| (key.model.name.clone(), key.id.clone(), day);
            match key.time_bucket {
                Some(bucket) => rows.get(&at(day_of(bucket))).cloned(),
                None => {
                    let mut days = rows.range(at(0)..=at(u64::MAX));
                    days.next_back().map(|(_, row)| row.clone())
                }
            }
        };
        Ok(keys.iter().map(find).collect())
    }

    async fn reach(&self, models: &[Arc<Model>], since: u64) -> Answer<Reach> {
        let fails = |left: u32| left.checked_sub(1);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let is_failing = self.failing_loads.fetch_update(set, get, fails).is_ok();
        if is_failing || self.is_away.load(Ordering::SeqCst) {
            return away();
        }
        self.reaches.fetch_add(1, Ordering::SeqCst);
        let names: BTreeSet<&str> = models.iter().map(|model| &*model.name).collect();
        let mut reach = Reach::since(since);
        for ((model, _, day), row) in &*locked(&self.rows) {
            if names.contains(&**model) {
                reach.add_days(model, *day, *day);
                reach.add_bucket(model, row.time_bucket);
            }
        }
        Ok(reach)
    }

    async fn aggregates(&self, _: &Model, _: &[&str], _: BucketRange) -> Answer<Vec<Option<f64>>> {
        unanswered()
    }

    async fn top_n(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        unanswered()
    }

    async fn sampled_records(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<SampledRecord>> {
        unanswered()
    }

    async fn services(&self, _: &ServiceFilter, _: usize) -> Answer<Page<ServiceTraffic>> {
        unanswered()
    }

    async fn instances(&self, _: &str, _: u64, _: usize) -> Answer<Page<InstanceTraffic>> {
        unanswered()
    }

    async fn endpoints(&self, _: &str, _: &str, _: usize) -> Answer<Vec<EndpointTraffic>> {
        unanswered()
    }

    async fn address_aliases(&self, _: u64, _: usize) -> Answer<Vec<AddressAlias>> {
        unanswered()
    }

    async fn relations(
        &self,
        _: &Model,
        _: BucketRange,
        _: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        unanswered()
    }

    async fn segments(&self, _: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        unanswered()
    }

    async fn trace(&self, _: &TraceFilter) -> Answer<Page<SegmentData>> {
        unanswered()
    }

    async fn alarms(&self, _: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        unanswered()
    }

    async fn records(&self, _: &Arc<Model>, _: &RecordFilter) -> Answer<Page<Row>> {
        unanswered()
    }

    async fn ui_templates(&self, _: bool) -> Answer<Vec<UiTemplate>> {
        unanswered()
    }

    async fn add_ui_template(&self, _: &UiTemplate) -> Answer<bool> {
        unanswered()
    }

    async fn replace_ui_template(&self, _: &UiTemplate) -> Answer<bool> {
        unanswered()
    }

    async fn remove_expired(&self, _: &Schema, _: Expiry) -> Answer<Vec<String>> {
        unanswered()
    }

    async fn ping(&self) -> Answer<()> {
        Ok(())
    }
}
