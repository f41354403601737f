//! What a process reads of what an earlier one stored, and in which order: counted, so that it does not depend on how fast a
//! machine is. Time is virtual.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use oap::model::message::Message;
use oap::model::time_bucket::Downsampling;
use oap::stream::StreamOptions;

use crate::aggregation::{Aggregation, Fixture};
use crate::segments::{Served, bytes};

/// 2020-09-15 10:57:30 UTC.
const NOW_MS: i64 = 1_600_167_450_000;
const MINUTE_MS: i64 = 60_000;
const MINUTE: u64 = 202_009_151_057;
const SERVICES: usize = 10;
/// Enough for several pages.
const ENDPOINTS: usize = 600;

/// One request to each of so many endpoints.
fn requests(endpoints: usize, at_ms: i64) -> Vec<Message> {
    let segments = (0..endpoints).map(|n| {
        let service = format!("shop-{}", n % SERVICES);
        let mut segment = Served::new(format!("{at_ms}.{n}"), &service, at_ms, 100).segment();
        segment.spans[0].operation_name = format!("/order/{n}");
        Message::Segment(bytes(&segment))
    });
    segments.collect()
}

/// Calls of endpoints stored for a bucket, and of how many endpoints.
fn stored(fixture: &Fixture, bucket: u64) -> (i64, usize) {
    let rows = fixture.store.rows().into_iter();
    let rows =
        rows.filter(|((model, ..), row)| model == "endpoint_cpm" && row.time_bucket == bucket);
    let totals: Vec<i64> = rows
        .filter_map(|(_, row)| row.cell("total").as_long())
        .collect();
    (totals.iter().sum(), totals.len())
}

/// Rows of metrics by bucket.
fn stored_rows(fixture: &Fixture) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for ((..), row) in fixture.store.rows() {
        if row.model.is_downsampled {
            *counts.entry(row.time_bucket).or_default() += 1;
        }
    }
    counts
}

async fn pass(fixture: &Fixture, time: Duration) {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    fixture.clock_ms.fetch_add(ms, Ordering::SeqCst);
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_is_not_read() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(2)?;
    process.report(&requests(ENDPOINTS, NOW_MS)).await?;
    // Late and early.
    process
        .report(&requests(10, NOW_MS - 40 * MINUTE_MS))
        .await?;
    process
        .report(&requests(10, NOW_MS + 40 * MINUTE_MS))
        .await?;
    process.stop().await?;
    let loaded = fixture.store.take_loaded();
    ensure!(loaded.is_empty(), "{} rows, {:?}", loaded.len(), loaded[0]);
    ensure!(fixture.store.reaches() == 1, "shards ask together");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_only_what_is_stored_is_read_and_minutes_come_first() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(2)?;
    process.report(&requests(ENDPOINTS, NOW_MS)).await?;
    process.stop().await?;
    fixture.store.take_loaded();
    let earlier = stored_rows(&fixture);

    let mut process = fixture.start(1)?;
    for minute in 0..3 {
        let at_ms = NOW_MS + minute * MINUTE_MS;
        process.report(&requests(ENDPOINTS, at_ms)).await?;
        // Looks come every three seconds: one begins to read, the next one writes what was read.
        pass(&fixture, Duration::from_secs(10)).await;
        let want = if minute == 0 { 2 } else { 1 };
        let (calls, endpoints) = stored(&fixture, MINUTE + minute as u64);
        ensure!(endpoints == ENDPOINTS, "minute {minute}: {endpoints}");
        ensure!(calls == want * ENDPOINTS as i64, "minute {minute}: {calls}");
        pass(&fixture, Duration::from_secs(50)).await;
    }
    process.stop().await?;
    let loaded = fixture.store.take_loaded();
    let mut reads: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, bucket) in &loaded {
        *reads.entry(*bucket).or_default() += 1;
    }
    // What the first process stored of minute, hour and day, each once, and nothing of the minutes after it.
    ensure!(reads == earlier, "{reads:?}, stored were {earlier:?}");
    let steps: Vec<_> = loaded
        .iter()
        .filter_map(|(_, bucket)| Downsampling::of(*bucket))
        .collect();
    ensure!(
        steps.is_sorted_by(|a, b| a >= b),
        "minutes come before hours, hours before days"
    );
    let (calls, _) = stored(&fixture, MINUTE / 100);
    ensure!(calls == 4 * ENDPOINTS as i64, "{calls}");
    let (calls, _) = stored(&fixture, MINUTE / 10_000);
    ensure!(calls == 4 * ENDPOINTS as i64, "{calls}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn minutes_that_agents_were_ahead_are_not_overwritten() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    // Of the first two processes each reports minutes of the future.
    for _ in 0..2 {
        let mut process = fixture.start(2)?;
        for minute in [0, 1, 5, 9] {
            let at_ms = NOW_MS + minute * MINUTE_MS;
            process.report(&requests(5, at_ms)).await?;
        }
        process.stop().await?;
        pass(&fixture, Duration::from_secs(1)).await;
    }
    let mut process = fixture.start(2)?;
    for minute in 0..12 {
        let at_ms = NOW_MS + minute * MINUTE_MS;
        process.report(&requests(5, at_ms)).await?;
        pass(&fixture, Duration::from_secs(60)).await;
    }
    process.stop().await?;
    for minute in 0..12_u64 {
        let bucket = MINUTE + minute + if minute < 3 { 0 } else { 40 };
        let want = if [0, 1, 5, 9].contains(&minute) {
            15
        } else {
            5
        };
        let (calls, _) = stored(&fixture, bucket);
        ensure!(calls == want, "{bucket}: {calls}, not {want}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_another_process_writes_while_it_ends_is_added_to() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut ending = fixture.start(1)?;
    ending.report(&requests(5, NOW_MS - MINUTE_MS)).await?;
    ending.flush().await?;
    // The next one starts and asks how far rows reach; then the first one writes its last minute.
    let mut process = fixture.start(1)?;
    process.report(&requests(5, NOW_MS - MINUTE_MS)).await?;
    pass(&fixture, Duration::from_secs(6)).await;
    ending.report(&requests(5, NOW_MS)).await?;
    ending.stop().await?;
    process.report(&requests(5, NOW_MS)).await?;
    process.stop().await?;
    let (calls, _) = stored(&fixture, MINUTE);
    ensure!(calls == 10, "{calls}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_reading_does_not_wait_for_what_cannot_be_read() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(1)?;
    process.report(&requests(20, NOW_MS)).await?;
    process.stop().await?;
    let mut process = fixture.start(1)?;
    fixture.store.set_unreadable(Some("endpoint_cpm"));
    for minute in 0..2_u64 {
        let at_ms = NOW_MS + minute as i64 * MINUTE_MS;
        process.report(&requests(20, at_ms)).await?;
        pass(&fixture, Duration::from_secs(6)).await;
        let found = stored(&fixture, MINUTE + minute);
        ensure!(found == (20, 20), "minute {minute}: {found:?}");
        pass(&fixture, Duration::from_secs(54)).await;
    }
    let (calls, _) = stored(&fixture, MINUTE / 100);
    ensure!(calls == 20, "nothing is overwritten: {calls}");
    fixture.store.set_unreadable(None);
    process.stop().await?;
    for (bucket, want) in [(MINUTE, 40), (MINUTE + 1, 20), (MINUTE / 100, 60)] {
        let (calls, _) = stored(&fixture, bucket);
        ensure!(calls == want, "{bucket}: {calls}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_service_with_endless_endpoints_leaves_room_for_others() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let options = StreamOptions {
        max_rows: 1000,
        ..StreamOptions::default()
    };
    let mut process = Aggregation::start(1, &fixture, options)?;
    // Nothing can be forgotten.
    fixture.store.set_away(true);
    for round in 0..40 {
        let endless = (0..50).map(|n| {
            let mut segment = Served::new(format!("{round}.{n}"), "greedy", NOW_MS, 100).segment();
            segment.spans[0].operation_name = format!("/order/{round}.{n}");
            Message::Segment(bytes(&segment))
        });
        process.report(&endless.collect::<Vec<_>>()).await?;
        // Services that come later, with endpoints of their own.
        let id = format!("other.{round}");
        let served = Served::new(id, &format!("shop-{}", round / 4), NOW_MS, 100);
        process.report(&[Message::Segment(served.bytes())]).await?;
        pass(&fixture, Duration::from_secs(1)).await;
    }
    fixture.store.set_away(false);
    let registry = process.registry.clone();
    process.stop().await?;
    let of_others = |model: &str| {
        let rows = fixture.store.rows().into_iter();
        let minute = |row: &oap::model::row::Row| row.time_bucket == MINUTE;
        let rows =
            rows.filter(|((m, id, _), row)| m == model && minute(row) && id.contains("_c2hvcC0"));
        let totals = rows.filter_map(|(_, row)| row.cell("total").as_long());
        totals.collect::<Vec<_>>()
    };
    for model in ["service_cpm", "endpoint_cpm", "service_instance_cpm"] {
        let totals = of_others(model);
        ensure!(totals == [4; 10], "{model}: {totals:?}");
    }
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "stream_shed_total");
    let shed: BTreeMap<String, f64> = family
        .into_iter()
        .flat_map(|family| family.get_metric())
        .map(|metric| {
            let labels = metric.get_label().iter().map(|label| label.value());
            let labels: Vec<&str> = labels.collect();
            (labels.join(" "), metric.get_counter().get_value())
        })
        .collect();
    let names: Vec<&str> = shed.keys().map(String::as_str).collect();
    let want = [
        "share_of_service_full Endpoint",
        "share_of_service_full EndpointRelation",
    ];
    ensure!(names == want, "{shed:?}");
    Ok(())
}
