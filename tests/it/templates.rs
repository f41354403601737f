//! Dashboards: there from the first request on, changed and disabled by users, and never set back to the shipped ones.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::graphql::GraphQl;
use crate::peers::Elasticsearch;
use crate::questions::ensure_writable;
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

const SHIPPED: [&str; 6] = [
    "APM",
    "Database",
    "SelfObservability",
    "Spring-Sleuth",
    "Topology Endpoint",
    "Topology Instance",
];

#[tokio::test(flavor = "multi_thread")]
async fn users_change_dashboards_on_embedded() -> Result<()> {
    users_change_dashboards("templates_embedded", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_change_dashboards_on_elasticsearch() -> Result<()> {
    users_change_dashboards("templates_es", Store::Elasticsearch).await
}

async fn users_change_dashboards(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store).start().await?;
    let graphql = GraphQl::new(&server.http())?;
    let first = listed(&graphql, false).await?;
    ensure!(first.keys().eq(SHIPPED), "{first:?}");
    for (name, template) in &first {
        let text = template["configuration"].as_str().context("no text")?;
        let widgets: Value = serde_json::from_str(text)?;
        ensure!(widgets.as_array().is_some_and(|w| !w.is_empty()), "{name}");
    }

    // A store of our own takes changes from the first moment on.
    if store == Store::Elasticsearch {
        wait_until("the store takes rows", DEADLINE, async || {
            ensure_writable(&graphql).await
        })
        .await?;
    }
    ensure!(change(&graphql, "addTemplate", "mine").await?);
    ensure!(!change(&graphql, "addTemplate", "mine").await?);
    ensure!(!change(&graphql, "addTemplate", "APM").await?);
    ensure!(change(&graphql, "changeTemplate", "APM").await?);
    ensure!(!change(&graphql, "changeTemplate", "absent").await?);
    ensure!(disable(&graphql, "Database").await?);
    ensure!(!disable(&graphql, "absent").await?);
    edits_are_there(&graphql).await?;

    // The start stores what is shipped and not there yet.
    server.flush().await?;
    let server = server.restart(|builder| builder).await?;
    let graphql = GraphQl::new(&server.http())?;
    edits_are_there(&graphql).await?;
    server.flush().await?;
    edits_are_there(&graphql).await?;
    wait_until("the store takes rows", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    ensure!(change(&graphql, "changeTemplate", "Database").await?);
    let enabled = listed(&graphql, false).await?;
    ensure!(enabled["Database"]["configuration"] == "[7]", "{enabled:?}");
    server.stop().await
}

async fn edits_are_there(graphql: &GraphQl) -> Result<()> {
    let shown = listed(graphql, false).await?;
    ensure!(
        shown["APM"]["configuration"] == "[7]" && shown["mine"]["type"] == "TOPOLOGY_SERVICE",
        "{shown:?}"
    );
    ensure!(!shown.contains_key("Database") && shown.len() == SHIPPED.len());
    let all = listed(graphql, true).await?;
    ensure!(all.len() == SHIPPED.len() + 1 && all["Database"]["disabled"] == true);
    ensure!(all["Database"]["configuration"] != "[7]");
    Ok(())
}

/// The store is not there, and the dashboards are.
#[tokio::test(flavor = "multi_thread")]
async fn dashboards_do_not_wait_for_elasticsearch() -> Result<()> {
    let server = TestServer::builder("templates_away", Store::Embedded)
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_STORAGE_ES_CLUSTER_NODES", "127.0.0.1:1")
        .start()
        .await?;
    let graphql = GraphQl::new(&server.http())?;
    let shown = listed(&graphql, false).await?;
    ensure!(shown.keys().eq(SHIPPED), "{shown:?}");
    let refused = change(&graphql, "changeTemplate", "APM").await;
    ensure!(refused.is_err(), "{refused:?}");
    server.stop().await
}

/// The store goes away: what was read last is answered, with what was changed since.
#[tokio::test(flavor = "multi_thread")]
async fn edited_dashboards_stay_while_elasticsearch_is_away() -> Result<()> {
    let node = tokio::task::spawn_blocking(Elasticsearch::shared).await?;
    let gate = Gate::shut_before(node.address()).await?;
    gate.open();
    let server = TestServer::builder("templates_gone", Store::Elasticsearch)
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address())
        .start()
        .await?;
    let graphql = GraphQl::new(&server.http())?;
    let console = server.console().context("no console")?;
    let count = format!("{}_ui_template/_count", console.namespace());
    wait_until("what is shipped is stored", DEADLINE, async || {
        let answer = console.ask("GET", &count, None).await?;
        ensure!(answer["count"] == SHIPPED.len(), "{answer}");
        Ok(())
    })
    .await?;
    listed(&graphql, true).await?;
    ensure!(change(&graphql, "changeTemplate", "APM").await?);
    ensure!(change(&graphql, "addTemplate", "mine").await?);
    ensure!(disable(&graphql, "Database").await?);
    gate.shut();
    let refused = change(&graphql, "changeTemplate", "APM").await;
    let refused = refused.err().context("it is away")?.to_string();
    ensure!(!refused.contains("/_"), "{refused}");
    let kept = edits_are_there(&graphql).await;
    gate.open();
    server.stop().await?;
    kept
}

async fn listed(graphql: &GraphQl, including_disabled: bool) -> Result<BTreeMap<String, Value>> {
    let query = "query($d: Boolean) { getAllTemplates(includingDisabled: $d) {
        name type configuration activated disabled } }";
    let all = graphql.ask(query, json!({"d": including_disabled})).await?;
    let all = all.as_array().context("no list")?.iter();
    all.map(|template| {
        let name = template["name"].as_str().context("no name")?;
        Ok((name.to_owned(), template.clone()))
    })
    .collect()
}

async fn change(graphql: &GraphQl, mutation: &str, name: &str) -> Result<bool> {
    let query = format!(
        "mutation($s: DashboardSetting!) {{ {mutation}(setting: $s) {{ status message }} }}"
    );
    let setting =
        json!({"name": name, "type": "TOPOLOGY_SERVICE", "configuration": "[7]", "active": true});
    status(graphql.ask(&query, json!({"s": setting})).await?)
}

async fn disable(graphql: &GraphQl, name: &str) -> Result<bool> {
    let query = "mutation($n: String!) { disableTemplate(name: $n) { status message } }";
    status(graphql.ask(query, json!({"n": name})).await?)
}

/// What is refused has a message.
fn status(answer: Value) -> Result<bool> {
    let is_done = answer["status"].as_bool().context("no status")?;
    ensure!(is_done == answer["message"].is_null(), "{answer}");
    Ok(is_done)
}
