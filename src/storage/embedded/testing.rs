//! A store in a temporary directory and short ways to make rows, for the tests of this folder.

use std::sync::Arc;

use tempfile::TempDir;

use super::file::{FileKey, Files};
use super::load;
use super::pool::ReadPool;
use super::write::Writer;
use crate::model::metrics::{Entrance, Function, MetricDefinition};
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::model::scope::Scope;
use crate::storage::WriteOutcome;

/// Pieces of the store without the asynchronous shell.
pub(super) struct Store {
    pub(super) dir: TempDir,
    pub(super) files: Arc<Files>,
    pub(super) pool: ReadPool,
    pub(super) schema: Schema,
}

impl Store {
    pub(super) fn new() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::scan(dir.path()).unwrap());
        let store = Store {
            dir,
            pool: ReadPool::new(Arc::clone(&files)),
            files,
            schema: schema(),
        };
        let template = [store.model("ui_template")];
        Writer::new(Arc::clone(&store.files))
            .ensure(FileKey::Meta, &template)
            .unwrap();
        store
    }

    pub(super) fn model(&self, name: &str) -> Arc<Model> {
        Arc::clone(
            self.schema
                .model(name)
                .unwrap_or_else(|| panic!("no model {name}")),
        )
    }

    /// Writes rows that must all be stored.
    pub(super) fn write(&self, rows: &[Row]) {
        let outcomes = Writer::new(Arc::clone(&self.files)).write(rows).unwrap();
        assert!(
            outcomes.iter().all(|o| *o == WriteOutcome::Stored),
            "{outcomes:?}"
        );
    }

    pub(super) fn load(
        &self,
        model: &Arc<Model>,
        ids: &[&str],
        time_bucket: Option<u64>,
    ) -> Vec<Option<Row>> {
        let keys: Vec<_> = ids
            .iter()
            .map(|id| RowKey {
                model: Arc::clone(model),
                id: (*id).to_owned(),
                time_bucket,
            })
            .collect();
        load::load(&self.pool, &keys).unwrap()
    }
}

/// Built-in models and a metric of each kind of value.
pub(super) fn schema() -> Schema {
    let metric = |name: &str, scope, function| MetricDefinition {
        name: name.to_owned(),
        scope,
        filters: vec![],
        function,
        entrance: Entrance::One,
    };
    let metrics = [
        metric("service_cpm", Scope::Service, Function::Cpm),
        metric("service_count", Scope::Service, Function::Count),
        metric("endpoint_cpm", Scope::Endpoint, Function::Cpm),
        metric("instance_jvm_cpu", Scope::Service, Function::DoubleAvg),
        metric(
            "all_percentile",
            Scope::All,
            Function::Percentile { precision: 10 },
        ),
        metric("all_count", Scope::All, Function::Count),
    ];
    Schema::build(&metrics, &[], &[], false)
}

/// A row with some cells set.
pub(super) fn row(model: &Arc<Model>, id: &str, time_bucket: u64, set: &[(&str, Cell)]) -> Row {
    let mut cells = vec![Cell::Null; model.columns.len()];
    for (name, cell) in set {
        let at = model
            .column_index(name)
            .unwrap_or_else(|| panic!("no column {name}"));
        cells[at] = cell.clone();
    }
    Row {
        model: Arc::clone(model),
        id: id.to_owned(),
        time_bucket,
        cells,
    }
}

/// Text cells.
pub(super) fn cells<'a>(texts: &[(&'a str, &str)]) -> Vec<(&'a str, Cell)> {
    texts
        .iter()
        .map(|(name, text)| (*name, Cell::text(*text)))
        .collect()
}

/// A row of a metric with one value.
pub(super) fn metric(model: &Arc<Model>, entity: &str, time_bucket: u64, value: i64) -> Row {
    let id = crate::model::id::metrics_id(time_bucket, entity);
    let mut set = vec![("value", Cell::Long(value))];
    if model.has_entity_id() {
        set.push(("entity_id", Cell::text(entity)));
    }
    if model.has_service_id() {
        let service = entity
            .split_once('_')
            .map_or(entity, |(service, _)| service);
        set.push(("service_id", Cell::text(service)));
    }
    row(model, &id, time_bucket, &set)
}
