//! The store of this process: one of the backends, closed for writing until its structures exist.
//!
//! Writing before that would let Elasticsearch guess mappings, so rows wait in memory until [`Backend::install`] succeeded.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tokio::time::Instant;

use super::backend::Backend;
use super::elasticsearch::{Elasticsearch, OptionsError};
use super::embedded::Embedded;
use super::last_templates::LastTemplates;
use super::query::*;
use super::{Reach, RowPage, StorageError, WriteOutcome};
use crate::config::EsSettings;
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::telemetry::Registers;
use crate::telemetry::registry::LATENCY_BUCKETS;

type Answer<T> = Result<T, StorageError>;

/// Which backend.
#[derive(Debug)]
pub enum StoreKind {
    Embedded(Embedded),
    Elasticsearch(Box<Elasticsearch>),
}

/// A backend that knows whether it may be written to.
#[derive(Debug)]
pub struct Store {
    kind: StoreKind,
    is_installed: AtomicBool,
    /// Once they are shown.
    metrics: OnceLock<StoreMetrics>,
    templates: LastTemplates,
}

/// What is measured about every call.
#[derive(Debug)]
struct StoreMetrics {
    seconds: HistogramVec,
    errors: IntCounterVec,
}

impl StoreMetrics {
    fn new() -> prometheus::Result<StoreMetrics> {
        let seconds = HistogramOpts::new(
            "storage_operation_seconds",
            "Seconds that a call of the store took, by operation",
        );
        let errors = Opts::new(
            "storage_operation_errors_total",
            "Calls of the store that failed as a whole, by operation",
        );
        let by = &["operation"];
        Ok(StoreMetrics {
            seconds: HistogramVec::new(seconds.buckets(LATENCY_BUCKETS.to_vec()), by)?,
            errors: IntCounterVec::new(errors, by)?,
        })
    }
}

impl Store {
    pub fn new(kind: StoreKind) -> Store {
        Store {
            kind,
            is_installed: AtomicBool::new(false),
            metrics: OnceLock::new(),
            templates: LastTemplates::default(),
        }
    }

    /// Shows what the backend counts, and how long calls take. Fails if a name is taken.
    pub fn register(&self, registry: &impl Registers) -> prometheus::Result<()> {
        let metrics = StoreMetrics::new()?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        self.templates.register(registry)?;
        self.metrics.get_or_init(|| metrics);
        match &self.kind {
            StoreKind::Embedded(_) => Ok(()),
            StoreKind::Elasticsearch(backend) => backend.register(registry),
        }
    }

    /// Whether templates, indices or files exist.
    pub fn is_installed(&self) -> bool {
        self.is_installed.load(Ordering::Acquire)
    }

    /// Takes other addresses, passwords and certificates; nothing to do for the embedded store.
    pub fn reconnect(&self, settings: &EsSettings) -> Result<(), OptionsError> {
        match &self.kind {
            StoreKind::Embedded(_) => Ok(()),
            StoreKind::Elasticsearch(backend) => backend.reconnect(&settings.into()),
        }
    }

    fn measure<T>(&self, operation: &str, began: Instant, answer: &Answer<T>) {
        let Some(metrics) = self.metrics.get() else {
            return;
        };
        let seconds = metrics.seconds.with_label_values(&[operation]);
        seconds.observe(began.elapsed().as_secs_f64());
        if answer.is_err() {
            metrics.errors.with_label_values(&[operation]).inc();
        }
    }

    fn writable(&self) -> Answer<()> {
        if self.is_installed() {
            return Ok(());
        }
        let missing = "its templates and indices are not created yet";
        Err(StorageError::Unavailable(missing.to_owned()))
    }
}

/// Passes a call to the backend, measured.
macro_rules! pass {
    ($store:expr, $method:ident($($argument:expr),*)) => {{
        let began = Instant::now();
        let answer = match &$store.kind {
            StoreKind::Embedded(backend) => backend.$method($($argument),*).await,
            StoreKind::Elasticsearch(backend) => backend.$method($($argument),*).await,
        };
        $store.measure(stringify!($method), began, &answer);
        answer
    }};
}

impl Store {
    /// Days (`yyyyMMdd`) on which there are rows of a model, 0 for one without days.
    pub async fn days(&self, model: &Arc<Model>) -> Answer<Vec<u64>> {
        pass!(self, days(model))
    }

    /// Days (`yyyyMMdd`) of metrics that a killed process left; only the embedded store knows.
    pub fn unclean_days(&self) -> Vec<u64> {
        match &self.kind {
            StoreKind::Embedded(backend) => backend.unclean_days(),
            StoreKind::Elasticsearch(_) => vec![],
        }
    }

    /// The first minute (`yyyyMMddHHmm`) behind another one that a model has values of on one of [`Store::unclean_days`].
    pub async fn minute_after(
        &self,
        model: &Arc<Model>,
        day: u64,
        after: u64,
    ) -> Answer<Option<u64>> {
        match &self.kind {
            StoreKind::Embedded(backend) => backend.minute_after(model, day, after).await,
            StoreKind::Elasticsearch(_) => Ok(None),
        }
    }

    /// Nothing is missing from [`Store::unclean_days`] any more.
    pub fn forget_unclean_days(&self) {
        if let StoreKind::Embedded(backend) = &self.kind {
            backend.forget_unclean_days();
        }
    }

    /// Seconds are left to write everything.
    pub fn hasten(&self) {
        if let StoreKind::Elasticsearch(backend) = &self.kind {
            backend.hasten();
        }
    }

    /// Bytes of the dashboards that are remembered for while the store is away.
    pub fn remembered_bytes(&self) -> usize {
        self.templates.bytes()
    }

    /// Everything is written, of every bucket: the days that were written to are no [`Store::unclean_days`] of the next process.
    pub fn completed(&self) {
        if let StoreKind::Embedded(backend) = &self.kind {
            backend.completed();
        }
    }

    /// What is stored of models that the schema does not have.
    pub async fn unknown_models(&self, schema: &Schema) -> Answer<BTreeSet<String>> {
        pass!(self, unknown_models(schema))
    }

    /// Rows of a model and day, a page at a time: the first one, or that after [`RowPage::next`].
    pub async fn page(&self, model: &Arc<Model>, day: u64, after: Option<&str>) -> Answer<RowPage> {
        pass!(self, page(model, day, after))
    }
}

impl Backend for Store {
    async fn install(&self, schema: &Schema) -> Answer<Vec<String>> {
        let obstacles = pass!(self, install(schema))?;
        self.is_installed.store(true, Ordering::Release);
        Ok(obstacles)
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        self.writable()?;
        pass!(self, write(rows))
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        pass!(self, load(keys))
    }

    async fn reach(&self, models: &[Arc<Model>], since: u64) -> Answer<Reach> {
        pass!(self, reach(models, since))
    }

    async fn aggregates(
        &self,
        model: &Model,
        entity_ids: &[&str],
        range: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        pass!(self, aggregates(model, entity_ids, range))
    }

    async fn top_n(&self, model: &Model, filter: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        pass!(self, top_n(model, filter))
    }

    async fn sampled_records(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> Answer<Vec<SampledRecord>> {
        pass!(self, sampled_records(model, filter))
    }

    async fn services(&self, filter: &ServiceFilter, limit: usize) -> Answer<Page<ServiceTraffic>> {
        pass!(self, services(filter, limit))
    }

    async fn instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> Answer<Page<InstanceTraffic>> {
        pass!(self, instances(service_id, alive_since, limit))
    }

    async fn endpoints(
        &self,
        service_id: &str,
        keyword: &str,
        limit: usize,
    ) -> Answer<Vec<EndpointTraffic>> {
        pass!(self, endpoints(service_id, keyword, limit))
    }

    async fn address_aliases(&self, since: u64, limit: usize) -> Answer<Vec<AddressAlias>> {
        pass!(self, address_aliases(since, limit))
    }

    async fn relations(
        &self,
        model: &Model,
        range: BucketRange,
        filter: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        pass!(self, relations(model, range, filter))
    }

    async fn segments(&self, filter: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        pass!(self, segments(filter))
    }

    async fn trace(&self, filter: &TraceFilter) -> Answer<Page<SegmentData>> {
        pass!(self, trace(filter))
    }

    async fn alarms(&self, filter: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        pass!(self, alarms(filter))
    }

    async fn records(&self, model: &Arc<Model>, filter: &RecordFilter) -> Answer<Page<Row>> {
        pass!(self, records(model, filter))
    }

    async fn ui_templates(&self, including_disabled: bool) -> Answer<Vec<UiTemplate>> {
        let reading = self.templates.begin();
        let answer = pass!(self, ui_templates(including_disabled));
        if let (true, Ok(templates)) = (including_disabled, &answer) {
            self.templates.read(reading, templates);
        }
        answer
    }

    fn last_ui_templates(&self) -> Option<Vec<UiTemplate>> {
        self.templates.get()
    }

    async fn add_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.writable()?;
        let is_added = pass!(self, add_ui_template(template))?;
        if is_added {
            self.templates.changed(template);
        }
        Ok(is_added)
    }

    async fn replace_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.writable()?;
        let is_replaced = pass!(self, replace_ui_template(template))?;
        if is_replaced {
            self.templates.changed(template);
        }
        Ok(is_replaced)
    }

    async fn remove_expired(&self, schema: &Schema, expiry: Expiry) -> Answer<Vec<String>> {
        pass!(self, remove_expired(schema, expiry))
    }

    async fn refresh(&self) -> Answer<()> {
        pass!(self, refresh())
    }

    async fn ping(&self) -> Answer<()> {
        pass!(self, ping())
    }
}
