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

use crate::cluster::{free, has_logged, member, scripts};
use crate::es_console::EsConsole;
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
        "<td>alarm-hooks</td>",
        "<td>questions</td>",
        "<td>alarm-windows</td>",
        "<td>meter-windows</td>",
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
        ("GET", "/oap/", "TEXT/HTML", 200),
        ("GET", "/oap/", "text/html;q=0, */*", 404),
        ("GET", "/oapx", HTML, 404),
        ("GET", "/oaphealthcheck", "*/*", 404),
        ("GET", "/oapreadiness", "*/*", 404),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_members() -> Result<()> {
    const NAME: &str = "status_members";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let command = |own| member(folder.path(), NAME, &members, own);
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    has_logged(&first, "taken over").await?;
    has_logged(&second, "taken over").await?;
    let url = format!("http://{}/", first.http());
    let shows = async |parts: Vec<String>| {
        let url = url.clone();
        wait_until("the members", DEADLINE, async move || {
            let url = url.clone();
            let shown = spawn_blocking(move || dom(&url, 6_000)).await??;
            for part in &parts {
                ensure!(shown.contains(part), "{part}: {shown}");
            }
            Ok(())
        })
        .await
    };
    shows(vec![
        format!("<td>{}</td><td>this server</td>", members[0]),
        format!("<td>{}</td><td>alive</td>", members[1]),
        "2 members (a list)".to_owned(),
    ])
    .await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artifacts/status-members.png");
    let page = url.clone();
    spawn_blocking(move || screenshot(&page, (1280, 1350), false, &file)).await??;

    // What they exchange has the names and labels of the original.
    let sender = Sender::connect(first.grpc(), first.http()).await?;
    let now = Timestamp::now().as_millisecond();
    let segments = (0..40).map(|i| Served::new(i.to_string(), &format!("shop-{i}"), now, 20));
    let segments = segments.map(|served| served.bytes()).collect();
    let sent = sender.call(COLLECT, Calling::ClientStream, segments);
    ensure!(sent.await?.is_ok());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let (own, other) = (&members[0], &members[1]);
    for (process, want) in [
        (&first, format!("dest=\"{other}\",self=\"N\"}} ")),
        (&first, format!("dest=\"{own}\",self=\"Y\"}} ")),
        (&second, "remote_in_count{".to_owned()),
        (&second, "remote_in_latency_count{".to_owned()),
    ] {
        wait_until("the exchange", DEADLINE, async || {
            let text = client.get(process.metrics_url()?).send().await?;
            let text = text.text().await?;
            let mut lines = text.lines().filter(|line| line.starts_with("remote_"));
            let line = lines.find(|line| line.contains(&want));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            ensure!(value.is_some_and(|v| v > 0.0), "{want}: {line:?}");
            Ok(())
        })
        .await?;
    }
    second.stop().await?;
    let gone = "<span class=\"lost\">does not answer</span>";
    shows(vec![format!("<td>{other}</td><td>{gone}</td>")]).await?;
    first.stop().await?;
    console.clean().await
}
