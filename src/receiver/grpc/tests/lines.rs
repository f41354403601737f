//! Connections that are told to go.

use std::time::Duration;

use oap_proto::cluster as peer;
use oap_proto::health::HealthCheckRequest;
use oap_proto::health::health_client::HealthClient;
use peer::remote::remote_service_client::RemoteServiceClient;
use tokio::time::{sleep, timeout};

use super::*;
use crate::receiver::grpc::lines::{Census, Lines};

fn census(lines: &Lines) -> (usize, usize, usize) {
    let Census { open, asked, told } = lines.census();
    (open, asked, told)
}

impl Running {
    fn open(&self, kind: &str) -> i64 {
        self.metrics.connections.with_label_values(&[kind]).get()
    }

    fn closed(&self, reason: &str) -> u64 {
        let closed = &self.metrics.closed_connections;
        closed.with_label_values(&[reason]).get()
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut(&Running) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), waiting).await.expect(what);
    }
}

#[tokio::test]
async fn connections_are_told_apart_by_what_they_are_used_for() {
    let server = Running::start(GrpcOptions::default()).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    server
        .until("a silent one", |s| s.open("silent") == 1)
        .await;
    let mut health = HealthClient::new(server.connect().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    let mut remote = RemoteServiceClient::new(server.connect().await);
    // It is not served here.
    remote.call(stream::empty()).await.unwrap_err();
    let agent = server.connect().await;
    let mut management = V3Management::new(agent.clone());
    management.keep_alive(raw(b"k")).await.unwrap();
    // An agent that is probed is an agent.
    let mut health_of_agent = HealthClient::new(agent.clone());
    let probed = health_of_agent.check(HealthCheckRequest::default());
    probed.await.unwrap();
    for kind in ["silent", "probe", "member", "agent"] {
        assert_eq!(server.open(kind), 1, "{kind}");
    }
    assert_eq!(census(&server.lines), (1, 0, 0));
    drop(silent);
    drop((agent, management, health_of_agent));
    server
        .until("gone", |s| s.open("agent") + s.open("silent") == 0)
        .await;
    server.shutdown.cancel();
    server
        .until("all are gone", |s| s.closed("shutdown") == 2)
        .await;
    assert_eq!(server.closed("peer"), 2);
}

#[tokio::test]
async fn a_connection_is_told_with_an_answer_and_every_call_succeeds() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let mut trace = LegacyTrace::new(server.connect().await);
    for n in 1..=300 {
        trace.collect(stream::iter([raw(b"a")])).await.unwrap();
        assert_eq!(server.next().await, [segment(b"a")]);
        assert!(server.lines.ask_one(Duration::ZERO, n), "{n}");
        assert!(!server.lines.ask_one(Duration::ZERO, n), "{n}: twice");
        trace.collect(stream::iter([raw(b"b")])).await.unwrap();
        assert_eq!(server.next().await, [segment(b"b")]);
        server
            .until("closed", |s| s.closed("rebalanced") == n)
            .await;
    }
    let told = &server.metrics.moved_connections;
    assert_eq!(told.with_label_values(&["answer"]).get(), 300);
}

#[tokio::test]
async fn a_connection_with_a_stream_is_told_only_in_a_silence_and_the_stream_goes_on() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let channel = server.connect().await;
    let lines = server.lines.clone();
    let (say, said) = mpsc::channel(1);
    let mut trace = LegacyTrace::new(channel.clone());
    let mut endless = trace.clone();
    let endless = tokio::spawn(async move {
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        endless.collect(said).await
    });
    say.send(raw(b"one")).await.unwrap();
    assert_eq!(server.next().await, [segment(b"one")]);
    let mut call = async |name: &'static [u8]| {
        trace.collect(stream::iter([raw(name)])).await.unwrap();
        assert_eq!(server.next().await, [segment(name)]);
    };
    // The call succeeds, and the next one: while a stream is open, no moment is good.
    assert!(lines.ask_one(Duration::ZERO, 0));
    call(b"x").await;
    call(b"y").await;
    assert_eq!(census(&lines), (1, 1, 0));
    let pass = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    // It has calls, so it is left where it is.
    pass(39).await;
    call(b"z").await;
    pass(2).await;
    lines.settle();
    assert_eq!(census(&lines), (1, 0, 0));
    // It has none any more.
    assert!(lines.ask_one(Duration::ZERO, 0));
    pass(41).await;
    lines.settle();
    assert_eq!(census(&lines), (1, 0, 1));
    for _ in 0..10 {
        say.send(raw(b"two")).await.unwrap();
        assert_eq!(server.next().await, [segment(b"two")]);
    }
    drop(say);
    endless.await.unwrap().unwrap();
    server
        .until("closed", |s| s.closed("rebalanced") == 1)
        .await;
    assert_eq!(census(&lines), (0, 0, 0));
}

#[tokio::test]
async fn who_may_make_one_call_at_a_time_is_never_told() {
    for (streams, want) in [(1, false), (2, true)] {
        let mut server = Running::start(GrpcOptions {
            max_streams_per_connection: Some(streams),
            ..GrpcOptions::default()
        })
        .await;
        let mut trace = LegacyTrace::new(server.connect().await);
        trace.collect(stream::iter([raw(b"a")])).await.unwrap();
        assert_eq!(server.next().await, [segment(b"a")]);
        assert_eq!(server.lines.ask_one(Duration::ZERO, 0), want, "{streams}");
    }
}

#[tokio::test]
async fn only_who_is_old_enough_and_lively_rather_than_idle_is_asked_and_may_be_kept() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let mut idle = V3Management::new(server.connect().await);
    idle.keep_alive(raw(b"k")).await.unwrap();
    server.next().await;
    assert!(!server.lines.ask_one(Duration::from_secs(60), 0));
    assert!(server.lines.ask_one(Duration::ZERO, 0));
    assert_eq!(census(&server.lines), (1, 1, 0));
    server.lines.ask_none();
    assert_eq!(census(&server.lines), (1, 0, 0));
    idle.keep_alive(raw(b"k")).await.unwrap();
    server.next().await;
    assert_eq!(census(&server.lines), (1, 0, 0));

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    let mut lively = V3Management::new(server.connect().await);
    lively.keep_alive(raw(b"k")).await.unwrap();
    server.next().await;
    assert!(server.lines.ask_one(Duration::ZERO, 1));
    lively.keep_alive(raw(b"k")).await.unwrap();
    server.next().await;
    server
        .until("closed", |s| s.closed("rebalanced") == 1)
        .await;
    assert_eq!(census(&server.lines), (1, 0, 0));

    // The idle one has no calls, so it is told at last without one.
    assert!(server.lines.ask_one(Duration::ZERO, 2));
    server.lines.settle();
    assert_eq!(census(&server.lines), (1, 1, 0));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(41)).await;
    tokio::time::resume();
    server.lines.settle();
    server
        .until("closed", |s| s.closed("rebalanced") == 2)
        .await;
    let told = &server.metrics.moved_connections;
    assert_eq!(told.with_label_values(&["silence"]).get(), 1);
    idle.keep_alive(raw(b"k")).await.unwrap();
}
