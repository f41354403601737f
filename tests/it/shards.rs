//! Aggregation with everything that can come between: late data, restarts, a store that cannot be read, many shards.
//!
//! The measure is always the same: what is stored must be what one undisturbed shard stores. Time is virtual.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::analyzer::entities::Entities;
use oap::analyzer::{Analyzer, AnalyzerSettings, Facts};
use oap::config::SlowThresholds;
use oap::dsl::oal;
use oap::model::fact::{Fact, MeterValue};
use oap::model::message::Message;
use oap::model::metrics::{Function, MeterDefinition, MeterInput, MeterScope, Ranks};
use oap::model::row::{Cell, Row};
use oap::model::schema::{ModelKind, Schema};
use oap::model::time_bucket::{Downsampling, Zone};
use oap::storage::writer::{Lane, WriterMetrics, lane};
use oap::stream::shard::Dependencies;
use oap::stream::{AddressBook, ApdexThresholds, Input, Plan, Shard, ShardMetrics, StreamOptions};
use oap::util::clock::Clock;
use prometheus::Registry;
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::lanes::count;
use crate::memory_store::MemoryStore;
use crate::segments::Served;

mod steps;

/// 2020-09-15 10:59:30 UTC: the next minutes are in another hour.
const NOW_MS: i64 = 1_600_167_570_000;
const MINUTE_MS: i64 = 60_000;
const SHOP: &str = "c2hvcA==.1";

struct Compiled {
    schema: Arc<Schema>,
    plan: Arc<Plan>,
}

static COMPILED: LazyLock<Result<Compiled, String>> = LazyLock::new(|| {
    let text = include_str!("../../config/oal/core.oal");
    let program = oal::compile(&[("core.oal".to_owned(), text.to_owned())]);
    let program = program.map_err(|mistakes| format!("{mistakes:?}"))?;
    let ranks = Ranks::new([50, 90]).ok_or("no ranks")?;
    let meter = |name: &str, function| MeterDefinition {
        name: name.to_owned(),
        scope: MeterScope::Instance,
        function,
    };
    let meters = [
        meter("meter_load", Function::MeterAvg),
        meter("meter_latency", Function::BucketAvgPercentile { ranks }),
    ];
    let schema = Schema::build(&program.metrics, &meters, &program.disabled, false);
    let thresholds = ApdexThresholds::new([]);
    let plan = Plan::build(&program.metrics, &meters, &schema, thresholds);
    Ok(Compiled {
        schema: Arc::new(schema),
        plan: Arc::new(plan),
    })
});

/// Analysis and aggregation of one process.
struct Aggregation {
    clock_ms: Arc<AtomicI64>,
    registry: Registry,
    analyzer: Analyzer,
    shards: Vec<mpsc::Sender<Input>>,
    lane: Lane,
    tasks: JoinSet<()>,
}

impl Aggregation {
    fn start(
        shards: usize,
        store: &Arc<MemoryStore>,
        clock_ms: &Arc<AtomicI64>,
        options: StreamOptions,
    ) -> Result<Aggregation> {
        let compiled = COMPILED.as_ref().map_err(|e| anyhow::anyhow!("{e}"))?;
        let registry = Registry::new();
        let clock = Clock::Fixed(Arc::clone(clock_ms));
        let addresses = Arc::new(AddressBook::new(1000));
        let mut tasks = JoinSet::new();
        let writer_metrics = WriterMetrics::new(&registry)?;
        let linger = Duration::from_millis(200);
        let (lane, writer) = lane("test", Arc::clone(store), 1 << 30, linger, writer_metrics);
        tasks.spawn(writer.run());
        let metrics = ShardMetrics::new(&registry)?;
        let senders = (0..shards).map(|_| {
            let (sender, inbox) = mpsc::channel(16);
            let dependencies = Dependencies {
                plan: Arc::clone(&compiled.plan),
                schema: Arc::clone(&compiled.schema),
                storage: Arc::clone(store),
                lane: lane.clone(),
                addresses: Arc::clone(&addresses),
                zone: Zone::utc(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            };
            tasks.spawn(Shard::new(dependencies, options).run(inbox));
            sender
        });
        let shards = senders.collect();
        let settings = AnalyzerSettings {
            slow_statements: SlowThresholds {
                by_type: vec![],
                default: 200,
            },
            ..AnalyzerSettings::default()
        };
        let analyzer = Analyzer::new(
            Arc::new(settings),
            &compiled.schema,
            Zone::utc(),
            clock,
            addresses,
        );
        Ok(Aggregation {
            clock_ms: Arc::clone(clock_ms),
            registry,
            analyzer,
            shards,
            lane,
            tasks,
        })
    }

    async fn report(&mut self, served: &Served) -> Result<()> {
        let mut facts = Facts::new(self.shards.len());
        let message = Message::Segment(served.bytes());
        self.analyzer.analyze(&message, &mut facts)?;
        self.send(facts).await
    }

    async fn send(&self, mut facts: Facts) -> Result<()> {
        for (shard, facts) in self.shards.iter().zip(facts.take_shards()) {
            shard.send(Input::Facts(facts)).await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        for shard in &self.shards {
            let (done, is_done) = oneshot::channel();
            shard.send(Input::Flush(done)).await?;
            is_done.await?;
        }
        self.lane.drained().await;
        Ok(())
    }

    /// Lets so much time pass that everything over is forgotten.
    async fn forget(&self) -> Result<()> {
        self.flush().await?;
        self.clock_ms.fetch_add(3 * MINUTE_MS, Ordering::SeqCst);
        self.flush().await
    }

    /// As a shutdown does.
    async fn stop(self) -> Result<()> {
        drop((self.shards, self.lane));
        let mut tasks = self.tasks;
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    fn gauge(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |f| f.get_metric()[0].get_gauge().get_value())
    }
}

struct Fixture {
    store: Arc<MemoryStore>,
    clock_ms: Arc<AtomicI64>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            store: Arc::default(),
            clock_ms: Arc::new(NOW_MS.into()),
        }
    }

    fn start(&self, shards: usize) -> Result<Aggregation> {
        Aggregation::start(
            shards,
            &self.store,
            &self.clock_ms,
            StreamOptions::default(),
        )
    }
}

fn cell(store: &MemoryStore, model: &str, id: &str, column: &str) -> Result<Option<i64>> {
    let row = store
        .row(model, id)
        .with_context(|| format!("no {model} {id}"))?;
    Ok(row.cell(column).as_long())
}

fn served(number: usize, at_ms: i64, latency_ms: i64) -> Served {
    Served::new(number.to_string(), "shop", at_ms, latency_ms)
}

#[tokio::test(start_paused = true)]
async fn late_data_of_a_forgotten_minute_adds_up() -> Result<()> {
    let fixture = Fixture::new();
    let mut process = fixture.start(2)?;
    for number in 0..3 {
        process.report(&served(number, NOW_MS, 100)).await?;
    }
    process.forget().await?;
    let before = process.gauge("stream_rows");
    // Only the day is not over.
    ensure!(before < 100.0, "{before} rows are still held");
    ensure!(count(&process.registry, "stream_read_back_rows_total") > 0);
    for number in 3..5 {
        process.report(&served(number, NOW_MS, 400)).await?;
    }
    process.stop().await?;
    let cell =
        |model, bucket, column| cell(&fixture.store, model, &format!("{bucket}_{SHOP}"), column);
    for bucket in ["202009151059", "2020091510", "20200915"] {
        ensure!(cell("service_cpm", bucket, "total")? == Some(5), "{bucket}");
        ensure!(
            cell("service_resp_time", bucket, "summation")? == Some(1100),
            "{bucket}"
        );
        ensure!(
            cell("service_resp_time", bucket, "value")? == Some(220),
            "{bucket}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn meters_add_up_after_a_restart_and_drop_what_does_not_fit() -> Result<()> {
    let fixture = Fixture::new();
    let entity = Entities::new().metered(MeterScope::Instance, "shop", "pod");
    let mut dropped = 0;
    // The third process sends other buckets.
    for (load, edge) in [(7, 10), (4, 10), (100, 20)] {
        let process = fixture.start(2)?;
        let mut facts = Facts::new(2);
        for (name, input) in [
            ("meter_load", MeterInput::Long(load)),
            (
                "meter_latency",
                MeterInput::Buckets(vec![(0, 1), (edge, 1)]),
            ),
        ] {
            facts.push(Fact::Meter(MeterValue {
                entity: Arc::clone(&entity),
                minute: 202_009_151_059,
                name: name.into(),
                input,
            }));
        }
        process.send(facts).await?;
        process.flush().await?;
        dropped += count(&process.registry, "stream_shed_total");
        process.stop().await?;
    }
    ensure!(
        dropped == 3,
        "one for each of minute, hour and day, {dropped}"
    );
    for bucket in ["202009151059", "2020091510", "20200915"] {
        let id = format!("{bucket}_{SHOP}_cG9k");
        let row = |model| fixture.store.row(model, &id).context("no row");
        let load = row("meter_load")?;
        let numbers = ["summation", "count", "value"].map(|c| load.cell(c).as_long());
        ensure!(numbers == [111, 3, 37].map(Some), "{numbers:?}");
        ensure!(load.cell("service_id").as_text() == Some(SHOP));
        let latency = row("meter_latency")?;
        let texts = ["count", "value", "ranks"].map(|c| latency.cell(c).as_text());
        let want = ["0,2|10,2", "50,10|90,9223372036854775807", "50|90"];
        ensure!(texts == want.map(Some), "{texts:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_delays_and_loses_nothing() -> Result<()> {
    let fixture = Fixture::new();
    let mut process = fixture.start(1)?;
    process.report(&served(0, NOW_MS, 100)).await?;
    process.stop().await?;
    let mut process = fixture.start(1)?;
    fixture.store.fail_loads(5);
    process.report(&served(1, NOW_MS, 100)).await?;
    // What is stored stays until it could be read.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let id = format!("202009151059_{SHOP}");
    ensure!(cell(&fixture.store, "service_cpm", &id, "total")? == Some(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    ensure!(cell(&fixture.store, "service_cpm", &id, "total")? == Some(2));
    process.stop().await
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_the_rest_is_exact() -> Result<()> {
    let fixture = Fixture::new();
    let options = StreamOptions {
        max_rows: 60,
        ..StreamOptions::default()
    };
    let (store, clock_ms) = (&fixture.store, &fixture.clock_ms);
    let mut process = Aggregation::start(1, store, clock_ms, options)?;
    store.set_away(true);
    for number in 0..50 {
        // New rows each minute, while nothing can be written.
        let at_ms = NOW_MS - (number as i64 % 25) * MINUTE_MS;
        process.report(&served(number, at_ms, 100)).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(process.gauge("stream_rows") <= 60.0);
    }
    ensure!(count(&process.registry, "stream_shed_total") > 0);
    store.set_away(false);
    process.stop().await?;
    // A row that was held has every call of its bucket.
    let minutes = store.rows().into_iter().filter(|((model, ..), row)| {
        let is_minute = Downsampling::of(row.time_bucket) == Some(Downsampling::Minute);
        model == "service_cpm" && is_minute
    });
    let totals: Vec<Option<i64>> = minutes
        .map(|(_, row)| row.cell("total").as_long())
        .collect();
    ensure!(
        !totals.is_empty() && totals.iter().all(|n| *n == Some(2)),
        "{totals:?}"
    );
    Ok(())
}

/// What happens to a server.
#[derive(Debug, Clone)]
enum Event {
    Request {
        service: &'static str,
        /// Minutes from now.
        minute: i64,
        latency_ms: i64,
        is_error: bool,
    },
    Flush,
    /// Time passes and quiet rows are forgotten.
    Forget,
    Restart,
    /// So many reads fail.
    Unreadable(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let request = (
        prop::sample::select(vec!["shop", "stock", "web"]),
        -3..=8_i64,
        prop::sample::select(vec![0, 7, 99, 101, 2500, 70_000_i64]),
        any::<bool>(),
    );
    let request = request.prop_map(|(service, minute, latency_ms, is_error)| Event::Request {
        service,
        minute,
        latency_ms,
        is_error,
    });
    prop_oneof![
        8 => request,
        1 => Just(Event::Flush),
        1 => Just(Event::Forget),
        1 => Just(Event::Restart),
        1 => (1..3_u32).prop_map(Event::Unreadable),
    ]
}

type Stored = BTreeMap<(String, String), (u64, Vec<Cell>)>;

/// What a server with so many shards stores; an undisturbed one knows only requests.
async fn outcome(events: &[Event], shards: usize, is_disturbed: bool) -> Result<Stored> {
    let fixture = Fixture::new();
    let mut process = fixture.start(shards)?;
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Request {
                service,
                minute,
                latency_ms,
                is_error,
            } => {
                let at_ms = NOW_MS + minute * MINUTE_MS;
                let served = Served {
                    is_error: *is_error,
                    ..Served::new(number.to_string(), service, at_ms, *latency_ms)
                };
                process.report(&served).await?;
            }
            _ if !is_disturbed => {}
            Event::Flush => process.flush().await?,
            Event::Forget => process.forget().await?,
            Event::Restart => {
                process.stop().await?;
                process = fixture.start(shards)?;
            }
            Event::Unreadable(reads) => fixture.store.fail_loads(*reads),
        }
    }
    process.stop().await?;
    let stored = fixture.store.rows().into_iter();
    Ok(stored
        .map(|((model, id, _), row)| ((model, id), comparable(row)))
        .collect())
}

/// An instance's last ping is that of the last arrival since the start, so metadata compares by its existence.
fn comparable(row: Row) -> (u64, Vec<Cell>) {
    if row.model.kind == ModelKind::Metrics && !row.model.name.ends_with("_traffic") {
        (row.time_bucket, row.cells)
    } else {
        (0, vec![])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_changes_what_is_stored(
        events in prop::collection::vec(event(), 1..40),
        shards in 1..=4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let compared = runtime.block_on(async {
            let expected = outcome(&events, 1, false).await?;
            let stored = outcome(&events, shards, true).await?;
            for (key, wanted) in &expected {
                let found = stored.get(key);
                ensure!(found == Some(wanted), "{key:?}: {found:?}, undisturbed {wanted:?}");
            }
            ensure!(stored.len() == expected.len());
            Ok(())
        });
        if let Err(difference) = compared {
            prop_assert!(false, "{difference:#}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hours_and_days_are_the_sum_of_their_minutes() -> Result<()> {
    let fixture = Fixture::new();
    let mut process = fixture.start(3)?;
    for number in 0..200 {
        // Around the end of an hour, in no order.
        let at_ms = NOW_MS + ((number * 7) % 11 - 5) * MINUTE_MS;
        process
            .report(&served(usize::try_from(number)?, at_ms, number))
            .await?;
        if number % 50 == 49 {
            process.flush().await?;
        }
    }
    process.stop().await?;
    let mut sums: BTreeMap<(String, u64), i64> = BTreeMap::new();
    let mut coarse: BTreeMap<(String, u64), i64> = BTreeMap::new();
    for ((model, ..), row) in fixture.store.rows() {
        let Some(total) = row.cell("total").as_long() else {
            continue;
        };
        match Downsampling::of(row.time_bucket) {
            Some(Downsampling::Minute) => {
                for divisor in [100, 10_000] {
                    let bucket = row.time_bucket / divisor;
                    *sums.entry((model.clone(), bucket)).or_default() += total;
                }
            }
            _ => *coarse.entry((model, row.time_bucket)).or_default() += total,
        }
    }
    ensure!(coarse.contains_key(&("service_cpm".to_owned(), 2_020_091_511)));
    ensure!(coarse == sums, "{coarse:?}\nminutes: {sums:?}");
    Ok(())
}
