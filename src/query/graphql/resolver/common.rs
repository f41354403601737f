//! Resolvers of `common.graphqls` and `getTimeInfo`.

use serde_json::Value;

use super::{Answer, answer};
use crate::query::QueryContext;
use crate::query::service::metadata;
use crate::storage::Backend;

pub(super) fn version() -> Answer {
    Ok(Value::from(metadata::PROTOCOL_VERSION))
}

pub(super) async fn check_health<S: Backend>(cx: &QueryContext<S>) -> Answer {
    answer(metadata::check_health(cx).await)
}

pub(super) fn time_info<S>(cx: &QueryContext<S>) -> Answer {
    answer(metadata::time_info(cx))
}
