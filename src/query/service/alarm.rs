//! Alarms that were raised (query spec 2.9).

use serde::Serialize;

use super::duration::Duration;
use super::entity::Scope;
use super::paging::Pagination;
use crate::query::{QueryContext, QueryError};
use crate::storage::{AlarmFilter, AlarmRow, Backend};

/// Counts of alarms over time, which no version from 8 on fills.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmTrend {
    pub num_of_alarm: Vec<i64>,
}

/// A page of alarms, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarms {
    pub msgs: Vec<AlarmMessage>,
    pub total: i64,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmMessage {
    /// Epoch milliseconds.
    pub start_time: i64,
    /// `None` for a stored number that is no scope.
    pub scope: Option<Scope>,
    /// Id of the entity, or of the source of a relation.
    pub id: String,
    pub message: String,
}

/// Alarms of a range of time, of one scope and with a phrase in their message if these are given.
pub async fn alarms<S: Backend>(
    cx: &QueryContext<S>,
    duration: &Duration,
    scope: Option<Scope>,
    keyword: Option<String>,
    paging: &Pagination,
) -> Result<Alarms, QueryError> {
    let (offset, limit) = paging.offset_and_limit(cx.limits.result_window)?;
    let filter = AlarmFilter {
        range: duration.seconds()?,
        scope: scope.map(Scope::number),
        keyword: keyword.filter(|k| !k.is_empty()),
        offset,
        limit,
    };
    let page = cx.storage.alarms(&filter).await?;
    Ok(Alarms {
        msgs: page.items.into_iter().map(message).collect(),
        total: page.total,
    })
}

fn message(alarm: AlarmRow) -> AlarmMessage {
    AlarmMessage {
        start_time: alarm.start_time,
        scope: Scope::from_number(alarm.scope),
        id: alarm.id0,
        message: alarm.message,
    }
}
