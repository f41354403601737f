//! Access logs in the form of 8.1.0. No agent sends them, so there are never any (query spec 2.9).

use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::paging::Pagination;
use crate::query::{QueryContext, QueryError};

/// Which logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogQueryCondition {
    pub service_id: Option<String>,
    pub service_instance_id: Option<String>,
    pub query_duration: Option<Duration>,
    pub paging: Pagination,
}

/// A page of logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logs {
    pub logs: Vec<Log>,
    pub total: i64,
}

/// A log line; there is no value of this type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Log {}

/// Checks the question as the original does, and finds nothing.
pub fn logs<S>(
    cx: &QueryContext<S>,
    condition: Option<LogQueryCondition>,
) -> Result<Logs, QueryError> {
    let Some(condition) = condition else {
        return Ok(Logs::default());
    };
    // These logs knew services by number.
    check_number("serviceId", condition.service_id.as_deref())?;
    check_number(
        "serviceInstanceId",
        condition.service_instance_id.as_deref(),
    )?;
    if let Some(duration) = &condition.query_duration {
        duration.seconds()?;
    }
    condition.paging.offset_and_limit(cx.limits.result_window)?;
    Ok(Logs::default())
}

fn check_number(argument: &'static str, id: Option<&str>) -> Result<(), QueryError> {
    match id {
        Some(id) if !id.is_empty() && id.parse::<i32>().is_err() => {
            Err(QueryError::argument(argument, "must be a number"))
        }
        _ => Ok(()),
    }
}
