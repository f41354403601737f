//! What instances say about themselves, over gRPC: their properties once, and that they are alive every half minute.

use oap_proto::agent::Commands;
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Request, Response, Status};

use super::handover::Handover;
use crate::journal::Message;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Management(pub(super) Handover);

#[tonic::async_trait]
impl legacy::management_service_server::ManagementService for Management {
    async fn report_instance_properties(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::InstanceProperties).await
    }

    async fn keep_alive(&self, request: Request<RawMessage>) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::KeepAlive).await
    }
}

#[tonic::async_trait]
impl v3::management_service_server::ManagementService for Management {
    async fn report_instance_properties(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::InstanceProperties).await
    }

    async fn keep_alive(&self, request: Request<RawMessage>) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::KeepAlive).await
    }
}
