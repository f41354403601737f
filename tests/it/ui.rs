//! What the user interface of 8.1.0 asks, page by page: its fixed requests, with fields, arguments, aliases and variables as
//! it sends them (8.1.0 spec, query 3), and those of every widget of the served dashboards.

mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::Selection;
use oap::model::id;
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::questions::ensure_writable;
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;
use requests::of_templates;
pub use requests::{Names, UiRequest, fixed};

/// For Elasticsearch to create what is needed.
const DEADLINE: Duration = Duration::from_secs(60);
/// Minutes of the range that is asked about.
const POINTS: usize = 7;

/// Operations whose requests have an empty answer, and how many: the recording has no alarms, snapshots without their task, and
/// before a service is chosen its endpoints and instances are asked for by no id.
const SAYS_NOTHING: [(&str, usize); 4] = [
    ("getProfileTaskList", 2),
    ("queryAlarms", 2),
    ("queryEndpoints", 1),
    ("queryInstances", 1),
];

/// Names of the recording.
pub fn recorded() -> Names {
    let service = id::service_id("order-service", true);
    let client = id::service_id("frontend-web", true);
    let duration = json!({"start": "2020-09-15 1057", "end": "2020-09-15 1103", "step": "MINUTE"});
    Names::new([
        ("{duration}", duration),
        ("{serviceName}", json!("order-service")),
        ("{serviceId}", json!(service)),
        ("{instanceName}", json!("order-7f9c-a@10.1.1.1")),
        (
            "{instanceId}",
            json!(id::instance_id(&service, "order-7f9c-a@10.1.1.1")),
        ),
        ("{endpointName}", json!("/order/create")),
        (
            "{endpointId}",
            json!(id::endpoint_id(&service, "/order/create")),
        ),
        ("{clientServiceName}", json!("frontend-web")),
        ("{clientServiceId}", json!(client)),
        (
            "{clientInstanceId}",
            json!(id::instance_id(&client, "fe-1@10.1.0.1")),
        ),
        ("{clientEndpointName}", json!("/checkout")),
        (
            "{clientEndpointId}",
            json!(id::endpoint_id(&client, "/checkout")),
        ),
        ("{databaseName}", json!("10.9.0.1:3306")),
        (
            "{traceId}",
            json!("078df4de18504da5787a1845b3d965d3.1.16001676085020235"),
        ),
        (
            "{segmentId}",
            json!("16d3692e900db7ac33a178c06ba4b286.93.16001675700000551"),
        ),
        ("{taskId}", json!("golden-task-A")),
    ])
}

/// Name of the operation.
pub fn operation(request: &UiRequest) -> &str {
    let name = request.query.split_whitespace().nth(1).unwrap_or_default();
    name.split(['(', '{']).next().unwrap_or_default()
}

/// What the widgets of the served dashboards ask.
pub async fn widget_requests(graphql: &GraphQl, names: &Names) -> Result<Vec<UiRequest>> {
    let templates = "{ getAllTemplates(includingDisabled: false) { name type configuration } }";
    of_templates(&graphql.ask(templates, json!({})).await?, names)
}

/// Asks everything; gives the answers, none of which has an error or lacks a part.
async fn ask_all(graphql: &GraphQl, requests: &[UiRequest]) -> Result<Vec<Value>> {
    let mut answers = vec![];
    for request in requests {
        let what = || format!("{} {}", request.query, request.variables);
        let (status, text) = graphql.post(&request.query, &request.variables).await?;
        let answer: Value = serde_json::from_str(&text).with_context(what)?;
        ensure!(
            status == 200 && answer["errors"].is_null(),
            "{}: {status} {text:.500}",
            what()
        );
        for name in root_names(&request.query)? {
            // A segment that is not there is null, and null is left out.
            let is_there = !answer["data"][&name].is_null() || name == "getProfiledSegment";
            ensure!(is_there, "{}: no {name} in {text:.500}", what());
        }
        answers.push(answer["data"].clone());
    }
    Ok(answers)
}

/// Names of the parts of an answer.
fn root_names(query: &str) -> Result<Vec<String>> {
    let document = parse_query(query)?;
    let (_, operation) = document.operations.iter().next().context("no operation")?;
    let fields = operation.node.selection_set.node.items.iter();
    Ok(fields
        .filter_map(|selection| match &selection.node {
            Selection::Field(field) => Some(field.node.response_key().node.to_string()),
            _ => None,
        })
        .collect())
}

/// Whether there is more than zeros and empty lists.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_so) => *is_so,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(says_something),
        Value::Object(fields) => fields.values().any(says_something),
    }
}

/// Every request is answered with the recorded data, all but a few with something.
pub async fn check_recorded(server: &TestServer) -> Result<()> {
    let graphql = GraphQl::new(&server.http())?;
    let names = recorded();
    let fixed = fixed(&names)?;
    let answers = ask_all(&graphql, &fixed).await?;
    let mut without = BTreeMap::new();
    for (request, answer) in fixed.iter().zip(&answers) {
        if !says_something(answer) {
            *without.entry(operation(request)).or_default() += 1;
        }
    }
    ensure!(without == SAYS_NOTHING.into(), "{without:?}");
    check_widgets(&graphql, &names).await
}

async fn check_widgets(graphql: &GraphQl, names: &Names) -> Result<()> {
    let requests = widget_requests(graphql, names).await?;
    ensure!(requests.len() > 60, "{}", requests.len());
    let answers = ask_all(graphql, &requests).await?;
    for (request, answer) in requests.iter().zip(&answers) {
        let lines = match answer["readLabeledMetricsValues"].as_array() {
            Some(lines) => lines.clone(),
            None => vec![answer["readMetricsValues"].clone()],
        };
        // A chart draws the values by their position.
        for line in lines.iter().filter(|line| !line.is_null()) {
            let points = line["values"]["values"].as_array().map(Vec::len);
            ensure!(points == Some(POINTS), "{}: {line}", request.variables);
        }
    }
    Ok(())
}

/// Every request is answered though nothing was ever reported.
async fn check_empty(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store).env("TZ", "UTC");
    let server = server.start().await?;
    let graphql = GraphQl::new(&server.http())?;
    wait_until("the store takes rows", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    let names = recorded();
    ask_all(&graphql, &fixed(&names)?).await?;
    check_widgets(&graphql, &names).await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ui_is_answered_by_an_empty_embedded_store() -> Result<()> {
    check_empty("ui_embedded", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ui_is_answered_by_an_empty_elasticsearch() -> Result<()> {
    check_empty("ui_es", Store::Elasticsearch).await
}
