//! A real browser shows a page that asks what the user interface asks, through a proxy that treats requests as that of the
//! user interface does: `/graphql` is passed on with the browser's headers, everything else is the page's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::graphql::GraphQl;
use crate::peers::Browser;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::ui;

const PAGE: &str = include_str!("../peers/browser/page.html");
/// For a browser that starts on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the page saw.
#[derive(Debug, Deserialize)]
struct Report {
    #[serde(default)]
    seen: Vec<Seen>,
    failure: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Seen {
    status: u16,
    #[serde(rename = "type")]
    content_type: String,
    /// Root fields of the answer.
    parts: usize,
    errors: Vec<String>,
}

/// Between the browser and the server.
#[derive(Debug)]
struct Proxy {
    client: reqwest::Client,
    graphql: String,
    requests: String,
    reports: mpsc::Sender<Bytes>,
    compressed: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_asks_through_a_proxy() -> Result<()> {
    let server = TestServer::builder("browser", Store::Embedded).env("TZ", "UTC");
    let server = server.start().await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let now = jiff::Timestamp::now().as_millisecond();
    let segments = (0..50).map(|i| Served::new(i.to_string(), "order-service", now, 20).bytes());
    let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
    sent.await?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
    server.flush().await?;

    let names = ui::recorded();
    let mut requests = ui::fixed(&names)?;
    let graphql = GraphQl::new(&server.http())?;
    requests.extend(ui::widget_requests(&graphql, &names).await?);
    let (reports, mut reported) = mpsc::channel(1);
    let proxy = Arc::new(Proxy {
        client: reqwest::Client::builder().no_proxy().no_gzip().build()?,
        graphql: format!("http://{}/graphql", server.http()),
        requests: serde_json::to_string(&requests)?,
        reports,
        compressed: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let router = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/requests", get(list))
        .route("/report", post(report))
        .route("/graphql", post(pass_on))
        .with_state(Arc::clone(&proxy));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let profile = tempfile::tempdir()?;
    let browser = Browser::open(&url, profile.path())?;
    let report = timeout(DEADLINE, reported.recv()).await;
    let report = report
        .with_context(|| format!("no report; the browser said {}", browser.output()))?
        .context("no report")?;
    drop(browser);
    serving.abort();
    let report: Report = serde_json::from_slice(&report)?;
    ensure!(report.failure.is_none(), "{:?}", report.failure);
    ensure!(report.seen.len() == requests.len(), "{}", report.seen.len());
    for (request, seen) in requests.iter().zip(&report.seen) {
        let is_null = ui::operation(request) == "queryProfileSegment";
        let is_good = seen.status == 200
            && seen.content_type == "application/json;charset=utf-8"
            && seen.errors.is_empty()
            && (seen.parts > 0 || is_null);
        ensure!(is_good, "{}: {seen:?}", request.query);
    }
    let compressed = proxy.compressed.load(Ordering::Relaxed);
    ensure!(compressed > 0, "a browser takes gzip");
    server.stop().await
}

async fn list(State(proxy): State<Arc<Proxy>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        proxy.requests.clone(),
    )
        .into_response()
}

async fn report(State(proxy): State<Arc<Proxy>>, body: Bytes) -> StatusCode {
    match proxy.reports.send(body).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::GONE,
    }
}

/// Sends a question on with the browser's headers and those that a proxy adds, and the answer back as it is.
async fn pass_on(State(proxy): State<Arc<Proxy>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut passed = headers;
    passed.remove(header::HOST);
    passed.remove(header::CONNECTION);
    let asking = proxy
        .client
        .post(&proxy.graphql)
        .headers(passed)
        .header("X-Forwarded-For", "127.0.0.1")
        .header("X-Forwarded-Proto", "http")
        .body(body);
    let answer = async {
        let answer = asking.send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
    };
    match answer.await {
        Ok((status, headers, body)) => {
            if headers
                .get(header::CONTENT_ENCODING)
                .is_some_and(|e| e == "gzip")
            {
                proxy.compressed.fetch_add(1, Ordering::Relaxed);
            }
            (status, headers, body).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
