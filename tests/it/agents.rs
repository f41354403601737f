//! Real agents of two languages, three ages and two transports report to a whole server; a user's questions find what they did.
//!
//! Each agent instruments two services that call each other. Nothing is flushed by hand: the server's own timers must
//! bring everything to light.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::peers::{JavaAgent, PythonAgent, PythonProtocol, Reporter, Role};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// Agents connect, batch and retry at their own pace, on a machine that may be busy.
const DEADLINE: Duration = Duration::from_secs(120);
/// Requests to `/order` after the first trace was seen.
const ORDERS: usize = 5;

/// An agent under test.
#[derive(Debug, Clone, Copy)]
enum Agent {
    Python(PythonProtocol),
    Java,
}

/// A running service.
#[derive(Debug)]
enum Service {
    Python(PythonAgent),
    Java(JavaAgent),
}

impl Service {
    fn url(&self) -> String {
        match self {
            Service::Python(agent) => agent.url(),
            Service::Java(agent) => agent.url(),
        }
    }
}

impl Agent {
    fn start(self, role: Role<'_>, reporter: Reporter<'_>) -> Service {
        match self {
            Agent::Python(protocol) => {
                Service::Python(PythonAgent::start(protocol, role, reporter))
            }
            Agent::Java => Service::Java(JavaAgent::start(role, reporter)),
        }
    }

    fn language(self) -> &'static str {
        match self {
            // It calls itself "Python", and only "python" is known.
            Agent::Python(PythonProtocol::Legacy) => "UNKNOWN",
            Agent::Python(_) => "PYTHON",
            Agent::Java => "JAVA",
        }
    }

    fn url_tag(self) -> &'static str {
        match self {
            Agent::Python(PythonProtocol::Legacy) | Agent::Java => "url",
            Agent::Python(_) => "http.url",
        }
    }

    /// Types and endpoint names of the spans of one `/order` request, in order and stock.
    fn spans(self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut spans = vec![
            ("order", "Entry", "/order"),
            ("order", "Exit", "/stock"),
            ("stock", "Entry", "/stock"),
        ];
        if let Agent::Java = self {
            spans.push(("order", "Local", "priceOrder"));
            spans.push(("stock", "Local", "countStock"));
        }
        spans
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_on_embedded() -> Result<()> {
    agents_on(TestServer::builder("agents_embedded", Store::Embedded)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_on_elasticsearch() -> Result<()> {
    let server = TestServer::builder("agents_es", Store::Elasticsearch);
    // Sooner than after the default of ten seconds.
    agents_on(server.env("SW_STORAGE_ES_FLUSH_INTERVAL", "2")).await
}

async fn agents_on(server: crate::server::Builder) -> Result<()> {
    let server = server.env("TZ", "UTC").start().await?;
    let (python, protocol) = (Agent::Python, PythonProtocol::Legacy);
    let outcomes = tokio::join!(
        orders_are_seen(&server, "old-python", python(protocol)),
        orders_are_seen(&server, "python", python(PythonProtocol::Grpc)),
        orders_are_seen(&server, "http-python", python(PythonProtocol::Http)),
        orders_are_seen(&server, "java", Agent::Java),
    );
    outcomes.0.context("Python agent 0.4.0")?;
    outcomes.1.context("Python agent 1.2.0 over gRPC")?;
    outcomes.2.context("Python agent 1.2.0 over HTTP")?;
    outcomes.3.context("core of the Java agent 8.1.0")?;
    server.stop().await
}

/// Two services with their names and what asks about them.
#[derive(Debug)]
struct Pair {
    agent: Agent,
    order: String,
    stock: String,
    /// `host:port` of the stock service.
    stock_peer: String,
    order_url: String,
    graphql: GraphQl,
    browser: reqwest::Client,
}

async fn orders_are_seen(server: &TestServer, name: &str, agent: Agent) -> Result<()> {
    let oap = match agent {
        Agent::Python(PythonProtocol::Http) => server.http(),
        _ => server.grpc(),
    };
    let (order, stock) = (format!("{name}-order"), format!("{name}-stock"));
    // Starting blocks until the programs listen.
    let services = tokio::task::spawn_blocking({
        let (order, stock) = (order.clone(), stock.clone());
        move || {
            let reporter = |service, instance| Reporter {
                oap: &oap,
                service,
                instance,
            };
            let stock = agent.start(Role::Stock, reporter(&stock, "stock-1"));
            let role = Role::Order {
                stock: &stock.url(),
            };
            let order = agent.start(role, reporter(&order, "order-1"));
            (order, stock)
        }
    })
    .await?;
    let pair = Pair {
        agent,
        order,
        stock,
        stock_peer: services.1.url().replace("http://", ""),
        order_url: services.0.url(),
        graphql: GraphQl::new(&server.http())?,
        browser: reqwest::Client::builder().no_proxy().build()?,
    };
    pair.use_the_shop().await?;
    pair.services_instances_and_endpoints().await?;
    pair.the_edge_has_both_sides().await?;
    pair.metrics_agree_with_traces().await?;
    pair.a_trace_is_complete().await
}

/// Around now, so that a test at midnight sees both days.
fn around_now() -> Value {
    let text = |at: Timestamp| {
        at.to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%Y-%m-%d %H%M")
            .to_string()
    };
    let now = Timestamp::now();
    json!({"start": text(now - 20.minutes()), "end": text(now + 5.minutes()), "step": "MINUTE"})
}

fn id_of(service: &str) -> String {
    oap::model::id::service_id(service, true)
}

impl Pair {
    async fn visit(&self, page: &str, status: u16) -> Result<()> {
        let answer = self.browser.get(format!("{}{page}", self.order_url));
        let answer = answer.send().await?;
        ensure!(answer.status() == status, "{page}: {}", answer.status());
        Ok(())
    }

    /// Visits until the first trace is seen, for an agent drops what it has while it is not connected, then a known
    /// number of times.
    async fn use_the_shop(&self) -> Result<()> {
        let seen = wait_until("the first trace", DEADLINE, async || {
            self.visit("/order", 200).await?;
            let seen = self.traces(json!({"endpointName": "/order"})).await?;
            ensure!(!seen.is_empty(), "no trace of /order");
            Ok(seen.len())
        })
        .await?;
        for _ in 0..ORDERS {
            self.visit("/order", 200).await?;
        }
        self.visit("/broken", 500).await?;
        wait_until("all traces", DEADLINE, async || {
            let all = self.traces(json!({})).await?;
            ensure!(all.len() > seen + ORDERS, "{} of {seen}", all.len());
            let broken = self.traces(json!({"traceState": "ERROR"})).await?;
            let names: Vec<&Value> = broken.iter().map(|t| &t["endpointNames"][0]).collect();
            ensure!(names == ["/broken"], "failed: {names:?}");
            Ok(())
        })
        .await
    }

    /// Traces of the order service.
    async fn traces(&self, more: Value) -> Result<Vec<Value>> {
        let mut condition = json!({
            "serviceId": id_of(&self.order), "queryDuration": around_now(), "traceState": "ALL",
            "queryOrder": "BY_START_TIME", "paging": {"pageNum": 1, "pageSize": 1000, "needTotal": true},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            condition[key] = value.clone();
        }
        let query = "query($c: TraceQueryCondition) { queryBasicTraces(condition: $c) {
            traces { segmentId endpointNames duration isError traceIds } total } }";
        let answer = self.graphql.ask(query, json!({"c": condition})).await?;
        let traces = answer["traces"].as_array().context("no list")?.clone();
        ensure!(answer["total"] == traces.len(), "{answer:.300}");
        Ok(traces)
    }

    async fn services_instances_and_endpoints(&self) -> Result<()> {
        wait_until("metadata", DEADLINE, async || {
            let query = "query($d: Duration!) { getAllServices(duration: $d) { id name } }";
            let variables = json!({"d": around_now()});
            let services = self.graphql.ask(query, variables).await?;
            for name in [&self.order, &self.stock] {
                let wanted = json!({"id": id_of(name), "name": name});
                let services = services.as_array().context("no list")?;
                ensure!(services.contains(&wanted), "{name} in {services:?}");
            }
            for (service, instance, pages) in [
                (&self.order, "order-1", &["/broken", "/order"][..]),
                (&self.stock, "stock-1", &["/stock"][..]),
            ] {
                self.instance(service, instance).await?;
                let query = "query($s: ID!) {
                    searchEndpoint(keyword: \"\", serviceId: $s, limit: 100) { name } }";
                let variables = json!({"s": id_of(service)});
                let endpoints = self.graphql.ask(query, variables).await?;
                let names: BTreeSet<&str> = endpoints
                    .as_array()
                    .context("no list")?
                    .iter()
                    .filter_map(|e| e["name"].as_str())
                    .collect();
                ensure!(
                    names == BTreeSet::from_iter(pages.iter().copied()),
                    "{names:?}"
                );
            }
            Ok(())
        })
        .await
    }

    async fn instance(&self, service: &str, instance: &str) -> Result<()> {
        let query = "query($s: ID!, $d: Duration!) {
            getServiceInstances(serviceId: $s, duration: $d) { name language } }";
        let variables = json!({"s": id_of(service), "d": around_now()});
        let instances = self.graphql.ask(query, variables).await?;
        let wanted = json!([{"name": instance, "language": self.agent.language()}]);
        ensure!(instances == wanted, "{service}: {instances}");
        Ok(())
    }

    async fn the_edge_has_both_sides(&self) -> Result<()> {
        let (order, stock) = (id_of(&self.order), id_of(&self.stock));
        wait_until("the edge", DEADLINE, async || {
            // The client's side gets its name once the server has told its address.
            self.visit("/order", 200).await?;
            let query =
                "query($s: ID!, $d: Duration!) { getServiceTopology(serviceId: $s, duration: $d) {
                nodes { id name isReal } calls { source target detectPoints } } }";
            let variables = json!({"s": order, "d": around_now()});
            let topology = self.graphql.ask(query, variables).await?;
            let calls = topology["calls"].as_array().context("no calls")?;
            let edge = calls
                .iter()
                .find(|c| c["source"] == order.as_str() && c["target"] == stock.as_str())
                .with_context(|| format!("no edge: {topology}"))?;
            let mut points: Vec<&str> = edge["detectPoints"]
                .as_array()
                .context("no points")?
                .iter()
                .filter_map(Value::as_str)
                .collect();
            points.sort_unstable();
            ensure!(points == ["CLIENT", "SERVER"], "{edge}");
            let nodes = topology["nodes"].as_array().context("no nodes")?;
            for (id, name) in [(&order, &self.order), (&stock, &self.stock)] {
                let node = json!({"id": id, "name": name, "isReal": true});
                ensure!(nodes.contains(&node), "no {node} in {topology}");
            }
            Ok(())
        })
        .await
    }

    /// Values of a metric by minute that are not zero.
    async fn values(&self, metric: &str, entity: Value) -> Result<Vec<i64>> {
        let query = "query($c: MetricsCondition!, $d: Duration!) {
            readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
        let condition = json!({"name": metric, "entity": entity});
        let variables = json!({"c": condition, "d": around_now()});
        let answer = self.graphql.ask(query, variables).await?;
        let values = answer["values"]["values"].as_array().context("no values")?;
        let values = values.iter().filter_map(|v| v["value"].as_i64());
        Ok(values.filter(|v| *v != 0).collect())
    }

    /// Calls per minute add up to the number of traces; average latencies lie within those of the traces.
    async fn metrics_agree_with_traces(&self) -> Result<()> {
        let service = json!({"scope": "Service", "serviceName": self.order, "normal": true});
        let endpoint = json!({
            "scope": "Endpoint", "serviceName": self.order, "normal": true, "endpointName": "/order",
        });
        wait_until("metrics", DEADLINE, async || {
            let all = self.traces(json!({})).await?;
            let orders = self.traces(json!({"endpointName": "/order"})).await?;
            for (metric, entity, traces) in [
                ("service_cpm", &service, all.len()),
                ("endpoint_cpm", &endpoint, orders.len()),
            ] {
                let calls: i64 = self.values(metric, entity.clone()).await?.iter().sum();
                ensure!(
                    calls == traces as i64,
                    "{metric}: {calls} of {traces} calls"
                );
            }
            let durations = || orders.iter().filter_map(|t| t["duration"].as_i64());
            let (least, most) = (durations().min(), durations().max());
            let averages = self.values("endpoint_avg", endpoint.clone()).await?;
            ensure!(!averages.is_empty(), "no latency");
            for average in averages {
                ensure!(
                    Some(average) >= least && Some(average) <= most,
                    "{average} ms is not within {least:?} and {most:?}"
                );
            }
            Ok(())
        })
        .await
    }

    /// The newest `/order` has every span of both services, linked.
    async fn a_trace_is_complete(&self) -> Result<()> {
        wait_until("a complete trace", DEADLINE, async || {
            let newest = self.traces(json!({"endpointName": "/order"})).await?;
            let id = newest.first().context("no trace")?["traceIds"][0].clone();
            let query = "query($t: ID!) { queryTrace(traceId: $t) { spans {
                traceId segmentId spanId parentSpanId refs { traceId parentSegmentId parentSpanId type }
                serviceCode serviceInstanceName startTime endTime endpointName type peer component isError
                layer tags { key value } logs { time } } } }";
            let trace = self.graphql.ask(query, json!({"t": id})).await?;
            let spans = trace["spans"].as_array().context("no spans")?;
            self.check_spans(spans, &id)
                .with_context(|| format!("{trace}"))
        })
        .await
    }

    fn check_spans(&self, spans: &[Value], trace_id: &Value) -> Result<()> {
        let find = |service: &str, ty: &str, endpoint: &str| {
            let service = if service == "order" {
                &self.order
            } else {
                &self.stock
            };
            spans
                .iter()
                .find(|s| {
                    s["serviceCode"] == service.as_str()
                        && s["type"] == ty
                        && s["endpointName"] == endpoint
                })
                .with_context(|| format!("no {ty} span {endpoint} of {service}"))
        };
        let expected = self.agent.spans();
        for (service, ty, endpoint) in &expected {
            let span = find(service, ty, endpoint)?;
            ensure!(span["isError"] == false, "{span}");
            ensure!(span["traceId"] == *trace_id, "{span}");
            ensure!(span["startTime"].as_i64() > Some(0), "{span}");
            ensure!(
                span["endTime"].as_i64() >= span["startTime"].as_i64(),
                "{span}"
            );
        }
        ensure!(spans.len() == expected.len(), "{} spans", spans.len());
        let entry = find("order", "Entry", "/order")?;
        let exit = find("order", "Exit", "/stock")?;
        let remote = find("stock", "Entry", "/stock")?;
        ensure!(
            entry["parentSpanId"] == -1 && entry["refs"] == json!([]),
            "{entry}"
        );
        ensure!(exit["segmentId"] == entry["segmentId"], "{exit}");
        ensure!(exit["peer"] == self.stock_peer.as_str(), "{exit}");
        let link = json!([{
            "traceId": trace_id, "parentSegmentId": exit["segmentId"], "parentSpanId": exit["spanId"],
            "type": "CROSS_PROCESS",
        }]);
        ensure!(remote["refs"] == link, "{remote}");
        for span in [entry, exit, remote] {
            ensure!(span["layer"] == "Http", "{span}");
            ensure!(
                span["component"].as_str().is_some_and(|c| c != "Unknown"),
                "{span}"
            );
            let tags = span["tags"].as_array().context("no tags")?;
            ensure!(
                tags.iter().any(|t| t["key"] == self.agent.url_tag()),
                "{span}"
            );
        }
        Ok(())
    }
}
