//! Envoy proxies report over generated clients: metrics of themselves, and access logs that are told by the pods of a cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use oap_proto::RawMessage;
use oap_proto::envoy::access_log::access_log_service_client::AccessLogServiceClient;
use oap_proto::envoy::metric_family::Type;
use oap_proto::envoy::metrics::metrics_service_client::MetricsServiceClient;
use oap_proto::envoy::stream_access_logs_message::HttpEntries;
use oap_proto::envoy::{
    AccessLogCommon, Address, Gauge, HttpAccessLogEntry, HttpRequestProperties,
    HttpResponseProperties, Identifier, Instant, Metric, MetricFamily, Node, ResponseCode,
    SocketAddress, Span, StreamAccessLogsMessage, StreamMetricsMessage,
};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::graphql::GraphQl;
use crate::kubernetes::{Cluster, Double, pod, replica_sets};
use crate::oap_process::{OapCommand, OapProcess};
use crate::questions::{buckets_from, service_value};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// Above the 15 s between two looks at the cluster.
const DEADLINE: Duration = Duration::from_secs(60);

/// Only the first message of a stream says who sends it.
fn identifier(node_id: &str, cluster: &str) -> Identifier {
    let node = Node {
        id: node_id.into(),
        cluster: cluster.into(),
    };
    Identifier { node: Some(node) }
}

async fn connect(grpc: &str) -> Result<Channel> {
    Ok(Endpoint::new(format!("http://{grpc}"))?.connect().await?)
}

fn gauge(name: &str, value: f64, timestamp_ms: i64) -> MetricFamily {
    MetricFamily {
        name: name.into(),
        r#type: Type::Gauge.into(),
        metric: vec![Metric {
            gauge: Some(Gauge { value }),
            timestamp_ms,
        }],
    }
}

async fn report_metrics(
    channel: Channel,
    sender: Identifier,
    messages: Vec<Vec<MetricFamily>>,
) -> Result<(), tonic::Status> {
    let mut sender = Some(sender);
    let messages: Vec<RawMessage> = messages
        .into_iter()
        .map(|envoy_metrics| {
            RawMessage::encode_from(&StreamMetricsMessage {
                identifier: sender.take(),
                envoy_metrics,
            })
        })
        .collect();
    let mut client = MetricsServiceClient::new(channel);
    client.stream_metrics(tokio_stream::iter(messages)).await?;
    Ok(())
}

async fn metrics_of_proxies_are_stored(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store)
        .env("TZ", "UTC")
        .start()
        .await?;
    let now = Timestamp::now().as_millisecond();
    let channel = connect(&server.grpc()).await?;
    let messages = vec![
        vec![
            gauge("server.memory_heap_size", 1000.0, now),
            gauge("server.total_connections", 7.0, now * 1_000_000),
        ],
        vec![
            gauge("server.memory_heap_size", 3000.0, now),
            gauge("server.parent_connections", 2.0, now),
            gauge("server.live", 1.0, now),
        ],
        vec![gauge("server.memory_heap_size", 2000.0, now)],
    ];
    report_metrics(channel.clone(), identifier("proxy-1", "ingress"), messages).await?;
    // Nobody knows whose these are; the stream is answered all the same.
    let anonymous = vec![vec![gauge("server.memory_heap_size", 9000.0, now)]];
    report_metrics(channel, identifier("", ""), anonymous).await?;
    server.flush().await?;

    let graphql = GraphQl::new(&server.http())?;
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    for (metric, want) in [
        ("envoy_heap_memory_max_used", 3000),
        ("envoy_total_connections_used", 7),
        ("envoy_parent_connections_used", 2),
    ] {
        let value = instance_value(&graphql, metric, ["ingress", "proxy-1"], &minute).await?;
        ensure!(value == want, "{metric}: {value}");
    }
    // Such a service is not listed, yet its instances are.
    let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    let services = graphql.ask(services, json!({"d": minute})).await?;
    ensure!(services == json!([]), "{services}");
    let instances = "query($d: Duration!, $s: ID!) {
        getServiceInstances(duration: $d, serviceId: $s) { name } }";
    let service = oap::model::id::service_id("ingress", true);
    let instances = graphql
        .ask(instances, json!({"d": minute, "s": service}))
        .await?;
    ensure!(instances == json!([{"name": "proxy-1"}]), "{instances}");
    server.stop().await
}

async fn instance_value(
    graphql: &GraphQl,
    metric: &str,
    [service, instance]: [&str; 2],
    duration: &Value,
) -> Result<i64> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
    let entity = json!({"scope": "ServiceInstance", "serviceName": service, "normal": true,
        "serviceInstanceName": instance});
    let variables = json!({"c": {"name": metric, "entity": entity}, "d": duration});
    let answer = graphql.ask(query, variables).await?;
    let value = &answer["values"]["values"][0]["value"];
    value.as_i64().with_context(|| format!("{answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_proxies_are_stored_embedded() -> Result<()> {
    metrics_of_proxies_are_stored("envoy-metrics", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_proxies_are_stored_in_elasticsearch() -> Result<()> {
    metrics_of_proxies_are_stored("envoy-metrics", Store::Elasticsearch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_there_as_the_settings_say() -> Result<()> {
    for (variable, value, metrics, logs) in [
        (
            "SW_ENVOY_METRIC_SERVICE",
            "false",
            Code::Unimplemented,
            Code::Ok,
        ),
        (
            "SW_ENVOY_METRIC",
            "-",
            Code::Unimplemented,
            Code::Unimplemented,
        ),
    ] {
        let server = TestServer::builder("envoy-off", Store::Embedded)
            .env(variable, value)
            .start()
            .await?;
        let channel = connect(&server.grpc()).await?;
        let sender = identifier("proxy-1", "ingress");
        let outcome = report_metrics(channel.clone(), sender, vec![vec![]]).await;
        let got = outcome.err().map_or(Code::Ok, |status| status.code());
        ensure!(got == metrics, "{variable}: {got:?}");
        let outcome = report_logs(channel, "sidecar~1", vec![]).await;
        let got = outcome.err().map_or(Code::Ok, |status| status.code());
        ensure!(got == logs, "{variable}: {got:?}");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_analysis_that_does_not_exist_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let command = OapCommand::new(folder.path());
    let ended = command
        .env("SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS", "k8s-mesh,mx-mesh")
        .run()
        .await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    let words = [
        "envoy-metric.default.alsHTTPAnalysis",
        "mx-mesh",
        "expected k8s-mesh",
    ];
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    ensure!(ended.stderr.lines().any(has_all), "{}", ended.stderr);
    Ok(())
}

/// A request of `/order` that took 250 ms, between the addresses of caller, proxy and callee.
fn request(at_ms: i64, cluster: &str, [caller, local, callee]: [&str; 3]) -> HttpAccessLogEntry {
    let address = |ip: &str| {
        Some(Address {
            socket_address: Some(SocketAddress { address: ip.into() }),
        })
    };
    let span = |ms: i32| {
        Some(Span {
            seconds: 0,
            nanos: ms * 1_000_000,
        })
    };
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_remote_address: address(caller),
            downstream_local_address: address(local),
            start_time: Some(Instant {
                seconds: at_ms / 1000,
                nanos: 0,
            }),
            time_to_first_upstream_tx_byte: span(10),
            time_to_last_upstream_rx_byte: span(240),
            time_to_last_downstream_tx_byte: span(250),
            upstream_remote_address: address(callee),
            upstream_cluster: cluster.into(),
        }),
        request: Some(HttpRequestProperties {
            scheme: "http".into(),
            path: "/order".into(),
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(ResponseCode { value: 200 }),
        }),
    }
}

/// One stream with a message per request.
async fn report_logs(
    channel: Channel,
    node_id: &str,
    requests: Vec<HttpAccessLogEntry>,
) -> Result<(), tonic::Status> {
    let mut sender = Some(identifier(node_id, "any"));
    let messages: Vec<RawMessage> = requests
        .into_iter()
        .map(|request| {
            RawMessage::encode_from(&StreamAccessLogsMessage {
                identifier: sender.take(),
                http_logs: Some(HttpEntries {
                    log_entry: vec![request],
                }),
            })
        })
        .collect();
    let mut client = AccessLogServiceClient::new(channel);
    client
        .stream_access_logs(tokio_stream::iter(messages))
        .await?;
    Ok(())
}

const WEB: &str = "10.0.0.1";
const SHOP: &str = "10.0.0.2";
const GATE: &str = "10.0.0.3";
const NEW: &str = "10.0.0.4";
const OUTSIDE: &str = "192.0.2.7";

/// The program, reporting proxies and a cluster.
struct Mesh {
    process: OapProcess,
    channel: Channel,
    graphql: GraphQl,
    metrics_url: String,
}

impl Mesh {
    async fn start(folder: &Path, kubeconfig: &Path) -> Result<Mesh> {
        let process = OapCommand::new(folder)
            .env("TZ", "UTC")
            .env("KUBECONFIG", &kubeconfig.to_string_lossy())
            .env("SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS", "k8s-mesh")
            .with_metrics()
            .start()
            .await?;
        Ok(Mesh {
            channel: connect(process.grpc()).await?,
            graphql: GraphQl::new(process.http())?,
            metrics_url: process.metrics_url()?,
            process,
        })
    }

    /// Waits for a line with both.
    async fn logged(&self, text: &str, field: &str) -> Result<()> {
        wait_until(text, DEADLINE, async || {
            let log = self.process.log();
            let has_both = |line: &str| line.contains(text) && line.contains(field);
            ensure!(log.lines().any(has_both), "{log}");
            Ok(())
        })
        .await
    }

    /// What the proxies of a chain outside → gate → web → shop log of one request.
    async fn one_request(&self, at_ms: i64) -> Result<()> {
        let outbound = "outbound|80||shop.default.svc.cluster.local";
        for (node_id, cluster, addresses) in [
            ("router~10.0.0.3", outbound, [OUTSIDE, GATE, WEB]),
            ("sidecar~10.0.0.1", "inbound|80|http|web", [GATE, WEB, WEB]),
            ("sidecar~10.0.0.1", outbound, [WEB, SHOP, SHOP]),
            (
                "sidecar~10.0.0.2",
                "inbound|80|http|shop",
                [WEB, SHOP, SHOP],
            ),
        ] {
            let request = request(at_ms, cluster, addresses);
            report_logs(self.channel.clone(), node_id, vec![request.clone()]).await?;
        }
        Ok(())
    }

    async fn calls(&self, service: &str, minute: &Value, want: i64) -> Result<()> {
        wait_until("calls are counted", DEADLINE, async || {
            let calls = service_value(&self.graphql, "service_cpm", service, minute).await?;
            ensure!(calls == want, "{service}: {calls}, not {want}");
            Ok(())
        })
        .await
    }

    /// Pairs of services, and who saw the call.
    async fn topology(&self, minute: &Value) -> Result<Vec<String>> {
        let query = "query($d: Duration!) { getGlobalTopology(duration: $d) {
            nodes { id name } calls { source target detectPoints } } }";
        let topology = self.graphql.ask(query, json!({"d": minute})).await?;
        let name = |id: &Value| {
            let nodes = topology["nodes"].as_array()?;
            nodes.iter().find(|n| n["id"] == *id)?["name"].as_str()
        };
        let calls = topology["calls"].as_array().context("no calls")?;
        let mut told = calls
            .iter()
            .map(|call| {
                let (source, target) = (name(&call["source"]), name(&call["target"]));
                let (source, target) = (source.context("source")?, target.context("target")?);
                Ok(format!("{source} > {target} {}", call["detectPoints"]))
            })
            .collect::<Result<Vec<_>>>()?;
        told.sort();
        Ok(told)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_logs_become_a_mesh_of_the_services_of_pods() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let mut double = Double::start(Cluster {
        token: "secret".to_owned(),
        pods: vec![
            pod("web-5c-1", WEB, &[("ReplicaSet", "web-5c")]),
            pod("shop-0", SHOP, &[("StatefulSet", "shop")]),
            pod("gate-9f-1", GATE, &[("ReplicaSet", "gate-9f")]),
        ],
        replica_sets: Some(replica_sets(&[
            ("web-5c", Some("web")),
            ("gate-9f", Some("gate")),
        ])),
        ..Cluster::default()
    })
    .await?;
    double.write_kubeconfig(&kubeconfig, "wrong")?;
    let mesh = Mesh::start(folder.path(), &kubeconfig).await?;
    let now = Timestamp::now().as_millisecond();
    let minute = buckets_from(now, "UTC", "MINUTE")?;

    // Without pods nothing is analysed, and that is counted.
    mesh.logged("pods cannot be read", "401 double: Unauthorized")
        .await?;
    mesh.one_request(now).await?;
    let rejected = r#"kind="envoy_access_logs",reason="no_pods"} 4"#;
    wait_until("rejections are counted", DEADLINE, async || {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let text = client.get(&mesh.metrics_url).send().await?.text().await?;
        ensure!(text.contains(rejected), "{text}");
        Ok(())
    })
    .await?;

    // The kubeconfig is mended while the program runs.
    double.write_kubeconfig(&kubeconfig, "secret")?;
    mesh.logged("pods are known", "pods=3").await?;
    mesh.one_request(now).await?;
    for service in ["gate.default", "web.default", "shop.default"] {
        mesh.calls(service, &minute, 1).await?;
    }
    let want = [
        r#"UNKNOWN > gate.default ["SERVER"]"#,
        r#"gate.default > web.default ["CLIENT","SERVER"]"#,
        r#"web.default > shop.default ["CLIENT","SERVER"]"#,
    ];
    wait_until("topology", DEADLINE, async || {
        let topology = mesh.topology(&minute).await?;
        ensure!(topology == want, "{topology:?}");
        Ok(())
    })
    .await?;
    let of_shop = ["shop.default", "shop-0.default"];
    let latency = "service_instance_resp_time";
    let latency = instance_value(&mesh.graphql, latency, of_shop, &minute).await?;
    ensure!(latency == 250, "{latency}");

    // The API is away: what is known stays.
    double.pause();
    mesh.logged("pods cannot be read", "known=3").await?;
    mesh.one_request(now).await?;
    mesh.calls("shop.default", &minute, 2).await?;

    // It is back, with one more.
    double.cluster().pods.push(pod("new", NEW, &[]));
    double.resume().await?;
    mesh.logged("pods are known", "pods=4").await?;
    let inbound = request(now, "inbound|", [WEB, NEW, NEW]);
    report_logs(mesh.channel.clone(), "sidecar~10.0.0.4", vec![inbound]).await?;
    mesh.calls("new.default", &minute, 1).await?;
    ensure!(double.cluster().wrong.is_empty(), "{:?}", double.cluster());
    mesh.process.stop().await
}
