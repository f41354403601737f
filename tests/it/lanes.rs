//! What a lane does with a store that fails, takes a part, or refuses: nothing is lost or overtaken, and memory stays bounded.
//!
//! Time is virtual: pauses between attempts cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::model::row::{Cell, Row};
use oap::model::schema::{Model, Schema};
use oap::storage::WriteOutcome;
use oap::storage::writer::{Lane, WriterMetrics, lane};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::memory_store::MemoryStore;

const MINUTE: u64 = 202_009_151_059;
const MODEL: &str = "endpoint_traffic";

struct Fixture {
    store: Arc<MemoryStore>,
    model: Arc<Model>,
    registry: Registry,
    lane: Lane,
    writer: JoinHandle<()>,
}

fn fixture(max_bytes: usize) -> Result<Fixture> {
    let schema = Schema::build(&[], &[], &[], false);
    let store = Arc::new(MemoryStore::default());
    let registry = Registry::new();
    let metrics = WriterMetrics::new(&registry)?;
    let linger = Duration::from_millis(10);
    let (lane, writer) = lane("test", Arc::clone(&store), max_bytes, linger, metrics);
    Ok(Fixture {
        model: Arc::clone(schema.model(MODEL).context("no model")?),
        store,
        registry,
        lane,
        writer: tokio::spawn(writer.run()),
    })
}

impl Fixture {
    /// A version of a row; which one it is stands in its name.
    fn row(&self, id: usize, version: usize) -> Row {
        Row {
            model: Arc::clone(&self.model),
            id: id.to_string(),
            time_bucket: MINUTE,
            cells: vec![Cell::text("service"), Cell::text(version.to_string())],
        }
    }

    fn count(&self, metric: &str) -> u64 {
        count(&self.registry, metric)
    }

    /// Lets the writer finish; returns the version of each stored row by id.
    async fn finish(self) -> Result<Vec<(usize, usize)>> {
        drop(self.lane);
        self.writer.await?;
        let mut versions = vec![];
        for ((_, id, _), row) in self.store.rows() {
            let version = row.cells[1].as_text().context("no name")?;
            versions.push((id.parse()?, version.parse()?));
        }
        versions.sort_unstable();
        Ok(versions)
    }
}

/// Sum of a counter over its labels.
pub fn count(registry: &Registry, metric: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == metric);
    let values = family.map(|f| f.get_metric().iter().map(|m| m.get_counter().get_value()));
    values.map_or(0.0, Iterator::sum) as u64
}

#[tokio::test(start_paused = true)]
async fn the_last_version_of_each_row_stays_whatever_is_put_off() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    // Each write puts off another third of the rows.
    fixture.store.judge_by(|write, row| {
        let id: u32 = row.id.parse().unwrap_or(0);
        match (id + write) % 3 {
            0 => WriteOutcome::Retry("429".into()),
            _ => WriteOutcome::Stored,
        }
    });
    for version in 1..=20 {
        for part in 0..5 {
            let rows = (0..20).map(|i| fixture.row(part * 20 + i, version));
            fixture.lane.write(rows.collect()).await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    fixture.lane.drained().await;
    ensure!(fixture.count("storage_retried_rows_total") > 0);
    ensure!(fixture.count("storage_stored_rows_total") == 2000);
    let expected: Vec<_> = (0..100).map(|id| (id, 20)).collect();
    ensure!(fixture.finish().await? == expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_store_that_is_away_is_stored_when_it_is_back() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    fixture.store.set_away(true);
    for id in 0..100 {
        let rows = vec![fixture.row(id, 1), fixture.row(id, 2)];
        fixture.lane.write(rows).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    ensure!(fixture.store.rows().is_empty());
    // It is asked again and again, but not in a loop.
    let attempts = fixture.store.writes();
    ensure!((30..100).contains(&attempts), "{attempts} attempts");
    ensure!(fixture.count("storage_failed_writes_total") == u64::from(attempts));
    fixture.store.set_away(false);
    let back = Instant::now();
    fixture.lane.drained().await;
    ensure!(
        back.elapsed() <= Duration::from_secs(11),
        "{:?}",
        back.elapsed()
    );
    let expected: Vec<_> = (0..100).map(|id| (id, 2)).collect();
    ensure!(fixture.finish().await? == expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refused_row_is_counted_and_the_others_are_stored() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    fixture.store.judge_by(|_, row| match row.id.as_str() {
        "3" => WriteOutcome::Rejected("never".into()),
        "5" => WriteOutcome::Retry("not now, and not later".into()),
        _ => WriteOutcome::Stored,
    });
    let rows = (0..10).map(|id| fixture.row(id, 1)).collect();
    fixture.lane.write(rows).await;
    fixture.lane.drained().await;
    ensure!(fixture.count("storage_rejected_rows_total") == 2);
    let expected = [0, 1, 2, 4, 6, 7, 8, 9].map(|id| (id, 1));
    ensure!(fixture.finish().await? == expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_sheds_and_counts_while_the_store_is_away() -> Result<()> {
    for takes_nothing in [false, true] {
        let fixture = fixture(100_000)?;
        // Away, or there without taking anything: both are no reason to wait for room.
        fixture.store.set_away(!takes_nothing);
        fixture
            .store
            .judge_by(|_, _| WriteOutcome::Retry("429".into()));
        fixture.lane.write_or_shed(vec![fixture.row(0, 1)]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        for id in 1..2000 {
            fixture.lane.write_or_shed(vec![fixture.row(id, 1)]).await;
        }
        ensure!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        ensure!(!fixture.lane.has_room());
        let shed = fixture.count("storage_shed_rows_total");
        ensure!((1000..2000).contains(&shed), "{shed} shed");
        fixture.store.set_away(false);
        fixture.store.judge_by(|_, _| WriteOutcome::Stored);
        fixture.lane.drained().await;
        ensure!(fixture.lane.has_room());
        // All that was not shed, which is what came first.
        let kept = 2000 - usize::try_from(shed)?;
        let expected: Vec<_> = (0..kept).map(|id| (id, 1)).collect();
        ensure!(fixture.finish().await? == expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_small_batches_do_not_hold_up_whoever_brings_them() -> Result<()> {
    const ROWS: usize = 80_000;
    let fixture = fixture(usize::MAX)?;
    fixture.store.set_away(true);
    let bringing = async {
        for id in 0..ROWS {
            fixture.lane.write_or_shed(vec![fixture.row(id, 1)]).await;
        }
    };
    let patience = Duration::from_secs(30);
    timeout(patience, bringing)
        .await
        .context("it was held up")?;
    let shed = usize::try_from(fixture.count("storage_shed_rows_total"))?;
    ensure!(shed > 0);
    fixture.store.set_away(false);
    ensure!(fixture.finish().await?.len() == ROWS - shed);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_not_taken_for_long_do_not_hold_up_the_others() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    let is_red = Arc::new(AtomicBool::new(true));
    let red = Arc::clone(&is_red);
    // As those of an index without a primary shard.
    fixture.store.judge_by(move |_, row| {
        let id: u32 = row.id.parse().unwrap_or(0);
        match id.is_multiple_of(4) && red.load(Ordering::SeqCst) {
            true => WriteOutcome::Retry("503".into()),
            false => WriteOutcome::Stored,
        }
    });
    let began = Instant::now();
    for version in 1..=10 {
        let rows = (0..100).map(|id| fixture.row(id, version)).collect();
        fixture.lane.write(rows).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    let others = fixture.store.rows();
    ensure!(others.len() == 75, "{}", others.len());
    for row in others.values() {
        ensure!(row.cells[1].as_text() == Some("10"), "{row:?}");
    }
    // Who asks is told when all of it is stored, not earlier.
    let drained = timeout(Duration::from_secs(30), fixture.lane.drained()).await;
    ensure!(drained.is_err());
    is_red.store(false, Ordering::SeqCst);
    fixture.lane.drained().await;
    ensure!(
        began.elapsed() < Duration::from_secs(110),
        "{:?}",
        began.elapsed()
    );
    let stored = fixture.count("storage_stored_rows_total");
    let replaced = fixture.count("storage_replaced_rows_total");
    ensure!(
        stored + replaced == 1000 && replaced == 225,
        "{stored} {replaced}"
    );
    let expected: Vec<_> = (0..100).map(|id| (id, 10)).collect();
    ensure!(fixture.finish().await? == expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_waits_aside_is_written_before_the_end_and_given_up_at_last() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    fixture.store.judge_by(|write, row| match row.id.as_str() {
        "1" if write < 20 => WriteOutcome::Retry("for some time".into()),
        "2" => WriteOutcome::Retry("for ever".into()),
        _ => WriteOutcome::Stored,
    });
    fixture
        .lane
        .write((0..5).map(|id| fixture.row(id, 1)).collect())
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(fixture.store.rows().len() == 3);
    let registry = fixture.registry.clone();
    ensure!(fixture.finish().await? == [0, 1, 3, 4].map(|id| (id, 1)));
    ensure!(count(&registry, "storage_rejected_rows_total") == 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_everything_for_hours_loses_nothing_that_has_room() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    let refused = || WriteOutcome::Retry("disk is full".into());
    fixture.store.judge_by(move |_, _| refused());
    for id in 0..100 {
        fixture.lane.write(vec![fixture.row(id, 1)]).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    fixture.store.judge_by(|_, _| WriteOutcome::Stored);
    fixture.lane.drained().await;
    ensure!(fixture.count("storage_rejected_rows_total") == 0);
    let expected: Vec<_> = (0..100).map(|id| (id, 1)).collect();
    ensure!(fixture.finish().await? == expected);
    Ok(())
}
