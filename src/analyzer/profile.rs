//! Snapshots of threads and what becomes of profile tasks (8.1.0 spec, L, E and C.3).

use std::sync::Arc;

use bytes::Bytes;
use oap_proto::agent::{ProfileTaskFinishReport, ThreadSnapshot};
use prost::Message as _;

use super::trace::{MAX_ID_BYTES, check_name};
use super::{Analyzer, Facts, Reject};
use crate::model::id;
use crate::model::profile::TaskOperation;
use crate::model::row::{Cell, Row};

/// Agents cut a stack at 500 frames.
const MAX_SNAPSHOT_BYTES: usize = 128 << 10;

impl Analyzer {
    pub(super) fn profile_snapshot(&self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        if bytes.len() > MAX_SNAPSHOT_BYTES {
            return Err(Reject::TooLarge);
        }
        let snapshot = ThreadSnapshot::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let ThreadSnapshot {
            task_id,
            trace_segment_id,
            time,
            sequence,
            stack,
        } = snapshot;
        if task_id.is_empty() || trace_segment_id.is_empty() {
            return Err(Reject::MissingId);
        }
        let id = format!("{task_id}_{trace_segment_id}_{sequence}_");
        let time_bucket = self.second(time)?;
        let stack = stack.unwrap_or_default().encode_to_vec();
        let Some(model) = &self.snapshot_model else {
            return Ok(());
        };
        let row = Row {
            model: Arc::clone(model),
            id,
            time_bucket,
            cells: vec![
                Cell::text(task_id),
                Cell::text(trace_segment_id),
                Cell::Long(time),
                Cell::Long(sequence.into()),
                Cell::Bytes(stack.into()),
            ],
        };
        keep(row, facts)
    }

    /// Logs what an instance did about a task; nothing if the task is not known.
    pub(super) fn profile_task_event(
        &self,
        operation: TaskOperation,
        bytes: &Bytes,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let report =
            ProfileTaskFinishReport::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        check_name(&report.service)?;
        check_name(&report.service_instance)?;
        let tasks = self.tasks.all();
        let task = tasks.iter().find(|task| task.id() == report.task_id);
        let (Some(task), Some(model)) = (task, &self.task_log_model) else {
            return Ok(());
        };
        // Names are not cut here, as in the original.
        let service = id::service_id(&report.service, true);
        let instance = id::instance_id(&service, &report.service_instance);
        let now = self.clock.now_ms();
        let kind = operation as i64;
        let time_bucket = self.zone.second(task.end_time());
        let row = Row {
            model: Arc::clone(model),
            id: format!("{}_{instance}_{kind}_{now}", report.task_id),
            time_bucket: time_bucket.ok_or(Reject::TimeOutOfRange)?,
            cells: vec![
                Cell::text(report.task_id),
                Cell::text(instance),
                Cell::Long(kind),
                Cell::Long(now),
            ],
        };
        keep(row, facts)
    }
}

fn keep(row: Row, facts: &mut Facts) -> Result<(), Reject> {
    if row.id.len() > MAX_ID_BYTES {
        return Err(Reject::IdTooLong);
    }
    facts.records.push(row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use oap_proto::agent::ThreadStack;

    use super::*;
    use crate::analyzer::AnalyzerSettings;
    use crate::model::message::Message;
    use crate::model::profile::ProfileTask;
    use crate::model::schema::Schema;
    use crate::model::time_bucket::Zone;
    use crate::stream::{AddressBook, TaskBook};
    use crate::util::clock::Clock;

    /// 2020-09-15 10:59:30 UTC
    const NOW_MS: i64 = 1_600_167_570_000;

    fn task() -> ProfileTask {
        ProfileTask {
            service_id: id::service_id("shop", true),
            endpoint_name: "/order".into(),
            start_time: NOW_MS - 60_000,
            duration: 5,
            min_duration_threshold: 0,
            dump_period: 10,
            create_time: NOW_MS - 70_000,
            max_sampling_count: 5,
        }
    }

    fn records(message: Message) -> Result<Vec<Row>, Reject> {
        let schema = Schema::build(&[], &[], &[], false);
        let tasks = Arc::new(TaskBook::default());
        tasks.replace(vec![task()]);
        let mut analyzer = Analyzer::new(
            Arc::new(AnalyzerSettings::default()),
            &schema,
            Zone::utc(),
            Clock::Fixed(Arc::new(NOW_MS.into())),
            Arc::new(AddressBook::new(1)),
        )
        .knowing_tasks(tasks);
        let mut facts = Facts::new(1);
        analyzer.analyze(&message, &mut facts)?;
        Ok(facts.records)
    }

    fn snapshot(task_id: &str, time: i64) -> ThreadSnapshot {
        ThreadSnapshot {
            task_id: task_id.into(),
            trace_segment_id: "s".into(),
            time,
            sequence: 7,
            stack: Some(ThreadStack {
                code_signatures: vec!["a.Main.go:10".into()],
            }),
        }
    }

    #[test]
    fn a_snapshot_is_a_row_of_its_own() {
        let snapshot = snapshot("t", NOW_MS + 5);
        let stack = snapshot.stack.clone().unwrap_or_default().encode_to_vec();
        let rows = records(Message::ProfileSnapshot(snapshot.encode_to_vec().into())).unwrap();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((&*row.id, row.time_bucket), ("t_s_7_", 20_200_915_105_930));
        let wanted = [
            Cell::text("t"),
            Cell::text("s"),
            Cell::Long(NOW_MS + 5),
            Cell::Long(7),
            Cell::Bytes(stack.into()),
        ];
        assert_eq!(row.cells, wanted);
    }

    #[test]
    fn snapshots_that_make_no_sense_are_rejected() {
        let long = "t".repeat(600);
        for (message, want) in [
            (snapshot("", NOW_MS), Reject::MissingId),
            (snapshot(&long, NOW_MS), Reject::IdTooLong),
            (snapshot("t", NOW_MS * 2), Reject::TimeOutOfRange),
        ] {
            let message = Message::ProfileSnapshot(message.encode_to_vec().into());
            assert_eq!(records(message).unwrap_err(), want);
        }
        let mut huge = snapshot("t", NOW_MS);
        huge.stack = Some(ThreadStack {
            code_signatures: vec!["f".repeat(MAX_SNAPSHOT_BYTES)],
        });
        let huge = Message::ProfileSnapshot(huge.encode_to_vec().into());
        assert_eq!(records(huge).unwrap_err(), Reject::TooLarge);
    }

    #[test]
    fn what_happens_to_a_known_task_is_logged() {
        let report = |task_id: String| {
            let report = ProfileTaskFinishReport {
                service: "shop".into(),
                service_instance: "i".into(),
                task_id,
            };
            Bytes::from(report.encode_to_vec())
        };
        let rows = records(Message::ProfileTaskFinished(report(task().id()))).unwrap();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        let instance = id::instance_id(&id::service_id("shop", true), "i");
        assert_eq!(row.id, format!("{}_{instance}_2_{NOW_MS}", task().id()));
        assert_eq!(row.time_bucket, 20_200_915_110_330);
        let rows = records(Message::ProfileTaskNotified(report(task().id()))).unwrap();
        assert_eq!(rows[0].cell("operation_type"), &Cell::Long(1));
        let rows = records(Message::ProfileTaskFinished(report("unknown".into()))).unwrap();
        assert!(rows.is_empty());
    }
}
