//! Storage models: every index or table by name, with columns, kind and what queries read (8.1.0 spec, E; storage 2.5–2.11).

mod builtin;

use std::collections::HashMap;
use std::sync::Arc;

use super::entity::EntityField;
use super::metrics::{Function, MeterDefinition, MetricDefinition};
use super::scope::Scope;

/// Type of a column, independent of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// 32 bit.
    Int,
    Long,
    Double,
    /// Text that is compared whole.
    Keyword,
    /// Numbers by key as `key,value|key,value`.
    Table,
    /// JSON as text.
    Json,
    /// Bytes; Base64 where documents are JSON.
    Binary,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub ty: ColumnType,
    /// Stored but not searchable.
    pub is_storage_only: bool,
    /// Also searchable by analysed words, under `<name>_match`.
    pub is_match_query: bool,
}

impl Column {
    pub fn new(name: &'static str, ty: ColumnType) -> Column {
        Column {
            name,
            ty,
            is_storage_only: false,
            is_match_query: false,
        }
    }

    pub fn storage_only(mut self) -> Column {
        self.is_storage_only = true;
        self
    }

    pub fn match_query(mut self) -> Column {
        self.is_match_query = true;
        self
    }
}

/// What a model holds; decides TTL group, refresh and naming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Merged values, relations and traffic: kept for the metrics TTL.
    Metrics,
    /// Rows as they came, second buckets: kept for the record TTL.
    Record,
    /// Settings: one index without days, kept for ever.
    Management,
}

/// How `readMetricsValue` combines buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryFunction {
    Avg,
    Sum,
}

/// What kind of value a metric has for queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// One number.
    Common,
    /// Numbers by label.
    Labeled,
    /// Counts by bucket.
    Histogram,
    /// Records sorted by a number.
    Sampled,
}

/// The column that queries read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueColumn {
    pub name: &'static str,
    pub kind: ValueKind,
    pub function: QueryFunction,
}

/// A storage model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Index or table name without prefix.
    pub name: String,
    pub kind: ModelKind,
    /// Without `time_bucket`, which every model but management has.
    pub columns: Vec<Column>,
    /// False where `time_bucket` is mapped but not written (service_traffic) or does not exist.
    pub stores_time_bucket: bool,
    /// Has hour and day rows beside minute rows.
    pub is_downsampled: bool,
    /// Gets more shards (`superDatasetIndexShardsFactor`).
    pub is_super_dataset: bool,
    pub value: Option<ValueColumn>,
    /// Which entity field fills a leading column of a metric row, `None` for `entity_id`; in column order.
    pub entity_columns: Vec<(&'static str, Option<EntityField>)>,
}

impl Model {
    /// Position of a column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Whether queries can restrict it to one parent service.
    pub fn has_service_id(&self) -> bool {
        self.column_index("service_id").is_some()
    }

    /// Whether rows belong to an entity (all but scope All).
    pub fn has_entity_id(&self) -> bool {
        self.column_index("entity_id").is_some()
    }

    /// The model of an OAL metric.
    pub fn of_metric(metric: &MetricDefinition, with_extra_columns: bool) -> Model {
        let entity_columns = builtin::entity_columns(metric.scope, with_extra_columns);
        Model::metrics(&metric.name, entity_columns, metric.function)
    }

    /// The model of a meter.
    pub fn of_meter(meter: &MeterDefinition) -> Model {
        let entity_columns = builtin::meter_entity_columns(meter.function);
        Model::metrics(&meter.name, entity_columns, meter.function)
    }

    fn metrics(
        name: &str,
        entity_columns: Vec<(&'static str, Option<EntityField>)>,
        function: Function,
    ) -> Model {
        let mut columns: Vec<Column> = entity_columns
            .iter()
            .map(|(name, _)| Column::new(name, ColumnType::Keyword))
            .collect();
        columns.extend(function.columns());
        Model {
            name: name.to_owned(),
            kind: ModelKind::Metrics,
            columns,
            stores_time_bucket: true,
            is_downsampled: true,
            is_super_dataset: false,
            value: function.value_column(),
            entity_columns,
        }
    }
}

/// A relation stream: a metric whose value is the component of the call.
#[derive(Debug, Clone)]
pub struct RelationStream {
    pub scope: Scope,
    /// Server or client; endpoint relations have the server side only.
    pub is_server_side: bool,
    pub model: Arc<Model>,
}

/// All models of a process.
#[derive(Debug, Clone)]
pub struct Schema {
    models: Vec<Arc<Model>>,
    by_name: HashMap<String, Arc<Model>>,
    relations: Vec<RelationStream>,
}

impl Schema {
    /// The built-in models, one per metric and one per meter; `disabled` names models that scripts switched off.
    pub fn build(
        metrics: &[MetricDefinition],
        meters: &[MeterDefinition],
        disabled: &[String],
        with_extra_columns: bool,
    ) -> Schema {
        let is_on = |name: &str| !disabled.iter().any(|d| d == name);
        let relations: Vec<RelationStream> = builtin::relations()
            .into_iter()
            .filter(|r| is_on(&r.model.name))
            .collect();
        let mut models: Vec<Arc<Model>> = builtin::models()
            .into_iter()
            .filter(|m| is_on(&m.name))
            .map(Arc::new)
            .collect();
        models.extend(relations.iter().map(|r| Arc::clone(&r.model)));
        models.extend(
            metrics
                .iter()
                .map(|m| Arc::new(Model::of_metric(m, with_extra_columns))),
        );
        models.extend(meters.iter().map(|m| Arc::new(Model::of_meter(m))));
        let by_name = models
            .iter()
            .map(|m| (m.name.clone(), Arc::clone(m)))
            .collect();
        Schema {
            models,
            by_name,
            relations,
        }
    }

    /// Every model.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// A model by name; `None` if it does not exist or is disabled.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name)
    }

    /// The relation streams that are on.
    pub fn relations(&self) -> &[RelationStream] {
        &self.relations
    }
}

#[cfg(test)]
mod tests;
