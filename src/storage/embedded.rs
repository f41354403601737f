//! The store for one node: SQLite files in a directory, one per day and family and one for settings.
//!
//! Metrics lie in `metrics-YYYYMMDD.db`, segments and other records in `records-YYYYMMDD.db`, dashboards in `meta.db`; every
//! model is a table with the columns of 8.1.0. A batch is one transaction per file, so a killed process leaves whole batches.
//! All work on files happens on blocking threads: one writer at a time, a few readers beside it.
//! Not here: queues and retries (the caller's), and any analysis of what is stored.

mod aside;
mod file;
mod format;
mod inspect;
mod load;
mod metadata;
mod metrics;
mod newest;
mod page;
mod pool;
mod reach;
mod records;
mod rows;
mod scan;
mod table;
mod templates;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod topology;
mod unclean;
mod write;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

pub use file::Family;
use file::{FileKey, Files};
use pool::ReadPool;
use write::Writer;

use super::backend::Backend;
use super::query::*;
use super::{Inspection, Reach, RowPage, StorageError, WriteOutcome};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, ModelKind, Schema};

type Answer<T> = Result<T, StorageError>;

/// Queries that run at the same time; more wait.
const READERS: u32 = 4;
/// Name of the file that proves the directory writable.
const PROBE: &str = "ping.tmp";

/// The embedded store. Dropping it closes the files; that nothing is missing from them is for [`Embedded::completed`] to say.
#[derive(Debug)]
pub struct Embedded {
    pool: Arc<ReadPool>,
    readers: Arc<Semaphore>,
    writer: Arc<Mutex<Writer>>,
}

impl Embedded {
    /// Opens the store in a directory, which is created if needed. Every file is looked at: an older one gets the layout of this
    /// version, a damaged one is set aside, one that is newer than this program or not of this store is an error that
    /// names it. Blocks on file I/O.
    pub fn open(dir: &Path) -> Answer<Embedded> {
        let files = Arc::new(Files::scan(dir)?);
        for key in std::iter::once(FileKey::Meta).chain(files.all()) {
            match files.open_writer(key) {
                Ok(_) | Err(StorageError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        files.set_damaged_aside(|_| {})?;
        let mut writer = Writer::new(Arc::clone(&files));
        match ensure_meta(&mut writer) {
            // Behind its first page.
            Err(StorageError::Damaged(_)) => {
                files.set_damaged_aside(|key| writer.close(key))?;
                ensure_meta(&mut writer)?;
            }
            ensured => ensured?,
        }
        Ok(Embedded::with(writer, files))
    }

    /// Opens the store in a directory only to read: nothing in it is changed, and a damaged file of a day is an error that names
    /// it wherever it is met. A damaged `meta.db` is left out with a warning. Blocks on file I/O.
    pub fn open_to_read(dir: &Path) -> Answer<Embedded> {
        Embedded::open_unchanged(Files::scan_to_read(dir)?)
    }

    /// The same while a server may be writing to it: each question sees what was stored before it. Blocks on file I/O.
    pub fn open_to_look(dir: &Path) -> Answer<Embedded> {
        Embedded::open_unchanged(Files::scan_to_look(dir)?)
    }

    fn open_unchanged(files: Files) -> Answer<Embedded> {
        let files = Arc::new(files);
        if files.path(FileKey::Meta).exists() {
            match files.open_reader(FileKey::Meta) {
                Ok(_) => files.add(FileKey::Meta),
                Err(StorageError::Damaged(reason)) => tracing::warn!(
                    reason,
                    "left out: dashboards, and what rules of alarms remember; the next start of a server sets the file aside"
                ),
                Err(error) => return Err(error),
            }
        }
        for key in files.all() {
            match files.open_reader(key) {
                // Its time came between the two looks.
                Err(_) if !files.path(key).exists() => files.remove(key),
                opened => opened.map(drop)?,
            }
        }
        Ok(Embedded::with(Writer::new(Arc::clone(&files)), files))
    }

    fn with(writer: Writer, files: Arc<Files>) -> Embedded {
        Embedded {
            pool: Arc::new(ReadPool::new(files)),
            readers: Arc::new(Semaphore::new(READERS as usize)),
            writer: Arc::new(Mutex::new(writer)),
        }
    }

    /// Bounds what SQLite holds in this process, all files together: pages are given up first.
    pub async fn limit_memory(&self, bytes: u64) -> Answer<()> {
        self.change(move |writer| writer.limit_memory(bytes)).await
    }

    /// Looks at every file of a directory that no other process uses; changes nothing. Blocks on file I/O.
    pub fn inspect(dir: &Path) -> Answer<Inspection> {
        inspect::inspect(dir)
    }

    /// Days (`yyyyMMdd`) of metrics that a killed process left: what was about to be written to them is missing.
    pub fn unclean_days(&self) -> Vec<u64> {
        self.pool.files.unclean.left()
    }

    /// Nothing is missing from these any more.
    pub fn forget_unclean_days(&self) {
        self.pool.files.unclean.repaired();
    }

    /// Everything is written, of every bucket. Without this call the days that were written to are
    /// [`Embedded::unclean_days`] of the next one who opens the store.
    pub fn completed(&self) {
        self.pool.files.unclean.completed();
    }

    /// The first minute (`yyyyMMddHHmm`) behind another one that a model has values of on a day.
    pub async fn minute_after(
        &self,
        model: &Arc<Model>,
        day: u64,
        after: u64,
    ) -> Answer<Option<u64>> {
        let model = Arc::clone(model);
        self.read(move |pool| unclean::minute_after(pool, &model, day, after))
            .await
    }

    /// What is stored of models that the schema does not have.
    pub async fn unknown_models(&self, schema: &Schema) -> Answer<BTreeSet<String>> {
        let schema = schema.clone();
        self.read(move |pool| scan::unknown_models(pool, &schema))
            .await
    }

    /// Days (`yyyyMMdd`) on which a model has rows, 0 for one without days.
    pub async fn days(&self, model: &Arc<Model>) -> Answer<Vec<u64>> {
        let model = Arc::clone(model);
        self.read(move |pool| scan::days(pool, &model)).await
    }

    /// Rows of a model and day behind a page, the name of whose end `after` is.
    pub async fn page(&self, model: &Arc<Model>, day: u64, after: Option<&str>) -> Answer<RowPage> {
        let (model, after) = (Arc::clone(model), after.map(str::to_owned));
        self.read(move |pool| scan::page(pool, &model, day, after.as_deref()))
            .await
    }

    /// Deletes the files of a family whose day (`yyyyMMdd`) is before `day`, waiting for running queries, and returns their days.
    pub async fn remove_days_before(&self, family: Family, day: u64) -> Answer<Vec<u64>> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let readers = self.all_readers().await?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            let _readers = readers;
            let mut removed = pool.files.delete_aside(family, day)?;
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
            removed.sort_unstable();
            removed.dedup();
            Ok(removed)
        })
        .await
    }

    /// Waits until no query runs and keeps others from starting.
    async fn all_readers(&self) -> Answer<OwnedSemaphorePermit> {
        let readers = Arc::clone(&self.readers).acquire_many_owned(READERS).await;
        readers.map_err(|_| closed())
    }

    /// Goes on without files that were found damaged, so that only rows of theirs are missing from answers.
    async fn set_damaged_aside(&self) -> Answer<()> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let readers = self.all_readers().await?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            let _readers = readers;
            pool.files.set_damaged_aside(|key| {
                writer.close(key);
                pool.close(key);
            })?;
            ensure_meta(&mut writer)
        })
        .await
    }

    /// The answer, after what was found damaged on the way is set aside.
    async fn heal<T>(&self, answer: Answer<T>) -> Answer<T> {
        if self.pool.files.has_damaged() && !self.pool.files.is_read_only() {
            self.set_damaged_aside().await?;
        }
        answer
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ReadPool) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let pool = Arc::clone(&self.pool);
        let answer = blocking(move || {
            let _permit = permit;
            query(&pool)
        })
        .await;
        self.heal(answer).await
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let answer = blocking(move || work(&mut writer)).await;
        self.heal(answer).await
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

/// Creates the tables that have no days.
fn ensure_meta(writer: &mut Writer) -> Answer<()> {
    let builtin = Schema::build(&[], &[], &[], false);
    writer.ensure(FileKey::Meta, &management(&builtin))
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
    async fn install(&self, schema: &Schema) -> Answer<Vec<String>> {
        let models = management(schema);
        self.change(move |writer| writer.ensure(FileKey::Meta, &models))
            .await?;
        Ok(vec![])
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        let rows = rows.to_vec();
        self.change(move |writer| writer.write(&rows)).await
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        let keys = keys.to_vec();
        self.read(move |pool| load::load(pool, &keys)).await
    }

    async fn reach(&self, models: &[Arc<Model>], since: u64) -> Answer<Reach> {
        let models = models.to_vec();
        self.read(move |pool| Ok(reach::reach(pool, &models, since)))
            .await
    }

    async fn aggregates(
        &self,
        model: &Model,
        entity_ids: &[&str],
        range: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        let model = model.clone();
        let entity_ids: Vec<String> = entity_ids.iter().map(|&id| id.to_owned()).collect();
        self.read(move |pool| metrics::aggregates(pool, &model, &entity_ids, range))
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

    async fn services(&self, filter: &ServiceFilter, limit: usize) -> Answer<Page<ServiceTraffic>> {
        let filter = filter.clone();
        self.read(move |pool| metadata::services(pool, &filter, limit))
            .await
    }

    async fn instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> Answer<Page<InstanceTraffic>> {
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
    ) -> Answer<Page<Relation>> {
        let (model, filter) = (model.clone(), filter.clone());
        self.read(move |pool| topology::relations(pool, &model, range, &filter))
            .await
    }

    async fn segments(&self, filter: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        let filter = filter.clone();
        self.read(move |pool| records::segments(pool, &filter))
            .await
    }

    async fn trace(&self, filter: &TraceFilter) -> Answer<Page<SegmentData>> {
        let filter = filter.clone();
        self.read(move |pool| records::trace(pool, &filter)).await
    }

    async fn alarms(&self, filter: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        let filter = filter.clone();
        self.read(move |pool| records::alarms(pool, &filter)).await
    }

    async fn records(&self, model: &Arc<Model>, filter: &RecordFilter) -> Answer<Page<Row>> {
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
                std::fs::write(&probe, "ping").and_then(|()| match std::fs::remove_file(&probe) {
                    // Another probe at the same time did.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                });
            outcome.map_err(|e| StorageError::Unavailable(format!("{}: {e}", probe.display())))
        })
        .await
    }
}
