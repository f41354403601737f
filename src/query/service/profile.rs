//! Profile tasks: creation, and what agents did about them (query spec 2.10).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::id;
use crate::model::profile::{self, TaskOperation};
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;
use crate::model::time_bucket::DAY_MS;
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::{Backend, Order, RecordFilter, WriteOutcome};

const TASK: &str = "profile_task";
const TASK_LOG: &str = "profile_task_log";
/// Logs that are read for a task there may be.
const LOGS_PER_TASK: usize = 50;

/// A task as the client wants it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileTaskCreationRequest {
    pub service_id: String,
    pub endpoint_name: String,
    /// Milliseconds since the epoch; now if missing.
    pub start_time: Option<i64>,
    /// Minutes.
    pub duration: i64,
    /// Milliseconds.
    pub min_duration_threshold: i64,
    /// Milliseconds.
    pub dump_period: i64,
    pub max_sampling_count: i64,
}

/// Its id, or why it was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileTaskCreationResult {
    pub error_reason: Option<String>,
    pub id: Option<String>,
}

/// A stored task with what agents did about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileTask {
    pub id: String,
    pub service_id: String,
    pub service_name: String,
    pub endpoint_name: String,
    pub start_time: i64,
    pub duration: i64,
    pub min_duration_threshold: i64,
    pub dump_period: i64,
    pub max_sampling_count: i64,
    pub logs: Vec<ProfileTaskLog>,
}

/// What an instance did about a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileTaskLog {
    pub id: String,
    pub instance_id: String,
    pub instance_name: String,
    pub operation_type: &'static str,
    pub operation_time: i64,
}

pub(super) fn model<'a, S>(
    cx: &'a QueryContext<S>,
    name: &'static str,
) -> Result<&'a Arc<Model>, QueryError> {
    let model = cx.schema.model(name);
    model.ok_or_else(|| QueryError::argument("schema", format!("{name} is disabled")))
}

/// Rows by one column.
pub(super) fn newest_by(column: &'static str, limit: usize) -> RecordFilter {
    RecordFilter {
        any_of: vec![],
        between: None,
        sort_by: column,
        order: Order::Descending,
        limit,
    }
}

/// Why a task is refused; the texts are those of 8.1.0 (spec, L), where it has one.
fn refusal(request: &ProfileTaskCreationRequest, start: i64, now: i64) -> Option<&'static str> {
    let checks = [
        (request.service_id.is_empty(), "service cannot be null"),
        (
            request.endpoint_name.is_empty(),
            "endpoint name cannot be empty",
        ),
        (
            request.duration < 1,
            "monitor duration must greater than 1 minutes",
        ),
        (
            request.min_duration_threshold < 0,
            "min duration threshold must greater than or equals zero",
        ),
        (
            request.max_sampling_count <= 0,
            "max sampling count must greater than zero",
        ),
        (
            request.duration > 15,
            "The duration of the monitoring task cannot be greater than 15 minutes",
        ),
        (
            request.dump_period < 10,
            "dump period must be greater than or equals 10 milliseconds",
        ),
        (
            request.max_sampling_count >= 10,
            "max sampling count must less than 10",
        ),
        // Each day has files or indices of its own.
        (
            !(now - DAY_MS..=now + DAY_MS).contains(&start),
            "the task must start within a day from now",
        ),
    ];
    let first = checks.into_iter().find(|(is_wrong, _)| *is_wrong);
    first.map(|(_, reason)| reason)
}

/// Stores a task, if it may be. Agents learn of it some seconds later.
pub async fn create<S: Backend>(
    cx: &QueryContext<S>,
    request: Option<ProfileTaskCreationRequest>,
) -> Result<ProfileTaskCreationResult, QueryError> {
    let mut request =
        request.ok_or_else(|| QueryError::argument("creationRequest", "must not be null"))?;
    request.endpoint_name = request.endpoint_name.trim().to_owned();
    let refused = |reason: &str| ProfileTaskCreationResult {
        error_reason: Some(reason.to_owned()),
        id: None,
    };
    let now = cx.clock.now_ms();
    let start = request.start_time.filter(|start| *start > 0).unwrap_or(now);
    if let Some(reason) = refusal(&request, start, now) {
        return Ok(refused(reason));
    }
    let task = profile::ProfileTask {
        service_id: request.service_id,
        endpoint_name: request.endpoint_name,
        start_time: start,
        duration: request.duration,
        min_duration_threshold: request.min_duration_threshold,
        dump_period: request.dump_period,
        create_time: now,
        max_sampling_count: request.max_sampling_count,
    };
    let second = |at: i64| {
        let second = cx.zone.second(at);
        second.ok_or_else(|| QueryError::argument("startTime", "is out of range"))
    };
    let (first, last) = (second(start)?, second(task.end_time())?);
    let at_this_time = RecordFilter {
        any_of: vec![("service_id", vec![Cell::text(task.service_id.as_str())])],
        between: Some(("time_bucket", first.cast_signed(), last.cast_signed())),
        ..newest_by("start_time", 1)
    };
    let model = model(cx, TASK)?;
    // Two that are created at the same time would not see each other.
    let _turn = cx.creating_profile_task.lock().await;
    if cx.storage.records(model, &at_this_time).await?.total > 0 {
        return Ok(refused(
            "current service already has monitor task execute at this time",
        ));
    }
    let outcomes = cx.storage.write(&[task.to_row(model, last)]).await?;
    for outcome in outcomes {
        if let WriteOutcome::Retry(reason) | WriteOutcome::Rejected(reason) = outcome {
            return Err(QueryError::argument("creationRequest", reason));
        }
    }
    // The list and the next check must see it.
    cx.storage.refresh().await?;
    Ok(ProfileTaskCreationResult {
        error_reason: None,
        id: Some(task.id()),
    })
}

/// The newest tasks, each with its logs, newest first.
pub async fn tasks<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    service_id: Option<String>,
    endpoint_name: Option<String>,
) -> Result<Vec<ProfileTask>, QueryError> {
    let given = [("service_id", service_id), ("endpoint_name", endpoint_name)];
    let any_of = given.into_iter().filter_map(|(column, value)| {
        let value = value.filter(|v| !v.is_empty())?;
        Some((column, vec![Cell::text(value)]))
    });
    let filter = RecordFilter {
        any_of: any_of.collect(),
        ..newest_by("start_time", cx.limits.profile_tasks)
    };
    let found = cx.storage.records(model(cx, TASK)?, &filter).await?;
    let rows = found.items;
    cx.note_if_cut(cuts, "profile tasks", rows.len(), found.total);
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let limit = cx.limits.profile_tasks.saturating_mul(LOGS_PER_TASK);
    let newest = newest_by("operation_time", limit);
    let logs = cx.storage.records(model(cx, TASK_LOG)?, &newest).await?;
    cx.note_if_cut(cuts, "profile task logs", logs.items.len(), logs.total);
    Ok(rows.iter().map(|row| task(row, &logs.items)).collect())
}

fn task(row: &Row, logs: &[Row]) -> ProfileTask {
    let task = profile::ProfileTask::from_row(row);
    let is_about = |log: &&Row| log.cell("task_id").as_text() == Some(&row.id);
    ProfileTask {
        id: row.id.clone(),
        service_name: id::parse_service_id(&task.service_id)
            .map_or_else(|_| String::new(), |s| s.0),
        service_id: task.service_id,
        endpoint_name: task.endpoint_name,
        start_time: task.start_time,
        duration: task.duration,
        min_duration_threshold: task.min_duration_threshold,
        dump_period: task.dump_period,
        max_sampling_count: task.max_sampling_count,
        logs: logs.iter().filter(is_about).map(log).collect(),
    }
}

fn log(row: &Row) -> ProfileTaskLog {
    let instance_id = row.cell("instance_id").as_text().unwrap_or_default();
    let is_notice = row.cell("operation_type").as_long() == Some(TaskOperation::Notified as i64);
    ProfileTaskLog {
        id: row.id.clone(),
        instance_name: id::parse_instance_id(instance_id).map_or_else(|_| String::new(), |i| i.1),
        instance_id: instance_id.to_owned(),
        operation_type: match is_notice {
            true => "NOTIFIED",
            false => "EXECUTION_FINISHED",
        },
        operation_time: row.cell("operation_time").as_long().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::service::fake::{FakeStore, context, row, schema};

    fn request(start_time: Option<i64>) -> ProfileTaskCreationRequest {
        ProfileTaskCreationRequest {
            service_id: "c2hvcA==.1".into(),
            endpoint_name: " /order ".into(),
            start_time,
            duration: 5,
            min_duration_threshold: 0,
            dump_period: 10,
            max_sampling_count: 9,
        }
    }

    #[tokio::test]
    async fn a_task_starts_now_unless_told_otherwise() {
        let cx = context(FakeStore::default());
        let now = cx.clock.now_ms();
        for start in [None, Some(0), Some(now + 1000)] {
            let created = create(&cx, Some(request(start))).await.unwrap();
            assert_eq!(created.id, Some(format!("{now}_c2hvcA==.1")));
            assert_eq!(created.error_reason, None);
        }
        let far = request(Some(now + 2 * DAY_MS));
        let nameless = ProfileTaskCreationRequest {
            endpoint_name: "  ".into(),
            ..request(None)
        };
        for wrong in [far, nameless] {
            let refused = create(&cx, Some(wrong)).await.unwrap();
            assert!(refused.error_reason.is_some() && refused.id.is_none());
        }
        assert!(create(&cx, None).await.is_err());
    }

    #[tokio::test]
    async fn a_service_has_one_task_at_a_time_and_its_logs_are_shown() {
        let schema = schema();
        let task = [
            ("service_id", Cell::text("c2hvcA==.1")),
            ("endpoint_name", Cell::text("/order")),
        ];
        let log = |task: &str, kind| {
            let cells = [
                ("task_id", Cell::text(task)),
                ("instance_id", Cell::text("c2hvcA==.1_aQ==")),
                ("operation_type", Cell::Long(kind)),
            ];
            row(&schema, TASK_LOG, &format!("{task}-{kind}"), &cells)
        };
        let mut task = row(&schema, TASK, "t", &task);
        task.time_bucket = 20_200_915_110_000;
        let cx = context(FakeStore {
            rows: vec![task, log("t", 1), log("t", 2), log("u", 1)],
            ..FakeStore::default()
        });
        let refused = create(&cx, Some(request(None))).await.unwrap();
        let reason = refused.error_reason.unwrap();
        assert!(reason.contains("already has monitor task"), "{reason}");
        let tasks = tasks(
            &cx,
            &Cuts::default(),
            Some("c2hvcA==.1".into()),
            Some(String::new()),
        )
        .await
        .unwrap();
        let [task] = tasks.as_slice() else {
            panic!("{tasks:?}")
        };
        assert_eq!(
            (&*task.service_name, &*task.endpoint_name),
            ("shop", "/order")
        );
        let logs: Vec<_> = task
            .logs
            .iter()
            .map(|l| (&*l.instance_name, l.operation_type))
            .collect();
        assert_eq!(logs, [("i", "EXECUTION_FINISHED"), ("i", "NOTIFIED")]);
    }
}
