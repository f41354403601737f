//! Between the stages and a store: bounded lanes that write rows in order and try again until they are stored.
//!
//! A lane writes one batch at a time, so a later version of a row never overtakes an earlier one. A store that is away
//! keeps the lane waiting; whoever fills lanes decides what to do when one is full.

mod metrics;
mod put_off;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::dead_letters::{DeadLetter, DeadLetters};
use super::{Backend, WriteOutcome};
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;
pub use metrics::WriterMetrics;
use put_off::{PutOff, Wait, waited};

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
    /// Told whenever rows have left the lane.
    drained: Arc<Notify>,
    is_away: Arc<AtomicBool>,
    max_bytes: usize,
    metrics: WriterMetrics,
    shed_log: Arc<Throttle>,
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
    drained: Arc<Notify>,
    is_away: Arc<AtomicBool>,
    storage: Arc<S>,
    linger: Duration,
    max_bytes: usize,
    put_off: PutOff,
    /// Batches written so far.
    batches: u64,
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
/// How often a store that takes others may put off the same row, about a quarter of an hour. Then it is given up: it keeps
/// its shard from forgetting what is stored.
const MAX_REFUSALS: u32 = 100;
/// After so many refusals, about three seconds, rows wait aside and others are tried.
const REFUSALS_IN_LINE: u32 = 6;
/// The part of a lane's bytes that may wait aside; beyond, the lane waits for them.
const PUT_OFF_PART: usize = 4;
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
        drained: Arc::default(),
        is_away: Arc::default(),
        max_bytes,
        metrics: metrics.clone(),
        shed_log: Arc::new(Throttle::new(Clock::System)),
    };
    let writer = LaneWriter {
        name,
        orders,
        queued: Arc::clone(&lane.queued),
        drained: Arc::clone(&lane.drained),
        is_away: Arc::clone(&lane.is_away),
        storage,
        linger,
        max_bytes,
        put_off: PutOff::new(),
        batches: 0,
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

    /// Waits until the lane is below its bounds.
    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
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
                if let Some(held_back) = self.shed_log.admit() {
                    tracing::warn!(
                        lane = self.name,
                        rows = rows.len(),
                        held_back,
                        "rows given up, the store does not keep up and the memory budget (-Xmx) has no more room for them"
                    );
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
        loop {
            let order = match self.put_off.next_try() {
                None => self.orders.recv().await,
                Some(at) if at <= Instant::now() => {
                    self.write_put_off().await;
                    continue;
                }
                Some(at) => match tokio::time::timeout_at(at, self.orders.recv()).await {
                    Ok(order) => order,
                    Err(_) => continue,
                },
            };
            match order {
                Some(Order::Notify(done)) => self.put_off.listen(self.batches, done),
                Some(Order::Write(rows, bytes)) => {
                    let (rows, bytes, waiting) = self.gather(rows, bytes).await;
                    self.write_batch(rows, bytes).await;
                    if let Some(done) = waiting {
                        self.put_off.listen(self.batches, done);
                    }
                }
                None => break,
            }
        }
        while let Some(at) = self.put_off.next_try() {
            tokio::time::sleep_until(at).await;
            self.write_put_off().await;
        }
    }

    async fn write_batch(&mut self, rows: Vec<Row>, bytes: usize) {
        self.batches += 1;
        let before = self.put_off.bytes();
        let waits = self.put_off.replaced_by(&rows);
        self.metrics.replaced.inc_by(waits.len() as u64);
        let refused = self.store(rows).await;
        let first = Wait {
            batch: self.batches,
            refusals: REFUSALS_IN_LINE,
        };
        let replaced = self.put_off.add(refused, &waits, first);
        self.metrics.replaced.inc_by(replaced);
        self.settled(before + bytes);
    }

    /// Tries again what waits aside.
    async fn write_put_off(&mut self) {
        let before = self.put_off.bytes();
        let (rows, waits) = self.put_off.take();
        let offered = rows.len();
        let again = match self.storage.write(&rows).await {
            Ok(outcomes) => {
                let outcomes = rows.iter().zip(outcomes).map(|(row, outcome)| {
                    let wait = waited(&waits, row);
                    match wait.is_some_and(|wait| wait.refusals >= MAX_REFUSALS) {
                        true => given_up(outcome),
                        false => outcome,
                    }
                });
                let outcomes = outcomes.collect();
                let settled = self.settle(rows, outcomes);
                self.bury(settled.rejected).await;
                if settled.again.len() < offered {
                    self.note_away(false, "");
                }
                if let Some(reason) = settled.why_again {
                    self.say_waiting(settled.again.len(), &reason);
                }
                settled.again
            }
            Err(error) => {
                self.metrics.failed.inc();
                self.say_waiting(rows.len(), &error.to_string());
                rows
            }
        };
        // A store that takes nothing at all says nothing about these rows.
        let refusals = u32::from(!self.is_away.load(Ordering::Relaxed));
        self.put_off.add_again(again, &waits, refusals);
        self.settled(before);
    }

    /// Of so many bytes only what waits aside is still held.
    fn settled(&mut self, bytes: usize) {
        let freed = bytes.saturating_sub(self.put_off.bytes());
        self.queued.fetch_sub(freed, Ordering::Relaxed);
        let gauge = self.metrics.queued.with_label_values(&[self.name]);
        gauge.set(self.queued.load(Ordering::Relaxed) as i64);
        self.drained.notify_waiters();
        self.put_off.answer();
    }

    /// Adds what else comes within the linger time, until someone waits for what was queued so far.
    async fn gather(
        &mut self,
        mut rows: Vec<Row>,
        mut bytes: usize,
    ) -> (Vec<Row>, usize, Option<oneshot::Sender<()>>) {
        let deadline = Instant::now() + self.linger;
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

    /// Writes rows until each is stored, refused for good, or refused again and again by a store that answers; returns
    /// those.
    async fn store(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
        let mut takes_others = false;
        while !rows.is_empty() {
            let offered = rows.len();
            let refusal = match self.storage.write(&rows).await {
                Ok(outcomes) => {
                    debug_assert_eq!(outcomes.len(), offered, "one outcome per row");
                    refusals += 1;
                    let outcomes = if refusals < MAX_REFUSALS || !takes_others {
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
                    takes_others = false;
                    Some(error.to_string())
                }
            };
            let reason = refusal.as_deref().unwrap_or_default();
            takes_others |= rows.len() < offered;
            // A store that answers but takes nothing is as good as none.
            let is_news = self.note_away(!takes_others, reason);
            if !is_news && !rows.is_empty() {
                self.say_waiting(rows.len(), reason);
            }
            let has_room = self.put_off.bytes() <= self.max_bytes / PUT_OFF_PART;
            if has_room && refusals >= REFUSALS_IN_LINE {
                break;
            }
            if !rows.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        rows
    }

    /// Remembers whether the store takes anything, and says when it no longer does; whether it said that.
    fn note_away(&self, is_away: bool, reason: &str) -> bool {
        let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
        if was_away && !is_away {
            tracing::info!(lane = self.name, "storage is back, writing resumes");
        }
        let is_news = is_away && !was_away;
        if is_news {
            tracing::warn!(
                lane = self.name,
                reason,
                "storage does not take writes, waiting"
            );
        }
        is_news
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
        let mut stored: HashMap<*const Model, (Arc<Model>, u64), foldhash::fast::FixedState> =
            HashMap::default();
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
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    size_of::<Row>() + row.id.len() + size_of_val(row.cells.as_slice()) + cells
}
