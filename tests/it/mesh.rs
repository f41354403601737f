//! Calls of a service mesh, told by probes under both names of their service and by Istio's Mixer: what is stored of them
//! is read back through GraphQL, on both stores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::model::id::service_id;
use oap_proto::RawMessage;
use oap_proto::agent::{DetectPoint, MeshProbeDownstream, Protocol, ServiceMeshMetric};
use oap_proto::istio::metric::handle_metric_service_client::HandleMetricServiceClient;
use oap_proto::istio::{
    HandleMetricRequest, InstanceMsg, Instant, ReportResult, TimeStamp, Value as Dimension, value,
};
use oap_proto::legacy::service_mesh_metric_service_client::ServiceMeshMetricServiceClient as LegacyMesh;
use oap_proto::v3::service_mesh_metric_service_client::ServiceMeshMetricServiceClient as V3Mesh;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::graphql::GraphQl;
use crate::questions::{buckets_from, service_value};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_stored_in_the_embedded_store() -> Result<()> {
    calls_are_stored("mesh_embedded", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_stored_in_elasticsearch() -> Result<()> {
    calls_are_stored("mesh_es", Store::Elasticsearch).await
}

async fn connect(server: &TestServer) -> Result<Channel> {
    let endpoint = Endpoint::new(format!("http://{}", server.grpc()))?;
    Ok(endpoint.connect().await?)
}

/// An HTTP call of `shop` by `web` that took 30 ms.
fn call(start_time: i64, seen_by: DetectPoint) -> ServiceMeshMetric {
    ServiceMeshMetric {
        start_time,
        end_time: start_time + 30,
        source_service_name: "web".into(),
        source_service_instance: "web-1".into(),
        dest_service_name: "shop".into(),
        dest_service_instance: "shop-1".into(),
        endpoint: "/order".into(),
        latency: 30,
        response_code: 200,
        status: true,
        protocol: Protocol::Http.into(),
        detect_point: seen_by.into(),
    }
}

/// What probes tell.
pub fn calls(at_ms: i64) -> [ServiceMeshMetric; 5] {
    let by_server = call(at_ms, DetectPoint::Server);
    [
        by_server.clone(),
        ServiceMeshMetric {
            latency: 50,
            response_code: 503,
            status: false,
            ..by_server.clone()
        },
        call(at_ms, DetectPoint::Client),
        // Relations that a proxy saw are nowhere to be seen.
        ServiceMeshMetric {
            source_service_name: "ghost".into(),
            ..call(at_ms, DetectPoint::Proxy)
        },
        ServiceMeshMetric {
            source_service_name: "shop".into(),
            source_service_instance: "shop-1".into(),
            dest_service_name: "stock".into(),
            dest_service_instance: "stock-1".into(),
            endpoint: "stock.Stock/reserve".into(),
            latency: 10,
            protocol: Protocol::GRpc.into(),
            ..by_server
        },
    ]
}

/// What Mixer tells: a call of `cart` by `web` that took 20 ms.
pub fn instance(at_ms: i64) -> InstanceMsg {
    let text = |text: &str| value::Value::StringValue(text.into());
    let time = |at_ms: i64| {
        let value = Some(Instant {
            seconds: at_ms / 1000,
            nanos: (at_ms % 1000) as i32 * 1_000_000,
        });
        value::Value::TimestampValue(TimeStamp { value })
    };
    let dimensions = [
        ("requestMethod", text("GET")),
        ("requestPath", text("/cart")),
        ("requestScheme", text("http")),
        ("responseCode", value::Value::Int64Value(200)),
        ("reporter", text("destination")),
        ("apiProtocol", text("")),
        ("requestTime", time(at_ms)),
        ("responseTime", time(at_ms + 20)),
        ("sourceService", text("web")),
        ("sourceUID", text("web-1")),
        ("destinationService", text("cart")),
        ("destinationNamespace", text("eu")),
        ("destinationUID", text("cart-1")),
    ];
    let dimensions = dimensions.map(|(name, value)| {
        let value = Some(value);
        (name.to_owned(), Dimension { value })
    });
    InstanceMsg {
        dimensions: dimensions.into(),
    }
}

async fn report(channel: Channel, at_ms: i64) -> Result<()> {
    let raw = |call: &ServiceMeshMetric| RawMessage::encode_from(call);
    let [first, second, third, fourth, fifth] = calls(at_ms);
    let stream = [first, second].map(|call| raw(&call));
    let reply = LegacyMesh::new(channel.clone())
        .collect(tokio_stream::iter(stream))
        .await?;
    ensure!(reply.into_inner() == MeshProbeDownstream::default());
    let stream = [third, fourth, fifth].map(|call| raw(&call));
    let reply = V3Mesh::new(channel.clone())
        .collect(tokio_stream::iter(stream))
        .await?;
    ensure!(reply.into_inner() == MeshProbeDownstream::default());
    let mut incomplete = instance(at_ms);
    incomplete.dimensions.remove("reporter");
    let request = HandleMetricRequest {
        instances: vec![incomplete, instance(at_ms)],
    };
    let request = RawMessage::encode_from(&request);
    let reply = HandleMetricServiceClient::new(channel)
        .handle_metric(request)
        .await?;
    ensure!(reply.into_inner() == ReportResult::default());
    Ok(())
}

async fn calls_are_stored(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store)
        .env("TZ", "UTC")
        .start()
        .await?;
    let at_ms = jiff::Timestamp::now().as_millisecond();
    report(connect(&server).await?, at_ms).await?;
    server.flush().await?;
    let graphql = GraphQl::new(&server.http())?;
    let minute = buckets_from(at_ms, "UTC", "MINUTE")?;
    wait_until("everything is stored", DEADLINE, async || {
        services_and_metrics(&graphql, &minute).await?;
        relations_of_services(&graphql, &minute).await?;
        relations_of_instances(&graphql, &minute).await?;
        endpoints(&graphql).await
    })
    .await?;
    server.stop().await
}

async fn services_and_metrics(graphql: &GraphQl, minute: &Value) -> Result<()> {
    let query = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    let services = graphql.ask(query, json!({"d": minute})).await?;
    let services = services.as_array().context("no list")?;
    let services: BTreeSet<_> = services.iter().filter_map(|s| s["name"].as_str()).collect();
    // Who only calls is no service yet.
    let wanted = BTreeSet::from(["cart.eu", "shop", "stock"]);
    ensure!(services == wanted, "{services:?}");
    for (metric, service, wanted) in [
        ("service_cpm", "shop", 2),
        ("service_resp_time", "shop", 40),
        ("service_sla", "shop", 5000),
        ("service_cpm", "stock", 1),
        ("service_resp_time", "stock", 10),
        ("service_cpm", "cart.eu", 1),
        ("service_resp_time", "cart.eu", 20),
        ("service_sla", "cart.eu", 10_000),
        ("service_cpm", "web", 0),
    ] {
        let value = service_value(graphql, metric, service, minute).await?;
        ensure!(value == wanted, "{metric} of {service}: {value}");
    }
    Ok(())
}

/// Source, target, who told, and the components of both sides.
type Edge = (String, String, Vec<String>, Vec<String>, Vec<String>);

/// The edges of a topology, by the names of its nodes.
fn edges(topology: &Value) -> Result<BTreeSet<Edge>> {
    let nodes = topology["nodes"].as_array().context("no nodes")?;
    let names: BTreeMap<_, _> = nodes
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node["name"].as_str()?)))
        .collect();
    let name = |id: &Value| {
        let name = id.as_str().and_then(|id| names.get(id));
        name.map(|name| (*name).to_owned())
            .with_context(|| format!("no node {id}"))
    };
    let list = |list: &Value| -> Result<Vec<String>> {
        let mut list: Vec<String> = serde_json::from_value(list.clone())?;
        list.sort();
        Ok(list)
    };
    let calls = topology["calls"].as_array().context("no calls")?;
    let edges = calls.iter().map(|call| {
        Ok((
            name(&call["source"])?,
            name(&call["target"])?,
            list(&call["detectPoints"])?,
            list(&call["sourceComponents"])?,
            list(&call["targetComponents"])?,
        ))
    });
    edges.collect()
}

fn edge(source: &str, target: &str, told: &[&str], by: &[&str], through: &[&str]) -> Edge {
    let list = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    let (source, target) = (source.to_owned(), target.to_owned());
    (source, target, list(told), list(by), list(through))
}

const CALLS: &str = "calls { source target detectPoints sourceComponents targetComponents }";

async fn relations_of_services(graphql: &GraphQl, minute: &Value) -> Result<()> {
    let query = format!(
        "query($d: Duration!) {{ getGlobalTopology(duration: $d) {{ nodes {{ id name }} {CALLS} }} }}"
    );
    let topology = graphql.ask(&query, json!({"d": minute})).await?;
    let wanted = BTreeSet::from([
        edge("web", "shop", &["CLIENT", "SERVER"], &["http"], &["http"]),
        edge("shop", "stock", &["SERVER"], &[], &["GRPC"]),
        edge("web", "cart.eu", &["SERVER"], &[], &["http"]),
    ]);
    ensure!(edges(&topology)? == wanted, "{topology}");
    Ok(())
}

async fn relations_of_instances(graphql: &GraphQl, minute: &Value) -> Result<()> {
    let query = format!(
        "query($c: ID!, $s: ID!, $d: Duration!) {{
            getServiceInstanceTopology(clientServiceId: $c, serverServiceId: $s, duration: $d)
                {{ nodes {{ id name }} {CALLS} }} }}"
    );
    let ids = [service_id("web", true), service_id("shop", true)];
    let variables = json!({"c": ids[0], "s": ids[1], "d": minute});
    let topology = graphql.ask(&query, variables).await?;
    let both = &["CLIENT", "SERVER"];
    let wanted = BTreeSet::from([edge("web-1", "shop-1", both, &["http"], &["http"])]);
    ensure!(edges(&topology)? == wanted, "{topology}");
    Ok(())
}

async fn endpoints(graphql: &GraphQl) -> Result<()> {
    for (service, endpoint) in [
        ("shop", "/order"),
        ("stock", "stock.Stock/reserve"),
        ("cart.eu", "http/GET//cart"),
    ] {
        let query =
            "query($s: ID!) { searchEndpoint(keyword: \"\", serviceId: $s, limit: 10) { name } }";
        let variables = json!({"s": service_id(service, true)});
        let found = graphql.ask(query, variables).await?;
        ensure!(found == json!([{"name": endpoint}]), "{service}: {found}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_selected_is_not_there() -> Result<()> {
    for mesh in ["default", "-"] {
        let server = TestServer::builder("mesh_off", Store::Embedded)
            .env("SW_SERVICE_MESH", mesh)
            .env("SW_ISTIO_TELEMETRY", "-")
            .start()
            .await?;
        let channel = connect(&server).await?;
        let streamed = LegacyMesh::new(channel.clone())
            .collect(tokio_stream::iter([]))
            .await;
        let code = streamed.map_or_else(|status| status.code(), |_| Code::Ok);
        let wanted = match mesh {
            "-" => Code::Unimplemented,
            _ => Code::Ok,
        };
        ensure!(code == wanted, "{code:?} with {mesh}");
        let told = HandleMetricServiceClient::new(channel)
            .handle_metric(RawMessage::default())
            .await;
        let code = told.map_or_else(|status| status.code(), |_| Code::Ok);
        ensure!(code == Code::Unimplemented, "{code:?}");
        server.stop().await?;
    }
    Ok(())
}
