//! What ingest costs: recorded segments through decoding, analysis and aggregation, without a store and with the embedded one.
//!
//! `cargo bench --bench ingest [-- SEGMENTS]` prints segments per second of one core and CPU seconds per 100,000 segments,
//! both from the CPU time of the whole process, so that a busy machine changes little. Time to make the input does not
//! count; writing until the last row is stored does.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod input;
mod null_store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use oap::analyzer::{Analyzer, AnalyzerSettings, Facts};
use oap::config::SlowThresholds;
use oap::dsl::oal;
use oap::journal::Message;
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::embedded::Embedded;
use oap::storage::writer::{WriterMetrics, lane};
use oap::storage::{Backend, StorageError};
use oap::stream::shard::Dependencies;
use oap::stream::{AddressBook, ApdexThresholds, Input, Plan, Shard, ShardMetrics, StreamOptions};
use oap::util::clock::Clock;
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCRIPTS: [(&str, &str); 2] = [
    ("core.oal", include_str!("../../config/oal/core.oal")),
    (
        "java-agent.oal",
        include_str!("../../config/oal/java-agent.oal"),
    ),
];
/// Segments that one receiver batch carries.
const BATCH: usize = 64;
const SHARDS: usize = 2;

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let input = input::segments(wanted.unwrap_or(200_000))?;
    println!(
        "{} segments, {:.1} spans and {} bytes each on average",
        input.messages.len(),
        input.spans as f64 / input.messages.len() as f64,
        input.bytes / input.messages.len(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    analysis_only(&input.messages)?;
    runtime.block_on(pipeline("no store", null_store::NullStore, &input.messages))?;
    let dir = tempfile::tempdir()?;
    let embedded = Embedded::open(dir.path())?;
    runtime.block_on(pipeline("embedded store", embedded, &input.messages))
}

fn schema_and_plan() -> anyhow::Result<(Arc<Schema>, Arc<Plan>)> {
    let scripts = SCRIPTS.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let program = oal::compile(&scripts).map_err(|d| anyhow::anyhow!("{d:?}"))?;
    let schema = Schema::build(&program.metrics, &[], &program.disabled, false);
    let plan = Plan::build(&program.metrics, &[], &schema, ApdexThresholds::new([]));
    Ok((Arc::new(schema), Arc::new(plan)))
}

fn analyzer(schema: &Schema, addresses: &Arc<AddressBook>) -> Analyzer {
    let settings = AnalyzerSettings {
        slow_statements: SlowThresholds {
            by_type: vec![],
            default: 200,
        },
        ..AnalyzerSettings::default()
    };
    Analyzer::new(
        Arc::new(settings),
        schema,
        Zone::utc(),
        Clock::System,
        Arc::clone(addresses),
    )
}

/// Decoding and analysis by themselves, on one thread.
fn analysis_only(messages: &[Message]) -> anyhow::Result<()> {
    let (schema, _) = schema_and_plan()?;
    let addresses = Arc::new(AddressBook::new(1_000_000));
    let mut analyzer = analyzer(&schema, &addresses);
    let mut facts = Facts::new(SHARDS);
    let mut emitted = 0;
    let started = Measure::start()?;
    for batch in messages.chunks(BATCH) {
        for message in batch {
            analyzer.analyze(message, &mut facts)?;
        }
        emitted += facts.take_shards().map(|shard| shard.len()).sum::<usize>();
        facts.records.clear();
    }
    started.report("decode and analyse", messages.len())?;
    println!(
        "  {:.1} facts per segment",
        emitted as f64 / messages.len() as f64
    );
    Ok(())
}

/// Analysis, aggregation and writing as the server joins them.
async fn pipeline<S: Backend + 'static>(
    name: &str,
    store: S,
    messages: &[Message],
) -> anyhow::Result<()> {
    let (schema, plan) = schema_and_plan()?;
    let storage = Arc::new(store);
    storage.install(&schema).await?;
    let registry = prometheus::Registry::new();
    let writer_metrics = WriterMetrics::new(&registry)?;
    let shard_metrics = ShardMetrics::new(&registry)?;
    let addresses = Arc::new(AddressBook::new(1_000_000));
    let mut tasks = tokio::task::JoinSet::new();
    let mut open_lane = |name| {
        let (lane, writer) = lane(
            name,
            Arc::clone(&storage),
            64 << 20,
            Duration::from_millis(200),
            writer_metrics.clone(),
        );
        tasks.spawn(writer.run());
        lane
    };
    let metrics = open_lane("metrics");
    let records = open_lane("records");
    let mut shards = Vec::new();
    for _ in 0..SHARDS {
        let (sender, inbox) = mpsc::channel(256);
        let dependencies = Dependencies {
            plan: Arc::clone(&plan),
            schema: Arc::clone(&schema),
            storage: Arc::clone(&storage),
            lane: metrics.clone(),
            addresses: Arc::clone(&addresses),
            zone: Zone::utc(),
            clock: Clock::System,
            metrics: shard_metrics.clone(),
        };
        tasks.spawn(Shard::new(dependencies, StreamOptions::default()).run(inbox));
        shards.push(sender);
    }
    let mut analyzer = analyzer(&schema, &addresses);
    let mut facts = Facts::new(SHARDS);
    let started = Measure::start()?;
    for batch in messages.chunks(BATCH) {
        for message in batch {
            analyzer.analyze(message, &mut facts)?;
        }
        for (shard, facts) in shards.iter().zip(facts.take_shards()) {
            shard.send(Input::Facts(facts)).await?;
        }
        while !records.has_room() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        records.write(std::mem::take(&mut facts.records)).await;
    }
    drop((shards, metrics, records));
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    started.report(name, messages.len())?;
    drop(storage);
    Ok(())
}

/// CPU and wall time since a start.
struct Measure {
    wall: Instant,
    cpu: f64,
}

impl Measure {
    fn start() -> anyhow::Result<Measure> {
        Ok(Measure {
            wall: Instant::now(),
            cpu: cpu_seconds()?,
        })
    }

    fn report(&self, name: &str, segments: usize) -> Result<(), anyhow::Error> {
        let cpu = cpu_seconds()? - self.cpu;
        let wall = self.wall.elapsed().as_secs_f64();
        println!(
            "{name}: {:.0} segments/s per core, {:.2} CPU seconds per 100,000 segments, {:.0} segments/s on this machine",
            segments as f64 / cpu,
            cpu * 100_000.0 / segments as f64,
            segments as f64 / wall,
        );
        Ok(())
    }
}

/// User and system time of this process, from `/proc/self/stat` in ticks of 10 ms.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    anyhow::ensure!(
        ticks > 0 || stat.contains("ingest"),
        "no CPU time in {stat:?}"
    );
    Ok(ticks as f64 / 100.0)
}

/// What a benchmark may say about the store it stands in for.
type Answer<T> = Result<T, StorageError>;
