//! Edges of the topologies.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::search::{Completeness, Found, all_of, any_of, search, term, within};
use super::{Answer, Elasticsearch};
use crate::model::schema::Model;
use crate::storage::StorageError;
use crate::storage::query::{BucketRange, Page, Relation, RelationFilter};

/// Most edges of one answer, as in 8.1.0.
const MAX_EDGES: usize = 1000;

#[derive(Debug, Deserialize)]
struct Edges {
    edges: Buckets<EdgeBucket>,
}

#[derive(Debug, Deserialize)]
struct Buckets<B> {
    buckets: Vec<B>,
    /// Documents of buckets that found no room.
    #[serde(default)]
    sum_other_doc_count: u64,
}

#[derive(Debug, Deserialize)]
struct EdgeBucket {
    key: String,
    components: Buckets<ComponentBucket>,
}

#[derive(Debug, Deserialize)]
struct Cardinality {
    edges: Count,
}

#[derive(Debug, Deserialize)]
struct Count {
    value: usize,
}

#[derive(Debug, Deserialize)]
struct ComponentBucket {
    key: i64,
}

impl Elasticsearch {
    pub(super) async fn find_relations(
        &self,
        model: &Model,
        range: BucketRange,
        filter: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        let mut clauses = vec![within(range)];
        clauses.extend(restriction(filter)?);
        let query = all_of(clauses);
        let body = json!({
            "size": 0,
            "query": query,
            "aggs": {"edges": {
                "terms": {"field": "entity_id", "size": MAX_EDGES, "shard_size": 2 * MAX_EDGES},
                "aggs": {"components": {"terms": {"field": "component_id", "size": 1}}},
            }},
        });
        self.freshen(&model.name, range).await;
        let target = self.names.target(&model.name, range);
        let found: Found<IgnoredAny, Edges> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let edges = found.aggregations.map(|a| a.edges);
        let is_cut = edges.as_ref().is_some_and(|e| e.sum_other_doc_count > 0);
        let buckets = edges.map_or_else(Vec::new, |e| e.buckets);
        let relations = buckets.into_iter().map(|edge| Relation {
            entity_id: edge.key,
            component_id: edge.components.buckets.first().map_or(0, |c| c.key),
        });
        let items: Vec<Relation> = relations.collect();
        let mut total = items.len();
        if is_cut {
            self.counters
                .note_cut("topology", total, "none, as in 8.1.0");
            total = self.count_edges(&target, query).await?.max(total + 1);
        }
        Ok(Page::of(items, total))
    }

    /// How many edges there are, nearly; asked only where not all are shown.
    async fn count_edges(&self, target: &str, query: Value) -> Answer<usize> {
        let count = json!({"field": "entity_id", "precision_threshold": 40_000});
        let body = json!({
            "size": 0,
            "query": query,
            "aggs": {"edges": {"cardinality": count}},
        });
        let found: Found<IgnoredAny, Cardinality> =
            search(&self.client, target, Completeness::BestEffort, &body).await?;
        Ok(found.aggregations.map_or(0, |a| a.edges.value))
    }
}

fn restriction(filter: &RelationFilter) -> Answer<Option<Value>> {
    Ok(match filter {
        RelationFilter::All => None,
        RelationFilter::Services(ids) if ids.is_empty() => {
            return Err(StorageError::InvalidQuery(
                "at least one service id is needed".to_owned(),
            ));
        }
        RelationFilter::Services(ids) => Some(any_of(vec![
            json!({"terms": {"source_service_id": ids}}),
            json!({"terms": {"dest_service_id": ids}}),
        ])),
        RelationFilter::BetweenServices { client, server } => Some(any_of(vec![
            directed(client, server),
            directed(server, client),
        ])),
        RelationFilter::Endpoint(id) => Some(any_of(vec![
            term("source_endpoint", id.as_str()),
            term("dest_endpoint", id.as_str()),
        ])),
    })
}

fn directed(source: &str, dest: &str) -> Value {
    all_of(vec![
        term("source_service_id", source),
        term("dest_service_id", dest),
    ])
}
