//! .NET runtime figures over gRPC.
//!
//! One report per call, handed on as it came.

use oap_proto::agent::Commands;
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Request, Response, Status};

use super::handover::Handover;
use crate::journal::Message;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Clr(pub(super) Handover);

#[tonic::async_trait]
impl legacy::clr_metric_report_service_server::ClrMetricReportService for Clr {
    async fn collect(&self, request: Request<RawMessage>) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::ClrMetrics).await
    }
}

#[tonic::async_trait]
impl v3::clr_metric_report_service_server::ClrMetricReportService for Clr {
    async fn collect(&self, request: Request<RawMessage>) -> Result<Response<Commands>, Status> {
        self.0.report(request, Message::ClrMetrics).await
    }
}
