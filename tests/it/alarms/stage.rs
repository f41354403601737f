//! The alarm task and a store that is away: nothing is forgotten, nothing is overwritten. Time is virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::alarm::{AlarmMetrics, AlarmStage, Alarms};
use oap::dsl::alarm;
use oap::model::entity::Entity;
use oap::model::minute_value::{Calculated, MinuteValue};
use oap::model::row::Cell;
use oap::model::scope::{NodeType, Scope};
use oap::model::time_bucket::Zone;
use oap::storage::writer::{WriterMetrics, lane};
use oap::telemetry::{Registry, Throttle};
use oap::util::clock::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{MINUTE_MS, SHOP, START_MS, metric};
use crate::every_metric::compiled;
use crate::memory_store::MemoryStore;

const RULE: &str = "rules: {slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 3, count: 2}}";

struct Process {
    registry: Registry,
    clock_ms: Arc<AtomicI64>,
    values: mpsc::Sender<Vec<MinuteValue>>,
    stage: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Process {
    fn start(store: &Arc<MemoryStore>, minute: i64) -> Result<Process> {
        let registry = Registry::new("h", 1);
        let clock_ms = Arc::new(AtomicI64::new(START_MS + minute * MINUTE_MS));
        let clock = Clock::Fixed(Arc::clone(&clock_ms));
        let metrics = WriterMetrics::new(registry.prometheus())?;
        let linger = Duration::from_millis(10);
        let (lane, writer) = lane("test", Arc::clone(store), 1 << 20, linger, metrics);
        let schema = &compiled()?.schema;
        let settings = alarm::compile("alarm-settings.yml", RULE, &[]);
        let rules = settings.ok().context("no rules")?.rules;
        let stage = AlarmStage {
            alarms: Alarms::new(rules, clock.now_ms(), 10),
            storage: Arc::clone(store),
            lane,
            record: schema.model("alarm_record").cloned(),
            state: Arc::clone(schema.model("alarm_state").context("no model")?),
            hooks: vec![],
            zone: Zone::utc(),
            clock: clock.clone(),
            metrics: AlarmMetrics::new(&registry)?,
            log: Throttle::new(clock),
        };
        let (values, inbox) = mpsc::channel(8);
        Ok(Process {
            registry,
            clock_ms,
            values,
            stage: tokio::spawn(stage.run(inbox)),
            writer: tokio::spawn(writer.run()),
        })
    }

    /// A slow minute.
    async fn slow(&self, minute: usize) -> Result<()> {
        let schema = &compiled()?.schema;
        let value = MinuteValue {
            metric: Arc::clone(schema.model("service_resp_time").context("no model")?),
            entity: Arc::new(Entity::new(Scope::Service, NodeType::Normal, SHOP, [])),
            minute: [202_009_151_059, 202_009_151_100, 202_009_151_101][minute],
            value: Calculated::Number(2000.0),
        };
        Ok(self.values.send(vec![value]).await?)
    }

    /// Lets time pass until well after the check of a minute.
    async fn check(&self, minute: i64) {
        self.clock_ms
            .store(START_MS + minute * MINUTE_MS + 16_000, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    async fn stop(self) -> Result<()> {
        drop(self.values);
        self.stage.await?;
        Ok(self.writer.await?)
    }
}

fn state(store: &MemoryStore) -> Result<Cell> {
    let row = store.row("alarm_state", "slow_rule").context("no state")?;
    Ok(row.cell("state").clone())
}

fn alarms(store: &MemoryStore) -> usize {
    let rows = store.rows();
    rows.keys()
        .filter(|(model, ..)| model == "alarm_record")
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_rules_and_loses_nothing() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let first = Process::start(&store, 0)?;
    first.slow(0).await?;
    first.slow(1).await?;
    first.check(1).await;
    // Two minutes match, one check found so.
    ensure!(alarms(&store) == 0);
    first.stop().await?;
    let before = state(&store)?;

    // One that ends before it knows anything leaves what is stored alone.
    store.set_away(true);
    let second = Process::start(&store, 2)?;
    second.slow(2).await?;
    second.check(2).await;
    let failures = "alarm_state_failures_total{sw_backend_instance=\"h_1\",action=\"read\"}";
    ensure!(metric(&second.registry, failures)? > 2);
    second.stop().await?;
    store.set_away(false);
    ensure!(state(&store)? == before);

    // The value waits until the state is there, and the check too.
    store.set_away(true);
    let third = Process::start(&store, 2)?;
    third.slow(2).await?;
    third.check(2).await;
    store.set_away(false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    ensure!(alarms(&store) == 1, "{}", alarms(&store));

    // What could not be stored is stored after the next check.
    store.set_away(true);
    let before = state(&store)?;
    third.check(3).await;
    let failures = "alarm_state_failures_total{sw_backend_instance=\"h_1\",action=\"write\"}";
    ensure!(metric(&third.registry, failures)? == 1);
    store.set_away(false);
    third.check(4).await;
    ensure!(state(&store)? != before);
    third.stop().await?;
    ensure!(alarms(&store) == 2, "{}", alarms(&store));
    Ok(())
}
