//! A model whose index is blocked for a while.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use oap::storage::WriteOutcome;
use tokio::time::timeout;

use super::{MINUTE_MS, NOW_MS, SHOP, cell, served};
use crate::aggregation::Fixture;
use crate::lanes::count;
use crate::memory_store::MemoryStore;

fn block(store: &MemoryStore) {
    store.judge_by(|_, row| match row.model.name.as_str() {
        "service_cpm" => WriteOutcome::Retry("index blocked".into()),
        _ => WriteOutcome::Stored,
    });
}

/// A server has twenty seconds to stop.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_blocked_model_and_counts_what_it_gives_up() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(2)?;
    block(&fixture.store);
    process.report(&served(0, NOW_MS, 100)).await?;
    let registry = process.registry.clone();
    timeout(Duration::from_secs(15), process.stop()).await??;
    let count = |name| count(&registry, name);
    // Its minute, hour and day.
    ensure!(count("storage_rejected_rows_total") == 3);
    let rows = fixture.store.rows();
    ensure!(count("storage_stored_rows_total") == rows.len() as u64);
    for bucket in ["202009151059", "2020091510", "20200915"] {
        let id = format!("{bucket}_{SHOP}");
        ensure!(fixture.store.row("service_resp_time", &id).is_some());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_blocked_model_are_forgotten_and_still_add_up() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(1)?;
    block(&fixture.store);
    for number in 0..3 {
        process.report(&served(number, NOW_MS, 100)).await?;
    }
    let pause = || tokio::time::sleep(Duration::from_secs(120));
    pause().await;
    fixture.clock_ms.fetch_add(3 * MINUTE_MS, Ordering::SeqCst);
    pause().await;
    let held = process.gauge("stream_rows");
    ensure!(held < 100.0, "{held} rows are still held");
    for number in 3..5 {
        process.report(&served(number, NOW_MS, 400)).await?;
    }
    pause().await;
    let id = |bucket| format!("{bucket}_{SHOP}");
    let buckets = ["202009151059", "2020091510", "20200915"];
    for bucket in buckets {
        let count = cell(&fixture.store, "service_resp_time", &id(bucket), "count")?;
        ensure!(count == Some(5), "{bucket}: {count:?}");
        ensure!(fixture.store.row("service_cpm", &id(bucket)).is_none());
    }
    fixture.store.judge_by(|_, _| WriteOutcome::Stored);
    process.stop().await?;
    for bucket in buckets {
        let total = cell(&fixture.store, "service_cpm", &id(bucket), "total")?;
        ensure!(total == Some(5), "{bucket}: {total:?}");
    }
    Ok(())
}
