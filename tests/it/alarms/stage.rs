//! The alarm task and a store that is away: nothing is forgotten, nothing is overwritten. Time is virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::alarm::{AlarmMetrics, AlarmProgram, AlarmStage, Alarms, HookMetrics, Hooks};
use oap::dsl::alarm;
use oap::model::entity::Entity;
use oap::model::minute_value::{Calculated, MinuteValue};
use oap::model::row::Cell;
use oap::model::scope::{NodeType, Scope};
use oap::model::time_bucket::Zone;
use oap::storage::writer::{WriterMetrics, lane};
use oap::stream::{Partitions, Watched, partitions};
use oap::telemetry::{Registry, Throttle};
use oap::util::clock::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{MINUTE_MS, SHOP, START_MS, metric};
use crate::every_metric::compiled;
use crate::memory_store::MemoryStore;

/// [`RULE`] with another threshold.
const OTHER_RULE: &str = "rules: {slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1001, period: 3, count: 2}}";
const RULE: &str = "rules: {slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 3, count: 2}}";

struct Process {
    registry: Registry,
    clock_ms: Arc<AtomicI64>,
    values: mpsc::Sender<Watched>,
    program: watch::Sender<Arc<AlarmProgram>>,
    /// What it writes as a node.
    owned: watch::Sender<Partitions>,
    stage: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Process {
    fn start(store: &Arc<MemoryStore>, minute: i64) -> Result<Process> {
        Process::start_with(store, minute, RULE)
    }

    fn start_with(store: &Arc<MemoryStore>, minute: i64, text: &str) -> Result<Process> {
        Process::start_as(store, minute, text, false)
    }

    /// A node of a cluster, which owns nothing yet.
    fn node(store: &Arc<MemoryStore>, minute: i64) -> Result<Process> {
        Process::start_as(store, minute, RULE, true)
    }

    fn start_as(
        store: &Arc<MemoryStore>,
        minute: i64,
        text: &str,
        is_node: bool,
    ) -> Result<Process> {
        let (owned, told) = watch::channel(Partitions::default());
        let registry = Registry::new("h", 1);
        let clock_ms = Arc::new(AtomicI64::new(START_MS + minute * MINUTE_MS));
        let clock = Clock::Fixed(Arc::clone(&clock_ms));
        let metrics = WriterMetrics::new(&registry)?;
        let linger = Duration::from_millis(10);
        let (lane, writer) = lane("test", Arc::clone(store), 1 << 20, linger, metrics);
        let schema = &compiled()?.schema;
        let first = program(text)?;
        let rules = first.rules.clone();
        let (sender, program) = watch::channel(Arc::new(first));
        let hooks = Hooks::new(
            HookMetrics::new(&registry)?,
            clock.clone(),
            CancellationToken::new(),
        );
        let stage = AlarmStage {
            alarms: Alarms::new(rules, clock.now_ms(), 10),
            program,
            owned: Some(told).filter(|_| is_node),
            storage: Arc::clone(store),
            lane,
            record: schema.model("alarm_record").cloned(),
            state: Arc::clone(schema.model("alarm_state").context("no model")?),
            hooks,
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
            program: sender,
            owned,
            stage: tokio::spawn(stage.run(inbox)),
            writer: tokio::spawn(writer.run()),
        })
    }

    /// Gives it other rules, and time to take them.
    async fn change(&self, text: &str) -> Result<()> {
        self.program.send_replace(Arc::new(program(text)?));
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// From now on another node owns everything; how long it took to hand it over.
    async fn release(&self) -> Result<Duration> {
        let began = Instant::now();
        self.owned.send_replace(Partitions::default());
        let (done, is_done) = oneshot::channel();
        let release = Watched::Release(Partitions::ALL, done);
        self.values.send(release).await?;
        is_done.await?;
        Ok(began.elapsed())
    }

    /// A slow minute.
    async fn slow(&self, minute: usize) -> Result<()> {
        self.slow_of(SHOP, minute).await
    }

    /// The same of another service.
    async fn slow_of(&self, id: &str, minute: usize) -> Result<()> {
        let schema = &compiled()?.schema;
        let value = MinuteValue {
            metric: Arc::clone(schema.model("service_resp_time").context("no model")?),
            entity: Arc::new(Entity::new(Scope::Service, NodeType::Normal, id, [])),
            minute: [202_009_151_059, 202_009_151_100, 202_009_151_101][minute],
            value: Calculated::Number(2000.0),
        };
        Ok(self.values.send(Watched::Values(vec![value])).await?)
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

fn program(text: &str) -> Result<AlarmProgram> {
    let settings = alarm::compile("alarm-settings.yml", text, &[]);
    Ok(AlarmProgram {
        rules: settings.ok().context("no rules")?.rules,
        targets: vec![],
    })
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

/// `slow_rule` fires at the second check that finds two slow minutes.
#[tokio::test(start_paused = true)]
async fn values_that_come_without_end_keep_no_check_off() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let rule = "rules: {slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000}}";
    let process = Process::start_with(&store, -1, rule)?;
    // Between two looks whether a check is due.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let second_16 = START_MS + 16_000;
    process.clock_ms.store(second_16, Ordering::Relaxed);
    // Nobody rests meanwhile, so that no time passes.
    for _ in 0..1000 {
        process.slow(0).await?;
    }
    ensure!(counted(&process, "alarm_fired_total", "rule=\"slow_rule\"")? == 1);
    process.stop().await
}

#[tokio::test(start_paused = true)]
async fn other_rules_leave_those_alone_that_stay_the_same() -> Result<()> {
    for (name, changes, fires) in [
        ("nothing changes", vec![], 1),
        (
            "another rule comes and goes",
            vec![both(), RULE.to_owned()],
            1,
        ),
        ("a field changes", vec![OTHER_RULE.to_owned()], 0),
        (
            "a field changes and back",
            vec![OTHER_RULE.to_owned(), RULE.to_owned()],
            0,
        ),
        (
            "it goes and comes",
            vec!["rules:".to_owned(), RULE.to_owned()],
            0,
        ),
    ] {
        let store = Arc::<MemoryStore>::default();
        let process = Process::start(&store, 0)?;
        process.slow(0).await?;
        process.slow(1).await?;
        process.check(1).await;
        for text in changes {
            process.change(&text).await?;
        }
        process.slow(2).await?;
        process.check(2).await;
        ensure!(alarms(&store) == fires, "{name}: {}", alarms(&store));
        process.stop().await?;
    }
    Ok(())
}

fn both() -> String {
    let other = "other_rule: {metrics-name: service_cpm, op: '>', threshold: 1}";
    RULE.replace("rules: {", &format!("rules: {{{other}, "))
}

#[tokio::test(start_paused = true)]
async fn rules_that_come_after_a_restart_go_on_where_the_process_ended() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let first = Process::start_with(&store, 0, "rules:")?;
    first.change(RULE).await?;
    first.slow(0).await?;
    first.slow(1).await?;
    first.check(1).await;
    ensure!(alarms(&store) == 0);
    first.stop().await?;
    let second = Process::start_with(&store, 2, "rules:")?;
    second.change(RULE).await?;
    second.slow(2).await?;
    second.check(2).await;
    ensure!(alarms(&store) == 1, "{}", alarms(&store));
    // A store that is away keeps no rule from working.
    store.set_away(true);
    second.change("rules:").await?;
    second
        .change(
            &RULE
                .replace("slow_rule", "new_rule")
                .replace("count: 2", "count: 1"),
        )
        .await?;
    let failures = "alarm_state_failures_total{sw_backend_instance=\"h_1\",action=\"read\"}";
    ensure!(metric(&second.registry, failures)? == 1);
    second.slow(2).await?;
    store.set_away(false);
    second.check(3).await;
    ensure!(alarms(&store) == 2, "{}", alarms(&store));
    second.stop().await
}

fn counted(process: &Process, name: &str, label: &str) -> Result<u64> {
    metric(
        &process.registry,
        &format!("{name}{{sw_backend_instance=\"h_1\",{label}}}"),
    )
}

#[tokio::test(start_paused = true)]
async fn a_node_goes_on_where_the_one_before_it_ended() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let (first, second) = (Process::node(&store, 0)?, Process::node(&store, 0)?);
    // What is nobody's is not looked at.
    first.slow(0).await?;
    first.check(0).await;
    let elsewhere = "reason=\"elsewhere\"";
    ensure!(counted(&first, "alarm_values_dropped_total", elsewhere)? == 1);
    first.owned.send_replace(Partitions::ALL);
    first.slow(0).await?;
    first.slow(1).await?;
    first.check(1).await;
    // Two minutes match, one check found so. This value is handed over with the rest.
    first.slow(2).await?;
    let rows = store.writes();
    first.release().await?;
    ensure!(store.writes() == rows + 1);
    second.owned.send_replace(Partitions::ALL);
    first.check(2).await;
    ensure!(alarms(&store) == 0);
    second.check(2).await;
    ensure!(alarms(&store) == 1, "{}", alarms(&store));
    // One row, that of the partition.
    let rows = store.rows();
    let ids = rows.keys().filter(|(model, ..)| model == "alarm_state");
    let ids: Vec<&str> = ids.map(|(_, id, _)| id.as_str()).collect();
    ensure!(
        ids.len() == 1 && ids[0].starts_with("partition-"),
        "{ids:?}"
    );
    second.stop().await?;
    first.stop().await
}

/// Half of the entities, which do not have [`SHOP`] among them, or the other half.
fn half(has_shop: bool) -> Partitions {
    let shop = partitions::of(Scope::Service, SHOP);
    Partitions::select(|partition| (partition % 2 == shop % 2) == has_shop)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_stops_no_checks_of_what_is_in_memory() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let survivor = Process::node(&store, 0)?;
    survivor.owned.send_replace(half(true));
    survivor.slow(0).await?;
    survivor.slow(1).await?;
    survivor.check(1).await;
    // A member goes while the store is away: the survivor takes the other half over, of which it knows nothing.
    store.set_away(true);
    survivor.owned.send_replace(Partitions::ALL);
    survivor.slow(2).await?;
    survivor.check(2).await;
    let fired = "rule=\"slow_rule\"";
    ensure!(counted(&survivor, "alarm_fired_total", fired)? == 1);
    ensure!(counted(&survivor, "alarm_state_failures_total", "action=\"read\"")? > 1);
    // Other rules are taken too.
    let other = RULE.replace("period: 3, count: 2", "period: 9");
    survivor.change(&other).await?;
    survivor.slow(2).await?;
    survivor.check(3).await;
    ensure!(counted(&survivor, "alarm_fired_total", fired)? == 2);
    store.set_away(false);
    survivor.stop().await
}

#[tokio::test(start_paused = true)]
async fn values_of_entities_that_are_taken_over_wait_and_count_for_the_checks_they_came_before()
-> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let survivor = Process::node(&store, 0)?;
    survivor.owned.send_replace(half(false));
    survivor.check(0).await;
    store.set_away(true);
    survivor.owned.send_replace(Partitions::ALL);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Nothing is stored of it: the checks of minutes 1 and 2 find two slow minutes.
    survivor
        .clock_ms
        .store(START_MS + MINUTE_MS, Ordering::Relaxed);
    survivor.slow(0).await?;
    survivor.slow(1).await?;
    survivor.check(1).await;
    survivor.slow(1).await?;
    let held = "alarm_values_held{sw_backend_instance=\"h_1\"}";
    ensure!(metric(&survivor.registry, held)? == 2);
    ensure!(alarms(&store) == 0);
    store.set_away(false);
    survivor.check(2).await;
    let fired = "rule=\"slow_rule\"";
    ensure!(counted(&survivor, "alarm_fired_total", fired)? == 1);
    ensure!(metric(&survivor.registry, held)? == 0);
    // What cannot be read in time is counted.
    let other = Process::node(&store, 0)?;
    store.set_away(true);
    other.owned.send_replace(Partitions::ALL);
    other.slow(0).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let registry = other.registry.clone();
    other.stop().await?;
    let unread = "alarm_values_dropped_total{sw_backend_instance=\"h_1\",reason=\"unread\"}";
    ensure!(metric(&registry, unread)? == 1);
    store.set_away(false);
    survivor.stop().await
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_keep_a_node_from_leaving() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let (first, second) = (Process::node(&store, 0)?, Process::node(&store, 0)?);
    first.owned.send_replace(Partitions::ALL);
    first.slow(0).await?;
    first.slow(1).await?;
    first.check(1).await;
    first.slow(2).await?;
    store.set_away(true);
    let took = first.release().await?;
    ensure!(took < Duration::from_secs(12), "{took:?}");
    let failures = "alarm_state_failures_total";
    ensure!(counted(&first, failures, "action=\"hand_over\"")? == 1);
    // The next one waits for the store, with the value.
    second.owned.send_replace(Partitions::ALL);
    second.slow(2).await?;
    second.check(2).await;
    ensure!(counted(&second, failures, "action=\"read\"")? > 1);
    store.set_away(false);
    second.check(2).await;
    // The check before was stored, the value that was not handed over came again.
    ensure!(alarms(&store) == 1, "{}", alarms(&store));
    // Whoever gave up waiting for it may have been followed by another node, whose row stays.
    let before = store.writes();
    let (done, gone) = oneshot::channel();
    drop(gone);
    second
        .values
        .send(Watched::Release(Partitions::ALL, done))
        .await?;
    second.stop().await?;
    ensure!(store.writes() == before, "it was written");
    first.stop().await
}

#[tokio::test(start_paused = true)]
async fn what_goes_to_another_node_holds_up_no_check_of_the_rest() -> Result<()> {
    let store = Arc::<MemoryStore>::default();
    let node = Process::node(&store, 0)?;
    node.owned.send_replace(Partitions::ALL);
    let is_other = |id: &&str| half(false).contains(partitions::of(Scope::Service, id));
    let others = ["YQ==.1", "Yg==.1", "Yw==.1", "ZA==.1", "ZQ==.1", "Zg==.1"];
    let other = others.into_iter().find(is_other).context("no other")?;
    for minute in [0, 1] {
        node.slow(minute).await?;
        node.slow_of(other, minute).await?;
    }
    node.check(1).await;
    node.slow(2).await?;
    node.slow_of(other, 2).await?;
    // The shop goes while the store is away, and a check is due that fires.
    store.set_away(true);
    node.owned.send_replace(half(false));
    let (done, mut is_done) = oneshot::channel();
    node.values.send(Watched::Release(half(true), done)).await?;
    node.clock_ms
        .store(START_MS + 2 * MINUTE_MS + 16_000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(is_done.try_recv().is_err(), "it is not stored");
    ensure!(counted(&node, "alarm_fired_total", "rule=\"slow_rule\"")? == 1);
    // It is as soon as the store is there.
    store.set_away(false);
    is_done.await?;
    let given_up = "action=\"hand_over\"";
    ensure!(counted(&node, "alarm_state_failures_total", given_up)? == 0);
    node.stop().await
}
