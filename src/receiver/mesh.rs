//! Calls inside a service mesh, reported in the native format over gRPC.

use oap_proto::agent::MeshProbeDownstream;
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Request, Response, Status, Streaming};

use super::handover::Handover;
use crate::journal::Message;
use crate::model::message::kind;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Mesh(pub(super) Handover);

impl Mesh {
    async fn receive(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<MeshProbeDownstream>, Status> {
        let stream = request.into_inner();
        self.0.receive(stream, kind::MESH, Message::Mesh).await?;
        Ok(Response::new(MeshProbeDownstream::default()))
    }
}

#[tonic::async_trait]
impl legacy::service_mesh_metric_service_server::ServiceMeshMetricService for Mesh {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<MeshProbeDownstream>, Status> {
        self.receive(request).await
    }
}

#[tonic::async_trait]
impl v3::service_mesh_metric_service_server::ServiceMeshMetricService for Mesh {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<MeshProbeDownstream>, Status> {
        self.receive(request).await
    }
}
