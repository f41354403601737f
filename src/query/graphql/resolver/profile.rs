//! Resolvers of `profile.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::service::profile::{self, ProfileTaskCreationRequest};
use crate::query::service::profile_snapshots::{self, ProfileAnalyzeTimeRange};
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskList {
    service_id: Option<String>,
    endpoint_name: Option<String>,
}

pub(super) async fn tasks<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let TaskList {
        service_id,
        endpoint_name,
    } = a.read()?;
    answer(profile::tasks(cx, cuts, service_id, endpoint_name).await?)
}

#[derive(Deserialize)]
struct OfTask {
    #[serde(rename = "taskID")]
    task_id: Option<String>,
}

pub(super) async fn segments<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let OfTask { task_id } = a.read()?;
    answer(profile_snapshots::segments(cx, cuts, &task_id.unwrap_or_default()).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSegment {
    segment_id: Option<String>,
}

pub(super) async fn segment<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let OfSegment { segment_id } = a.read()?;
    answer(profile_snapshots::segment(cx, &segment_id.unwrap_or_default()).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Analysis {
    segment_id: String,
    time_ranges: Vec<ProfileAnalyzeTimeRange>,
}

pub(super) async fn analyze<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let Analysis {
        segment_id,
        time_ranges,
    } = a.read()?;
    answer(profile_snapshots::analyze(cx, cuts, &segment_id, &time_ranges).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Creation {
    creation_request: Option<ProfileTaskCreationRequest>,
}

pub(super) async fn create<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Creation { creation_request } = a.read()?;
    answer(profile::create(cx, creation_request).await?)
}
