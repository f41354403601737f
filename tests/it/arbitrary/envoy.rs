//! What Envoy proxies stream: messages with a good identifier, and identifiers with good messages.

use anyhow::Result;
use bytes::Bytes;
use oap::model::message::Message;
use oap_proto::envoy::metric_family::Type;
use oap_proto::envoy::stream_access_logs_message::HttpEntries;
use oap_proto::envoy::{
    AccessLogCommon, Address, Gauge, HttpAccessLogEntry, HttpRequestProperties, Identifier,
    Instant, Metric, MetricFamily, Node, SocketAddress, Span, StreamAccessLogsMessage,
    StreamMetricsMessage,
};
use prost::Message as _;

use super::messages::{NOW_MS, check};
use super::{Form, Target};

fn identifier(id: &str) -> Bytes {
    let node = Node {
        id: id.into(),
        cluster: "shop".into(),
    };
    Identifier { node: Some(node) }.encode_to_vec().into()
}

fn metrics() -> Bytes {
    let family = |name: &str, ty: Type, timestamp_ms| MetricFamily {
        name: name.into(),
        r#type: ty.into(),
        metric: vec![
            Metric {
                gauge: Some(Gauge { value: 1.5 }),
                timestamp_ms,
            };
            2
        ],
    };
    let message = StreamMetricsMessage {
        identifier: None,
        envoy_metrics: vec![
            family("server.memory_heap_size", Type::Gauge, NOW_MS),
            family("server.total_connections", Type::Gauge, NOW_MS * 1_000_000),
            family("cluster.requests", Type::Counter, NOW_MS),
        ],
    };
    message.encode_to_vec().into()
}

fn access_logs() -> Bytes {
    let address = |ip: &str| {
        Some(Address {
            socket_address: Some(SocketAddress { address: ip.into() }),
        })
    };
    let span = Some(Span {
        seconds: 1,
        nanos: 2_000_000,
    });
    let entry = |cluster: &str, caller: &str| HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_remote_address: address(caller),
            downstream_local_address: address("10.0.0.1"),
            start_time: Some(Instant {
                seconds: NOW_MS / 1000,
                nanos: 7,
            }),
            time_to_first_upstream_tx_byte: span,
            time_to_last_upstream_rx_byte: span,
            time_to_last_downstream_tx_byte: span,
            upstream_remote_address: address("10.0.0.1"),
            upstream_cluster: cluster.into(),
        }),
        request: Some(HttpRequestProperties {
            scheme: "http".into(),
            path: "/order".into(),
        }),
        response: None,
    };
    let log_entry = vec![
        entry("inbound|80|http|shop", "192.0.2.7"),
        entry("outbound|80||shop", "10.0.0.1"),
    ];
    let message = StreamAccessLogsMessage {
        identifier: None,
        http_logs: Some(HttpEntries { log_entry }),
    };
    message.encode_to_vec().into()
}

#[test]
fn envoy_metrics() -> Result<()> {
    let target = Target::of(Form::Message, "envoy-metrics").seeds([metrics()]);
    check(target, |body| Message::EnvoyMetrics {
        identifier: identifier("sidecar~1"),
        body,
    })
}

#[test]
fn envoy_access_logs_of_sidecars() -> Result<()> {
    let target = Target::of(Form::Message, "envoy-access-logs").seeds([access_logs()]);
    check(target, |body| Message::EnvoyAccessLogs {
        identifier: identifier("sidecar~1"),
        body,
    })
}

#[test]
fn envoy_access_logs_of_routers() -> Result<()> {
    let target = Target::of(Form::Message, "envoy-access-logs").seeds([access_logs()]);
    check(target, |body| Message::EnvoyAccessLogs {
        identifier: identifier("router~1"),
        body,
    })
}

#[test]
fn envoy_identifier() -> Result<()> {
    let seeds = [identifier("sidecar~1"), identifier("router~1")];
    let target = Target::of(Form::Message, "envoy-identifier").seeds(seeds.clone());
    check(target, |identifier| Message::EnvoyMetrics {
        identifier,
        body: metrics(),
    })?;
    let target = Target::of(Form::Message, "envoy-identifier").seeds(seeds);
    check(target, |identifier| Message::EnvoyAccessLogs {
        identifier,
        body: access_logs(),
    })
}
