//! A whole server on OpenSearch 2.11, which took over the interface of Elasticsearch 7: everything is stored and found.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::json;

use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, few_metrics};
use crate::peers::Elasticsearch;
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const SEGMENTS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_serves_as_elasticsearch() -> Result<()> {
    let node = tokio::task::block_in_place(Elasticsearch::start_opensearch);
    let info = reqwest::get(node.url()).await?.text().await?;
    ensure!(
        info.contains("\"opensearch\"") && info.contains("2.11"),
        "{info}"
    );
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let process = OapCommand::new(folder.path())
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_NAMESPACE", "skywalking")
        .env("SW_STORAGE_ES_CLUSTER_NODES", &node.address())
        .env("TZ", "UTC")
        .start()
        .await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let graphql = GraphQl::new(process.http())?;
    let now = Timestamp::now().as_millisecond();
    let segments = (0..SEGMENTS).map(|i| Served::new(i.to_string(), "shop", now, 20).bytes());
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments.collect())
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    let day = buckets_from(now, "UTC", "DAY")?;
    let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    wait_until("everything is stored", DEADLINE, async || {
        let traces = trace_count(&graphql, "shop", &minute).await?;
        ensure!(
            traces == SEGMENTS as u64,
            "{traces} traces: {}",
            process.log()
        );
        let latency = service_value(&graphql, "service_resp_time", "shop", &day).await?;
        ensure!(latency == 20, "{latency}");
        let services = graphql.ask(services, json!({"d": minute})).await?;
        ensure!(services == json!([{"name": "shop"}]), "{services}");
        Ok(())
    })
    .await?;
    let trace = "query { queryTrace(traceId: \"trace-7\") { spans { endpointName } } }";
    let trace = graphql.ask(trace, json!({})).await?;
    ensure!(trace["spans"][0]["endpointName"] == "/order", "{trace}");
    let dashboards = graphql
        .ask("{ getAllTemplates { name } }", json!({}))
        .await?;
    ensure!(
        dashboards.as_array().context("no list")?.len() == 6,
        "{dashboards}"
    );
    let log = process.log();
    process.stop().await?;
    // Nothing that it had to say of templates, indices or refused requests.
    for level in ["WARN", "ERROR"] {
        ensure!(
            !log.contains(&format!("{level} oap::storage::elasticsearch")),
            "{log}"
        );
    }
    Ok(())
}
