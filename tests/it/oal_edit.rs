//! A user edits a script of metrics: adds one, removes one, changes a filter. Templates, documents, types and values follow.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use oap_proto::agent::{SegmentObject, SpanObject, SpanType};
use prost::Message;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};

/// 2020-09-15 10:59:30 UTC.
const AT_MS: i64 = 1_600_167_570_000;
const SERVICE: &str = "shop";
/// Latency and failure of each request; the expected values below are counted from these.
const REQUESTS: [(i64, bool); 5] = [
    (20, false),
    (50, false),
    (80, true),
    (150, false),
    (300, true),
];

const ADDED: &str = "service_fast_cpm = from(Service.*).filter(latency < 100).cpm();";
const REMOVED: &str = "service_sla = from(Service.*).percent(status == true);";
const FILTERED: (&str, &str) = (
    "endpoint_cpm = from(Endpoint.*).cpm();",
    "endpoint_cpm = from(Endpoint.*).filter(status == false).cpm();",
);

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_script_is_followed_on_embedded() -> Result<()> {
    edited(TestServer::builder("oal_edit_embedded", Store::Embedded)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_script_is_followed_on_elasticsearch() -> Result<()> {
    edited(TestServer::builder("oal_edit_es", Store::Elasticsearch)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_two_runs_is_followed_on_embedded() -> Result<()> {
    between_runs(TestServer::builder("oal_runs_embedded", Store::Embedded)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_two_runs_is_followed_on_elasticsearch() -> Result<()> {
    between_runs(TestServer::builder("oal_runs_es", Store::Elasticsearch)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_script_ends_the_start_and_says_where() -> Result<()> {
    let config = tempfile::tempdir()?;
    write_script(
        config.path(),
        "a = from(Service.latency).longAvg();\nb = from(Service.nothing).longAvg();\n",
    )?;
    let server = TestServer::builder("oal_broken", Store::Embedded).config_dir(config.path());
    let error = match server.start().await {
        Ok(_) => bail!("it started"),
        Err(error) => format!("{error:#}"),
    };
    // The attribute begins after `b = from(Service.`.
    ensure!(error.contains("core.oal:2:18"), "{error}");
    ensure!(error.contains("nothing"), "{error}");
    Ok(())
}

fn write_script(config: &Path, text: &str) -> Result<()> {
    std::fs::create_dir_all(config.join("oal"))?;
    Ok(std::fs::write(config.join("oal/core.oal"), text)?)
}

/// The shipped script with the three edits.
fn edited_script() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/oal/core.oal");
    let text = std::fs::read_to_string(path)?;
    ensure!(text.contains(REMOVED) && text.contains(FILTERED.0));
    let text = text.replace(REMOVED, "").replace(FILTERED.0, FILTERED.1);
    Ok(format!("{text}\n{ADDED}\n"))
}

fn segment(number: usize, latency: i64, is_error: bool) -> Bytes {
    let segment = SegmentObject {
        trace_id: format!("trace-{number}"),
        trace_segment_id: format!("segment-{number}"),
        service: SERVICE.into(),
        service_instance: "shop-1".into(),
        spans: vec![SpanObject {
            parent_span_id: -1,
            start_time: AT_MS,
            end_time: AT_MS + latency,
            operation_name: "/order".into(),
            span_type: SpanType::Entry.into(),
            is_error,
            ..SpanObject::default()
        }],
        ..SegmentObject::default()
    };
    segment.encode_to_vec().into()
}

/// Sends all requests, numbered from `first` on.
async fn send(server: &TestServer, first: usize) -> Result<()> {
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let segments = (first..).zip(REQUESTS);
    let segments = segments.map(|(i, (latency, is_error))| segment(i, latency, is_error));
    let path = "/TraceSegmentReportService/collect";
    let outcome = sender
        .call(path, Calling::ClientStream, segments.collect())
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    server.flush().await
}

/// On the same day and the same data: one metric goes, one gets another name, one another filter, one display names.
async fn between_runs(server: crate::server::Builder) -> Result<()> {
    let config = tempfile::tempdir()?;
    write_script(
        config.path(),
        "kept = from(Service.*).count();
        gone = from(Service.*).count();
        old_name = from(Service.*).count();
        filtered = from(Service.*).count();",
    )?;
    let server = server
        .config_dir(config.path())
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
        .env("SW_RECEIVER_JVM", "-")
        .env("SW_RECEIVER_CLR", "-")
        .start()
        .await?;
    send(&server, 1).await?;
    write_script(
        config.path(),
        "kept = from(Service.*).count();
        new_name = from(Service.*).count();
        filtered = from(Service.*).filter(status == false).count();",
    )?;
    let server = server
        .restart(|builder| builder.env("SW_CORE_ACTIVE_EXTRA_MODEL_COLUMNS", "true"))
        .await?;
    send(&server, 11).await?;
    let graphql = GraphQl::new(&server.http())?;
    let service = json!({"scope": "Service", "serviceName": SERVICE, "normal": true});
    for (metric, expected) in [("kept", 10), ("new_name", 5), ("filtered", 7)] {
        let value = value_of(&graphql, metric, &service).await?;
        ensure!(value == expected, "{metric}: {value}, not {expected}");
    }
    for metric in ["gone", "old_name"] {
        let query = "query($n: String!) { typeOfMetrics(name: $n) }";
        let answer = graphql.ask(query, json!({"n": metric})).await?;
        ensure!(answer == "UNKNOWN", "{metric}: {answer}");
    }
    let display_names = |metric| -> Result<Vec<Option<String>>> {
        let file = server.data_dir().join("metrics-20200915.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let rows = Connection::open_with_flags(file, flags)?;
        let sql = format!("SELECT name FROM {metric} WHERE time_bucket = 202009151059");
        let mut statement = rows.prepare(&sql)?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    };
    if server.console().is_none() {
        let names = display_names("kept")?;
        ensure!(names == [Some(SERVICE.to_owned())], "{names:?}");
        ensure!(display_names("gone").is_err(), "a column for nothing");
    }
    if let Some(console) = server.console() {
        let ns = console.namespace();
        let documents = console.documents().await?;
        for (metric, name) in [("kept", Some(json!(SERVICE))), ("gone", None)] {
            let index = format!("{ns}_{metric}-20200915");
            let id = "202009151059_c2hvcA==.1";
            let document = documents.iter().find(|d| d.index == index && d.id == id);
            let document = document.with_context(|| format!("no {id} in {index}"))?;
            let stored = document.source.get("name");
            ensure!(stored == name.as_ref(), "{document:?}");
        }
    }
    server.stop().await
}

async fn edited(server: crate::server::Builder) -> Result<()> {
    let config = tempfile::tempdir()?;
    write_script(config.path(), &edited_script()?)?;
    let server = server
        .config_dir(config.path())
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
        .start()
        .await?;
    send(&server, 1).await?;

    let graphql = GraphQl::new(&server.http())?;
    for (metric, ty) in [
        ("service_fast_cpm", "REGULAR_VALUE"),
        ("service_sla", "UNKNOWN"),
        ("endpoint_cpm", "REGULAR_VALUE"),
        ("service_cpm", "REGULAR_VALUE"),
    ] {
        let query = "query($n: String!) { typeOfMetrics(name: $n) }";
        let answer = graphql.ask(query, json!({"n": metric})).await?;
        ensure!(answer == ty, "{metric}: {answer}");
    }
    let service = json!({"scope": "Service", "serviceName": SERVICE, "normal": true});
    let endpoint = json!({
        "scope": "Endpoint", "serviceName": SERVICE, "normal": true, "endpointName": "/order",
    });
    for (metric, entity, expected) in [
        ("service_cpm", &service, 5),
        ("service_fast_cpm", &service, 3),
        ("endpoint_cpm", &endpoint, 2),
    ] {
        let value = value_of(&graphql, metric, entity).await?;
        ensure!(value == expected, "{metric}: {value}, not {expected}");
    }
    if let Some(console) = server.console() {
        let ns = console.namespace();
        let templates = console.templates().await?;
        let documents = console.documents().await?;
        for (metric, id, total) in [
            ("service_fast_cpm", "202009151059_c2hvcA==.1", Some(3)),
            ("endpoint_cpm", "202009151059_c2hvcA==.1_L29yZGVy", Some(2)),
            ("service_sla", "202009151059_c2hvcA==.1", None),
        ] {
            let name = format!("{ns}_{metric}");
            ensure!(templates.contains_key(&name) == total.is_some(), "{name}");
            let index = format!("{name}-20200915");
            let document = documents.iter().find(|d| d.index == index && d.id == id);
            let stored = document.map(|d| d.source["total"].clone());
            ensure!(stored == total.map(Value::from), "{name}: {document:?}");
        }
    }
    server.stop().await
}

/// The value in the minute of the requests.
async fn value_of(graphql: &GraphQl, metric: &str, entity: &Value) -> Result<i64> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
    let variables = json!({
        "c": {"name": metric, "entity": entity},
        "d": {"start": "2020-09-15 1059", "end": "2020-09-15 1100", "step": "MINUTE"},
    });
    let answer = graphql.ask(query, variables).await?;
    let value = &answer["values"]["values"][0]["value"];
    value
        .as_i64()
        .with_context(|| format!("{metric}: {answer}"))
}
