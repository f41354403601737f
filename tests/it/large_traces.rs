//! A trace of many segments is answered whole, and one beyond the limits says how much of it is there; on both stores.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};

/// Segments that a list can reach.
const WINDOW: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn large_traces_on_embedded() -> Result<()> {
    large_traces("large_traces", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_traces_on_elasticsearch() -> Result<()> {
    large_traces("large_traces_es", Store::Elasticsearch).await
}

async fn large_traces(name: &str, store: Store) -> Result<()> {
    let server = TestServer::builder(name, store).start().await?;
    let now = Timestamp::now().as_millisecond();
    // As agents make them, so that the days of a trace are known.
    let id = |n: i64| format!("c2a8d0f5b1f94f7e9ad2c4b6e8f01357.33.{}", now * 10_000 + n);
    let traces = [(id(1), 1), (id(2), 450), (id(3), WINDOW + 50)];
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    for (trace, count) in &traces {
        let segments = (0..*count).map(|i| {
            let served = Served::new(format!("{trace}-{i}"), "shop", now, 5);
            let mut segment = served.segment();
            segment.trace_id.clone_from(trace);
            bytes(&segment)
        });
        let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
        sent.await?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
    }
    server.flush().await?;

    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{}/graphql", server.http());
    for (trace, count) in &traces {
        let query = "query($t: ID!) { queryTrace(traceId: $t) { spans { segmentId } } }";
        let body = json!({"query": query, "variables": {"t": trace}});
        let answer = client.post(&url).json(&body).send().await?;
        let header = answer.headers().get("oap-truncated").cloned();
        let answer: Value = answer.json().await?;
        let spans = answer["data"]["queryTrace"]["spans"].as_array();
        let spans = spans.with_context(|| answer["errors"].to_string())?;
        ensure!(spans.len() == *count.min(&WINDOW), "{}", spans.len());
        let said = header.as_ref().map(|value| value.to_str()).transpose()?;
        let expected = (*count > WINDOW).then(|| format!("{WINDOW}/{count}"));
        ensure!(said == expected.as_deref(), "{said:?}");
    }
    server.stop().await
}

/// What an index allows is the setting of its namespace, or what someone made of it later; both are less than a page has.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_a_small_window_is_read_in_smaller_pages() -> Result<()> {
    let name = "small_window";
    let server = TestServer::builder(name, Store::Elasticsearch)
        .env(
            "SW_STORAGE_ES_ADVANCED",
            r#"{"index.max_result_window": 150}"#,
        )
        .start()
        .await?;
    let now = Timestamp::now().as_millisecond();
    let trace = format!("c2a8d0f5b1f94f7e9ad2c4b6e8f01357.33.{}", now * 10_000);
    let segments = (0..450).map(|i| {
        let served = Served::new(format!("{trace}-{i}"), "shop", now, 5);
        let mut segment = served.segment();
        segment.trace_id.clone_from(&trace);
        bytes(&segment)
    });
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
    sent.await?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
    server.flush().await?;
    let console = server.console().context("no console")?;
    for window in [150, 70] {
        let settings = json!({"index.max_result_window": window});
        console.set("segment-*", settings).await?;
        let query = "query($t: ID!) { queryTrace(traceId: $t) { spans { segmentId } } }";
        let body = json!({"query": query, "variables": {"t": trace}});
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.post(format!("http://{}/graphql", server.http()));
        let answer = answer.json(&body).send().await?;
        ensure!(answer.headers().get("oap-truncated").is_none());
        let answer: Value = answer.json().await?;
        let spans = answer["data"]["queryTrace"]["spans"].as_array();
        let spans = spans.with_context(|| answer["errors"].to_string())?;
        ensure!(spans.len() == 450, "window {window}: {}", spans.len());
    }
    server.stop().await
}
