//! Values of metrics: one average or sum, the top entities, the slowest samples.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::document::exact;
use super::search::{Completeness, Found, all_of, direction, search, term, within};
use super::{Answer, Elasticsearch};
use crate::model::schema::{ColumnType, Model, QueryFunction, ValueColumn};
use crate::storage::StorageError;
use crate::storage::query::{BucketRange, SampledRecord, TopNEntity, TopNFilter};

/// Entities that each shard hands in at least, so that the order by an average over several days is right.
const MIN_SHARD_SIZE: i64 = 1000;
/// Entities whose values one search gives.
const ENTITIES_AT_ONCE: usize = 1000;

#[derive(Debug, Deserialize)]
struct Number {
    #[serde(default, deserialize_with = "exact")]
    value: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct ByEntity {
    entities: Buckets,
}

#[derive(Debug, Deserialize)]
struct Buckets {
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    key: String,
    value: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    statement: Option<String>,
    latency: Option<i64>,
    trace_id: Option<String>,
}

impl Elasticsearch {
    pub(super) async fn values_of_entities(
        &self,
        model: &Model,
        entity_ids: &[&str],
        range: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        let column = number_column(model)?;
        if !model.has_entity_id() {
            return Ok(vec![None; entity_ids.len()]);
        }
        let function = match column.function {
            QueryFunction::Avg => "avg",
            QueryFunction::Sum => "sum",
        };
        self.freshen(&model.name, range).await;
        let target = self.names.target(&model.name, range);
        let mut values = HashMap::new();
        for entity_ids in entity_ids.chunks(ENTITIES_AT_ONCE) {
            let of_entities = json!({"terms": {"entity_id": entity_ids}});
            let body = json!({
                "size": 0,
                "track_total_hits": false,
                "query": all_of(vec![within(range), of_entities]),
                "aggs": {"entities": {
                    "terms": {"field": "entity_id", "size": entity_ids.len()},
                    "aggs": {"value": {function: {"field": column.name}}},
                }},
            });
            let found: Found<IgnoredAny, ByEntity> =
                search(&self.client, &target, Completeness::BestEffort, &body).await?;
            let buckets = found.aggregations.map(|a| a.entities.buckets);
            let buckets = buckets.into_iter().flatten();
            values.extend(buckets.map(|bucket| (bucket.key, bucket.value.value)));
        }
        let value = |id: &&str| values.get(*id).copied().flatten();
        Ok(entity_ids.iter().map(value).collect())
    }

    pub(super) async fn top_entities(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> Answer<Vec<TopNEntity>> {
        let column = number_column(model)?;
        positive(filter.limit)?;
        if !model.has_entity_id() {
            return Ok(vec![]);
        }
        let order = direction(filter.order);
        let body = json!({
            "size": 0,
            "query": self.top_query(filter),
            "aggs": {"entities": {
                "terms": {
                    "field": "entity_id",
                    "size": filter.limit,
                    "shard_size": filter.limit.saturating_mul(2).max(MIN_SHARD_SIZE),
                    "order": [{"value": order}, {"_key": "asc"}],
                },
                "aggs": {"value": {"avg": {"field": column.name}}},
            }},
        });
        self.freshen(&model.name, filter.range).await;
        let target = self.names.target(&model.name, filter.range);
        let found: Found<IgnoredAny, ByEntity> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let buckets = found
            .aggregations
            .map_or_else(Vec::new, |a| a.entities.buckets);
        let entities = buckets.into_iter().filter_map(|bucket| {
            Some(TopNEntity {
                value: bucket.value.value?,
                entity_id: bucket.key,
            })
        });
        Ok(entities.collect())
    }

    pub(super) async fn top_records(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> Answer<Vec<SampledRecord>> {
        positive(filter.limit)?;
        self.check_window(0, filter.limit)?;
        let column = model.value.as_ref().map_or("latency", |v| v.name);
        let body = json!({
            "size": filter.limit,
            "query": self.top_query(filter),
            "sort": [{column: direction(filter.order)}],
            "_source": ["statement", "latency", "trace_id"],
        });
        let target = self.names.target(&model.name, filter.range);
        let found: Found<Record> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let records = found.sources().map(|record| SampledRecord {
            statement: record.statement,
            latency: record.latency.unwrap_or(0),
            trace_id: record.trace_id,
        });
        Ok(records.collect())
    }

    fn top_query(&self, filter: &TopNFilter) -> serde_json::Value {
        let mut clauses = vec![within(filter.range)];
        if let Some(service) = &filter.service_id {
            clauses.push(term("service_id", service.as_str()));
        }
        all_of(clauses)
    }

    /// Refuses pages that the indices would refuse, which they only do once they exist.
    pub(super) fn check_window(&self, offset: i64, limit: i64) -> Answer<()> {
        if offset < 0 || limit < 0 {
            return Err(StorageError::InvalidQuery(format!(
                "a page cannot start at {offset} and have {limit} lines"
            )));
        }
        let window = self.options.result_window();
        if offset.saturating_add(limit) > window {
            return Err(StorageError::InvalidQuery(format!(
                "page ends at line {}, beyond the {window} that elasticsearch returns at most (index.max_result_window)",
                offset.saturating_add(limit)
            )));
        }
        Ok(())
    }
}

/// The value column, if it holds one number.
fn number_column(model: &Model) -> Answer<&ValueColumn> {
    let no_number = || {
        StorageError::InvalidQuery(format!(
            "metrics {} has no single number per row",
            model.name
        ))
    };
    let column = model.value.as_ref().ok_or_else(no_number)?;
    let ty = model
        .column_index(column.name)
        .and_then(|i| model.columns.get(i))
        .map(|c| c.ty);
    match ty {
        Some(ColumnType::Int | ColumnType::Long | ColumnType::Double) => Ok(column),
        _ => Err(no_number()),
    }
}

fn positive(limit: i64) -> Answer<()> {
    if limit > 0 {
        return Ok(());
    }
    Err(StorageError::InvalidQuery(format!(
        "top N must be greater than 0, not {limit}"
    )))
}
