//! Thread profiling over gRPC: agents ask for tasks every 20 seconds, and there are none.
//!
//! Agents that are told UNIMPLEMENTED here give up asking until they are restarted, so the question is answered. The
//! other two calls follow only from a task; taking snapshots that nothing keeps would be a lie.

use oap_proto::agent::{Commands, ProfileTaskCommandQuery, ProfileTaskFinishReport};
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Request, Response, Status, Streaming};

use super::handover::nothing_to_do;

/// Serves both names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile;

fn unknown_task() -> Status {
    Status::unimplemented("this server gives out no profile tasks and keeps no snapshots")
}

#[tonic::async_trait]
impl legacy::profile_task_server::ProfileTask for Profile {
    async fn get_profile_task_commands(
        &self,
        _request: Request<ProfileTaskCommandQuery>,
    ) -> Result<Response<Commands>, Status> {
        Ok(nothing_to_do())
    }

    async fn collect_snapshot(
        &self,
        _request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        Err(unknown_task())
    }

    async fn report_task_finish(
        &self,
        _request: Request<ProfileTaskFinishReport>,
    ) -> Result<Response<Commands>, Status> {
        Err(unknown_task())
    }
}

#[tonic::async_trait]
impl v3::profile_task_server::ProfileTask for Profile {
    async fn get_profile_task_commands(
        &self,
        _request: Request<ProfileTaskCommandQuery>,
    ) -> Result<Response<Commands>, Status> {
        Ok(nothing_to_do())
    }

    async fn collect_snapshot(
        &self,
        _request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        Err(unknown_task())
    }

    async fn report_task_finish(
        &self,
        _request: Request<ProfileTaskFinishReport>,
    ) -> Result<Response<Commands>, Status> {
        Err(unknown_task())
    }
}
