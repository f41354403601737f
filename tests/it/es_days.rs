//! Days that begin and end on Elasticsearch: tomorrow's indices, the change of day under load, deletion of old days.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::oap_process::few_metrics;
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// 2020-09-15 23:00:00 UTC.
const ELEVEN_MS: i64 = 1_600_210_800_000;
const MINUTE_MS: i64 = 60_000;
const MIDNIGHT_MS: i64 = ELEVEN_MS + 60 * MINUTE_MS;
const DEADLINE: Duration = Duration::from_secs(60);

/// Indices of a day by name, with what tells one from another that came after it.
async fn indices(console: &EsConsole, day: &str) -> Result<BTreeMap<String, String>> {
    let path = format!("{}_*-{day}/_settings", console.namespace());
    let answer = console.ask("GET", &path, None).await?;
    let indices = answer.as_object().context("no object")?.iter();
    indices
        .map(|(name, index)| {
            let uuid = index["settings"]["index"]["uuid"].as_str();
            Ok((name.clone(), uuid.context("no uuid")?.to_owned()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_changes_under_load() -> Result<()> {
    const BATCHES: i64 = 40;
    const BATCH: i64 = 25;
    let folder = tempfile::tempdir()?;
    few_metrics(folder.path())?;
    let clock = Arc::new(AtomicI64::new(ELEVEN_MS));
    let server = TestServer::builder("days_change", Store::Elasticsearch)
        .config_dir(folder.path())
        .clock(&clock)
        .env("TZ", "UTC")
        .start()
        .await?;
    let console = EsConsole::new("days_change")?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let graphql = GraphQl::new(&server.http())?;
    let has_all = async |day: &str| {
        let indices = indices(&console, day).await?;
        let templates = console.templates().await?.len();
        ensure!(templates > 10 && indices.len() == templates, "{indices:?}");
        Ok(indices)
    };
    wait_until("today's indices exist", DEADLINE, async || {
        has_all("20200915").await
    })
    .await?;
    ensure!(indices(&console, "20200916").await?.is_empty());

    clock.store(MIDNIGHT_MS - 15 * MINUTE_MS, Ordering::Relaxed);
    let tomorrow = wait_until("tomorrow's indices exist", DEADLINE, async || {
        has_all("20200916").await
    })
    .await?;

    // From 20 s before midnight to 20 s after.
    for batch in 0..BATCHES {
        let now = MIDNIGHT_MS + (batch - BATCHES / 2) * 1000;
        clock.store(now, Ordering::Relaxed);
        let segments = (0..BATCH)
            .map(|i| Served::new(format!("{batch}-{i}"), "shop", now, 20).bytes())
            .collect();
        let outcome = sender
            .call(COLLECT, Calling::ClientStream, segments)
            .await?;
        ensure!(outcome.is_ok(), "{batch}: {outcome:?}");
        // The pace of the load: it lasts long enough for several writes on both sides.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    server.flush().await?;
    let mut counts = vec![];
    for minute in [MIDNIGHT_MS - MINUTE_MS, MIDNIGHT_MS] {
        let duration = buckets_from(minute, "UTC", "MINUTE")?;
        let day = buckets_from(minute, "UTC", "DAY")?;
        counts.push((
            service_value(&graphql, "service_cpm", "shop", &duration).await?,
            service_value(&graphql, "service_resp_time", "shop", &day).await?,
        ));
    }
    let both = json!({"start": "2020-09-15 2359", "end": "2020-09-16 0000", "step": "MINUTE"});
    let traces = trace_count(&graphql, "shop", &both).await?;
    let after = indices(&console, "20200916").await?;
    server.stop().await?;
    let half = BATCHES * BATCH / 2;
    ensure!(counts == [(half, 20), (half, 20)], "{counts:?}");
    ensure!(traces == u64::try_from(BATCHES * BATCH)?, "{traces}");
    // Not one of them was made by a document of the new day.
    ensure!(after == tomorrow, "{after:?}");
    Ok(())
}
