//! A port that goes on with other services.

use oap_proto::configuration::configuration_service_client::ConfigurationServiceClient;
use oap_proto::configuration::configuration_service_server::{
    ConfigurationService, ConfigurationServiceServer,
};
use oap_proto::configuration::{ConfigurationRequest, ConfigurationResponse};
use tokio::sync::Notify;
use tonic::{Response, Status};

use super::*;

/// Answers when it may.
#[derive(Clone, Default)]
struct Slow {
    is_asked: Arc<Notify>,
    may_answer: CancellationToken,
}

#[tonic::async_trait]
impl ConfigurationService for Slow {
    async fn call(
        &self,
        _: Request<ConfigurationRequest>,
    ) -> Result<Response<ConfigurationResponse>, Status> {
        self.is_asked.notify_one();
        self.may_answer.cancelled().await;
        Ok(Response::new(ConfigurationResponse::default()))
    }
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_still_answered() {
    let limits = Limits {
        queued_bytes: 1 << 20,
        patience: Duration::from_millis(50),
    };
    let (intake, _inboxes) = Intake::new(1, limits);
    let metrics = ReceiverMetrics::new(&Registry::new("127.0.0.1", 0)).unwrap();
    let server = Receivers::new(intake, metrics)
        .grpc(GrpcOptions::default())
        .unwrap();
    let listener = bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let over = CancellationToken::new();
    over.cancel();
    let port = server.serve_first(listener, over).await;
    let slow = Slow::default();
    let routes = Routes::new(ConfigurationServiceServer::new(slow.clone()));
    let end = CancellationToken::new();
    let serving = tokio::spawn(port.serve(routes, end.clone()));
    let mut client = ConfigurationServiceClient::connect(url).await.unwrap();
    let asking = tokio::spawn(async move { client.call(ConfigurationRequest::default()).await });
    slow.is_asked.notified().await;
    end.cancel();
    slow.may_answer.cancel();
    asking.await.unwrap().unwrap();
    serving.await.unwrap();
}
