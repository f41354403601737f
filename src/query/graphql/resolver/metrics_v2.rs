//! Resolvers of `metrics-v2.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::service::duration::Duration;
use crate::query::service::entity::Entity;
use crate::query::service::top_n::TopNCondition;
use crate::query::service::{heat_map, metrics, top_n};
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

#[derive(Deserialize)]
struct TypeOfMetrics {
    name: String,
}

pub(super) fn type_of_metrics<S>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let TypeOfMetrics { name } = a.read()?;
    answer(metrics::type_of_metrics(cx, &name))
}

#[derive(Deserialize)]
struct MetricsCondition {
    name: String,
    entity: Entity,
}

#[derive(Deserialize)]
struct ReadMetrics {
    condition: MetricsCondition,
    duration: Duration,
}

pub(super) async fn value<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let ReadMetrics {
        condition,
        duration,
    } = a.read()?;
    let id = condition.entity.id();
    answer(metrics::value(cx, &condition.name, id.as_deref(), &duration).await?)
}

pub(super) async fn values<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let ReadMetrics {
        condition,
        duration,
    } = a.read()?;
    let id = condition.entity.id();
    let values = metrics::values(cx, &condition.name, id.as_deref(), &duration).await?;
    answer(metrics::MetricsValues {
        label: None,
        values,
    })
}

pub(super) async fn heat_map<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let ReadMetrics {
        condition,
        duration,
    } = a.read()?;
    let id = condition.entity.id();
    answer(heat_map::heat_map(cx, &condition.name, id.as_deref(), &duration).await?)
}

#[derive(Deserialize)]
struct ReadLabeledMetrics {
    condition: MetricsCondition,
    labels: Vec<String>,
    duration: Duration,
}

pub(super) async fn labeled_values<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let a: ReadLabeledMetrics = a.read()?;
    let id = a.condition.entity.id();
    let name = &a.condition.name;
    answer(metrics::labeled_values(cx, name, id.as_deref(), &a.labels, &a.duration).await?)
}

#[derive(Deserialize)]
struct TopN {
    condition: TopNCondition,
    duration: Duration,
}

pub(super) async fn sort<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let TopN {
        condition,
        duration,
    } = a.read()?;
    answer(top_n::sort_metrics(cx, cuts, &condition, &duration).await?)
}

pub(super) async fn sampled_records<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let TopN {
        condition,
        duration,
    } = a.read()?;
    answer(top_n::read_sampled_records(cx, cuts, &condition, &duration).await?)
}
