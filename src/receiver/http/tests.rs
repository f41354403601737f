//! The HTTP twins over a real socket.

use std::net::SocketAddr;
use std::time::Instant;

use oap_proto::agent::{InstancePingPkg, InstanceProperties, KeyStringValuePair, SegmentObject};

use proptest::prelude::*;
use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::journal::{Intake, Limits, Work};
use crate::receiver::{ReceiverMetrics, bind};
use crate::telemetry::Registry;

struct Running {
    address: SocketAddr,
    inbox: mpsc::Receiver<Work>,
    metrics: ReceiverMetrics,
    shutdown: CancellationToken,
    done: JoinHandle<()>,
    client: Client,
}

fn handover(queued_bytes: usize) -> (Handover, mpsc::Receiver<Work>) {
    let limits = Limits {
        queued_bytes,
        patience: Duration::from_millis(50),
    };
    let (intake, mut inboxes) = Intake::new(1, limits);
    let metrics = ReceiverMetrics::new(&Registry::new("127.0.0.1", 0)).unwrap();
    (Handover::new(intake, metrics), inboxes.remove(0))
}

impl Running {
    async fn start(options: HttpOptions) -> Self {
        let (handover, inbox) = handover(1 << 20);
        let metrics = handover.metrics.clone();
        let router = router(handover, &options).unwrap();
        let listener = bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let timeouts = Timeouts {
            idle: Duration::from_millis(300),
            grace: Duration::from_millis(200),
        };
        Running {
            address: listener.local_addr().unwrap(),
            inbox,
            metrics,
            done: tokio::spawn(serve(listener, router, timeouts, shutdown.clone())),
            shutdown,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn next(&mut self) -> Vec<Message> {
        match self.inbox.recv().await {
            Some(Work::Batch(batch)) => batch.messages,
            other => panic!("no batch but {other:?}"),
        }
    }

    /// Status, content type, body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let response = self
            .client
            .request(
                method.parse().unwrap(),
                format!("http://{}{path}", self.address),
            )
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let content_type = response.headers().get("content-type");
        (
            response.status().as_u16(),
            content_type.map_or_else(String::new, |t| t.to_str().unwrap().to_owned()),
            response.text().await.unwrap(),
        )
    }

    fn refused(&self, kind: &str, reason: &str) -> u64 {
        self.metrics
            .refused
            .with_label_values(&[kind, reason])
            .get()
    }
}

const JSON: &str = "application/json;charset=utf-8";

fn answer(status: u16, content_type: &str, body: &str) -> (u16, String, String) {
    (status, content_type.to_owned(), body.to_owned())
}

fn trace(id: &str) -> Message {
    let segment = SegmentObject {
        trace_id: id.to_owned(),
        ..SegmentObject::default()
    };
    Message::Segment(segment.encode_to_vec().into())
}

#[tokio::test]
async fn segments_are_handed_over_and_answered_with_nothing() {
    let mut server = Running::start(HttpOptions::default()).await;
    let got = server
        .ask("POST", "/v3/segment", r#"{"traceId":"t1"}"#)
        .await;
    assert_eq!(got, answer(200, JSON, ""));
    assert_eq!(server.next().await, [trace("t1")]);

    let body = "[{\"trace\nId\":\"t\r\n2\"},\n{\"traceId\":\"t3\"}]";
    let got = server.ask("POST", "/v3/segments", body).await;
    assert_eq!(got, answer(200, JSON, ""));
    assert_eq!(server.next().await, [trace("t2"), trace("t3")]);

    let got = server.ask("POST", "/v3/segments", "[]").await;
    assert_eq!(got, answer(200, JSON, ""));
    assert!(server.inbox.try_recv().is_err());
}

#[tokio::test]
async fn one_bad_segment_aborts_the_request_which_is_answered_as_if_good() {
    let mut server = Running::start(HttpOptions::default()).await;
    let body = r#"[{"traceId":"t1"},{"traceId":[]}]"#;
    let got = server.ask("POST", "/v3/segments", body).await;
    assert_eq!(got, answer(200, JSON, ""));
    assert!(server.inbox.try_recv().is_err());
    assert_eq!(server.refused("segment", "bad_json"), 1);
    let errors = &server.metrics.trace_analysis_errors;
    assert_eq!(errors.with_label_values(&["http"]).get(), 1);
}

#[tokio::test]
async fn management_is_handed_over_and_answered_with_an_empty_object() {
    let mut server = Running::start(HttpOptions::default()).await;
    let body = r#"{"service":"s","serviceInstance":"i","properties":[{"key":"k","value":"v"}]}"#;
    let got = server
        .ask("POST", "/v3/management/reportProperties", body)
        .await;
    assert_eq!(got, answer(200, JSON, "{}"));
    let properties = InstanceProperties {
        service: "s".into(),
        service_instance: "i".into(),
        properties: vec![KeyStringValuePair {
            key: "k".into(),
            value: "v".into(),
        }],
    };
    assert_eq!(
        server.next().await,
        [Message::InstanceProperties(
            properties.encode_to_vec().into()
        )]
    );

    let got = server.ask("POST", "/v3/management/keepAlive", body).await;
    assert_eq!(got, answer(200, JSON, "{}"));
    let ping = InstancePingPkg {
        service: "s".into(),
        service_instance: "i".into(),
    };
    assert_eq!(
        server.next().await,
        [Message::KeepAlive(ping.encode_to_vec().into())]
    );

    let got = server
        .ask("POST", "/v3/management/keepAlive", "nonsense")
        .await;
    assert_eq!(got, answer(400, "", ""));
    assert_eq!(server.refused("keep_alive", "bad_json"), 1);
}

#[tokio::test]
async fn other_methods_get_what_the_original_gives() {
    let server = Running::start(HttpOptions::default()).await;
    for (method, status) in [
        ("GET", 500),
        ("PUT", 405),
        ("DELETE", 405),
        ("OPTIONS", 200),
    ] {
        let got = server.ask(method, "/v3/segment", "").await;
        assert_eq!(got, answer(status, "", ""), "{method}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = Running::start(HttpOptions {
        max_body_bytes: 1000,
        ..HttpOptions::default()
    })
    .await;
    let got = server.ask("POST", "/v3/segment", &" ".repeat(1001)).await;
    assert_eq!(got, answer(413, "", ""));
    assert_eq!(server.refused("segment", "too_large"), 1);
}

#[tokio::test]
async fn a_full_queue_is_told() {
    let (handover, mut inbox) = handover(64);
    let door = Door {
        handover,
        turns: Arc::new(Semaphore::new(1)),
        max_body_bytes: 1000,
    };
    let body = || Bytes::from_static(br#"{"traceId":"t"}"#);
    assert_eq!(door.take(Twin::Segment, body()).await.status(), 200);
    assert_eq!(door.take(Twin::Segment, body()).await.status(), 503);
    drop(inbox.recv().await);
    assert_eq!(door.take(Twin::Segment, body()).await.status(), 200);
}

#[tokio::test]
async fn paths_begin_with_the_context_path_and_end_with_the_selectors() {
    let options = HttpOptions {
        receivers: Enabled {
            trace: false,
            ..Enabled::ALL
        },
        context_path: "/a/b/".to_owned(),
        ..HttpOptions::default()
    };
    let server = Running::start(options).await;
    let ping = r#"{"service":"s","serviceInstance":"i"}"#;
    for (path, status) in [
        ("/a/b/v3/management/keepAlive", 200),
        ("/v3/management/keepAlive", 404),
        ("/a/b/v3/segment", 404),
    ] {
        assert_eq!(server.ask("POST", path, ping).await.0, status, "{path}");
    }
    for (given, wanted) in [
        ("/", Some("")),
        ("", Some("")),
        ("a/b", Some("/a/b")),
        ("/{x}", None),
    ] {
        assert_eq!(prefix(given).ok().as_deref(), wanted, "{given}");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_peer_that_says_nothing() {
    let server = Running::start(HttpOptions::default()).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"POST /v3/segment HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n{")
        .await
        .unwrap();
    server.ask("POST", "/v3/segments", "[]").await;
    let began = Instant::now();
    server.shutdown.cancel();
    server.done.await.unwrap();
    assert!(began.elapsed() < BODY_TIMEOUT);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Running::start(HttpOptions::default()).await;
    let mut fresh = TcpStream::connect(server.address).await.unwrap();
    let mut begun = TcpStream::connect(server.address).await.unwrap();
    begun.write_all(b"PRI * ").await.unwrap();
    let mut used = TcpStream::connect(server.address).await.unwrap();
    used.write_all(b"GET /v3/segment HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    for connection in [&mut fresh, &mut begun, &mut used] {
        let mut heard = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut heard))
            .await
            .unwrap()
            .unwrap();
    }
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>, path in 0..4) {
        let twin = [Twin::Segment, Twin::Segments, Twin::ReportProperties, Twin::KeepAlive]
            [path as usize];
        let text = without_line_breaks(String::from_utf8_lossy(&body));
        drop(twin.read(&text));
    }
}
