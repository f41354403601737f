//! Analysis and aggregation without receivers, over a store in memory, with a clock that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use oap::analyzer::{Analyzer, Facts};
use oap::model::message::Message;
use oap::model::time_bucket::Zone;
use oap::storage::writer::{Lane, WriterMetrics, lane};
use oap::stream::shard::Dependencies;
use oap::stream::{AddressBook, Earlier, Input, Shard, ShardMetrics, StreamOptions};
use oap::telemetry::Stay;
use oap::util::clock::Clock;
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::every_metric::{analyzer, compiled};
use crate::memory_store::MemoryStore;

const MINUTE_MS: i64 = 60_000;

/// Analysis and aggregation of one process.
pub struct Aggregation {
    clock_ms: Arc<AtomicI64>,
    pub registry: Registry,
    analyzer: Analyzer,
    shards: Vec<mpsc::Sender<Input>>,
    lane: Lane,
    tasks: JoinSet<()>,
}

impl Aggregation {
    pub fn start(shards: usize, fixture: &Fixture, options: StreamOptions) -> Result<Aggregation> {
        let Fixture {
            store,
            clock_ms,
            addresses,
            lane_bytes,
        } = fixture;
        let compiled = compiled()?;
        let registry = Registry::new();
        let clock = Clock::Fixed(Arc::clone(clock_ms));
        let mut tasks = JoinSet::new();
        let writer_metrics = WriterMetrics::new(&registry)?;
        let linger = Duration::from_millis(200);
        let storage = Arc::clone(store);
        let (lane, writer) = lane("test", storage, *lane_bytes, linger, writer_metrics);
        tasks.spawn(writer.run());
        let metrics = ShardMetrics::new(&registry)?;
        let earlier = Arc::new(Earlier::default());
        let senders = (0..shards).map(|_| {
            let (sender, inbox) = mpsc::channel(16);
            let dependencies = Dependencies {
                plan: Arc::clone(&compiled.plan),
                schema: Arc::clone(&compiled.schema),
                storage: Arc::clone(store),
                lane: lane.clone(),
                addresses: Arc::clone(addresses),
                earlier: Arc::clone(&earlier),
                zone: Zone::utc(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            };
            tasks.spawn(Shard::new(dependencies, options).run(inbox));
            sender
        });
        let shards = senders.collect();
        let analyzer = analyzer(clock, Arc::clone(addresses))?;
        Ok(Aggregation {
            clock_ms: Arc::clone(clock_ms),
            registry,
            analyzer,
            shards,
            lane,
            tasks,
        })
    }

    /// Takes messages in as one batch.
    pub async fn report(&mut self, messages: &[Message]) -> Result<()> {
        let mut facts = Facts::new(self.shards.len());
        for message in messages {
            self.analyzer.analyze(message, &mut facts)?;
        }
        self.send(facts).await
    }

    pub async fn send(&self, mut facts: Facts) -> Result<()> {
        for (shard, facts) in self.shards.iter().zip(facts.take_shards()) {
            shard.send(Input::Facts(facts, Stay::begin(None))).await?;
        }
        Ok(())
    }

    pub async fn flush(&self) -> Result<()> {
        for shard in &self.shards {
            let (done, is_done) = oneshot::channel();
            shard.send(Input::Flush(done)).await?;
            is_done.await?;
        }
        self.lane.drained().await;
        Ok(())
    }

    /// Lets so much time pass that everything over is forgotten.
    pub async fn forget(&self) -> Result<()> {
        self.flush().await?;
        self.clock_ms.fetch_add(3 * MINUTE_MS, Ordering::SeqCst);
        self.flush().await
    }

    /// As a shutdown does.
    pub async fn stop(self) -> Result<()> {
        drop((self.shards, self.lane));
        let mut tasks = self.tasks;
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    pub fn gauge(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |f| f.get_metric()[0].get_gauge().get_value())
    }
}

/// What outlives a process.
pub struct Fixture {
    pub store: Arc<MemoryStore>,
    pub clock_ms: Arc<AtomicI64>,
    pub addresses: Arc<AddressBook>,
    /// What the lane may hold.
    pub lane_bytes: usize,
}

impl Fixture {
    pub fn new(now_ms: i64) -> Fixture {
        Fixture {
            store: Arc::default(),
            clock_ms: Arc::new(now_ms.into()),
            addresses: Arc::new(AddressBook::new(1000)),
            lane_bytes: 1 << 30,
        }
    }

    pub fn start(&self, shards: usize) -> Result<Aggregation> {
        Aggregation::start(shards, self, StreamOptions::default())
    }

    /// An empty store for one that knows already who answers where.
    pub fn again(&self, now_ms: i64) -> Fixture {
        Fixture {
            addresses: Arc::clone(&self.addresses),
            ..Fixture::new(now_ms)
        }
    }
}
