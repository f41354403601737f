//! Resolvers of the older metric questions: `metrics-v1.graphqls`, `aggregation.graphqls`, `record.graphqls`. Thin
//! shells over the newer use cases; ids come ready-made (query spec 2.5).

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::model::id::parse_service_id;
use crate::query::service::duration::Duration;
use crate::query::service::entity::Scope;
use crate::query::service::metrics::MetricsValues;
use crate::query::service::top_n::{Order, TopNCondition};
use crate::query::service::{heat_map, metrics, top_n};
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

#[derive(Deserialize)]
struct BatchMetricConditions {
    name: String,
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct Values {
    metric: BatchMetricConditions,
    duration: Duration,
}

pub(super) async fn values<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Values { metric, duration } = a.read()?;
    answer(metrics::values_of_entities(cx, &metric.name, metric.ids, &duration).await?)
}

#[derive(Deserialize)]
struct MetricCondition {
    name: String,
    id: Option<String>,
}

impl MetricCondition {
    /// No id asks for the rows of scope All.
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Linear {
    metric: MetricCondition,
    duration: Duration,
}

pub(super) async fn linear<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Linear { metric, duration } = a.read()?;
    answer(metrics::values(cx, &metric.name, Some(metric.id()), &duration).await?)
}

pub(super) async fn thermodynamic<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Linear { metric, duration } = a.read()?;
    answer(heat_map::thermodynamic(cx, &metric.name, metric.id(), &duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MultipleLinear {
    metric: MetricCondition,
    num_of_linear: i64,
    duration: Duration,
}

/// More lines than any metric has.
const MAX_LINES: i64 = 50_000;

pub(super) async fn multiple_linear<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let a: MultipleLinear = a.read()?;
    let lines = 0..a.num_of_linear.min(MAX_LINES);
    let labels = lines.map(|n| n.to_string()).collect();
    labeled(cx, &a.metric, labels, &a.duration).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubsetLinear {
    metric: MetricCondition,
    linear_index: Vec<i64>,
    duration: Duration,
}

pub(super) async fn subset_linear<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let a: SubsetLinear = a.read()?;
    let labels = a.linear_index.iter().map(i64::to_string).collect();
    labeled(cx, &a.metric, labels, &a.duration).await
}

async fn labeled<S: Backend>(
    cx: &QueryContext<S>,
    metric: &MetricCondition,
    labels: Vec<String>,
    duration: &Duration,
) -> Answer {
    let id = Some(metric.id());
    let series = metrics::labeled_values(cx, &metric.name, id, &labels, duration).await?;
    let values: Vec<_> = series
        .into_iter()
        .map(|MetricsValues { values, .. }| values)
        .collect();
    answer(values)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TopN {
    service_id: Option<String>,
    name: String,
    top_n: i64,
    duration: Duration,
    order: Order,
}

pub(super) async fn service_top_n<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    of_scope(cx, cuts, a, Scope::Service).await
}

pub(super) async fn instance_top_n<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    of_scope(cx, cuts, a, Scope::ServiceInstance).await
}

pub(super) async fn endpoint_top_n<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    of_scope(cx, cuts, a, Scope::Endpoint).await
}

async fn of_scope<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
    scope: Scope,
) -> Answer {
    let a: TopN = a.read()?;
    let parent_service = match a.service_id {
        Some(id) => Some(parse_service_id(&id)?.0),
        None => None,
    };
    let condition = TopNCondition {
        name: a.name,
        parent_service,
        // Whatever the id says.
        normal: Some(true),
        scope: Some(scope),
        top_n: a.top_n,
        order: a.order,
    };
    answer(top_n::entities(cx, cuts, &condition, &a.duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TopNRecordsCondition {
    service_id: String,
    metric_name: String,
    top_n: i64,
    order: Order,
    duration: Duration,
}

#[derive(Deserialize)]
struct TopNRecords {
    condition: TopNRecordsCondition,
}

pub(super) async fn top_n_records<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let TopNRecords { condition } = a.read()?;
    let (service, is_normal) = parse_service_id(&condition.service_id)?;
    let top = TopNCondition {
        name: condition.metric_name,
        parent_service: Some(service),
        normal: Some(is_normal),
        scope: None,
        top_n: condition.top_n,
        order: condition.order,
    };
    answer(top_n::records(cx, cuts, &top, &condition.duration).await?)
}
