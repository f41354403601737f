//! Recorded traffic of real agents of several languages and ages, sent again call by call.
//!
//! Every call of a service that exists is answered OK, every other one UNIMPLEMENTED (405 over HTTP, as the original answers
//! a POST to an unknown path); the tables name each method that occurs. What was accepted is then found in queries, and stored
//! with the values that the spec gives it.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Code;

use crate::golden::recording;
use crate::graphql::GraphQl;
use crate::sender::Calling::{self, ClientStream, Unary};
use crate::sender::Sender;
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;
use values::Expected;

/// Each gRPC method that a recorded agent calls, and whether we have it.
const METHODS: &[(&str, Calling, Code)] = &[
    ("/JVMMetricReportService/collect", Unary, Code::Ok),
    ("/ManagementService/keepAlive", Unary, Code::Ok),
    (
        "/ManagementService/reportInstanceProperties",
        Unary,
        Code::Ok,
    ),
    ("/ProfileTask/collectSnapshot", ClientStream, Code::Ok),
    ("/ProfileTask/getProfileTaskCommands", Unary, Code::Ok),
    ("/TraceSegmentReportService/collect", ClientStream, Code::Ok),
    (
        "/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands",
        Unary,
        Code::Unimplemented,
    ),
    (
        "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations",
        Unary,
        Code::Unimplemented,
    ),
    (
        "/skywalking.v3.EventService/collect",
        ClientStream,
        Code::Unimplemented,
    ),
    (
        "/skywalking.v3.JVMMetricReportService/collect",
        Unary,
        Code::Ok,
    ),
    (
        "/skywalking.v3.LogReportService/collect",
        ClientStream,
        Code::Unimplemented,
    ),
    (
        "/skywalking.v3.ManagementService/keepAlive",
        Unary,
        Code::Ok,
    ),
    (
        "/skywalking.v3.ManagementService/reportInstanceProperties",
        Unary,
        Code::Ok,
    ),
    (
        "/skywalking.v3.MeterReportService/collect",
        ClientStream,
        Code::Unimplemented,
    ),
    (
        "/skywalking.v3.ProfileTask/collectSnapshot",
        ClientStream,
        Code::Ok,
    ),
    (
        "/skywalking.v3.ProfileTask/getProfileTaskCommands",
        Unary,
        Code::Ok,
    ),
    (
        "/skywalking.v3.TraceSegmentReportService/collect",
        ClientStream,
        Code::Ok,
    ),
];

/// Each HTTP request that a recorded agent makes, and its status.
const REQUESTS: &[(&str, u16)] = &[
    ("OPTIONS /browser/errorLogs", 200),
    ("OPTIONS /browser/perfData", 200),
    ("OPTIONS /v3/segments", 200),
    ("POST /browser/errorLogs", 405),
    ("POST /browser/perfData", 405),
    ("POST /v3/logs", 405),
    ("POST /v3/management/keepAlive", 200),
    ("POST /v3/management/reportProperties", 200),
    ("POST /v3/segment", 200),
    ("POST /v3/segments", 200),
];

/// A recorded event; other kinds of event say nothing that is sent.
#[derive(Debug, Deserialize)]
struct Event {
    ev: String,
    rpc: Option<String>,
    call: Option<String>,
    /// A gRPC message.
    raw: Option<String>,
    msg: Option<Value>,
    method: Option<String>,
    path: Option<String>,
    /// An HTTP body.
    json: Option<Value>,
}

/// What one agent sent, calls in the order they began.
#[derive(Debug, Default)]
pub struct Capture {
    /// Method and messages.
    pub calls: Vec<(String, Vec<Bytes>)>,
    /// `METHOD /path` and body.
    pub requests: Vec<(String, Option<Bytes>)>,
    /// Messages and bodies, decoded, by method or `METHOD /path`.
    decoded: Vec<(String, Value)>,
    /// Ids of the segments.
    segments: BTreeSet<String>,
    /// Services that are called; a service that only calls is not listed.
    services: BTreeSet<String>,
}

fn read(path: &Path) -> Result<Capture> {
    let mut capture = Capture::default();
    let mut position: BTreeMap<String, usize> = BTreeMap::new();
    for event in recording::lines::<Event>(path)? {
        match event.ev.as_str() {
            "call" => {
                position.insert(event.call.context("no call")?, capture.calls.len());
                capture.calls.push((event.rpc.context("no rpc")?, vec![]));
            }
            "msg" => {
                let at = position.get(&event.call.context("no call")?);
                let call = at.and_then(|at| capture.calls.get_mut(*at));
                let (method, messages) = call.context("a message without a call")?;
                messages.push(STANDARD.decode(event.raw.context("no bytes")?)?.into());
                let method = method.clone();
                let message = event.msg.unwrap_or_default();
                capture.note_segments(&message);
                capture.decoded.push((method, message));
            }
            "http" => {
                let (method, path) = (event.method.context("method")?, event.path.context("path")?);
                let body = event.json.filter(|b| !b.is_null());
                capture.note_segments(body.as_ref().unwrap_or(&Value::Null));
                let request = format!("{method} {path}");
                if let Some(body) = &body {
                    capture.decoded.push((request.clone(), body.clone()));
                }
                let body = body.map(|b| Bytes::from(b.to_string()));
                capture.requests.push((request, body));
            }
            _ => {}
        }
    }
    Ok(capture)
}

impl Capture {
    fn note_segments(&mut self, message: &Value) {
        let one = std::slice::from_ref(message);
        for segment in message.as_array().map_or(one, Vec::as_slice) {
            // Snapshots of profiles have a segment id too, but no spans.
            if let (Value::String(id), Value::String(service), Value::Array(spans)) = (
                &segment["traceSegmentId"],
                &segment["service"],
                &segment["spans"],
            ) {
                self.segments.insert(id.clone());
                if spans.iter().any(is_entry) {
                    self.services.insert(service.clone());
                }
            }
        }
    }
}

/// Entry is the default, which protobuf's JSON leaves out.
fn is_entry(span: &Value) -> bool {
    match &span["spanType"] {
        Value::Null => true,
        ty => ty == "Entry" || ty == 0,
    }
}

/// Everything recorded, by agent.
pub fn captures() -> Result<BTreeMap<String, Capture>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures");
    let mut captures = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(".jsonl.gz") {
            captures.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(captures)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_call_is_answered() -> Result<()> {
    let captures = captures()?;
    let server = TestServer::builder("captures", Store::Embedded)
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
        .start()
        .await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let mut seen = BTreeSet::new();
    let (mut segments, mut services) = (BTreeSet::new(), BTreeSet::new());
    let mut expected_values = Expected::default();
    for (agent, capture) in captures {
        for (method, message) in &capture.decoded {
            if is_accepted(method) {
                expected_values.add(method, message)?;
            }
        }
        for (method, messages) in capture.calls {
            let expected = METHODS.iter().find(|(name, ..)| *name == method);
            let (_, calling, code) = expected.with_context(|| format!("{method} is not listed"))?;
            seen.insert(method.clone());
            if *calling == Unary && messages.is_empty() {
                // Left out of the recording.
                continue;
            }
            let outcome = sender.call(&method, *calling, messages).await?;
            let got = outcome.as_ref().err().copied().unwrap_or(Code::Ok);
            ensure!(got == *code, "{agent}: {method}: {got:?}");
            // No commands for anybody.
            ensure!(outcome.unwrap_or_default().is_empty(), "{agent}: {method}");
        }
        for (request, body) in capture.requests {
            let expected = REQUESTS.iter().find(|(name, _)| *name == request);
            let (_, status) = expected.with_context(|| format!("{request} is not listed"))?;
            let (method, path) = request.split_once(' ').context("no method")?;
            let reply = sender.http(method, path, body).await?;
            ensure!(reply.status == *status, "{agent}: {request}: {reply:?}");
            seen.insert(request);
        }
        segments.extend(capture.segments);
        services.extend(capture.services);
    }
    let listed = METHODS.iter().map(|(name, ..)| *name);
    let listed: BTreeSet<String> = listed
        .chain(REQUESTS.iter().map(|(name, _)| *name))
        .map(str::to_owned)
        .collect();
    ensure!(seen == listed, "no agent calls {:?}", &listed - &seen);
    server.flush().await?;
    let graphql = GraphQl::new(&server.http())?;
    wait_until("everything is found", Duration::from_secs(30), async || {
        everything_is_found(&graphql, &segments, &services).await
    })
    .await?;
    expected_values.check(server.data_dir())?;
    server.stop().await
}

fn is_accepted(method: &str) -> bool {
    let methods = METHODS.iter();
    let mut methods = methods.filter(|(.., code)| *code == Code::Ok);
    let mut requests = REQUESTS.iter().filter(|(_, status)| *status == 200);
    methods.any(|(name, ..)| *name == method) || requests.any(|(name, _)| *name == method)
}

/// Every service and every segment that was sent.
async fn everything_is_found(
    graphql: &GraphQl,
    segments: &BTreeSet<String>,
    sent: &BTreeSet<String>,
) -> Result<()> {
    let year = json!({"start": "2026-11-01", "end": "2026-12-31", "step": "DAY"});
    let services = graphql
        .ask(
            "query($d: Duration!) { getAllServices(duration: $d) { name } }",
            json!({"d": year}),
        )
        .await?;
    let names: BTreeSet<String> = services
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|s| Some(s["name"].as_str()?.to_owned()))
        .collect();
    ensure!(sent.is_subset(&names), "missing: {:?}", sent - &names);
    let condition = json!({
        "queryDuration": year, "traceState": "ALL", "queryOrder": "BY_START_TIME",
        "paging": {"pageNum": 1, "pageSize": 1, "needTotal": true},
    });
    let traces = graphql
        .ask(
            "query($c: TraceQueryCondition) { queryBasicTraces(condition: $c) { total } }",
            json!({"c": condition}),
        )
        .await?;
    ensure!(
        traces["total"] == segments.len(),
        "{traces}, not {}",
        segments.len()
    );
    Ok(())
}
