//! `grpc.health.v1.Health`: a server that answers is serving, itself and every service that it has, until it leaves.
//! A store that is away does not change that: agents may go on reporting, what they report waits.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use oap_proto::health::health_check_response::ServingStatus;
use oap_proto::health::{HealthCheckRequest, HealthCheckResponse, health_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Knows when the server begins to leave.
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) shutdown: CancellationToken,
    /// Full names of the services that are served.
    pub(super) names: Arc<[&'static str]>,
}

impl Health {
    /// Whether the server itself or a service that it has is asked about.
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.names.contains(&service)
    }
}

type Answer = Result<HealthCheckResponse, Status>;

fn answer(status: ServingStatus) -> Answer {
    Ok(HealthCheckResponse {
        status: status.into(),
    })
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("no service of this name is here"));
        }
        let status = match self.shutdown.is_cancelled() {
            false => ServingStatus::Serving,
            true => ServingStatus::NotServing,
        };
        answer(status).map(Response::new)
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // What is not known stays so: the services of a server do not change.
        let (now, at_last) = match self.knows(&request.get_ref().service) {
            true => (ServingStatus::Serving, ServingStatus::NotServing),
            false => (ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown),
        };
        let shutdown = self.shutdown.clone();
        let leaving = async move {
            shutdown.cancelled().await;
            answer(at_last)
        };
        let states = stream::iter([answer(now)]).chain(stream::once(leaving));
        Ok(Response::new(states.boxed()))
    }
}
