//! A model whose index is blocked for a while.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use oap::storage::WriteOutcome;

use super::{MINUTE_MS, NOW_MS, SHOP, cell, served};
use crate::aggregation::Fixture;

#[tokio::test(start_paused = true)]
async fn rows_of_a_blocked_model_are_forgotten_and_still_add_up() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(1)?;
    fixture
        .store
        .judge_by(|_, row| match row.model.name.as_str() {
            "service_cpm" => WriteOutcome::Retry("index blocked".into()),
            _ => WriteOutcome::Stored,
        });
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
