//! Plays the recorded scenario and compares what comes of it with what the original server made of it: replies, stored
//! documents, index templates and the answers to 640 questions, on both stores.

mod allow_list;
mod compare_answers;
mod compare_docs;
mod compare_layout;
mod json;
mod judgement;
pub mod recording;
mod replay;
mod segment_bytes;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::Value;

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::sender::Sender;
use crate::server::{Store, TestServer};

/// Settings that the original was recorded with.
const SETTINGS: [(&str, &str); 6] = [
    ("TZ", "UTC"),
    ("SW_HEALTH_CHECKER", "default"),
    ("SW_CORE_METRICS_DATA_TTL", "36500"),
    ("SW_CORE_RECORD_DATA_TTL", "36500"),
    ("SW_CORE_ENABLE_DATA_KEEPER_EXECUTOR", "false"),
    ("SW_CORE_TOPN_REPORT_PERIOD", "1"),
];

/// A limit below the number of matches: which endpoints are shown is undefined, only how many is compared.
const UNDETERMINED: &str = "endpoints of order-service '' 1";

/// Found differences by the name they have in the lists.
type Differences = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_on_embedded() -> Result<()> {
    let server = start("golden_embedded", Store::Embedded).await?;
    let mut found = replay::differences(&replay::play(&server).await?)?;
    ask_everything(&server, &mut found).await?;
    server.stop().await?;
    check(&found, "embedded")
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_on_elasticsearch() -> Result<()> {
    let server = start("golden_es", Store::Elasticsearch).await?;
    let mut found = replay::differences(&replay::play(&server).await?)?;
    ask_everything(&server, &mut found).await?;
    let console = server.console().context("no console")?.clone();
    compare_documents(&console, &mut found).await?;
    compare_templates(&console, &mut found).await?;
    server.stop().await?;
    check(&found, "elasticsearch")
}

async fn start(name: &str, store: Store) -> Result<TestServer> {
    let mut server = TestServer::builder(name, store);
    for (variable, value) in SETTINGS {
        server = server.env(variable, value);
    }
    server.start().await
}

fn check(found: &Differences, store: &str) -> Result<()> {
    let file = recording::folder().join(format!("differences-{store}.txt"));
    allow_list::check(found, &file)
}

/// The questions, in the order they were recorded.
async fn ask_everything(server: &TestServer, found: &mut Differences) -> Result<()> {
    let documents = recording::documents()?;
    let known = compare_answers::known_records(documents.iter());
    let graphql = GraphQl::new(&server.http())?;
    let raw = Sender::connect(&server.grpc(), &server.http()).await?;
    let (mut passed, mut failed) = (0, 0);
    for mut question in recording::questions()? {
        question.is_count_only |= question.name == UNDETERMINED;
        let (status, text) = match &question.http {
            Some(request) => {
                let body = request.body.clone().map(Bytes::from);
                let reply = raw.http(&request.method, &request.path, body).await?;
                (reply.status, reply.body)
            }
            None => {
                let query = question.query.as_deref().context("no query")?;
                graphql.post(query, &question.variables).await?
            }
        };
        let differences = compare_answers::compare(&question, status, &text, &known);
        if differences.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            let name = format!("answer to {}", question.name);
            found.insert(name, differences.join(" | "));
        }
    }
    eprintln!("answers: {passed} passed, {failed} failed");
    Ok(())
}

async fn compare_documents(console: &EsConsole, found: &mut Differences) -> Result<()> {
    let recorded = recording::documents()?;
    let meta = recording::meta()?;
    let stored = console.documents().await?;
    let want = compare_docs::Side {
        documents: &recorded,
        namespace: &meta.namespace,
    };
    let got = compare_docs::Side {
        documents: &stored,
        namespace: console.namespace(),
    };
    let report = compare_docs::compare(want, got, &meta.scenario_day);
    let (mut passed, mut failed) = (0, 0);
    for (model, tally) in report.models {
        passed += tally.passed;
        failed += tally.failed();
        if tally.failed() > 0 {
            // The numbers are part of the name, so that a list is exact.
            let name = format!(
                "documents of {model}: missing {}, extra {}, different {}",
                tally.missing, tally.extra, tally.different
            );
            found.insert(name, tally.examples.join("\n    "));
        }
    }
    eprintln!("documents: {passed} passed, {failed} failed");
    if !report.additional_fields.is_empty() {
        eprintln!("additional fields: {:?}", report.additional_fields);
    }
    Ok(())
}

async fn compare_templates(console: &EsConsole, found: &mut Differences) -> Result<()> {
    let path = recording::folder().join("es-layout.json.gz");
    let layout: Value = serde_json::from_str(&recording::read(&path)?)?;
    let recorded = layout["templates"].as_object().context("no templates")?;
    let stored = console.templates().await?;
    let report = compare_layout::compare(
        (recorded, &recording::meta()?.namespace),
        (&stored, console.namespace()),
    )?;
    let total = report.templates.len();
    let differing = report.templates.iter().filter(|(_, text)| !text.is_empty());
    let mut failed = 0;
    for (model, text) in differing {
        failed += 1;
        found.insert(format!("template of {model}"), text.clone());
    }
    eprintln!("templates: {} passed, {failed} failed", total - failed);
    if !report.additional.is_empty() {
        eprintln!("additional templates: {:?}", report.additional);
    }
    Ok(())
}
