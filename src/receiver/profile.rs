//! Thread profiling over gRPC: agents ask for tasks every 20 seconds, send snapshots, and say when a task is done.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use oap_proto::agent::{
    Command, Commands, KeyStringValuePair, ProfileTaskCommandQuery, ProfileTaskFinishReport,
};
use oap_proto::{RawMessage, legacy, v3};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::handover::{Handover, Protocol, nothing_to_do, status};
use crate::journal::Message;
use crate::model::message::kind;
use crate::model::profile::ProfileTask;

/// Knows which tasks there are.
pub trait ProfileTasks: std::fmt::Debug + Send + Sync {
    /// Tasks of a service, by its name, that are not over and were created after an instant (milliseconds since the epoch).
    fn of_service(&self, service: &str, created_after: i64) -> Vec<ProfileTask>;
}

/// There are none.
#[derive(Debug)]
pub(super) struct NoTasks;

impl ProfileTasks for NoTasks {
    fn of_service(&self, _: &str, _: i64) -> Vec<ProfileTask> {
        vec![]
    }
}

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) handover: Handover,
    pub(super) tasks: Arc<dyn ProfileTasks>,
}

impl Profile {
    /// The tasks an agent does not know yet. That it was told goes to the journal first: a refusal makes it ask again.
    async fn commands(
        &self,
        request: Request<ProfileTaskCommandQuery>,
    ) -> Result<Response<Commands>, Status> {
        let ProfileTaskCommandQuery {
            service,
            service_instance,
            last_command_time,
        } = request.into_inner();
        let tasks = self.tasks.of_service(&service, last_command_time);
        let notice = |task: &ProfileTask| ProfileTaskFinishReport {
            service: service.clone(),
            service_instance: service_instance.clone(),
            task_id: task.id(),
        };
        let notices = tasks.iter().map(notice);
        let notices = notices.map(|n| Message::ProfileTaskNotified(n.encode_to_vec().into()));
        let outcome = self.handover.deliver(Protocol::Grpc, notices.collect());
        outcome.await.map_err(status)?;
        Ok(Response::new(Commands {
            commands: tasks.iter().map(command).collect(),
        }))
    }

    async fn snapshots(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        let stream = request.into_inner();
        self.handover
            .receive(stream, kind::PROFILE_SNAPSHOT, Message::ProfileSnapshot)
            .await?;
        Ok(nothing_to_do())
    }

    async fn finished(&self, request: Request<RawMessage>) -> Result<Response<Commands>, Status> {
        self.handover
            .report(request, Message::ProfileTaskFinished)
            .await
    }
}

/// The command, its arguments in the order of 8.1.0 (spec, L).
fn command(task: &ProfileTask) -> Command {
    let number = |n: i64| n.to_string();
    let arguments = [
        ("SerialNumber", serial_number()),
        ("TaskId", task.id()),
        ("EndpointName", task.endpoint_name.clone()),
        ("Duration", number(task.duration)),
        ("MinDurationThreshold", number(task.min_duration_threshold)),
        ("DumpPeriod", number(task.dump_period)),
        ("MaxSamplingCount", number(task.max_sampling_count)),
        ("StartTime", number(task.start_time)),
        ("CreateTime", number(task.create_time)),
    ];
    let argument = |(key, value): (&str, String)| KeyStringValuePair {
        key: key.to_owned(),
        value,
    };
    Command {
        command: "ProfileTaskQuery".to_owned(),
        args: arguments.map(argument).into(),
    }
}

/// A random UUID (version 4); agents tell commands apart by it.
fn serial_number() -> String {
    // Every state has keys of its own, so its hash of nothing is a random number.
    let random = || RandomState::new().build_hasher().finish();
    let (a, b) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

#[tonic::async_trait]
impl legacy::profile_task_server::ProfileTask for Profile {
    async fn get_profile_task_commands(
        &self,
        request: Request<ProfileTaskCommandQuery>,
    ) -> Result<Response<Commands>, Status> {
        self.commands(request).await
    }

    async fn collect_snapshot(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.snapshots(request).await
    }

    async fn report_task_finish(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<Commands>, Status> {
        self.finished(request).await
    }
}

#[tonic::async_trait]
impl v3::profile_task_server::ProfileTask for Profile {
    async fn get_profile_task_commands(
        &self,
        request: Request<ProfileTaskCommandQuery>,
    ) -> Result<Response<Commands>, Status> {
        self.commands(request).await
    }

    async fn collect_snapshot(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.snapshots(request).await
    }

    async fn report_task_finish(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<Commands>, Status> {
        self.finished(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_random_uuids() {
        let (a, b) = (serial_number(), serial_number());
        assert_ne!(a, b);
        let lengths: Vec<usize> = a.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{a}");
        assert_eq!(a.as_bytes()[14], b'4', "{a}");
        assert!(b"89ab".contains(&a.as_bytes()[19]), "{a}");
    }
}
