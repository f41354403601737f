//! The page at `/`, as a browser shows it, and whether the server says that it is ready; other clients find at `/` what they
//! always found.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use oap_proto::health::HealthCheckRequest;
use oap_proto::health::health_check_response::ServingStatus;
use oap_proto::health::health_client::HealthClient;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::gate::Gate;
use crate::graphql::GraphQl;
use crate::peers::{Elasticsearch, dom, screenshot};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// Status, type and text of an answer.
async fn ask(
    server: &TestServer,
    method: &str,
    path: &str,
    accept: &str,
) -> Result<(u16, String, String)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{}{path}", server.http());
    let request = client
        .request(method.parse()?, url)
        .header("Accept", accept);
    let answer = request.send().await?;
    let content_type = answer.headers().get("content-type");
    let content_type = content_type.map_or("", |t| t.to_str().unwrap_or_default());
    let content_type = content_type.to_owned();
    Ok((answer.status().as_u16(), content_type, answer.text().await?))
}

async fn report(server: &TestServer, segments: usize) -> Result<()> {
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let now = Timestamp::now().as_millisecond();
    let segments = (0..segments).map(|i| Served::new(i.to_string(), "shop", now, 20).bytes());
    let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
    ensure!(sent.await?.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_state() -> Result<()> {
    let server = TestServer::builder("status_page", Store::Embedded)
        .start()
        .await?;
    report(&server, 500).await?;
    server.flush().await?;
    // Until there are two looks at the figures.
    wait_until("rates", DEADLINE, async || {
        let (_, _, page) = ask(&server, "GET", "/", HTML).await?;
        ensure!(!page.contains("just started"), "{page}");
        Ok(())
    })
    .await?;
    let url = format!("http://{}/", server.http());
    let shown = {
        let url = url.clone();
        // Time enough for the page to have fetched itself anew.
        spawn_blocking(move || dom(&url, 12_000)).await??
    };
    for part in [
        "id=\"diagnosis\"",
        "<td>segment</td><td class=\"n\">500</td><td class=\"n\">500</td>",
        "metrics-writer",
        "embedded, in ",
        "one server (standalone)",
    ] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    ensure!(!shown.contains("class=\"gone\""), "{shown}");
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artifacts");
    for (name, size, is_dark) in [
        ("status-light", (1280, 1150), false),
        ("status-dark", (1280, 1150), true),
        ("status-phone", (390, 2000), false),
    ] {
        let (url, file) = (url.clone(), artifacts.join(format!("{name}.png")));
        let taken = {
            let file = file.clone();
            spawn_blocking(move || screenshot(&url, size, is_dark, &file))
        };
        taken.await??;
        let png = std::fs::read(&file)?;
        ensure!(
            png.starts_with(b"\x89PNG") && png.len() > 20_000,
            "{}",
            png.len()
        );
    }
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_see_no_page() -> Result<()> {
    let server = TestServer::builder("status_others", Store::Embedded)
        .env("SW_CORE_REST_CONTEXT_PATH", "/oap")
        .start()
        .await?;
    for (method, path, accept, want) in [
        ("GET", "/oap", HTML, 200),
        ("GET", "/oap/", HTML, 200),
        ("HEAD", "/oap/", HTML, 200),
        ("GET", "/", HTML, 404),
        ("GET", "/oap/", "*/*", 404),
        ("GET", "/oap/", "application/json", 404),
        ("POST", "/oap/", HTML, 405),
        ("OPTIONS", "/oap/", HTML, 200),
        ("GET", "/oap/nothing", HTML, 404),
        ("GET", "/oapx", HTML, 404),
        ("GET", "/oap/graphql", HTML, 500),
        ("POST", "/oap/readiness", "*/*", 405),
        ("POST", "/oap/healthcheck", "*/*", 405),
        ("GET", "/healthcheck", "*/*", 404),
    ] {
        let (status, content_type, text) = ask(&server, method, path, accept).await?;
        ensure!(status == want, "{method} {path} {accept}: {status}");
        let is_page = status == 200 && method != "OPTIONS";
        ensure!(
            content_type.starts_with("text/html") == is_page,
            "{method} {path}: {content_type}"
        );
        ensure!(text.is_empty() || method != "HEAD", "{text}");
    }
    let ready = wait_until("ready", DEADLINE, async || {
        let ready = ask(&server, "GET", "/oap/readiness", "*/*").await?;
        ensure!(ready.0 == 200, "{ready:?}");
        Ok(ready)
    });
    ensure!(ready.await?.2 == "ready\n");
    let (status, _, text) = ask(&server, "HEAD", "/oap/readiness", "*/*").await?;
    ensure!((status, text.as_str()) == (200, ""), "{status} {text}");
    server.stop().await
}

/// Score and details of `checkHealth`.
async fn health(graphql: &GraphQl) -> Result<(i64, String)> {
    let answer = graphql
        .ask("{ checkHealth { score details } }", json!({}))
        .await?;
    let details = answer["details"].as_str().unwrap_or_default();
    Ok((
        answer["score"].as_i64().context("no score")?,
        details.to_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() -> Result<()> {
    let node = tokio::task::spawn_blocking(Elasticsearch::shared).await?;
    let gate = Gate::shut_before(node.address()).await?;
    let server = TestServer::builder("status_gate", Store::Elasticsearch)
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address())
        .env("SW_HEALTH_CHECKER", "default")
        .env("SW_HEALTH_CHECKER_INTERVAL_SECONDS", "1")
        .start()
        .await?;
    let graphql = GraphQl::new(&server.http())?;
    report(&server, 5).await?;
    let (status, content_type, text) =
        ask(&server, "GET", "/readiness", "application/json").await?;
    ensure!(
        status == 503 && content_type.starts_with("application/json"),
        "{status}"
    );
    let ready: Value = serde_json::from_str(&text)?;
    let reason = ready["reasons"][0].as_str().unwrap_or_default();
    ensure!(
        ready["ready"] == false && reason.contains("the store does not answer"),
        "{text}"
    );
    let (_, _, page) = ask(&server, "GET", "/", HTML).await?;
    ensure!(
        page.contains("Not ready: the store does not answer"),
        "{page}"
    );
    wait_until("it is not well", DEADLINE, async || {
        let health = health(&graphql).await?;
        ensure!(
            health == (1, "storage_elasticsearch,".to_owned()),
            "{health:?}"
        );
        Ok(())
    })
    .await?;
    // Agents may report all the same.
    let mut probe = HealthClient::connect(format!("http://{}", server.grpc())).await?;
    let answer = probe.check(HealthCheckRequest::default()).await?;
    ensure!(answer.into_inner().status() == ServingStatus::Serving);
    gate.open();
    wait_until("it is well", DEADLINE, async || {
        let health = health(&graphql).await?;
        ensure!(health == (0, String::new()), "{health:?}");
        let (status, _, text) = ask(&server, "GET", "/readiness", "*/*").await?;
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await?;
    server.stop().await
}
