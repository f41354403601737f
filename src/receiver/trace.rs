//! Segments over gRPC.

use oap_proto::agent::{Commands, SegmentCollection};
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Request, Response, Status, Streaming};

use super::handover::{Handover, Protocol, nothing_to_do, owned, status};
use crate::journal::Message;
use crate::model::message::kind;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Trace(pub(super) Handover);

impl Trace {
    async fn receive(&self, stream: Streaming<RawMessage>) -> Result<Response<Commands>, Status> {
        self.0
            .receive(stream, kind::SEGMENT, Message::Segment)
            .await?;
        Ok(nothing_to_do())
    }

    async fn receive_collection(
        &self,
        collection: SegmentCollection,
    ) -> Result<Response<Commands>, Status> {
        let segments = collection
            .segments
            .into_iter()
            .map(|segment| Message::Segment(owned(RawMessage(segment))))
            .collect();
        match self.0.deliver(Protocol::Grpc, segments).await {
            Ok(()) => Ok(nothing_to_do()),
            Err(refused) => Err(status(refused)),
        }
    }
}

#[tonic::async_trait]
impl legacy::trace_segment_report_service_server::TraceSegmentReportService for Trace {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl v3::trace_segment_report_service_server::TraceSegmentReportService for Trace {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request.into_inner()).await
    }

    async fn collect_in_sync(
        &self,
        request: Request<SegmentCollection>,
    ) -> Result<Response<Commands>, Status> {
        self.receive_collection(request.into_inner()).await
    }
}
