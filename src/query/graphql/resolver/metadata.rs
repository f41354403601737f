//! Resolvers of `metadata.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::model::scope::NodeType;
use crate::query::service::duration::Duration;
use crate::query::service::metadata;
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

pub(super) async fn all_services<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts) -> Answer {
    answer(metadata::services(cx, cuts, NodeType::Normal).await?)
}

pub(super) async fn browser_services<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts) -> Answer {
    answer(metadata::services(cx, cuts, NodeType::Browser).await?)
}

pub(super) async fn databases<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts) -> Answer {
    answer(metadata::databases(cx, cuts).await?)
}

#[derive(Deserialize)]
struct SearchServices {
    keyword: String,
}

pub(super) async fn search_services<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let SearchServices { keyword } = a.read()?;
    answer(metadata::search_services(cx, cuts, keyword).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchService {
    service_code: String,
}

pub(super) async fn search_service<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let SearchService { service_code } = a.read()?;
    answer(metadata::service(cx, service_code).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceInstances {
    duration: Duration,
    service_id: String,
}

pub(super) async fn instances<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let a: ServiceInstances = a.read()?;
    answer(metadata::instances(cx, cuts, &a.service_id, &a.duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchEndpoint {
    keyword: String,
    service_id: String,
    limit: i64,
}

pub(super) async fn search_endpoint<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let a: SearchEndpoint = a.read()?;
    answer(metadata::endpoints(cx, cuts, &a.service_id, &a.keyword, a.limit).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointInfo {
    endpoint_id: String,
}

pub(super) fn endpoint_info(a: Arguments) -> Answer {
    let EndpointInfo { endpoint_id } = a.read()?;
    answer(metadata::endpoint_info(endpoint_id)?)
}

pub(super) fn global_brief() -> Answer {
    answer(metadata::ClusterBrief::default())
}
