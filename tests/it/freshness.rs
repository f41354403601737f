//! How long it takes until a question sees what an agent reported, on Elasticsearch with the settings of the original.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::graphql::GraphQl;
use crate::oap_process::few_metrics;
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// 15 s are the aim, with the refresh of the indices. 5 s more are for a loaded machine, on which the server, its store and
/// other tests share few cores; that no step takes longer than it may is tested in virtual time.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_is_soon_seen() -> Result<()> {
    let folder = tempfile::tempdir()?;
    few_metrics(folder.path())?;
    let server = TestServer::builder("freshness", Store::Elasticsearch)
        .config_dir(folder.path())
        .env("TZ", "UTC")
        .start()
        .await?;
    // The indices are there.
    server.flush().await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let graphql = GraphQl::new(&server.http())?;
    let now = Timestamp::now().as_millisecond();
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    let began = Instant::now();
    let segments = vec![Served::new("one", "shop", now, 20).bytes()];
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    let top = "query($c: TopNCondition!, $d: Duration!) { sortMetrics(condition: $c, duration: $d) { value } }";
    let condition = json!({"name": "service_cpm", "scope": "Service", "normal": true, "topN": 5, "order": "DES"});
    let seen = tokio::join!(
        wait_until("the trace", DEADLINE, async || {
            ensure!(trace_count(&graphql, "shop", &minute).await? == 1);
            Ok(began.elapsed())
        }),
        wait_until("the value", DEADLINE, async || {
            ensure!(service_value(&graphql, "service_cpm", "shop", &minute).await? == 1);
            Ok(began.elapsed())
        }),
        wait_until("the list", DEADLINE, async || {
            let variables = json!({"c": condition, "d": minute});
            let found = graphql.ask(top, variables).await?;
            ensure!(found.as_array().is_some_and(|list| list.len() == 1));
            Ok(began.elapsed())
        }),
    );
    server.stop().await?;
    let (trace, value, list) = (seen.0?, seen.1?, seen.2?);
    eprintln!("seen after: trace {trace:?}, value {value:?}, top list {list:?}");
    Ok(())
}
