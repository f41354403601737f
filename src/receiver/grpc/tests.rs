//! The server over a real socket, asked by generated clients.

mod health;
mod lines;
mod port;
mod profile;
mod shutdown;

use std::net::SocketAddr;

use futures_util::{StreamExt, stream};
use oap_proto::RawMessage;
use oap_proto::agent::SegmentCollection;
use oap_proto::health::{HealthCheckRequest, health_client::HealthClient};
use oap_proto::istio::metric::handle_metric_service_client::HandleMetricServiceClient as Mixer;
use oap_proto::legacy::jvm_metric_report_service_client::JvmMetricReportServiceClient as LegacyJvm;
use oap_proto::legacy::management_service_client::ManagementServiceClient as LegacyManagement;
use oap_proto::legacy::meter_report_service_client::MeterReportServiceClient as LegacyMeter;
use oap_proto::legacy::service_mesh_metric_service_client::ServiceMeshMetricServiceClient as LegacyMesh;
use oap_proto::legacy::trace_segment_report_service_client::TraceSegmentReportServiceClient as LegacyTrace;
use oap_proto::v3::clr_metric_report_service_client::ClrMetricReportServiceClient as V3Clr;
use oap_proto::v3::management_service_client::ManagementServiceClient as V3Management;
use oap_proto::v3::meter_report_service_client::MeterReportServiceClient as V3Meter;
use oap_proto::v3::service_mesh_metric_service_client::ServiceMeshMetricServiceClient as V3Mesh;
use oap_proto::v3::trace_segment_report_service_client::TraceSegmentReportServiceClient as V3Trace;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

use super::*;
use crate::journal::{Intake, Limits, Message, Work};
use crate::receiver::{ReceiverMetrics, Receivers, bind};
use crate::telemetry::Registry;

/// A running server and the other end of its intake.
struct Running {
    address: SocketAddr,
    inbox: mpsc::Receiver<Work>,
    metrics: ReceiverMetrics,
    lines: Lines,
    shutdown: CancellationToken,
    done: JoinHandle<()>,
}

impl Running {
    async fn start(options: GrpcOptions) -> Self {
        Self::start_with(options, 1 << 20).await
    }

    async fn start_with(options: GrpcOptions, queued_bytes: usize) -> Self {
        let limits = Limits {
            queued_bytes,
            patience: Duration::from_millis(50),
        };
        let (intake, mut inboxes) = Intake::new(1, limits);
        let metrics = ReceiverMetrics::new(&Registry::new("127.0.0.1", 0)).unwrap();
        let receivers = Receivers::new(intake, metrics.clone()).giving(Arc::new(profile::OneTask));
        let server = receivers.grpc(options).unwrap();
        let listener = bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        Running {
            address: listener.local_addr().unwrap(),
            inbox: inboxes.remove(0),
            metrics,
            lines: receivers.lines().clone(),
            done: tokio::spawn(server.serve(listener, shutdown.clone())),
            shutdown,
        }
    }

    fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.address)).unwrap()
    }

    async fn connect(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    async fn next(&mut self) -> Vec<Message> {
        match self.inbox.recv().await {
            Some(Work::Batch(batch)) => batch.messages,
            other => panic!("no batch but {other:?}"),
        }
    }

    fn rejected(&self, reason: &str) -> u64 {
        self.metrics
            .rejected_calls
            .with_label_values(&[reason])
            .get()
    }
}

fn raw(bytes: &'static [u8]) -> RawMessage {
    RawMessage(bytes.into())
}

fn segment(bytes: &'static [u8]) -> Message {
    Message::Segment(bytes.into())
}

#[tokio::test]
async fn every_report_is_handed_over_under_both_names() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let channel = server.connect().await;

    let mut trace = LegacyTrace::new(channel.clone());
    trace.collect(stream::iter([raw(b"a")])).await.unwrap();
    assert_eq!(server.next().await, [segment(b"a")]);
    let mut trace = V3Trace::new(channel.clone());
    trace.collect(stream::iter([raw(b"b")])).await.unwrap();
    assert_eq!(server.next().await, [segment(b"b")]);
    let both = SegmentCollection {
        segments: vec![b"c".as_slice().into(), b"d".as_slice().into()],
    };
    trace.collect_in_sync(both).await.unwrap();
    assert_eq!(server.next().await, [segment(b"c"), segment(b"d")]);

    let mut management = LegacyManagement::new(channel.clone());
    management
        .report_instance_properties(raw(b"e"))
        .await
        .unwrap();
    assert_eq!(
        server.next().await,
        [Message::InstanceProperties(b"e".as_slice().into())]
    );
    let mut management = V3Management::new(channel.clone());
    management.keep_alive(raw(b"f")).await.unwrap();
    assert_eq!(
        server.next().await,
        [Message::KeepAlive(b"f".as_slice().into())]
    );
    LegacyJvm::new(channel.clone())
        .collect(raw(b"g"))
        .await
        .unwrap();
    assert_eq!(
        server.next().await,
        [Message::JvmMetrics(b"g".as_slice().into())]
    );
    V3Clr::new(channel.clone())
        .collect(raw(b"h"))
        .await
        .unwrap();
    assert_eq!(
        server.next().await,
        [Message::ClrMetrics(b"h".as_slice().into())]
    );
    let mesh = |bytes: &'static [u8]| Message::Mesh(bytes.into());
    LegacyMesh::new(channel.clone())
        .collect(stream::iter([raw(b"i")]))
        .await
        .unwrap();
    assert_eq!(server.next().await, [mesh(b"i")]);
    V3Mesh::new(channel.clone())
        .collect(stream::iter([raw(b"j")]))
        .await
        .unwrap();
    assert_eq!(server.next().await, [mesh(b"j")]);
    Mixer::new(channel.clone())
        .handle_metric(raw(b"k"))
        .await
        .unwrap();
    assert_eq!(
        server.next().await,
        [Message::Mixer(b"k".as_slice().into())]
    );
    // A stream of meters is one message with a field for each.
    let meters = |bytes: &'static [u8]| Message::Meters(bytes.into());
    LegacyMeter::new(channel.clone())
        .collect(stream::iter([raw(b"k"), raw(b"lm")]))
        .await
        .unwrap();
    assert_eq!(server.next().await, [meters(b"\x0a\x01k\x0a\x02lm")]);
    let mut meter = V3Meter::new(channel.clone());
    meter.collect(stream::iter([raw(b"n")])).await.unwrap();
    assert_eq!(server.next().await, [meters(b"\x0a\x01n")]);
    let batches = stream::iter([raw(b"\x0a\x01o")]);
    meter.collect_batch(batches).await.unwrap();
    assert_eq!(server.next().await, [meters(b"\x0a\x01o")]);
    meter.collect(stream::empty()).await.unwrap();

    let received = &server.metrics.received;
    assert_eq!(received.with_label_values(&["segment", "grpc"]).get(), 4);
    let latency = &server.metrics.trace_in_latency;
    assert_eq!(latency.with_label_values(&["grpc"]).get_sample_count(), 4);
}

#[tokio::test]
async fn meters_of_a_stream_that_breaks_are_delivered() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let channel = server.connect().await;
    let want = [Message::Meters(b"\x0a\x01a\x0a\x01b".as_slice().into())];
    // The peer sends two messages and is gone, at some time after they have arrived.
    for patience_ms in [100, 500, 2500, 12_500] {
        let messages = stream::iter([raw(b"a"), raw(b"b")]).chain(stream::pending());
        let mut client = LegacyMeter::new(channel.clone());
        let patience = Duration::from_millis(patience_ms);
        let call = tokio::time::timeout(patience, client.collect(messages));
        assert!(call.await.is_err(), "answered while it was open");
        let delivered = tokio::time::timeout(patience, server.next()).await;
        if delivered.is_ok_and(|messages| messages == want) {
            return;
        }
    }
    panic!("not delivered");
}

#[tokio::test]
async fn an_endless_stream_delivers_while_it_is_open() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let mut trace = LegacyTrace::new(server.connect().await);
    let (say, said) = mpsc::channel(1);
    let call = tokio::spawn(async move {
        trace
            .collect(tokio_stream::wrappers::ReceiverStream::new(said))
            .await
    });
    for _ in 0..3 {
        say.send(raw(b"one")).await.unwrap();
        assert_eq!(server.next().await, [segment(b"one")]);
    }
    drop(say);
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.commands, []);
}

#[tokio::test]
async fn an_empty_stream_is_answered() {
    let server = Running::start(GrpcOptions::default()).await;
    let mut trace = V3Trace::new(server.connect().await);
    trace.collect(stream::empty()).await.unwrap();
}

#[tokio::test]
async fn what_is_off_is_unknown() {
    let server = Running::start(GrpcOptions {
        receivers: Enabled {
            jvm: true,
            ..Enabled::NONE
        },
        ..GrpcOptions::default()
    })
    .await;
    let channel = server.connect().await;
    LegacyJvm::new(channel.clone())
        .collect(raw(b"j"))
        .await
        .unwrap();
    let mut management = V3Management::new(channel);
    let unknown = management.keep_alive(raw(b"k")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    management.keep_alive(raw(b"k")).await.unwrap_err();
    assert_eq!(server.rejected("unimplemented"), 2);
}

#[tokio::test]
async fn calls_without_the_token_are_denied_but_probes_are_not() {
    let mut server = Running::start(GrpcOptions {
        token: Secret::new("secret"),
        ..GrpcOptions::default()
    })
    .await;
    let channel = server.connect().await;
    let mut management = LegacyManagement::new(channel.clone());
    let denied = management.keep_alive(raw(b"k")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let mut wrong = Request::new(raw(b"k"));
    wrong
        .metadata_mut()
        .insert("authentication", "Secret".parse().unwrap());
    let denied = management.keep_alive(wrong).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(server.rejected("permission_denied"), 2);

    let mut right = Request::new(raw(b"k"));
    right
        .metadata_mut()
        .insert("authentication", "secret".parse().unwrap());
    management.keep_alive(right).await.unwrap();
    assert_eq!(server.next().await.len(), 1);

    let mut health = HealthClient::new(channel);
    let state = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(state.into_inner().status().as_str_name(), "SERVING");
}

#[tokio::test]
async fn a_message_over_the_limit_costs_its_stream_but_not_the_connection() {
    let mut server = Running::start(GrpcOptions {
        max_message_bytes: Some(1000),
        ..GrpcOptions::default()
    })
    .await;
    let channel = server.connect().await;
    let mut trace = LegacyTrace::new(channel.clone());
    let large = RawMessage(vec![7; 1001].into());
    let refused = trace.collect(stream::iter([raw(b"before"), large])).await;
    assert_eq!(refused.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(server.next().await, [segment(b"before")]);
    let refused = &server.metrics.refused;
    assert_eq!(
        refused.with_label_values(&["segment", "too_large"]).get(),
        1
    );

    trace.collect(stream::iter([raw(b"after")])).await.unwrap();
    assert_eq!(server.next().await, [segment(b"after")]);
}

#[tokio::test]
async fn a_compressed_message_may_not_grow_over_the_limit() {
    let mut server = Running::start(GrpcOptions {
        max_message_bytes: Some(100_000),
        ..GrpcOptions::default()
    })
    .await;
    let channel = server.connect().await;
    let mut trace = V3Trace::new(channel).send_compressed(CompressionEncoding::Gzip);
    let bomb = RawMessage(vec![0; 10_000_000].into());
    let refused = trace.collect(stream::iter([bomb])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let fits = RawMessage(vec![0; 99_000].into());
    trace.collect(stream::iter([fits])).await.unwrap();
    assert_eq!(
        server.next().await,
        [Message::Segment(vec![0; 99_000].into())]
    );
}

#[tokio::test]
async fn a_full_queue_is_told_and_counted() {
    let mut server = Running::start_with(GrpcOptions::default(), 64).await;
    let channel = server.connect().await;
    let mut management = LegacyManagement::new(channel.clone());
    management.keep_alive(raw(b"first")).await.unwrap();
    let refused = management.keep_alive(raw(b"second")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    let mut trace = LegacyTrace::new(channel);
    let refused = trace.collect(stream::iter([raw(b"third")])).await;
    assert_eq!(refused.unwrap_err().code(), Code::Internal);
    let refused = &server.metrics.refused;
    for kind in ["keep_alive", "segment"] {
        assert_eq!(refused.with_label_values(&[kind, "overloaded"]).get(), 1);
    }

    drop(server.inbox.recv().await);
    management.keep_alive(raw(b"fourth")).await.unwrap();
}

fn tls_settings(folder: &str, cert_chain: &str, key: &str) -> TlsSettings {
    TlsSettings {
        cert_chain_path: format!("{folder}/{cert_chain}").into(),
        key_path: format!("{folder}/{key}").into(),
        trusted_ca_path: None,
    }
}

#[tokio::test]
async fn tls_serves_who_trusts_the_certificate() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");
    let mut server = Running::start(GrpcOptions {
        tls: Some(tls_settings(data, "cert.pem", "key.pem")),
        ..GrpcOptions::default()
    })
    .await;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(
            std::fs::read(format!("{data}/cert.pem")).unwrap(),
        ))
        .domain_name("oap.test");
    let endpoint = Channel::from_shared(format!("https://{}", server.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut trace = LegacyTrace::new(channel);
    trace.collect(stream::iter([raw(b"sealed")])).await.unwrap();
    assert_eq!(server.next().await, [segment(b"sealed")]);

    let plain = server.connect().await;
    LegacyTrace::new(plain)
        .collect(stream::iter([raw(b"open")]))
        .await
        .unwrap_err();
}

#[test]
fn tls_mistakes_name_their_file() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");
    let message = |cert_chain: &str, key: &str| {
        let files = tls_settings(data, cert_chain, key);
        tls::server_config(&files).unwrap_err().to_string()
    };
    assert_eq!(
        message("nowhere.pem", "key.pem"),
        format!("failed to read the certificate chain at {data}/nowhere.pem")
    );
    assert_eq!(
        message("key.pem", "key.pem"),
        format!(
            "the certificate chain at {data}/key.pem is not usable PEM: it holds no certificate"
        )
    );
    assert!(message("cert.pem", "cert.pem").starts_with("the private key at"));
    assert_eq!(
        message("cert.pem", "other-key.pem"),
        "the certificate chain and the key cannot be used together"
    );
}
