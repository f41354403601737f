//! The store for one node: SQLite files in a directory, one per day and family and one for settings.
//!
//! Metrics lie in `metrics-YYYYMMDD.db`, segments and other records in `records-YYYYMMDD.db`, dashboards in `meta.db`; every
//! model is a table with the columns of 8.1.0. A batch is one transaction per file, so a killed process leaves whole batches.
//! All work on files happens on blocking threads: one writer at a time, a few readers beside it.
//! Not here: queues and retries (the caller's), and any analysis of what is stored.

mod file;
mod load;
mod metadata;
mod metrics;
mod page;
mod pool;
mod records;
mod rows;
mod table;
mod templates;
#[cfg(test)]
mod testing;
mod text;
mod topology;
mod write;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

pub use file::Family;
use file::{FileKey, Files};
use pool::ReadPool;
use write::Writer;

use super::backend::Backend;
use super::query::*;
use super::{StorageError, WriteOutcome};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, ModelKind, Schema};

type Answer<T> = Result<T, StorageError>;

/// Queries that run at the same time; more wait.
const READERS: u32 = 4;
/// Name of the file that proves the directory writable.
const PROBE: &str = "ping.tmp";

/// The embedded store. Dropping it closes the files.
#[derive(Debug)]
pub struct Embedded {
    pool: Arc<ReadPool>,
    readers: Arc<Semaphore>,
    writer: Arc<Mutex<Writer>>,
}

impl Embedded {
    /// Opens the store in a directory, which is created if needed. Every file is looked at: one that is damaged, newer than this
    /// program or not of this store is an error that names it. Blocks on file I/O.
    pub fn open(dir: &Path) -> Answer<Embedded> {
        let files = Arc::new(Files::scan(dir)?);
        for key in files.all() {
            files.open_reader(key)?;
        }
        let mut writer = Writer::new(Arc::clone(&files));
        let builtin = Schema::build(&[], &[], &[], false);
        writer.ensure(FileKey::Meta, &management(&builtin))?;
        Ok(Embedded {
            pool: Arc::new(ReadPool::new(files)),
            readers: Arc::new(Semaphore::new(READERS as usize)),
            writer: Arc::new(Mutex::new(writer)),
        })
    }

    /// Deletes the files of a family whose day (`yyyyMMdd`) is before `day`, waiting for running queries, and returns their days.
    pub async fn remove_days_before(&self, family: Family, day: u64) -> Answer<Vec<u64>> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let readers = Arc::clone(&self.readers).acquire_many_owned(READERS).await;
        let readers = readers.map_err(|_| closed())?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            let _readers = readers;
            let mut removed = Vec::new();
            for key in pool.files.days(family, None) {
                match key {
                    FileKey::Day(_, d) if d < day => {
                        writer.close(key);
                        pool.close(key);
                        pool.files.delete(key)?;
                        removed.push(d);
                    }
                    _ => {}
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ReadPool) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            let _permit = permit;
            query(&pool)
        })
        .await
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        blocking(move || work(&mut writer)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let stopped =
        |e: JoinError| StorageError::Unavailable(format!("storage work did not finish: {e}"));
    spawn_blocking(work).await.map_err(stopped)?
}

fn closed() -> StorageError {
    StorageError::Unavailable("the store is closed".to_owned())
}

fn management(schema: &Schema) -> Vec<Arc<Model>> {
    let models = schema.models().iter();
    models
        .filter(|m| m.kind == ModelKind::Management)
        .cloned()
        .collect()
}

impl Backend for Embedded {
    /// Tables of day files come into being with their first row, so only those without a day are created here.
    async fn install(&self, schema: &Schema) -> Answer<()> {
        let models = management(schema);
        self.change(move |writer| writer.ensure(FileKey::Meta, &models))
            .await
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        let rows = rows.to_vec();
        self.change(move |writer| Ok(writer.write(&rows))).await
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        let keys = keys.to_vec();
        self.read(move |pool| load::load(pool, &keys)).await
    }

    async fn aggregate(
        &self,
        model: &Model,
        entity_id: &str,
        range: BucketRange,
    ) -> Answer<Option<f64>> {
        let (model, entity_id) = (model.clone(), entity_id.to_owned());
        self.read(move |pool| metrics::aggregate(pool, &model, &entity_id, range))
            .await
    }

    async fn top_n(&self, model: &Model, filter: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        let (model, filter) = (model.clone(), filter.clone());
        self.read(move |pool| metrics::top_n(pool, &model, &filter))
            .await
    }

    async fn sampled_records(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> Answer<Vec<SampledRecord>> {
        let (model, filter) = (model.clone(), filter.clone());
        self.read(move |pool| records::sampled(pool, &model, &filter))
            .await
    }

    async fn services(&self, filter: &ServiceFilter, limit: usize) -> Answer<Vec<ServiceTraffic>> {
        let filter = filter.clone();
        self.read(move |pool| metadata::services(pool, &filter, limit))
            .await
    }

    async fn instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> Answer<Vec<InstanceTraffic>> {
        let service_id = service_id.to_owned();
        self.read(move |pool| metadata::instances(pool, &service_id, alive_since, limit))
            .await
    }

    async fn endpoints(
        &self,
        service_id: &str,
        keyword: &str,
        limit: usize,
    ) -> Answer<Vec<EndpointTraffic>> {
        let (service_id, keyword) = (service_id.to_owned(), keyword.to_owned());
        self.read(move |pool| metadata::endpoints(pool, &service_id, &keyword, limit))
            .await
    }

    async fn address_aliases(&self, since: u64, limit: usize) -> Answer<Vec<AddressAlias>> {
        self.read(move |pool| metadata::address_aliases(pool, since, limit))
            .await
    }

    async fn relations(
        &self,
        model: &Model,
        range: BucketRange,
        filter: &RelationFilter,
    ) -> Answer<Vec<Relation>> {
        let (model, filter) = (model.clone(), filter.clone());
        self.read(move |pool| topology::relations(pool, &model, range, &filter))
            .await
    }

    async fn segments(&self, filter: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        let filter = filter.clone();
        self.read(move |pool| records::segments(pool, &filter))
            .await
    }

    async fn trace(&self, trace_id: &str, limit: usize) -> Answer<Vec<SegmentData>> {
        let trace_id = trace_id.to_owned();
        self.read(move |pool| records::trace(pool, &trace_id, limit))
            .await
    }

    async fn alarms(&self, filter: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        let filter = filter.clone();
        self.read(move |pool| records::alarms(pool, &filter)).await
    }

    async fn records(&self, model: &Arc<Model>, filter: &RecordFilter) -> Answer<Vec<Row>> {
        let (model, filter) = (Arc::clone(model), filter.clone());
        self.read(move |pool| rows::find(pool, &model, &filter))
            .await
    }

    async fn ui_templates(&self, including_disabled: bool) -> Answer<Vec<UiTemplate>> {
        self.read(move |pool| templates::list(pool, including_disabled))
            .await
    }

    async fn add_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        let template = template.clone();
        self.change(move |writer| templates::add(writer, &template))
            .await
    }

    async fn replace_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        let template = template.clone();
        self.change(move |writer| templates::replace(writer, &template))
            .await
    }

    async fn remove_expired(&self, _: &Schema, expiry: Expiry) -> Answer<Vec<String>> {
        let mut removed = Vec::new();
        for (family, last) in [
            (Family::Metrics, expiry.metrics),
            (Family::Records, expiry.records),
        ] {
            let days = self.remove_days_before(family, last + 1).await?;
            removed.extend(days.iter().map(|day| format!("{}-{day}", family.prefix())));
        }
        Ok(removed)
    }

    async fn ping(&self) -> Answer<()> {
        self.read(|pool| {
            let probe = pool.files.dir().join(PROBE);
            let outcome =
                std::fs::write(&probe, "ping").and_then(|()| std::fs::remove_file(&probe));
            outcome.map_err(|e| StorageError::Unavailable(format!("{}: {e}", probe.display())))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{metric, row, schema};
    use super::*;
    use crate::model::row::Cell;

    fn range(start: u64, end: u64) -> BucketRange {
        BucketRange { start, end }
    }

    #[tokio::test]
    async fn everything_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema();
        let model = |name: &str| Arc::clone(schema.model(name).unwrap());
        let template = UiTemplate {
            name: "APM".to_owned(),
            ty: "DASHBOARD".to_owned(),
            configuration: "{}".to_owned(),
            is_activated: true,
            is_disabled: false,
        };
        {
            let store = Embedded::open(dir.path()).unwrap();
            store.install(&schema).await.unwrap();
            store.ping().await.unwrap();
            let rows = [
                metric(&model("service_cpm"), "a", 202_009_150_000, 4),
                row(
                    &model("segment"),
                    "s",
                    20_200_915_000_000,
                    &[("trace_id", Cell::text("t"))],
                ),
            ];
            assert_eq!(
                store.write(&rows).await.unwrap(),
                [WriteOutcome::Stored, WriteOutcome::Stored]
            );
            assert!(store.add_ui_template(&template).await.unwrap());
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "lock",
                "meta.db",
                "metrics-20200915.db",
                "records-20200915.db"
            ]
        );

        let store = Embedded::open(dir.path()).unwrap();
        store.install(&schema).await.unwrap();
        let minutes = range(202_009_150_000, 202_009_150_001);
        assert_eq!(
            store
                .aggregate(&model("service_cpm"), "a", minutes)
                .await
                .unwrap(),
            Some(4.0)
        );
        assert_eq!(store.trace("t", 9).await.unwrap().len(), 1);
        assert_eq!(store.ui_templates(false).await.unwrap(), [template]);
    }

    #[tokio::test]
    async fn what_a_killed_process_leaves_has_every_acknowledged_batch() {
        let dir = tempfile::tempdir().unwrap();
        let left = tempfile::tempdir().unwrap();
        let schema = schema();
        let cpm = schema.model("service_cpm").unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        for n in 0..10 {
            let rows = [metric(cpm, "a", 202_009_150_000 + n, 7)];
            store.write(&rows).await.unwrap();
        }
        // Nothing is closed: the batches are in the write-ahead log only.
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e != "db-shm") {
                std::fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let after = Embedded::open(left.path()).unwrap();
        let all = range(202_009_150_000, 202_009_150_009);
        let count = schema.model("service_count").unwrap();
        assert_eq!(after.aggregate(cpm, "a", all).await.unwrap(), Some(7.0));
        let keys: Vec<_> = (0..10)
            .map(|n| RowKey {
                model: Arc::clone(cpm),
                id: format!("{}_a", 202_009_150_000u64 + n),
                time_bucket: None,
            })
            .collect();
        assert!(after.load(&keys).await.unwrap().iter().all(Option::is_some));
        assert_eq!(after.aggregate(count, "a", all).await.unwrap(), None);
    }

    #[tokio::test]
    async fn expired_days_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema();
        let cpm = schema.model("service_cpm").unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        let minute = |day: u64| day * 10_000;
        let days = [20_200_913, 20_200_914, 20_200_915];
        let rows = days.map(|day| metric(cpm, "a", minute(day), 1));
        store.write(&rows).await.unwrap();
        let all = range(minute(days[0]), minute(days[2]));
        let count = schema.model("service_count").unwrap();
        assert_eq!(store.aggregate(cpm, "a", all).await.unwrap(), Some(1.0));

        assert!(
            store
                .remove_days_before(Family::Records, 20_210_101)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            store
                .remove_days_before(Family::Metrics, days[2])
                .await
                .unwrap(),
            days[..2]
        );
        assert!(!dir.path().join("metrics-20200914.db").exists());
        let old = range(minute(days[0]), minute(days[1]));
        assert_eq!(store.aggregate(cpm, "a", old).await.unwrap(), None);

        // A late row of a deleted day starts a new file.
        store
            .write(&[metric(count, "a", minute(days[0]), 5)])
            .await
            .unwrap();
        assert_eq!(store.aggregate(count, "a", all).await.unwrap(), Some(5.0));
        assert_eq!(store.aggregate(cpm, "a", old).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("records-20200915.db"),
            "garbage ".repeat(999),
        )
        .unwrap();
        let error = Embedded::open(dir.path()).unwrap_err();
        assert!(
            matches!(&error, StorageError::Damaged(e) if e.contains("records-20200915.db")),
            "{error}"
        );

        std::fs::remove_file(dir.path().join("records-20200915.db")).unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        dir.close().unwrap();
        let error = store.ping().await.unwrap_err();
        assert!(
            matches!(&error, StorageError::Unavailable(e) if e.contains(PROBE)),
            "{error}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn readers_see_whole_batches_while_a_writer_writes() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema();
        let model = Arc::clone(schema.model("service_cpm").unwrap());
        let store = Arc::new(Embedded::open(dir.path()).unwrap());
        let minute = 202_009_150_000;
        let writing = {
            let (store, model) = (Arc::clone(&store), Arc::clone(&model));
            tokio::spawn(async move {
                for value in 1..=50 {
                    let rows: Vec<_> = (0..20)
                        .map(|n| metric(&model, &format!("e{n}"), minute, value))
                        .collect();
                    store.write(&rows).await.unwrap();
                }
            })
        };
        let filter = TopNFilter {
            service_id: None,
            range: range(minute, minute),
            limit: 20,
            order: Order::Ascending,
        };
        let mut last = 0.0;
        while last < 50.0 {
            let top = store.top_n(&model, &filter).await.unwrap();
            let Some(first) = top.first() else { continue };
            assert!(top.iter().all(|e| e.value == first.value) && top.len() == 20);
            assert!(first.value >= last);
            last = first.value;
        }
        writing.await.unwrap();
    }
}
