//! A store for tests of the query side: answers with what it was given, without looking at filters it does not need.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::ConfigFile;
use crate::model::metrics::{Entrance, Function, MetricDefinition};
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::model::scope::Scope;
use crate::model::time_bucket::Zone;
use crate::query::{AliasLookup, Answers, Components, QueryContext, QueryLimits, QueryMetrics};
use crate::storage::*;
use crate::util::clock::Clock;

type Answer<T> = Result<T, StorageError>;

/// What the store holds and how it behaves.
#[derive(Debug, Default)]
pub(in crate::query) struct FakeStore {
    pub(in crate::query) is_away: bool,
    /// Never answers.
    pub(in crate::query) is_stuck: bool,
    /// Before each answer.
    pub(in crate::query) delay: Duration,
    pub(in crate::query) rows: Vec<Row>,
    pub(in crate::query) value: Option<f64>,
    pub(in crate::query) top: Vec<TopNEntity>,
    pub(in crate::query) records: Vec<SampledRecord>,
    pub(in crate::query) services: Vec<ServiceTraffic>,
    /// Stream and edge.
    pub(in crate::query) relations: Vec<(&'static str, Relation)>,
    pub(in crate::query) segments: Vec<SegmentData>,
    /// Only a question about every day finds segments.
    pub(in crate::query) is_found_on_any_day: bool,
    pub(in crate::query) templates: Mutex<Vec<UiTemplate>>,
    pub(in crate::query) last_templates: Option<Vec<UiTemplate>>,
}

impl FakeStore {
    async fn check(&self) -> Answer<()> {
        if self.is_stuck {
            std::future::pending::<()>().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if self.is_away {
            return Err(StorageError::Unavailable("fake store is away".into()));
        }
        Ok(())
    }
}

fn page<T>(mut items: Vec<T>, limit: usize) -> Page<T> {
    let total = items.len() as i64;
    items.truncate(limit);
    Page { items, total }
}

impl Backend for FakeStore {
    async fn install(&self, _: &Schema) -> Answer<Vec<String>> {
        self.check().await?;
        Ok(vec![])
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        self.check().await?;
        Ok(vec![WriteOutcome::Stored; rows.len()])
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        self.check().await?;
        let find = |key: &RowKey| {
            let is_it = |row: &&Row| row.model.name == key.model.name && row.id == key.id;
            self.rows.iter().find(is_it).cloned()
        };
        Ok(keys.iter().map(find).collect())
    }

    async fn reach(&self, _: &[Arc<Model>], _: u64) -> Answer<Reach> {
        self.check().await?;
        Ok(Reach::default())
    }

    async fn aggregates(
        &self,
        _: &Model,
        ids: &[&str],
        _: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        self.check().await?;
        Ok(vec![self.value; ids.len()])
    }

    async fn top_n(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        self.check().await?;
        Ok(self.top.clone())
    }

    async fn sampled_records(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<SampledRecord>> {
        self.check().await?;
        Ok(self.records.clone())
    }

    async fn services(&self, filter: &ServiceFilter, limit: usize) -> Answer<Page<ServiceTraffic>> {
        self.check().await?;
        let is_meant = |s: &&ServiceTraffic| {
            s.node_type == filter.node_type && filter.name.as_ref().is_none_or(|n| *n == s.name)
        };
        let found: Vec<_> = self.services.iter().filter(is_meant).cloned().collect();
        Ok(page(found, limit))
    }

    async fn instances(&self, _: &str, _: u64, limit: usize) -> Answer<Page<InstanceTraffic>> {
        self.check().await?;
        Ok(page(vec![], limit))
    }

    async fn endpoints(&self, _: &str, _: &str, _: usize) -> Answer<Vec<EndpointTraffic>> {
        self.check().await?;
        Ok(vec![])
    }

    async fn address_aliases(&self, _: u64, _: usize) -> Answer<Vec<AddressAlias>> {
        self.check().await?;
        Ok(vec![])
    }

    async fn relations(
        &self,
        model: &Model,
        _: BucketRange,
        _: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        self.check().await?;
        let of_model = self
            .relations
            .iter()
            .filter(|(name, _)| *name == model.name);
        let found: Vec<_> = of_model.map(|(_, relation)| relation.clone()).collect();
        Ok(page(found, 1000))
    }

    async fn segments(&self, _: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        self.check().await?;
        Ok(Page {
            items: vec![],
            total: 0,
        })
    }

    async fn trace(&self, filter: &TraceFilter) -> Answer<Page<SegmentData>> {
        self.check().await?;
        let items = match self.is_found_on_any_day && filter.days.is_some() {
            true => &[][..],
            false => &self.segments,
        };
        let page = items.iter().skip(filter.offset).take(filter.limit);
        Ok(Page {
            items: page.cloned().collect(),
            total: i64::try_from(items.len()).unwrap_or(i64::MAX),
        })
    }

    async fn alarms(&self, _: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        self.check().await?;
        Ok(Page {
            items: vec![],
            total: 0,
        })
    }

    async fn records(&self, model: &Arc<Model>, filter: &RecordFilter) -> Answer<Page<Row>> {
        self.check().await?;
        let number = |row: &Row, column: &str| match column {
            "time_bucket" => row.time_bucket.cast_signed(),
            column => row.cell(column).as_long().unwrap_or(0),
        };
        let is_meant = |row: &&Row| {
            let mut conditions = filter.any_of.iter();
            let within = |(c, least, greatest)| (least..=greatest).contains(&number(row, c));
            row.model.name == model.name
                && conditions.all(|(c, any)| any.contains(row.cell(c)))
                && filter.between.is_none_or(within)
        };
        let mut rows: Vec<Row> = self.rows.iter().filter(is_meant).cloned().collect();
        rows.sort_by_key(|row| number(row, filter.sort_by));
        if filter.order == Order::Descending {
            rows.reverse();
        }
        Ok(page(rows, filter.limit))
    }

    async fn ui_templates(&self, including_disabled: bool) -> Answer<Vec<UiTemplate>> {
        self.check().await?;
        let templates = self.templates.lock().unwrap();
        let is_shown = |t: &&UiTemplate| including_disabled || !t.is_disabled;
        Ok(templates.iter().filter(is_shown).cloned().collect())
    }

    fn last_ui_templates(&self) -> Option<Vec<UiTemplate>> {
        self.last_templates.clone()
    }

    async fn add_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.check().await?;
        let mut templates = self.templates.lock().unwrap();
        let is_free = !templates.iter().any(|t| t.name == template.name);
        if is_free {
            templates.push(template.clone());
        }
        Ok(is_free)
    }

    async fn replace_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.check().await?;
        let mut templates = self.templates.lock().unwrap();
        let stored = templates.iter_mut().find(|t| t.name == template.name);
        Ok(stored.map(|t| *t = template.clone()).is_some())
    }

    /// Nothing here has a day.
    async fn remove_expired(&self, _: &Schema, _: Expiry) -> Answer<Vec<String>> {
        self.check().await.map(|()| vec![])
    }

    async fn ping(&self) -> Answer<()> {
        self.check().await
    }
}

struct NoAliases;

impl AliasLookup for NoAliases {
    fn service_of(&self, _: &str) -> Option<String> {
        None
    }
}

/// A few metrics of every kind: `service_cpm`, `service_percentile`, `all_heatmap`, `endpoint_avg`.
pub(in crate::query) fn schema() -> Schema {
    let metric = |name: &str, scope, function| MetricDefinition {
        name: name.into(),
        scope,
        filters: vec![],
        function,
        entrance: Entrance::One,
    };
    let histogram = Function::Histogram {
        step: 100,
        max_steps: 20,
    };
    let percentile = Function::Percentile { precision: 10 };
    let metrics = [
        metric("service_cpm", Scope::Service, Function::Cpm),
        metric("service_percentile", Scope::Service, percentile),
        metric("all_heatmap", Scope::All, histogram),
        metric("endpoint_avg", Scope::Endpoint, Function::LongAvg),
    ];
    Schema::build(&metrics, &[], &[], false)
}

/// A row with some columns set.
pub(in crate::query) fn row(schema: &Schema, model: &str, id: &str, cells: &[(&str, Cell)]) -> Row {
    let model = Arc::clone(schema.model(model).unwrap());
    let mut row = Row {
        id: id.into(),
        time_bucket: 0,
        cells: vec![Cell::Null; model.columns.len()],
        model,
    };
    for (column, cell) in cells {
        let at = row.model.column_index(column).unwrap();
        row.cells[at] = cell.clone();
    }
    row
}

fn components() -> Components {
    let file = ConfigFile::built_in("components", "Unknown: {id: 0}\nTomcat: {id: 1}");
    Components::parse(&file).unwrap().0
}

/// A context around the store; it is 2020-09-15 10:59:30 UTC, and the file has one dashboard, `APM`.
pub(in crate::query) fn context(store: FakeStore) -> QueryContext<FakeStore> {
    let metrics = QueryMetrics::register(&prometheus::Registry::new()).unwrap();
    QueryContext {
        storage: Arc::new(store),
        schema: Arc::new(schema()),
        zone: Zone::utc(),
        clock: Clock::Fixed(Arc::new(1_600_167_570_000.into())),
        components: Arc::new(components()),
        aliases: Arc::new(NoAliases),
        templates: vec![UiTemplate {
            name: "APM".into(),
            ty: "DASHBOARD".into(),
            configuration: "[]".into(),
            is_activated: true,
            is_disabled: false,
        }],
        limits: QueryLimits::default(),
        answers: Answers::new(32 << 20, metrics.refused_answers.clone()),
        metrics,
        creating_profile_task: Default::default(),
        health: None,
    }
}
