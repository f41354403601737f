//! Resolvers of `trace.graphqls` and `log.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::service::log::{self, LogQueryCondition};
use crate::query::service::trace::{self, TraceQueryCondition};
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

#[derive(Deserialize)]
struct BasicTraces {
    condition: Option<TraceQueryCondition>,
}

pub(super) async fn basic_traces<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let BasicTraces { condition } = a.read()?;
    answer(trace::basic_traces(cx, condition).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WholeTrace {
    trace_id: String,
}

pub(super) async fn trace<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let WholeTrace { trace_id } = a.read()?;
    answer(trace::trace(cx, cuts, &trace_id).await?)
}

#[derive(Deserialize)]
struct Logs {
    condition: Option<LogQueryCondition>,
}

pub(super) fn logs<S>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Logs { condition } = a.read()?;
    answer(log::logs(cx, condition)?)
}
