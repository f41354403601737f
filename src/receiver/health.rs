//! `grpc.health.v1.Health`: as in 8.1.0 a server that answers is serving, whatever service is asked about, until it leaves.
//! A store that is away does not change that: agents may go on reporting, what they report waits.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use oap_proto::health::health_check_response::ServingStatus;
use oap_proto::health::{HealthCheckRequest, HealthCheckResponse, health_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Knows when the server begins to leave.
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) shutdown: CancellationToken,
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
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = match self.shutdown.is_cancelled() {
            false => ServingStatus::Serving,
            true => ServingStatus::NotServing,
        };
        answer(status).map(Response::new)
    }

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let shutdown = self.shutdown.clone();
        let leaving = async move {
            shutdown.cancelled().await;
            answer(ServingStatus::NotServing)
        };
        let states = stream::iter([answer(ServingStatus::Serving)]).chain(stream::once(leaving));
        Ok(Response::new(states.boxed()))
    }
}
