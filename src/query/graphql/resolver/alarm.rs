//! Resolvers of `alarm.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::QueryContext;
use crate::query::service::alarm;
use crate::query::service::duration::Duration;
use crate::query::service::entity::Scope;
use crate::query::service::paging::Pagination;
use crate::storage::Backend;

pub(super) fn trend() -> Answer {
    answer(alarm::AlarmTrend::default())
}

#[derive(Deserialize)]
struct Alarms {
    duration: Duration,
    scope: Option<Scope>,
    keyword: Option<String>,
    paging: Pagination,
}

pub(super) async fn alarms<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let a: Alarms = a.read()?;
    answer(alarm::alarms(cx, &a.duration, a.scope, a.keyword, &a.paging).await?)
}
