//! Profile tasks on their way from the store to those who need them.

use std::sync::Arc;
use std::time::Duration;

use super::stages::Stages;
use super::{Shared, answers};
use crate::config::Settings;
use crate::model::id;
use crate::model::profile::ProfileTask;
use crate::model::schema::Schema;
use crate::receiver::ProfileTasks;
use crate::storage::{Backend, Order, RecordFilter, StorageError};
use crate::stream::TaskBook;
use crate::util::clock::Clock;

const MINUTE_MS: i64 = 60_000;
/// Between two looks at the store (8.1.0 spec, L).
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// A task that ends later is not given out yet.
const AHEAD_MS: i64 = 25 * MINUTE_MS;
/// Agents report the end of a task some time after it.
const BEHIND_MS: i64 = 60 * MINUTE_MS;

/// What receivers see of the known tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    book: Arc<TaskBook>,
    clock: Clock,
}

impl Tasks {
    pub(super) fn new(shared: &Shared, stages: &Stages) -> Tasks {
        Tasks {
            book: Arc::clone(&stages.profile_tasks),
            clock: shared.clock.clone(),
        }
    }
}

impl ProfileTasks for Tasks {
    fn of_service(&self, service: &str, created_after: i64) -> Vec<ProfileTask> {
        let tasks = self.book.all();
        if tasks.is_empty() {
            return vec![];
        }
        let service = id::service_id(service, true);
        let now = self.clock.now_ms();
        let is_new = |task: &&ProfileTask| {
            task.service_id == service && task.create_time > created_after && task.end_time() >= now
        };
        tasks.iter().filter(is_new).cloned().collect()
    }
}

/// How many tasks agents are told of.
pub(super) fn most(settings: &Settings) -> usize {
    let in_a_list = answers::limits(settings).profile_tasks;
    in_a_list.min(settings.core.max_size_of_profile_task)
}

/// Reads the tasks that are not over, or not for long. `limit` is how many there may be.
pub(super) async fn look(
    shared: &Shared,
    schema: &Schema,
    limit: usize,
) -> Result<Vec<ProfileTask>, StorageError> {
    let Some(model) = schema.model("profile_task") else {
        return Ok(vec![]);
    };
    let now = shared.clock.now_ms();
    let bucket = |at: i64| {
        let second = shared.zone.second(at).unwrap_or(0);
        i64::try_from(second).unwrap_or(i64::MAX)
    };
    let (start, end) = (bucket(now - BEHIND_MS), bucket(now + AHEAD_MS));
    let filter = RecordFilter {
        any_of: vec![],
        between: Some(("time_bucket", start, end)),
        sort_by: "start_time",
        order: Order::Descending,
        limit,
    };
    let rows = shared.storage.records(model, &filter).await?;
    Ok(rows.items.iter().map(ProfileTask::from_row).collect())
}
