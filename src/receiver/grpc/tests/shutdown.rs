//! How calls and connections end when the server leaves.

use std::future::pending;

use futures_util::{StreamExt, stream};
use oap_proto::health::{HealthCheckRequest, health_client::HealthClient};
use oap_proto::legacy::management_service_client::ManagementServiceClient as LegacyManagement;
use oap_proto::legacy::meter_report_service_client::MeterReportServiceClient as LegacyMeter;
use oap_proto::legacy::trace_segment_report_service_client::TraceSegmentReportServiceClient as LegacyTrace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use super::super::*;
use super::{Running, raw, segment};
use crate::journal::Message;

#[tokio::test]
async fn a_shutdown_lets_calls_finish_and_ends_those_that_do_not() {
    let mut server = Running::start(GrpcOptions {
        grace: Duration::from_millis(300),
        ..GrpcOptions::default()
    })
    .await;
    let mut trace = LegacyTrace::new(server.connect().await);
    let mut endless = trace.clone();
    let endless = tokio::spawn(async move {
        let said = stream::iter([raw(b"endless")]).chain(stream::once(pending()));
        endless.collect(said).await
    });
    assert_eq!(server.next().await, [segment(b"endless")]);
    let (say, said) = mpsc::channel(1);
    let finishing = tokio::spawn(async move {
        trace
            .collect(tokio_stream::wrappers::ReceiverStream::new(said))
            .await
    });
    say.send(raw(b"early")).await.unwrap();
    assert_eq!(server.next().await, [segment(b"early")]);

    server.shutdown.cancel();
    say.send(raw(b"late")).await.unwrap();
    assert_eq!(server.next().await, [segment(b"late")]);
    drop(say);
    finishing.await.unwrap().unwrap();

    let cut = endless.await.unwrap().unwrap_err();
    assert_eq!(cut.code(), Code::Unavailable);
    server.done.await.unwrap();
    assert!(server.inbox.recv().await.is_none(), "the intake is let go");
}

#[tokio::test]
async fn a_shutdown_soon_ends_streams_on_which_nothing_comes() {
    let mut server = Running::start(GrpcOptions {
        grace: Duration::from_secs(600),
        ..GrpcOptions::default()
    })
    .await;
    let mut trace = LegacyTrace::new(server.connect().await);
    let channel = server.connect().await;
    let mut meters = LegacyMeter::new(channel.clone());
    let said = stream::iter([raw(b"endless")]).chain(stream::once(pending()));
    let segments = tokio::spawn(async move { trace.collect(said).await.map(drop) });
    assert_eq!(server.next().await, [segment(b"endless")]);
    let (begin, begun) = oneshot::channel();
    let first = async move {
        begin.send(()).unwrap();
        raw(b"endless")
    };
    let said = stream::once(first).chain(stream::once(pending()));
    let meters = tokio::spawn(async move { meters.collect(said).await.map(drop) });
    begun.await.unwrap();
    // What was begun before this on the connection is accepted when it is answered.
    let mut management = LegacyManagement::new(channel);
    management.keep_alive(raw(b"ping")).await.unwrap();
    server.next().await;
    server.shutdown.cancel();
    for endless in [segments, meters] {
        let ended = tokio::time::timeout(Duration::from_secs(60), endless);
        let ended = ended.await.unwrap().unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable);
    }
    let delivered = server.next().await;
    assert!(
        matches!(delivered[..], [Message::Meters(_)]),
        "{delivered:?}"
    );
    server.done.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_peer_that_says_nothing() {
    let mut server = Running::start(GrpcOptions {
        grace: Duration::from_millis(100),
        ..GrpcOptions::default()
    })
    .await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    silent.write_all(&empty_settings).await.unwrap();
    let mut greeting = [0; 9];
    silent.read_exact(&mut greeting).await.unwrap();
    server.shutdown.cancel();
    let ended = tokio::time::timeout(KEEPALIVE_TIMEOUT, server.done).await;
    ended.unwrap().unwrap();
    assert!(server.inbox.recv().await.is_none(), "the intake is let go");
}

#[tokio::test]
async fn a_watcher_hears_that_the_server_leaves() {
    let server = Running::start(GrpcOptions::default()).await;
    let mut health = HealthClient::new(server.connect().await);
    let watching = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut states = watching.into_inner();
    let first = states.message().await.unwrap().unwrap();
    assert_eq!(first.status().as_str_name(), "SERVING");
    server.shutdown.cancel();
    let last = states.message().await.unwrap().unwrap();
    assert_eq!(last.status().as_str_name(), "NOT_SERVING");
    assert!(states.message().await.unwrap().is_none());
    server.done.await.unwrap();
}
