//! A whole server whose Elasticsearch is not there yet, or goes away under load: nothing that was acknowledged is missing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use oap::model::id;
use serde_json::{Value, json};

use crate::es_console::EsConsole;
use crate::gate::Gate;
use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, few_metrics};
use crate::peers::Elasticsearch;
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

async fn gate() -> Result<Gate> {
    let node = tokio::task::spawn_blocking(Elasticsearch::shared).await?;
    Gate::shut_before(node.address()).await
}

async fn report(sender: &Sender, segments: Vec<Bytes>) -> Result<()> {
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    Ok(())
}

/// The message of the first error of an answer.
async fn error_of(graphql: &GraphQl, query: &str, variables: &Value) -> Result<String> {
    let (status, text) = graphql.post(query, variables).await?;
    ensure!(status == 200, "{status} {text}");
    let answer: Value = serde_json::from_str(&text)?;
    let message = answer["errors"][0]["message"].as_str();
    Ok(message
        .with_context(|| format!("no error: {text}"))?
        .to_owned())
}

const SERVICES: &str = "query($d: Duration!) { getAllServices(duration: $d) { name } }";

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_may_come_after_the_data() -> Result<()> {
    const SEGMENTS: usize = 300;
    const NAMESPACE: &str = "failures_late";
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let gate = gate().await?;
    let command = OapCommand::new(folder.path())
        .on_elasticsearch(NAMESPACE)?
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address());
    let process = command.start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let graphql = GraphQl::new(process.http())?;
    let now = Timestamp::now().as_millisecond();
    let minute = buckets_from(now, "UTC", "MINUTE")?;

    let segments = (0..SEGMENTS).map(|i| Served::new(i.to_string(), "shop", now, 20).bytes());
    report(&sender, segments.collect()).await?;
    wait_until("it says what it waits for", DEADLINE, async || {
        let log = process.log();
        let waits = log
            .lines()
            .find(|line| line.contains("waiting for storage"));
        let waits = waits.with_context(|| log.clone())?;
        ensure!(waits.contains(&gate.address()), "{waits}");
        Ok(())
    })
    .await?;
    wait_until("a writer waits too", DEADLINE, async || {
        let log = process.log();
        ensure!(log.contains("storage does not take writes"), "{log}");
        Ok(())
    })
    .await?;
    let error = error_of(&graphql, SERVICES, &json!({"d": minute})).await?;
    ensure!(error.contains(&gate.address()), "{error}");
    let templates = "{ getAllTemplates { name } }";
    let templates = graphql.ask(templates, json!({})).await?;
    ensure!(
        templates.as_array().is_some_and(|t| !t.is_empty()),
        "{templates}"
    );
    let add = "mutation { addTemplate(setting: {name: \"a\", type: DASHBOARD, configuration: \"[]\", active: true}) { status } }";
    error_of(&graphql, add, &json!({})).await?;

    gate.open();
    let stored = wait_until("everything is stored", DEADLINE, async || {
        let traces = trace_count(&graphql, "shop", &minute).await?;
        ensure!(traces == SEGMENTS as u64, "{traces} traces");
        let calls = service_value(&graphql, "service_cpm", "shop", &minute).await?;
        ensure!(calls == SEGMENTS as i64, "{calls} calls");
        Ok(())
    })
    .await;
    let log = process.log();
    process.stop().await?;
    EsConsole::new(NAMESPACE)?.clean().await?;
    stored.with_context(|| log.clone())?;
    ensure!(log.contains("storage is there"), "{log}");
    ensure!(log.contains("writing resumes"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_may_go_and_come_back_under_load() -> Result<()> {
    const BATCHES: usize = 60;
    const BATCH: usize = 25;
    let folder = tempfile::tempdir()?;
    few_metrics(folder.path())?;
    let gate = gate().await?;
    gate.open();
    let server = TestServer::builder("failures_lost", Store::Elasticsearch)
        .config_dir(folder.path())
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address())
        .env("TZ", "UTC")
        .start()
        .await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let graphql = GraphQl::new(&server.http())?;
    let now = Timestamp::now().as_millisecond();
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    // The first part is stored before anything fails.
    report(&sender, vec![Served::new("first", "shop", now, 20).bytes()]).await?;
    server.flush().await?;
    let mut number = 0;
    for batch in 0..BATCHES {
        match batch % 20 {
            // Away for a while, then a flicker in the middle of whatever is being written.
            5 => gate.shut(),
            13 => gate.open(),
            16 => {
                gate.shut();
                gate.open();
            }
            _ => {}
        }
        if batch % 20 == 10 {
            let error = error_of(&graphql, SERVICES, &json!({"d": minute})).await?;
            ensure!(error.contains(&gate.address()), "{error}");
        }
        let segments = (0..BATCH).map(|_| {
            number += 1;
            Served::new(number.to_string(), "shop", now, 20).bytes()
        });
        report(&sender, segments.collect()).await?;
        // The pace of the load: it lasts long enough for several writes in each part.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.flush().await?;
    let traces = trace_count(&graphql, "shop", &minute).await;
    let calls = service_value(&graphql, "service_cpm", "shop", &minute).await;
    let latency = service_value(&graphql, "service_resp_time", "shop", &minute).await;
    server.stop().await?;
    ensure!(traces? == number + 1);
    ensure!(calls? == i64::try_from(number)? + 1);
    ensure!(latency? == 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_past_days_are_known_when_elasticsearch_comes_late() -> Result<()> {
    const NAMESPACE: &str = "failures_addresses";
    const HOURS_AGO_MS: i64 = 2 * 3_600_000;
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let now = Timestamp::now().as_millisecond();
    let console = EsConsole::new(NAMESPACE)?;

    let command = OapCommand::new(folder.path()).on_elasticsearch(NAMESPACE)?;
    let process = command.start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let past = Served::new("past", "shop", now - HOURS_AGO_MS, 20).called_at("shop:8080");
    report(&sender, vec![bytes(&past)]).await?;
    process.stop().await?;
    console.refresh().await?;

    let gate = gate().await?;
    let command = OapCommand::new(folder.path())
        .on_elasticsearch(NAMESPACE)?
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address());
    let process = command.start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let graphql = GraphQl::new(process.http())?;
    // An address is known already when the store comes.
    let early = Served::new("early", "stock", now, 20).called_at("stock:8080");
    report(&sender, vec![bytes(&early)]).await?;
    gate.open();
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    let mut calls = 0;
    let known = wait_until("the service at the address", DEADLINE, async || {
        calls += 1;
        let call = Served::new(format!("call-{calls}"), "web", now, 20).calling("shop:8080");
        report(&sender, vec![bytes(&call)]).await?;
        let query =
            "query($d: Duration!) { getGlobalTopology(duration: $d) { calls { source target } } }";
        let answer = graphql.ask(query, json!({"d": minute})).await?;
        let call =
            json!({"source": id::service_id("web", true), "target": id::service_id("shop", true)});
        let calls = answer["calls"].as_array().context("no calls")?;
        ensure!(calls.contains(&call), "{answer}");
        Ok(())
    })
    .await;
    let log = process.log();
    process.stop().await?;
    console.clean().await?;
    known.with_context(|| log)
}
