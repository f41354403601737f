//! Profile tasks: what agents are asked to do, as it is stored (8.1.0 spec, C.3, E, L).

use std::sync::Arc;

use super::row::{Cell, Row};
use super::schema::Model;

const MINUTE_MS: i64 = 60_000;

/// Snapshots of threads that serve one endpoint, taken for some minutes. Instants are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileTask {
    pub service_id: String,
    pub endpoint_name: String,
    pub start_time: i64,
    /// Minutes.
    pub duration: i64,
    /// Milliseconds that a request must last before snapshots are taken of it.
    pub min_duration_threshold: i64,
    /// Milliseconds between two snapshots.
    pub dump_period: i64,
    pub create_time: i64,
    /// Requests of which snapshots are taken.
    pub max_sampling_count: i64,
}

/// What happened to a task, with the number that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOperation {
    /// An agent was told of it.
    Notified = 1,
    /// An agent is done with it.
    Finished = 2,
}

impl ProfileTask {
    /// Document id.
    pub fn id(&self) -> String {
        format!("{}_{}", self.create_time, self.service_id)
    }

    /// When it is over; its second bucket is that of the task's row.
    pub fn end_time(&self) -> i64 {
        let duration = self.duration.saturating_mul(MINUTE_MS);
        self.start_time.saturating_add(duration)
    }

    /// The row of model `profile_task`.
    pub fn to_row(&self, model: &Arc<Model>, time_bucket: u64) -> Row {
        Row {
            model: Arc::clone(model),
            id: self.id(),
            time_bucket,
            cells: vec![
                Cell::text(self.service_id.as_str()),
                Cell::text(self.endpoint_name.as_str()),
                Cell::Long(self.start_time),
                Cell::Long(self.duration),
                Cell::Long(self.min_duration_threshold),
                Cell::Long(self.dump_period),
                Cell::Long(self.create_time),
                Cell::Long(self.max_sampling_count),
            ],
        }
    }

    /// The task of a row; what is absent is empty or 0.
    pub fn from_row(row: &Row) -> ProfileTask {
        let text = |column| row.cell(column).as_text().unwrap_or_default().to_owned();
        let number = |column| row.cell(column).as_long().unwrap_or(0);
        ProfileTask {
            service_id: text("service_id"),
            endpoint_name: text("endpoint_name"),
            start_time: number("start_time"),
            duration: number("duration"),
            min_duration_threshold: number("min_duration_threshold"),
            dump_period: number("dump_period"),
            create_time: number("create_time"),
            max_sampling_count: number("max_sampling_count"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schema::Schema;

    #[test]
    fn a_task_is_read_as_it_was_stored() {
        let schema = Schema::build(&[], &[], &[], false);
        let task = ProfileTask {
            service_id: "c2hvcA==.1".into(),
            endpoint_name: "/order".into(),
            start_time: 1_600_167_570_000,
            duration: 5,
            min_duration_threshold: 100,
            dump_period: 10,
            create_time: 1_600_167_560_000,
            max_sampling_count: 3,
        };
        let row = task.to_row(schema.model("profile_task").unwrap(), 20_200_915_110_430);
        assert_eq!(row.cells.len(), row.model.columns.len());
        assert_eq!(row.id, "1600167560000_c2hvcA==.1");
        assert_eq!(task.end_time(), 1_600_167_870_000);
        assert_eq!(ProfileTask::from_row(&row), task);
    }
}
