//! One shard: a task that owns the values of its entities, takes facts in and hands rows to the writer.

mod losses;
mod reading;
mod tenure;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use losses::scope_of;
use reading::Reading;

use super::addresses::AddressBook;
use super::increments::Portion;
use super::merged::Merged;
use super::metadata::Metadata;
use super::partitions::Partitions;
use super::plan::{ApdexThresholds, Plan};
use super::read_back::Earlier;
use super::rows::{Due, Horizon, Key, KeyMap, Now, Ready, Rows};
pub use super::shard_metrics::ShardMetrics;
use super::watched::Watched;
use super::{BYTES_PER_ROW, StreamOptions};
use crate::model::fact::{Fact, MeterValue};
use crate::model::metrics::Value;
use crate::model::schema::Schema;
use crate::model::source::Source;
use crate::model::time_bucket::Zone;
use crate::storage::Backend;
use crate::storage::writer::Lane;
use crate::telemetry::ledger::METRICS;
use crate::telemetry::{Stay, Throttle};
use crate::util::clock::Clock;

/// What comes into a shard.
#[derive(Debug)]
pub enum Input {
    Facts(Vec<Fact>, Stay),
    /// What was collected elsewhere.
    Portion(Portion),
    /// Write everything that was taken in before, then answer.
    Flush(oneshot::Sender<()>),
    /// There are entities from now on that another node wrote.
    Acquire,
    /// Another node writes these; everything about them is stored.
    Forget(Partitions, oneshot::Sender<()>),
}

/// What a shard needs from the others.
#[derive(Debug)]
pub struct Dependencies<S> {
    pub plan: Arc<Plan>,
    pub schema: Arc<Schema>,
    pub storage: Arc<S>,
    pub lane: Lane,
    pub addresses: Arc<AddressBook>,
    /// Of all shards of the process.
    pub earlier: Arc<Earlier>,
    pub zone: Zone,
    pub clock: Clock,
    pub metrics: ShardMetrics,
}

/// The part of the rows that may wait to be merged: one of so many.
const PENDING_PART: usize = 16;

/// Rows made and handed over at once.
const ROWS_PER_ORDER: usize = 1000;
/// Watched values handed on at once, about.
const VALUES_PER_LOT: usize = 1000;

type Increments = Box<[Option<Value>]>;

/// Changed rows on their way to the lane. They are made when the lane has room for them, as they take a multiple of what
/// they are made from.
struct Pass {
    /// Counts passes from 1.
    number: u64,
    metadata_is_done: bool,
    keys: std::vec::IntoIter<Key>,
    /// To be answered when everything of this pass is stored.
    waiting: Vec<oneshot::Sender<()>>,
}

/// The state of one shard.
pub struct Shard<S> {
    deps: Dependencies<S>,
    options: StreamOptions,
    pending: KeyMap<Increments>,
    rows: Rows,
    metadata: Metadata,
    reading: Reading,
    waiting: Vec<oneshot::Sender<()>>,
    /// When it began to work.
    began: Instant,
    is_ending: bool,
    passes: u64,
    pass: Option<Pass>,
    /// The last pass that the lane was asked about, and its answer when everything is stored.
    storing: Option<(u64, oneshot::Receiver<()>)>,
    /// Where values of watched metrics go.
    watcher: Option<mpsc::Sender<Watched>>,
    /// Everything handed over in passes up to this is stored.
    stored: u64,
    /// What this shard adds to the gauges.
    counted: [i64; 4],
    shed_log: Throttle,
    unfit_log: Throttle,
    merged: Merged,
}

impl<S> std::fmt::Debug for Shard<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("pending", &self.pending.len())
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

impl<S: Backend + 'static> Shard<S> {
    pub fn new(deps: Dependencies<S>, options: StreamOptions) -> Shard<S> {
        deps.earlier.join();
        Shard {
            rows: Rows::new(options.max_rows),
            metadata: Metadata::new(&deps.schema, options.max_metadata),
            pending: KeyMap::with_hasher(std::hash::BuildHasherDefault::<Ready>::default()),
            reading: Reading::default(),
            waiting: Vec::new(),
            began: Instant::now(),
            is_ending: false,
            passes: 0,
            pass: None,
            storing: None,
            watcher: None,
            stored: 0,
            counted: [0; 4],
            shed_log: Throttle::new(deps.clock.clone()),
            unfit_log: Throttle::new(deps.clock.clone()),
            merged: Merged::default(),
            deps,
            options,
        }
    }

    /// Hands on the minute values of the metrics that the plan watches, once per flush. What the watcher has no room for
    /// waits, and is then handed on as it is by that time.
    pub fn watched_by(mut self, watcher: mpsc::Sender<Watched>) -> Shard<S> {
        self.watcher = Some(watcher);
        self
    }

    /// Works until the inbox closes, then writes what it holds.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Input>) {
        let mut tick = tokio::time::interval(self.options.flush_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                input = inbox.recv() => match input {
                    Some(Input::Facts(facts, stay)) => {
                        drop(stay);
                        self.absorb(facts);
                    }
                    Some(Input::Portion(portion)) => self.take_in(portion),
                    Some(Input::Acquire) => self.acquire(),
                    Some(Input::Forget(partitions, done)) => {
                        self.forget(partitions).await;
                        // Whoever asked may have given up.
                        done.send(()).unwrap_or_default();
                    }
                    Some(Input::Flush(done)) => {
                        self.waiting.push(done);
                        self.flush();
                    }
                    None => break,
                },
                _ = tick.tick() => self.flush(),
                loaded = self.reading.found() => self.loaded(loaded),
                () = self.deps.lane.room(), if self.pass.is_some() => self.hand_over().await,
            }
        }
        self.finish(&mut tick).await;
    }

    /// Writes everything; keeps trying while the store is away. Whoever stops the process sets the deadline.
    async fn finish(&mut self, tick: &mut tokio::time::Interval) {
        self.is_ending = true;
        let (done, mut is_done) = oneshot::channel();
        self.waiting.push(done);
        self.flush();
        loop {
            tokio::select! {
                _ = &mut is_done => break,
                loaded = self.reading.found() => self.loaded(loaded),
                () = self.deps.lane.room(), if self.pass.is_some() => self.hand_over().await,
                _ = tick.tick() => self.flush(),
            }
        }
    }

    fn absorb(&mut self, facts: Vec<Fact>) {
        let now_ms = self.deps.clock.now_ms();
        let today = self.deps.zone.day(now_ms).unwrap_or(0);
        self.deps.metrics.facts.inc_by(facts.len() as u64);
        let thresholds = self.deps.plan.thresholds();
        let mut homeless = BTreeMap::new();
        for fact in facts {
            let about = scope_of(&fact);
            let has_room = match fact {
                Fact::Source(source) => self.source(&source, &thresholds, today),
                Fact::Meter(value) => {
                    self.meter(&value);
                    true
                }
                Fact::Service { entity, minute } | Fact::Endpoint { entity, minute } => {
                    self.metadata.touch(&entity, minute, today)
                }
                Fact::Instance {
                    entity,
                    minute,
                    last_ping,
                    properties,
                } => {
                    let metadata = &mut self.metadata;
                    metadata.instance(&entity, minute, last_ping, properties, today)
                }
                Fact::Address { alias, minute } => {
                    self.deps.addresses.learn([&*alias]);
                    self.metadata.address(alias, minute, today)
                }
            };
            if !has_room {
                *homeless.entry(about).or_default() += 1;
            }
        }
        self.shed_metadata(&homeless);
        if self.pending.len() >= self.options.max_rows / PENDING_PART {
            self.merge_pending();
        }
    }

    fn source(&mut self, source: &Source, thresholds: &ApdexThresholds, today: u64) -> bool {
        let plan = &self.deps.plan;
        let key = Key {
            entity: Arc::clone(&source.entity),
            bucket: source.minute,
        };
        let items = plan.items(source.entity.scope).len();
        let mut is_new = false;
        let increments = self.pending.entry(key).or_insert_with(|| {
            is_new = true;
            std::iter::repeat_with(|| None).take(items).collect()
        });
        plan.apply(source, thresholds, increments);
        // A second source of the same minute says nothing new about the entity.
        !is_new || self.metadata.touch(&source.entity, source.minute, today)
    }

    fn meter(&mut self, value: &MeterValue) {
        let plan = &self.deps.plan;
        let key = Key {
            entity: Arc::clone(&value.entity),
            bucket: value.minute,
        };
        let items = plan.items(value.entity.scope).len();
        let increments = self
            .pending
            .entry(key)
            .or_insert_with(|| std::iter::repeat_with(|| None).take(items).collect());
        if !plan.apply_meter(value, increments) {
            self.unfit(1);
        }
    }

    fn merge_pending(&mut self) {
        let ms = self.deps.clock.now_ms();
        let now = Now {
            ms,
            uptime_ms: self.uptime_ms(),
        };
        let wanted = self.pending.len() * 3;
        self.rows.make_room(wanted, ms, self.stored);
        let plan = &self.deps.plan;
        let options = &self.options;
        let mut shed = BTreeMap::new();
        for (Key { entity, bucket }, increments) in self.pending.drain() {
            self.merged.count(entity.scope, &increments);
            let hour = options.with_hours.then_some(bucket / 100);
            let day = options.with_days.then_some(bucket / 10_000);
            for bucket in [Some(bucket), hour, day].into_iter().flatten() {
                let rows = &mut self.rows;
                if let Err(reason) = rows.merge(plan, &entity, bucket, &increments, now) {
                    *shed.entry((reason, entity.scope)).or_default() += 1;
                }
            }
        }
        self.merged.tell(plan, options, &self.deps.metrics);
        self.shed_rows(&shed);
        let unfit = self.rows.take_unfit();
        self.unfit(unfit);
    }

    fn hand_on_news(&mut self) {
        while let Some(watcher) = &self.watcher
            && let Ok(room) = watcher.try_reserve()
        {
            let values = self.rows.take_news(&self.deps.plan, VALUES_PER_LOT);
            if values.is_empty() {
                break;
            }
            room.send(Watched::Values(values));
        }
    }

    /// Goes on reading and writing, unless that is under way.
    fn flush(&mut self) {
        self.merge_pending();
        self.hand_on_news();
        self.count();
        self.try_again();
        self.read_on();
        self.write_on();
    }

    /// Starts to write what needs no reading, unless something is being written.
    fn write_on(&mut self) {
        if self.pass.is_none() {
            // Whoever waits goes on waiting for what could not be read.
            let waiting = match self.is_all_read() {
                true => std::mem::take(&mut self.waiting),
                false => vec![],
            };
            self.write(waiting);
        }
    }

    /// The same if somebody waits for that and nothing is left to be read.
    fn write_for_waiting(&mut self) {
        if !self.waiting.is_empty() && self.is_all_read() {
            self.write_on();
        }
    }

    /// Starts a pass over everything that changed.
    fn write(&mut self, waiting: Vec<oneshot::Sender<()>>) {
        let is_awaited = !waiting.is_empty() || !self.waiting.is_empty();
        let due = match is_awaited || self.rows.is_tight() {
            true => Due::ALL,
            false => self.due(),
        };
        self.passes += 1;
        self.pass = Some(Pass {
            number: self.passes,
            metadata_is_done: false,
            keys: self.rows.changed(due).into_iter(),
            waiting,
        });
    }

    /// Hands over the next part of the pass. One at a time, so that facts are taken in between and no shard fills the lane
    /// alone.
    async fn hand_over(&mut self) {
        let Some(pass) = &mut self.pass else { return };
        let began = Instant::now();
        let rows = if pass.metadata_is_done {
            let (plan, keys) = (&self.deps.plan, &mut pass.keys);
            self.rows
                .take_changed(plan, keys, ROWS_PER_ORDER, pass.number)
        } else {
            self.metadata.take_changed(ROWS_PER_ORDER)
        };
        if !rows.is_empty() {
            let metrics = &self.deps.metrics;
            metrics.prepare.observe(began.elapsed().as_secs_f64());
            metrics.ledger.received(METRICS, rows.len() as u64);
            self.deps.lane.write(rows).await;
        } else if !pass.metadata_is_done {
            pass.metadata_is_done = true;
        } else if let Some(pass) = self.pass.take() {
            self.handed_over(pass).await;
        }
    }

    async fn handed_over(&mut self, pass: Pass) {
        for done in pass.waiting {
            match self.is_ending {
                // What a lane keeps waiting is settled when the lane ends, which it does after its shards.
                true => self.deps.lane.notify_settled(done).await,
                false => self.deps.lane.notify(done).await,
            }
        }
        self.learn_stored(pass.number).await;
        let now_ms = self.deps.clock.now_ms();
        let now = horizon(&self.deps.zone, now_ms);
        self.rows.evict(now, now_ms, self.stored);
        self.count();
        self.write_for_waiting();
    }

    fn uptime_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Looks come at steps, and not exactly: what will be due before half a step is over is due now.
    fn due(&self) -> Due {
        let soon = self.uptime_ms() + millis(self.options.flush_interval) / 2;
        Due {
            minutes: soon - millis(self.options.minute_delay),
            coarse: soon - millis(self.options.coarse_delay),
        }
    }

    /// Keeps up with what the lane has stored of what it was given.
    async fn learn_stored(&mut self, pass: u64) {
        if let Some((asked_about, answer)) = &mut self.storing {
            match answer.try_recv() {
                Ok(()) => self.stored = *asked_about,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => {}
            }
        }
        let (done, answer) = oneshot::channel();
        self.deps.lane.notify_settled(done).await;
        self.storing = Some((pass, answer));
    }

    fn count(&mut self) {
        let row_bytes = self.rows.bytes() + self.pending.len() * BYTES_PER_ROW;
        let metadata = &self.metadata;
        let now = [self.rows.len(), metadata.len(), row_bytes, metadata.bytes()];
        let now = now.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let of = &self.deps.metrics;
        let gauges = [&of.rows, &of.metadata, &of.row_bytes, &of.metadata_bytes];
        for ((gauge, now), before) in gauges.into_iter().zip(now).zip(self.counted) {
            gauge.add(now - before);
        }
        self.counted = now;
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The buckets of an instant; 0, which is before every bucket, for one that has none.
fn horizon(zone: &Zone, now_ms: i64) -> Horizon {
    let minute = zone.minute(now_ms).unwrap_or(0);
    Horizon {
        minute,
        hour: minute / 100,
        day: minute / 10_000,
    }
}
