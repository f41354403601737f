//! Requests that Istio's Mixer reports to us as one of its adapters.

use oap_proto::RawMessage;
use oap_proto::istio::ReportResult;
use oap_proto::istio::metric::handle_metric_service_server::HandleMetricService;
use tonic::{Request, Response, Status};

use super::handover::Handover;
use crate::journal::Message;

/// Serves the `metric` template.
#[derive(Debug, Clone)]
pub(super) struct Istio(pub(super) Handover);

#[tonic::async_trait]
impl HandleMetricService for Istio {
    async fn handle_metric(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<ReportResult>, Status> {
        self.0.take(request, Message::Mixer).await?;
        Ok(Response::new(ReportResult::default()))
    }
}
