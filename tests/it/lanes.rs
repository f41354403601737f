//! What a lane does with a store that fails, takes a part, or refuses: nothing is lost or overtaken, and memory stays bounded.
//!
//! Time is virtual: pauses between attempts cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::model::row::{Cell, Row, RowKey};
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
    let stored = fixture.count("storage_stored_rows_total");
    let replaced = fixture.count("storage_replaced_rows_total");
    ensure!(stored + replaced == 2000, "{stored} {replaced}");
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
    let registry = fixture.registry.clone();
    let expected = [0, 1, 2, 4, 6, 7, 8, 9].map(|id| (id, 1));
    ensure!(fixture.finish().await? == expected);
    ensure!(count(&registry, "storage_rejected_rows_total") == 2);
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
        let text = prometheus::TextEncoder::new().encode_to_string(&fixture.registry.gather())?;
        ensure!(text.contains(r#"reason="store_away""#), "{text}");
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
        "1" if write < 10 => WriteOutcome::Retry("for some time".into()),
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

/// A blocked index: none of its rows are taken, whatever else is.
fn blocked(fixture: &Fixture, model: &'static str) -> Arc<AtomicBool> {
    let is_blocked = Arc::new(AtomicBool::new(true));
    let blocked = Arc::clone(&is_blocked);
    fixture.store.judge_by(move |_, row| {
        match row.model.name == model && blocked.load(Ordering::SeqCst) {
            true => WriteOutcome::Retry("403 index blocked".into()),
            false => WriteOutcome::Stored,
        }
    });
    is_blocked
}

/// A service, of another model than the rows of the fixture.
fn service(id: usize, version: usize) -> Result<Row> {
    let schema = Schema::build(&[], &[], &[], false);
    let model = schema.model("service_traffic").context("no model")?;
    Ok(Row {
        model: Arc::clone(model),
        id: id.to_string(),
        time_bucket: MINUTE,
        cells: vec![Cell::text(version.to_string()), Cell::Long(0)],
    })
}

#[tokio::test(start_paused = true)]
async fn a_blocked_index_costs_the_others_nothing() -> Result<()> {
    let fixture = fixture(usize::MAX)?;
    let is_blocked = blocked(&fixture, MODEL);
    let began = Instant::now();
    for version in 1..=50 {
        let rows = (0..100).map(|id| fixture.row(id, version));
        let rows: Vec<Row> = rows.chain([service(version, version)?]).collect();
        fixture.lane.write(rows).await;
        let (done, is_done) = tokio::sync::oneshot::channel();
        fixture.lane.notify_settled(done).await;
        is_done.await?;
    }
    // Each batch was held up for more than three seconds when it was tried again in line.
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(2), "{took:?}");
    ensure!(fixture.store.rows().len() == 50);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // Asked now and then, with few rows, and nothing of today is given up.
    let writes = fixture.store.writes();
    ensure!((300..500).contains(&writes), "{writes}");
    ensure!(fixture.count("storage_rejected_rows_total") == 0);
    ensure!(fixture.count("storage_retried_rows_total") < 10_000);
    // Whoever looks for the row finds the version that waits.
    let key = |id: &str, time_bucket| RowKey {
        model: Arc::clone(&fixture.model),
        id: id.to_owned(),
        time_bucket,
    };
    for bucket in [Some(MINUTE), Some(20_200_915), None] {
        let held = fixture.lane.held(&key("7", bucket)).context("not held")?;
        ensure!(held.cells[1].as_text() == Some("50"), "{held:?}");
    }
    for key in [key("7", Some(20_200_914)), key("no", Some(MINUTE))] {
        ensure!(fixture.lane.held(&key).is_none());
    }
    is_blocked.store(false, Ordering::SeqCst);
    fixture.lane.drained().await;
    ensure!(fixture.lane.held(&key("7", Some(MINUTE))).is_none());
    let stored = fixture.count("storage_stored_rows_total");
    let replaced = fixture.count("storage_replaced_rows_total");
    ensure!(stored + replaced == 5050, "{stored} {replaced}");
    ensure!(fixture.store.row(MODEL, "7").context("no row")?.cells[1].as_text() == Some("50"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_blocked_index_is_bounded_and_the_oldest_goes() -> Result<()> {
    const MAX_BYTES: usize = 400_000;
    let fixture = fixture(MAX_BYTES)?;
    blocked(&fixture, MODEL);
    for id in 0..3000 {
        fixture.lane.room().await;
        let rows = vec![fixture.row(id, 1), service(id, 1)?];
        fixture.lane.write(rows).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let registry = fixture.registry.clone();
    let rejected = count(&registry, "storage_rejected_rows_total");
    ensure!((1000..2900).contains(&rejected), "{rejected}");
    ensure!(fixture.lane.has_room());
    let newest = RowKey {
        model: Arc::clone(&fixture.model),
        id: "2999".to_owned(),
        time_bucket: Some(MINUTE),
    };
    ensure!(fixture.lane.held(&newest).is_some());
    let oldest = RowKey {
        id: "0".to_owned(),
        ..newest
    };
    ensure!(fixture.lane.held(&oldest).is_none());
    // At the end what is still refused is given up too: nothing is dropped without being counted.
    drop(fixture.lane);
    fixture.writer.await?;
    ensure!(fixture.store.rows().len() == 3000);
    ensure!(count(&registry, "storage_rejected_rows_total") == 3000);
    ensure!(count(&registry, "storage_shed_rows_total") == 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_holds_up_whoever_brings_rows_and_nothing_is_shed() -> Result<()> {
    let fixture = fixture(20_000)?;
    fixture.store.set_delay(Duration::from_secs(8));
    let began = Instant::now();
    for id in 0..1000 {
        fixture.lane.write_when_room(vec![fixture.row(id, 1)]).await;
    }
    // Far longer than who must not wait has patience.
    ensure!(
        began.elapsed() > Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    ensure!(fixture.count("storage_shed_rows_total") == 0);
    let patient = Instant::now();
    fixture
        .lane
        .write_or_shed((0..100).map(|id| fixture.row(id, 2)).collect())
        .await;
    ensure!(
        patient.elapsed() <= Duration::from_secs(6),
        "{:?}",
        patient.elapsed()
    );
    fixture.store.set_delay(Duration::ZERO);
    let versions = fixture.finish().await?;
    ensure!(versions.len() == 1000, "{}", versions.len());
    Ok(())
}
