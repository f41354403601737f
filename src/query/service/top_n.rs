//! Highest and lowest: entities by a metric, single observations by latency (query spec 2.4, 2.5).

use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::entity::{Scope, display_name};
use super::metrics::Metric;
use crate::model::id::service_id;
use crate::model::schema::ValueKind;
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::{self, Backend, TopNFilter};

/// Sort direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Order {
    Asc,
    Des,
}

impl From<Order> for storage::Order {
    fn from(order: Order) -> storage::Order {
        match order {
            Order::Asc => storage::Order::Ascending,
            Order::Des => storage::Order::Descending,
        }
    }
}

/// Which list.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopNCondition {
    pub name: String,
    /// Only what belongs to this service; `""` is no restriction.
    pub parent_service: Option<String>,
    /// Whether the parent service is real.
    pub normal: Option<bool>,
    pub scope: Option<Scope>,
    pub top_n: i64,
    pub order: Order,
}

impl TopNCondition {
    fn parent(&self) -> Option<&str> {
        self.parent_service.as_deref().filter(|p| !p.is_empty())
    }

    fn limit<S>(&self, cx: &QueryContext<S>) -> Result<i64, QueryError> {
        if self.top_n <= 0 {
            return Err(QueryError::argument("topN", "must be greater than 0"));
        }
        Ok(self.top_n.min(cx.limits.result_window))
    }

    /// A list can be shorter than what was asked for because there are no more entries, which is no cut.
    fn note_if_cut<S>(&self, cx: &QueryContext<S>, cuts: &Cuts, shown: usize) {
        if shown as i64 == cx.limits.result_window {
            cx.note_if_cut(cuts, "top list", shown, self.top_n);
        }
    }

    fn service_id(&self) -> Option<String> {
        let parent = self.parent()?;
        Some(service_id(parent, self.normal.unwrap_or(false)))
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectedRecord {
    pub name: String,
    pub id: String,
    pub value: Option<String>,
    /// Id of the trace.
    pub ref_id: Option<String>,
}

/// An entity with its average, which is cut to a whole number in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopNEntity {
    pub name: String,
    pub id: String,
    pub value: i64,
}

/// A statement with its latency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopNRecord {
    pub statement: Option<String>,
    /// Milliseconds.
    pub latency: i64,
    pub trace_id: Option<String>,
}

/// Entities by the average of a metric. An id that cannot be read keeps its place, with the id as its name.
pub async fn entities<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    condition: &TopNCondition,
    duration: &Duration,
) -> Result<Vec<TopNEntity>, QueryError> {
    let Some(metric) = Metric::find(cx, &condition.name) else {
        return Ok(vec![]);
    };
    let limit = condition.limit(cx)?;
    if !metric.model.has_entity_id() {
        return Ok(vec![]);
    }
    metric.check_is_number()?;
    if condition.parent().is_some() && !metric.model.has_service_id() {
        return Ok(vec![]);
    }
    let filter = TopNFilter {
        service_id: condition.service_id(),
        range: duration.range()?,
        limit,
        order: condition.order.into(),
    };
    let found = cx.storage.top_n(&metric.model, &filter).await?;
    if found.is_empty() {
        return Ok(vec![]);
    }
    condition.note_if_cut(cx, cuts, found.len());
    let Some(scope) = condition.scope else {
        return Err(QueryError::argument(
            "scope",
            "is needed to name the entities",
        ));
    };
    let is_of_one_service = condition.parent().is_some();
    let entity = |e: storage::TopNEntity| TopNEntity {
        name: display_name(scope, &e.entity_id, is_of_one_service)
            .unwrap_or_else(|_| e.entity_id.clone()),
        id: e.entity_id,
        value: e.value as i64,
    };
    Ok(found.into_iter().map(entity).collect())
}

/// [`entities`] in the newer form, with values as text.
pub async fn sort_metrics<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    condition: &TopNCondition,
    duration: &Duration,
) -> Result<Vec<SelectedRecord>, QueryError> {
    let found = entities(cx, cuts, condition, duration).await?;
    let record = |e: TopNEntity| SelectedRecord {
        name: e.name,
        id: e.id,
        value: Some(e.value.to_string()),
        ref_id: None,
    };
    Ok(found.into_iter().map(record).collect())
}

/// Observations by latency; empty for anything that is no sampled record.
pub async fn records<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    condition: &TopNCondition,
    duration: &Duration,
) -> Result<Vec<TopNRecord>, QueryError> {
    let Some(metric) = Metric::find(cx, &condition.name) else {
        return Ok(vec![]);
    };
    if metric.value.kind != ValueKind::Sampled {
        return Ok(vec![]);
    }
    let filter = TopNFilter {
        service_id: condition.service_id(),
        range: duration.seconds()?,
        limit: condition.limit(cx)?,
        order: condition.order.into(),
    };
    let found = cx.storage.sampled_records(&metric.model, &filter).await?;
    condition.note_if_cut(cx, cuts, found.len());
    let record = |r: storage::SampledRecord| TopNRecord {
        statement: r.statement,
        latency: r.latency,
        trace_id: r.trace_id,
    };
    Ok(found.into_iter().map(record).collect())
}

/// [`records`] in the newer form. A statement that was never named is an empty name, not a lost list.
pub async fn read_sampled_records<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    condition: &TopNCondition,
    duration: &Duration,
) -> Result<Vec<SelectedRecord>, QueryError> {
    let found = records(cx, cuts, condition, duration).await?;
    let record = |r: TopNRecord| SelectedRecord {
        name: r.statement.unwrap_or_default(),
        id: r.trace_id.clone().unwrap_or_default(),
        value: Some(r.latency.to_string()),
        ref_id: r.trace_id,
    };
    Ok(found.into_iter().map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::super::duration::Step;
    use super::*;
    use crate::query::service::fake::{FakeStore, context};

    fn day() -> Duration {
        Duration {
            start: "2020-09-15".into(),
            end: "2020-09-15".into(),
            step: Step::Day,
        }
    }

    fn condition(name: &str, scope: Option<Scope>, top_n: i64) -> TopNCondition {
        TopNCondition {
            name: name.into(),
            parent_service: Some(String::new()),
            normal: None,
            scope,
            top_n,
            order: Order::Des,
        }
    }

    fn store() -> FakeStore {
        let entity = |entity_id: &str, value| storage::TopNEntity {
            entity_id: entity_id.into(),
            value,
        };
        FakeStore {
            top: vec![entity("YQ==.1_ZQ==", 9.99), entity("YQ==.1_", 3.0)],
            records: vec![storage::SampledRecord {
                statement: None,
                latency: 453,
                trace_id: Some("t".into()),
            }],
            ..FakeStore::default()
        }
    }

    #[tokio::test]
    async fn an_id_that_cannot_be_read_is_its_own_name() {
        let cx = context(store());
        let top = condition("endpoint_avg", Some(Scope::Endpoint), 5);
        let found = sort_metrics(&cx, &Cuts::default(), &top, &day())
            .await
            .unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|r| (&*r.name, r.value.as_deref()))
            .collect();
        assert_eq!(seen, [("a - e", Some("9")), ("YQ==.1_", Some("3"))]);
    }

    #[tokio::test]
    async fn the_unknown_is_empty_and_nonsense_an_error() {
        let cx = context(store());
        let empty = |name| condition(name, Some(Scope::Service), 5);
        assert_eq!(
            sort_metrics(&cx, &Cuts::default(), &empty("nope"), &day())
                .await
                .unwrap(),
            []
        );
        assert_eq!(
            sort_metrics(&cx, &Cuts::default(), &empty("all_heatmap"), &day())
                .await
                .unwrap(),
            []
        );
        assert_eq!(
            records(&cx, &Cuts::default(), &empty("service_cpm"), &day())
                .await
                .unwrap(),
            []
        );
        for wrong in [
            condition("service_cpm", None, 5),
            condition("service_cpm", Some(Scope::Service), 0),
            condition("service_percentile", Some(Scope::Service), 5),
        ] {
            assert!(
                sort_metrics(&cx, &Cuts::default(), &wrong, &day())
                    .await
                    .is_err(),
                "{wrong:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_record_without_statement_has_an_empty_name() {
        let cx = context(store());
        let top = condition("top_n_database_statement", None, 5);
        let found = read_sampled_records(&cx, &Cuts::default(), &top, &day())
            .await
            .unwrap();
        let want = SelectedRecord {
            name: String::new(),
            id: "t".into(),
            value: Some("453".into()),
            ref_id: Some("t".into()),
        };
        assert_eq!(found, [want]);
    }
}
