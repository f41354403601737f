//! How often rows are written while a stream of requests goes on, and how old a change is by then. Time is virtual.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::model::message::Message;
use oap::model::row::Row;
use oap::model::time_bucket::Downsampling;
use oap::storage::WriteOutcome;
use oap::stream::StreamOptions;
use tokio::time::Instant;

use crate::aggregation::{Aggregation, Fixture};
use crate::segments::Served;

/// 2020-09-15 10:40:00 UTC.
const BEGIN_MS: i64 = 1_600_166_400_000;
const SECONDS: u64 = 600;
const OFFSET: Duration = Duration::from_millis(500);
const SHOP: &str = "c2hvcA==.1";

/// One written row.
#[derive(Debug, Clone)]
struct Write {
    at_s: f64,
    row: Row,
}

/// `persistentPeriod` if nobody sets it.
const PERIOD: Duration = Duration::from_secs(3);

/// A request a second to each of three services for ten minutes; every row that was written, in order.
async fn written(options: StreamOptions) -> Result<Vec<Write>> {
    let fixture = Fixture::new(BEGIN_MS);
    let writes: Arc<Mutex<Vec<Write>>> = Arc::default();
    let began = Instant::now() + OFFSET;
    let log = Arc::clone(&writes);
    fixture.store.judge_by(move |_, row| {
        let at_s = Instant::now().duration_since(began).as_secs_f64();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Write {
            at_s,
            row: row.clone(),
        });
        WriteOutcome::Stored
    });
    let mut process = Aggregation::start(2, &fixture, options)?;
    // Between two looks at what changed.
    tokio::time::sleep(OFFSET).await;
    for second in 0..SECONDS {
        let at_ms = fixture.clock_ms.load(Ordering::SeqCst);
        for service in ["shop", "cart", "bank"] {
            let id = format!("{service}{second}");
            let latency = 20 + (second as i64 * 37) % 400;
            let segment = Served::new(id, service, at_ms, latency).bytes();
            process.report(&[Message::Segment(segment)]).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.clock_ms.fetch_add(1000, Ordering::SeqCst);
    }
    process.stop().await?;
    let writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(writes.clone())
}

/// What the original writes in the same time with rounds `period_s` apart: minute, hour and day of every metric that changed
/// since the last round (8.1.0 spec, F.4), not counting services, instances and endpoints.
fn of_original(metrics: usize, period_s: u64) -> usize {
    let mut items = 0;
    let mut last = 0;
    while last < SECONDS {
        let next = (last + period_s).min(SECONDS);
        let minutes: BTreeSet<u64> = (last..next).map(|second| second / 60).collect();
        items += metrics * (minutes.len() + 2);
        last = next;
    }
    items
}

#[tokio::test(start_paused = true)]
async fn a_steady_stream_costs_a_part_of_what_it_costs_the_original() -> Result<()> {
    let writes = written(StreamOptions::gathering(PERIOD)).await?;
    let mut metrics = BTreeSet::new();
    for Write { row, .. } in &writes {
        let minute = format!("{}_", row.time_bucket);
        if let Some(entity) = row.id.strip_prefix(&minute) {
            metrics.insert((row.model.name.clone(), entity.to_owned()));
        } else if row.id == row.time_bucket.to_string() {
            metrics.insert((row.model.name.clone(), String::new()));
        }
    }
    let ours = writes.len();
    // The original's rounds last 3 s and what its bulk request waits for the next refresh, up to 10 s.
    for (period_s, most) in [(3, 0.13), (8, 1.0 / 3.0), (13, 0.5)] {
        let theirs = of_original(metrics.len(), period_s);
        let share = ours as f64 / theirs as f64;
        eprintln!("{ours} items, {share:.3} of {theirs} with rounds of {period_s} s");
        ensure!(share <= most, "{share} of rounds of {period_s} s");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_change_waits_longer_than_it_may() -> Result<()> {
    // Of 15 s on Elasticsearch and 2 s on the embedded store, and of 60 s for hours and days, the rest is for the writer and
    // the refresh of the index for a question.
    check_ages(StreamOptions::gathering(PERIOD), 13.0).await?;
    check_ages(StreamOptions::prompt(PERIOD), 1.8).await
}

async fn check_ages(options: StreamOptions, most_of_minutes_s: f64) -> Result<()> {
    let mut versions: BTreeMap<u64, Vec<(f64, i64)>> = BTreeMap::new();
    for Write { at_s, row } in written(options).await? {
        if row.model.name == "service_cpm" && row.id.ends_with(SHOP) {
            let total = row.cell("total").as_long().context("no total")?;
            versions
                .entry(row.time_bucket)
                .or_default()
                .push((at_s, total));
        }
    }
    ensure!(
        versions.len() == 12,
        "ten minutes, an hour, a day: {versions:?}"
    );
    for (bucket, versions) in versions {
        let (first, most_s) = match Downsampling::of(bucket) {
            Some(Downsampling::Minute) => ((bucket - 202_009_151_040) * 60, most_of_minutes_s),
            _ => (0, 55.0),
        };
        let last = versions.last().context("never written")?.1 as u64;
        for number in 0..last {
            let sent_s = (first + number) as f64;
            let has_it = |(_, total): &&(f64, i64)| *total > number as i64;
            let written_s = versions.iter().find(has_it).context("lost")?.0;
            ensure!(
                written_s - sent_s <= most_s,
                "{bucket}: sent at {sent_s} s, written at {written_s} s"
            );
        }
    }
    Ok(())
}
