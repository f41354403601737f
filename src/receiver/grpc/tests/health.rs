//! Whether a service is serving that may not be here.

use oap_proto::health::HealthCheckRequest;
use oap_proto::health::health_client::HealthClient;
use tonic::Code;

use super::super::GrpcOptions;
use super::Running;

#[tokio::test]
async fn a_service_that_is_not_here_is_not_serving() {
    let server = Running::start(GrpcOptions::default()).await;
    let mut health = HealthClient::new(server.connect().await);
    for (service, want) in [
        ("", Ok("SERVING")),
        ("grpc.health.v1.Health", Ok("SERVING")),
        ("TraceSegmentReportService", Ok("SERVING")),
        ("skywalking.v3.TraceSegmentReportService", Ok("SERVING")),
        ("skywalking.v3.NoSuchService", Err(Code::NotFound)),
    ] {
        let request = || HealthCheckRequest {
            service: service.to_owned(),
        };
        let checked = health.check(request()).await;
        let checked = checked.map(|state| state.into_inner().status().as_str_name());
        assert_eq!(checked.map_err(|status| status.code()), want, "{service}");
        let mut states = health.watch(request()).await.unwrap().into_inner();
        let first = states.message().await.unwrap().unwrap();
        let want = want.unwrap_or("SERVICE_UNKNOWN");
        assert_eq!(first.status().as_str_name(), want, "{service}");
    }
}
