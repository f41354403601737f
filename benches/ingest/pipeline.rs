//! Analysis, aggregation and writing as the server joins them, in virtual time: a flush comes when its time has come
//! in the traffic, however long the machine took. Everything but the store's own threads runs on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use oap::analyzer::{Analyzer, AnalyzerSettings, Facts, Known};
use oap::config::SlowThresholds;
use oap::dsl::oal;
use oap::journal::Message;
use oap::model::fact::Fact;
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::Backend;
use oap::storage::writer::{Lane, WriterMetrics, lane};
use oap::stream::shard::Dependencies;
use oap::stream::{
    AddressBook, ApdexThresholds, Earlier, Input, Plan, Shard, ShardMetrics, StreamOptions,
};
use oap::telemetry::Stay;
use oap::util::clock::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const SCRIPTS: [(&str, &str); 2] = [
    ("core.oal", include_str!("../../config/oal/core.oal")),
    (
        "java-agent.oal",
        include_str!("../../config/oal/java-agent.oal"),
    ),
];
/// Segments that one receiver batch carries.
pub(crate) const BATCH: usize = 64;
/// Analyzers and shards, as on a machine with two cores.
const CORES: usize = 2;
/// What the lanes may hold, as with the default memory budget.
const METRICS_LANE_BYTES: usize = 8 << 20;
const RECORDS_LANE_BYTES: usize = 64 << 20;
/// So long before the traffic the process started: the store is not asked for what an earlier one may have left.
const UP_MS: i64 = 20 * 60 * 1000;

pub(crate) fn schema_and_plan() -> anyhow::Result<(Arc<Schema>, Arc<Plan>)> {
    let scripts = SCRIPTS.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let program = oal::compile(&scripts).map_err(|d| anyhow::anyhow!("{d:?}"))?;
    let schema = Schema::build(&program.metrics, &[], &program.disabled, false);
    let plan = Plan::build(&program.metrics, &[], &schema, ApdexThresholds::new([]));
    Ok((Arc::new(schema), Arc::new(plan)))
}

pub(crate) fn analyzer(schema: &Schema, addresses: &Arc<AddressBook>, clock: Clock) -> Analyzer {
    let settings = AnalyzerSettings {
        slow_statements: SlowThresholds {
            by_type: vec![],
            default: 200,
        },
        ..AnalyzerSettings::default()
    };
    let addresses = Arc::clone(addresses);
    Analyzer::new(Arc::new(settings), schema, Zone::utc(), clock, addresses)
}

/// The stages between the receivers and a store.
pub(crate) struct Pipeline {
    clock_ms: Arc<AtomicI64>,
    analyzers: Vec<Analyzer>,
    facts: Facts,
    shards: Vec<mpsc::Sender<Input>>,
    records: Lane,
    tasks: JoinSet<()>,
    batches: usize,
    registry: prometheus::Registry,
}

impl Pipeline {
    pub(crate) async fn start<S: Backend + 'static>(
        store: S,
        start_ms: i64,
    ) -> anyhow::Result<Pipeline> {
        let (schema, plan) = schema_and_plan()?;
        let storage = Arc::new(store);
        storage.install(&schema).await?;
        let clock_ms = Arc::new(AtomicI64::new(start_ms - UP_MS));
        let clock = Clock::Fixed(Arc::clone(&clock_ms));
        let registry = prometheus::Registry::new();
        let writer_metrics = WriterMetrics::new(&registry)?;
        let shard_metrics = ShardMetrics::new(&registry)?;
        let addresses = Arc::new(AddressBook::new(1_000_000));
        let earlier = Arc::new(Earlier::default());
        let mut tasks = JoinSet::new();
        let mut open_lane = |name, bytes| {
            let storage = Arc::clone(&storage);
            let linger = Duration::from_millis(200);
            let (lane, writer) = lane(name, storage, bytes, linger, writer_metrics.clone());
            tasks.spawn(writer.run());
            lane
        };
        let metrics = open_lane("metrics", METRICS_LANE_BYTES);
        let records = open_lane("records", RECORDS_LANE_BYTES);
        let mut shards = Vec::new();
        for _ in 0..CORES {
            let (sender, inbox) = mpsc::channel(32);
            let dependencies = Dependencies {
                plan: Arc::clone(&plan),
                schema: Arc::clone(&schema),
                storage: Arc::clone(&storage),
                lane: metrics.clone(),
                addresses: Arc::clone(&addresses),
                earlier: Arc::clone(&earlier),
                zone: Zone::utc(),
                clock: clock.clone(),
                metrics: shard_metrics.clone(),
            };
            tasks.spawn(Shard::new(dependencies, StreamOptions::default()).run(inbox));
            shards.push(sender);
        }
        let known = Arc::new(Known::default());
        let analyzers = (0..CORES)
            .map(|_| analyzer(&schema, &addresses, clock.clone()).sharing(&known))
            .collect();
        clock_ms.store(start_ms, Ordering::Relaxed);
        Ok(Pipeline {
            clock_ms,
            analyzers,
            facts: Facts::new(CORES),
            shards,
            records,
            tasks,
            batches: 0,
            registry,
        })
    }

    /// Takes in what arrived at once.
    pub(crate) async fn accept(&mut self, messages: &[Message]) -> anyhow::Result<()> {
        for batch in messages.chunks(BATCH) {
            let turn = self.batches % CORES;
            self.batches += 1;
            for message in batch {
                self.analyzers[turn].analyze(message, &mut self.facts)?;
            }
            let facts: Vec<Vec<Fact>> = self.facts.take_shards().collect();
            self.aggregate(facts).await?;
            let records = std::mem::take(&mut self.facts.records);
            while !self.records.has_room() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.records.write(records).await;
        }
        Ok(())
    }

    /// Hands each shard its facts.
    pub(crate) async fn aggregate(&self, facts: Vec<Vec<Fact>>) -> anyhow::Result<()> {
        for (shard, facts) in self.shards.iter().zip(facts) {
            shard.send(Input::Facts(facts, Stay::begin(None))).await?;
        }
        Ok(())
    }

    /// Lets time pass, and with it whatever is due.
    pub(crate) async fn pass(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.clock_ms.fetch_add(ms, Ordering::Relaxed);
        tokio::time::sleep(time).await;
    }

    /// Metric rows that the shards hold.
    pub(crate) fn rows(&self) -> f64 {
        let families = self.registry.gather();
        let rows = families.iter().filter(|f| f.name() == "stream_rows");
        rows.flat_map(|f| f.get_metric())
            .map(|m| m.get_gauge().get_value())
            .sum()
    }

    /// Until the last row is stored.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        let Pipeline {
            shards,
            records,
            mut tasks,
            ..
        } = self;
        drop((shards, records));
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}
