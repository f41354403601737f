//! Between the stages and a store: bounded lanes that write rows in order and try again until they are stored.
//!
//! A lane writes one batch at a time, so a later version of a row never overtakes an earlier one. A store that is away
//! keeps the lane waiting; whoever fills lanes decides what to do when one is full.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};

use super::dead_letters::{DeadLetter, DeadLetters};
use super::{Backend, WriteOutcome};
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// Counters of all lanes.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    stored: IntCounterVec,
    rejected: IntCounterVec,
    retried: IntCounter,
    failed: IntCounter,
    shed: IntCounterVec,
    queued: IntGaugeVec,
}

impl WriterMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<WriterMetrics> {
        let by = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let plain = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let queued = IntGaugeVec::new(
            Opts::new(
                "storage_queued_bytes",
                "Estimated bytes waiting to be written",
            ),
            &["lane"],
        )?;
        registry.register(Box::new(queued.clone()))?;
        Ok(WriterMetrics {
            stored: by(
                "storage_stored_rows_total",
                "Rows stored, by model",
                "model",
            )?,
            rejected: by(
                "storage_rejected_rows_total",
                "Rows that the store refused for good, by model",
                "model",
            )?,
            shed: by(
                "storage_shed_rows_total",
                "Rows given up because the lane was full, by model",
                "model",
            )?,
            retried: plain(
                "storage_retried_rows_total",
                "Rows written again after a refusal",
            )?,
            failed: plain(
                "storage_failed_writes_total",
                "Writes that failed as a whole",
            )?,
            queued,
        })
    }
}

enum Order {
    Write(Vec<Row>, usize),
    Notify(oneshot::Sender<()>),
}

/// The way into one lane. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    name: &'static str,
    orders: mpsc::Sender<Order>,
    queued: Arc<AtomicUsize>,
    is_away: Arc<AtomicBool>,
    max_bytes: usize,
    metrics: WriterMetrics,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is left to do after a write.
struct Settled {
    again: Vec<Row>,
    /// Why the first of them was put off.
    why_again: Option<String>,
    rejected: Vec<DeadLetter>,
}

/// The other end of a lane: a task.
pub struct LaneWriter<S> {
    name: &'static str,
    orders: mpsc::Receiver<Order>,
    queued: Arc<AtomicUsize>,
    is_away: Arc<AtomicBool>,
    storage: Arc<S>,
    linger: Duration,
    metrics: WriterMetrics,
    dead_letters: Option<Arc<DeadLetters>>,
    log: Throttle,
    rejection_log: Throttle,
}

impl<S> std::fmt::Debug for LaneWriter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneWriter")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A bound for the memory of many small orders; about as many segments as fit into a lane's bytes.
const MAX_ORDERS: usize = 65_536;
/// Room kept so that those who saw it at the same time can all use it.
const SPARE_ORDERS: usize = 256;
/// Rows that go to the store in one write.
const MAX_ROWS_PER_WRITE: usize = 5000;
/// How long a full lane of a working store may hold up whoever fills it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a store that answers may put off the same row; beyond, that row would hold up all others for ever. About a
/// quarter of an hour.
const MAX_REFUSALS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A lane that holds at most about `max_bytes`, and its task, which waits `linger` for more rows to write together.
pub fn lane<S: Backend>(
    name: &'static str,
    storage: Arc<S>,
    max_bytes: usize,
    linger: Duration,
    metrics: WriterMetrics,
) -> (Lane, LaneWriter<S>) {
    let (sender, orders) = mpsc::channel(MAX_ORDERS);
    let lane = Lane {
        name,
        orders: sender,
        queued: Arc::default(),
        is_away: Arc::default(),
        max_bytes,
        metrics: metrics.clone(),
    };
    let writer = LaneWriter {
        name,
        orders,
        queued: Arc::clone(&lane.queued),
        is_away: Arc::clone(&lane.is_away),
        storage,
        linger,
        metrics,
        dead_letters: None,
        log: Throttle::new(Clock::System),
        rejection_log: Throttle::new(Clock::System),
    };
    (lane, writer)
}

impl Lane {
    /// Whether the lane is below its bounds.
    pub fn has_room(&self) -> bool {
        self.queued.load(Ordering::Relaxed) < self.max_bytes
            && self.orders.capacity() > SPARE_ORDERS
    }

    /// Queues rows whatever the bound: for whoever asks [`Lane::has_room`] first.
    pub async fn write(&self, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let bytes = rows.iter().map(row_bytes).sum();
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        let gauge = self.metrics.queued.with_label_values(&[self.name]);
        gauge.set(self.queued.load(Ordering::Relaxed) as i64);
        if self.orders.send(Order::Write(rows, bytes)).await.is_err() {
            tracing::error!(lane = self.name, "writer is gone, rows are lost");
        }
    }

    /// Queues rows if there is room. Waits for room while the store works; rows that find none are shed and counted.
    pub async fn write_or_shed(&self, rows: Vec<Row>) {
        let mut waited = Duration::ZERO;
        while !self.has_room() {
            if self.is_away.load(Ordering::Relaxed) || waited >= PATIENCE {
                for row in &rows {
                    let model = row.model.name.as_str();
                    self.metrics.shed.with_label_values(&[model]).inc();
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            waited += Duration::from_millis(20);
        }
        self.write(rows).await;
    }

    /// Answers when everything queued before is stored.
    pub async fn notify(&self, done: oneshot::Sender<()>) {
        if self.orders.send(Order::Notify(done)).await.is_err() {
            tracing::error!(lane = self.name, "writer is gone");
        }
    }

    /// Waits until everything queued before is stored.
    pub async fn drained(&self) {
        let (done, is_done) = oneshot::channel();
        self.notify(done).await;
        if is_done.await.is_err() {
            tracing::error!(lane = self.name, "writer is gone");
        }
    }
}

impl<S: Backend> LaneWriter<S> {
    /// Keeps what the store refuses for good; without this it is only counted and logged.
    pub fn with_dead_letters(mut self, letters: Arc<DeadLetters>) -> LaneWriter<S> {
        self.dead_letters = Some(letters);
        self
    }

    /// Works until every [`Lane`] is dropped and all is written.
    pub async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Notify(done) => answer(done),
                Order::Write(rows, bytes) => {
                    let (rows, bytes, waiting) = self.gather(rows, bytes).await;
                    self.store(rows).await;
                    self.queued.fetch_sub(bytes, Ordering::Relaxed);
                    let gauge = self.metrics.queued.with_label_values(&[self.name]);
                    gauge.set(self.queued.load(Ordering::Relaxed) as i64);
                    if let Some(done) = waiting {
                        answer(done);
                    }
                }
            }
        }
    }

    /// Adds what else comes within the linger time, until someone waits for what was queued so far.
    async fn gather(
        &mut self,
        mut rows: Vec<Row>,
        mut bytes: usize,
    ) -> (Vec<Row>, usize, Option<oneshot::Sender<()>>) {
        let deadline = tokio::time::Instant::now() + self.linger;
        while rows.len() < MAX_ROWS_PER_WRITE {
            match tokio::time::timeout_at(deadline, self.orders.recv()).await {
                Ok(Some(Order::Write(more, more_bytes))) => {
                    rows.extend(more);
                    bytes += more_bytes;
                }
                Ok(Some(Order::Notify(done))) => return (rows, bytes, Some(done)),
                Ok(None) | Err(_) => break,
            }
        }
        (rows, bytes, None)
    }

    async fn store(&self, mut rows: Vec<Row>) {
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
        while !rows.is_empty() {
            let offered = rows.len();
            let refusal = match self.storage.write(&rows).await {
                Ok(outcomes) => {
                    debug_assert_eq!(outcomes.len(), offered, "one outcome per row");
                    refusals += 1;
                    let outcomes = if refusals < MAX_REFUSALS {
                        outcomes
                    } else {
                        outcomes.into_iter().map(given_up).collect()
                    };
                    let settled = self.settle(rows, outcomes);
                    rows = settled.again;
                    self.bury(settled.rejected).await;
                    settled.why_again
                }
                Err(error) => {
                    self.metrics.failed.inc();
                    Some(error.to_string())
                }
            };
            let reason = refusal.as_deref().unwrap_or_default();
            // A store that answers but takes nothing is as good as none.
            let is_away = rows.len() == offered;
            let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
            if was_away && !is_away {
                tracing::info!(lane = self.name, "storage is back, writing resumes");
            }
            if is_away && !was_away {
                tracing::warn!(
                    lane = self.name,
                    reason,
                    "storage does not take writes, waiting"
                );
            } else if !rows.is_empty() {
                self.say_waiting(rows.len(), reason);
            }
            if !rows.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn say_waiting(&self, rows: usize, reason: &str) {
        if let Some(held_back) = self.log.admit() {
            let queued_bytes = self.queued.load(Ordering::Relaxed);
            tracing::warn!(
                lane = self.name,
                rows,
                queued_bytes,
                reason,
                held_back,
                "rows wait to be written again"
            );
        }
    }

    /// Counts outcomes.
    fn settle(&self, rows: Vec<Row>, outcomes: Vec<WriteOutcome>) -> Settled {
        let mut again = Vec::new();
        let mut why_again = None;
        let mut rejected = Vec::new();
        let mut stored: HashMap<*const Model, (Arc<Model>, u64)> = HashMap::new();
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            match outcome {
                WriteOutcome::Stored => {
                    let count = stored.entry(Arc::as_ptr(&row.model));
                    count.or_insert_with(|| (row.model, 0)).1 += 1;
                }
                WriteOutcome::Retry(reason) => {
                    why_again.get_or_insert(reason);
                    again.push(row);
                }
                WriteOutcome::Rejected(reason) => {
                    let model = row.model.name.as_str();
                    self.metrics.rejected.with_label_values(&[model]).inc();
                    rejected.push(DeadLetter { row, reason });
                }
            }
        }
        for (model, count) in stored.values() {
            let counter = &self.metrics.stored;
            counter.with_label_values(&[&model.name]).inc_by(*count);
        }
        self.metrics.retried.inc_by(again.len() as u64);
        Settled {
            again,
            why_again,
            rejected,
        }
    }

    async fn bury(&self, rejected: Vec<DeadLetter>) {
        let Some(DeadLetter { row, reason }) = rejected.first() else {
            return;
        };
        if let Some(held_back) = self.rejection_log.admit() {
            tracing::warn!(
                model = row.model.name,
                id = row.id,
                reason,
                rejected = rejected.len(),
                held_back,
                "rows rejected by storage"
            );
        }
        if let Some(letters) = &self.dead_letters {
            letters.keep(rejected).await;
        }
    }
}

/// Whoever asked may have given up.
fn answer(done: oneshot::Sender<()>) {
    done.send(()).unwrap_or_default();
}

fn given_up(outcome: WriteOutcome) -> WriteOutcome {
    match outcome {
        WriteOutcome::Retry(reason) => {
            WriteOutcome::Rejected(format!("refused {MAX_REFUSALS} times: {reason}"))
        }
        other => other,
    }
}

fn row_bytes(row: &Row) -> usize {
    let cells: usize = row
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Text(text) => text.len() + 16,
            Cell::Bytes(bytes) => bytes.len() + 16,
            _ => 16,
        })
        .sum();
    size_of::<Row>() + row.id.len() + cells
}
