//! The task that owns what rules remember: takes values in, checks once a minute, stores and hands on alarms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntCounterVec};
use tokio::sync::watch::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::hand_over::{Attempt, HandOver, store};
use super::hooks::{Hooks, NamedTarget};
use super::message::{AlarmMessage, to_rows};
use super::running::{Alarms, Minute};
use super::state::{Layout, Taken};
use super::take_over::{Answer, BYTES_PER_VALUE, STORE_TIMEOUT, TakeOver};
use crate::dsl::alarm::AlarmRule;
use crate::model::minute_value::MinuteValue;
use crate::model::row::Row;
use crate::model::schema::Model;
use crate::model::time_bucket::{Zone, start_of};
use crate::storage::Backend;
use crate::storage::writer::Lane;
use crate::stream::partitions::of_entity;
use crate::stream::{Partitions, Watched};
use crate::telemetry::ledger::kind_of;
use crate::telemetry::{Ledger, Registers, Registry, Throttle};
use crate::util::clock::Clock;

/// Between two looks whether a check is due.
const TICK: Duration = Duration::from_secs(1);

/// Counters of the rules.
#[derive(Debug, Clone)]
pub struct AlarmMetrics {
    fired: IntCounterVec,
    unfit: IntCounterVec,
    windows: Gauge,
    /// What all windows need.
    bytes: Arc<AtomicU64>,
    held: Gauge,
    set_back: IntCounter,
    state_failures: IntCounterVec,
    ledger: Ledger,
}

impl AlarmMetrics {
    /// Fails if the names are taken.
    pub fn new(registry: &Registry) -> prometheus::Result<AlarmMetrics> {
        let metrics = AlarmMetrics {
            fired: registry.counters("alarm_fired_total", "Alarms, by rule", &["rule"])?,
            unfit: registry.counters(
                "alarm_values_dropped_total",
                "Values that rules did not look at, by reason",
                &["reason"],
            )?,
            windows: registry.gauge(
                "alarm_windows",
                "Entities that rules remember, counted for each rule",
            )?,
            bytes: Arc::default(),
            held: registry.gauge(
                "alarm_values_held",
                "Values that wait until what is stored of their entities is read",
            )?,
            set_back: IntCounter::new(
                "alarm_windows_set_back_total",
                "Entities that rules remembered checks of far ahead of the clock",
            )?,
            state_failures: registry.counters(
                "alarm_state_failures_total",
                "Attempts to read or write what rules remember that failed",
                &["action"],
            )?,
            ledger: registry.ledger().clone(),
        };
        registry.register(Box::new(metrics.set_back.clone()))?;
        let (bytes, held) = (Arc::clone(&metrics.bytes), metrics.held.clone());
        registry.memory("alarm-windows", move || {
            bytes.load(Ordering::Relaxed) + held.get() as u64 * BYTES_PER_VALUE
        });
        Ok(metrics)
    }
}

/// Which rules there are and who is told.
#[derive(Debug, Default)]
pub struct AlarmProgram {
    pub rules: Vec<AlarmRule>,
    pub targets: Vec<Arc<NamedTarget>>,
}

/// The task.
#[derive(Debug)]
pub struct AlarmStage<S> {
    pub alarms: Alarms,
    /// The rules and receivers, which may change while it works. The first ones are those of `alarms` and `hooks`.
    pub program: watch::Receiver<Arc<AlarmProgram>>,
    /// In a cluster the entities that this node writes, which are those that it looks at; `None` alone.
    pub owned: Option<watch::Receiver<Partitions>>,
    pub storage: Arc<S>,
    /// Where alarms are stored.
    pub lane: Lane,
    /// Model of alarms; `None` if scripts switched it off.
    pub record: Option<Arc<Model>>,
    /// Model of what rules remember.
    pub state: Arc<Model>,
    pub hooks: Hooks,
    pub zone: Zone,
    pub clock: Clock,
    pub metrics: AlarmMetrics,
    /// For failures of the store and for values that are not looked at.
    pub log: Throttle,
}

impl<S: Backend + 'static> AlarmStage<S> {
    /// Works until the inbox closes. Values of an entity wait until what was remembered of it is read, if need be until the
    /// store is there; what is remembered of entities that go is stored for whoever takes them. Meanwhile the others are checked.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Watched>) {
        let (mut take_over, mut hand_over) = (TakeOver::default(), HandOver::default());
        self.begin(&mut take_over);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was handed on before a check was due and is still to be taken in before it.
        let mut before_check = None;
        loop {
            tokio::select! {
                // A check looks at everything that was handed on before it, and values come after the word whose they are.
                biased;
                Ok(()) = self.program.changed() => {
                    self.take_program().await;
                    if !take_over.entities().is_empty() {
                        self.begin(&mut take_over);
                    }
                }
                Ok(()) = changed(&mut self.owned) => self.begin(&mut take_over),
                answer = take_over.answer() => self.take_answer(answer, &mut take_over),
                attempt = hand_over.attempt() => self.attempted(attempt, &mut hand_over),
                watched = inbox.recv() => match watched {
                    Some(Watched::Values(values)) => {
                        self.add_or_hold(&values, &mut take_over);
                        // Values that come without end must not keep it off.
                        if self.alarms.is_due(self.clock.now_ms()) {
                            let left = before_check.get_or_insert(inbox.len());
                            if *left == 0 {
                                self.check().await;
                                before_check = None;
                            } else {
                                *left -= 1;
                            }
                        }
                    }
                    Some(Watched::Release(gone, done)) => {
                        self.release(gone, done, &mut hand_over);
                        if !take_over.entities().and(gone).is_empty() {
                            self.begin_with(take_over.entities().without(gone), &mut take_over);
                        }
                    }
                    None => break,
                },
                _ = tick.tick() => {
                    self.check().await;
                    before_check = None;
                }
            }
        }
        self.pass_over("unread", take_over.held() as u64);
        self.metrics.held.set(0.0);
        while !hand_over.is_empty() {
            let attempt = hand_over.attempt().await;
            self.attempted(attempt, &mut hand_over);
        }
        self.save().await;
        self.hooks.ended().await;
    }

    /// Begins to read what is remembered of entities that are new here.
    fn begin(&mut self, take_over: &mut TakeOver) {
        let owned = match &mut self.owned {
            Some(owned) => *owned.borrow_and_update(),
            None => Partitions::ALL,
        };
        self.begin_with(owned.without(self.alarms.here()), take_over);
    }

    fn begin_with(&mut self, entities: Partitions, take_over: &mut TakeOver) {
        take_over.begin(entities, &self.alarms, &self.state, &self.storage);
        if entities.is_empty() {
            self.end(take_over);
        }
    }

    fn take_answer(&mut self, answer: Answer, take_over: &mut TakeOver) {
        match answer {
            Ok(rows) => {
                let entities = take_over.entities();
                self.take_stored(take_over.places(), entities, rows);
                self.end(take_over);
            }
            Err(error) => {
                self.state_failed("read", &error);
                if take_over.again(&self.storage) {
                    let partitions = take_over.entities().len();
                    tracing::warn!(
                        partitions,
                        error,
                        "the store does not say what alarm rules remember of a part of the entities: until it does they raise \
                         no alarms, their values wait, and the others are checked"
                    );
                }
            }
        }
    }

    /// Nothing more is to be read: takes in what waited for it.
    fn end(&mut self, take_over: &mut TakeOver) {
        let (held, had_failed) = take_over.end();
        if had_failed {
            let values = held.len();
            tracing::info!(values, "alarm rules go on with all entities of this node");
        }
        for held in held {
            self.add(&held.value, held.seen_ms);
        }
        self.metrics.held.set(0.0);
        self.set_gauges();
    }

    /// Takes values in, those of entities that are being taken over later.
    fn add_or_hold(&mut self, values: &[MinuteValue], take_over: &mut TakeOver) {
        let now_ms = self.clock.now_ms();
        let mut dropped = 0;
        for value in values {
            if take_over.entities().contains(of_entity(&value.entity)) {
                let seen_ms = self.alarms.next_check_ms(now_ms);
                dropped += take_over.hold(value, seen_ms, self.alarms.max_windows());
            } else {
                self.add(value, now_ms);
            }
        }
        self.pass_over("unread", dropped);
        self.metrics.held.set(take_over.held() as f64);
        self.set_gauges();
    }

    fn take_stored(&mut self, places: &[usize], entities: Partitions, rows: Vec<Option<Row>>) {
        let Taken { damaged, left_out } = self.alarms.take_stored(places, entities, rows);
        for row in damaged {
            tracing::warn!(row, "what rules remember cannot be read, they begin anew");
        }
        let full = self.metrics.unfit.with_label_values(&["windows_full"]);
        full.inc_by(left_out);
        self.set_gauges();
    }

    /// Forgets what is remembered of entities that another node looks at from now on, and begins to store it for that.
    fn release(&mut self, gone: Partitions, done: oneshot::Sender<()>, hand_over: &mut HandOver) {
        let now_ms = self.clock.now_ms();
        let rows = self.alarms.take_partitions(gone, &self.state, now_ms);
        let rows = rows.unwrap_or_else(|error| {
            self.state_failed("hand_over", &error.to_string());
            vec![]
        });
        hand_over.begin(rows, done, &self.storage);
        self.alarms.forget(gone);
        self.set_gauges();
    }

    fn attempted(&self, (parting, outcome): Attempt, hand_over: &mut HandOver) {
        let Err(error) = outcome else {
            return parting.over();
        };
        self.state_failed("write", &error.to_string());
        if let Err(parting) = hand_over.again(parting, &self.storage) {
            self.state_failed("hand_over", "given up, the other node goes on without it");
            parting.over();
        }
    }

    /// Goes on with other rules and receivers. What an earlier process stored of a rule that is new here is asked for once:
    /// the others must not wait for the store.
    async fn take_program(&mut self) {
        let program = Arc::clone(&self.program.borrow_and_update());
        self.hooks.replace(&program.targets);
        let new = self.alarms.replace(program.rules.clone());
        let here = self.alarms.here();
        // Of entities that are being taken over they are read with the rest.
        if !new.is_empty() && !here.is_empty() {
            let keys = self.alarms.keys(&new, here, &self.state);
            match tokio::time::timeout(STORE_TIMEOUT, self.storage.load(&keys)).await {
                Ok(Ok(rows)) => self.take_stored(&new, here, rows),
                Ok(Err(error)) => self.state_failed("read", &error.to_string()),
                Err(_) => self.state_failed("read", "no answer in time"),
            }
        }
        self.set_gauges();
        self.save().await;
    }

    fn add(&mut self, value: &MinuteValue, now_ms: i64) {
        let start = start_of(value.minute);
        let Some(at_ms) = start.and_then(|at| self.zone.epoch_ms_near(at, now_ms)) else {
            return;
        };
        let entity = (value.entity.scope, &*value.entity.id);
        let (metric, minute) = (&value.metric.name, Minute::of(at_ms));
        if let Err(unfit) = self
            .alarms
            .add(metric, entity, minute, &value.value, now_ms)
        {
            self.pass_over(unfit.reason(), 1);
        }
    }

    /// Counts values that rules do not look at.
    fn pass_over(&self, reason: &str, values: u64) {
        if values == 0 {
            return;
        }
        self.metrics
            .unfit
            .with_label_values(&[reason])
            .inc_by(values);
        if let Some(held_back) = self.log.admit() {
            tracing::warn!(reason, values, held_back, "alarm rules pass over values");
        }
    }

    async fn check(&mut self) {
        let now_ms = self.clock.now_ms();
        if !self.alarms.is_due(now_ms) {
            return;
        }
        let messages = self.alarms.check(now_ms);
        let set_back = self.alarms.take_set_back();
        if set_back > 0 {
            self.metrics.set_back.inc_by(set_back);
            tracing::warn!(
                windows = set_back,
                "alarm rules remembered checks far ahead of the clock, which was or is wrong: they go on from now"
            );
        }
        self.set_gauges();
        if !messages.is_empty() {
            self.tell(&messages, now_ms).await;
        }
        self.save().await;
    }

    fn set_gauges(&self) {
        self.metrics.windows.set(self.alarms.windows() as f64);
        let bytes = self.alarms.bytes();
        self.metrics.bytes.store(bytes, Ordering::Relaxed);
    }

    async fn tell(&self, messages: &[AlarmMessage], now_ms: i64) {
        for message in messages {
            let rule = message.rule_name.as_str();
            self.metrics.fired.with_label_values(&[rule]).inc();
        }
        tracing::debug!(alarms = messages.len(), "alarms");
        self.hooks.queue(messages);
        if let (Some(model), Some(second)) = (&self.record, self.zone.second(now_ms)) {
            let rows = to_rows(messages, model, second);
            let ledger = &self.metrics.ledger;
            ledger.received(kind_of(model), rows.len() as u64);
            self.lane.write_or_shed(rows).await;
        }
    }

    /// Stores what rules remember; what the store does not take is stored after the next check.
    async fn save(&mut self) {
        let layout = match self.owned {
            Some(_) => Layout::Partitions,
            None => Layout::Rules,
        };
        let now_ms = self.clock.now_ms();
        let rows = match self.alarms.take_changed(layout, &self.state, now_ms) {
            Ok(rows) => rows,
            Err(error) => return self.state_failed("write", &error.to_string()),
        };
        if let Err(error) = store(&*self.storage, &rows).await {
            self.alarms.changed_still(&rows);
            self.state_failed("write", &error.to_string());
        }
    }

    fn state_failed(&self, action: &str, error: &str) {
        let failures = &self.metrics.state_failures;
        failures.with_label_values(&[action]).inc();
        if let Some(held_back) = self.log.admit() {
            tracing::warn!(
                action,
                error,
                held_back,
                "what alarm rules remember is not in step with the store"
            );
        }
    }
}

/// Waits for the next change; for ever where there is nothing that could change.
async fn changed(owned: &mut Option<watch::Receiver<Partitions>>) -> Result<(), RecvError> {
    match owned {
        Some(owned) => owned.changed().await,
        None => std::future::pending().await,
    }
}
