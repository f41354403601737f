//! Segments of minutes, hours and days that are over, written and forgotten: late, out of order, and after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Before now: this minute, the last one, an hour, the day before, and two days before at another time.
const AGES_MS: [i64; 5] = [0, MINUTE_MS, HOUR_MS, DAY_MS, 2 * DAY_MS + HOUR_MS];
const SCRIPT: &str = "
calls = from(Service.*).count();
duration = from(Service.latency).longAvg();
spread = from(Service.latency).percentile(10);
success = from(Service.*).percent(status == true);
";

#[tokio::test(flavor = "multi_thread")]
async fn late_segments_are_counted_exactly_on_embedded() -> Result<()> {
    late(TestServer::builder("late_data_embedded", Store::Embedded)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn late_segments_are_counted_exactly_on_elasticsearch() -> Result<()> {
    late(TestServer::builder("late_data_es", Store::Elasticsearch)).await
}

/// What was sent, by minute.
#[derive(Debug, Default)]
struct Sent {
    latencies: BTreeMap<i64, Vec<i64>>,
    number: usize,
}

impl Sent {
    /// Some requests in each of the minutes, the earliest last, their latencies different each time.
    async fn send(&mut self, server: &TestServer) -> Result<()> {
        let sender = Sender::connect(&server.grpc(), &server.http()).await?;
        let mut segments = vec![];
        for age in AGES_MS {
            for _ in 0..3 {
                self.number += 1;
                let latency = (self.number as i64 * 37) % 600;
                let mut served =
                    Served::new(self.number.to_string(), "shop", NOW_MS - age, latency);
                served.is_error = latency % 3 == 0;
                segments.push(served.bytes());
                let minute = (NOW_MS - age).div_euclid(MINUTE_MS);
                self.latencies.entry(minute).or_default().push(latency);
            }
        }
        let outcome = sender
            .call(COLLECT, Calling::ClientStream, segments)
            .await?;
        ensure!(outcome.is_ok(), "{outcome:?}");
        Ok(())
    }

    /// Latencies of the minutes that lie in the same hour or day as an instant.
    fn within(&self, at_ms: i64, bucket_ms: i64) -> Vec<i64> {
        let bucket = at_ms.div_euclid(bucket_ms);
        let inside = |minute: &i64| (minute * MINUTE_MS).div_euclid(bucket_ms) == bucket;
        let minutes = self.latencies.iter().filter(|(minute, _)| inside(minute));
        minutes
            .flat_map(|(_, latencies)| latencies.clone())
            .collect()
    }

    /// Compares what the server answers for every bucket with what was sent.
    async fn check(&self, server: &TestServer) -> Result<()> {
        server.flush().await?;
        let graphql = GraphQl::new(&server.http())?;
        for age in AGES_MS {
            let at_ms = NOW_MS - age;
            for (step, format, bucket_ms) in [
                ("MINUTE", "%Y-%m-%d %H%M", MINUTE_MS),
                ("HOUR", "%Y-%m-%d %H", HOUR_MS),
                ("DAY", "%Y-%m-%d", DAY_MS),
            ] {
                let text = |ms: i64| -> Result<String> {
                    let at = jiff::Timestamp::from_millisecond(ms)?;
                    Ok(at.strftime(format).to_string())
                };
                let during = json!({
                    "start": text(at_ms)?, "end": text(at_ms + bucket_ms)?, "step": step,
                });
                let mut latencies = self.within(at_ms, bucket_ms);
                latencies.sort_unstable();
                let count = latencies.len() as i64;
                let good = latencies.iter().filter(|ms| *ms % 3 != 0).count() as i64;
                for (metric, want) in [
                    ("calls", count),
                    ("duration", latencies.iter().sum::<i64>() / count),
                    ("success", good * 10_000 / count),
                ] {
                    let got = value(&graphql, metric, &during).await?;
                    ensure!(got == want, "{metric} {during}: {got}, not {want}");
                }
                let median = latencies[latencies.len().div_ceil(2) - 1] / 10 * 10;
                let got = p50(&graphql, &during).await?;
                ensure!(got == median, "median {during}: {got}, not {median}");
            }
        }
        Ok(())
    }
}

async fn late(server: crate::server::Builder) -> Result<()> {
    let config = tempfile::tempdir()?;
    std::fs::create_dir(config.path().join("oal"))?;
    std::fs::write(config.path().join("oal/core.oal"), SCRIPT)?;
    let clock_ms = Arc::new(AtomicI64::new(NOW_MS));
    let mut server = server
        .config_dir(config.path())
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "7")
        .env("SW_RECEIVER_JVM", "-")
        .env("SW_RECEIVER_CLR", "-")
        .clock(&clock_ms)
        .start()
        .await?;
    let mut sent = Sent::default();
    sent.send(&server).await?;
    sent.check(&server).await?;
    // Everything is stored, and so much time passes that it is forgotten; only today is not over.
    for _ in 0..3 {
        clock_ms.fetch_add(2 * MINUTE_MS, Ordering::SeqCst);
        server.flush().await?;
    }
    sent.send(&server).await?;
    sent.check(&server).await?;
    // Stored by one process, completed by the next; then by one that is ended before it could write.
    server = server.restart(|builder| builder).await?;
    sent.send(&server).await?;
    sent.send(&server).await?;
    sent.check(&server).await?;
    sent.send(&server).await?;
    server = server.restart(|builder| builder).await?;
    sent.check(&server).await?;
    server.stop().await
}

fn condition(metric: &str) -> Value {
    json!({
        "name": metric,
        "entity": {"scope": "Service", "serviceName": "shop", "normal": true},
    })
}

/// The value in the first bucket.
async fn value(graphql: &GraphQl, metric: &str, during: &Value) -> Result<i64> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
    let variables = json!({"c": condition(metric), "d": during});
    let answer = graphql.ask(query, variables).await?;
    let value = &answer["values"]["values"][0]["value"];
    value
        .as_i64()
        .with_context(|| format!("{metric}: {answer}"))
}

/// The median in the first bucket.
async fn p50(graphql: &GraphQl, during: &Value) -> Result<i64> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readLabeledMetricsValues(condition: $c, labels: [\"0\"], duration: $d) {
            label values { values { value } } } }";
    let variables = json!({"c": condition("spread"), "d": during});
    let answer = graphql.ask(query, variables).await?;
    let value = &answer[0]["values"]["values"][0]["value"];
    value.as_i64().with_context(|| answer.to_string())
}
