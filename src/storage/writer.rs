//! Between the stages and a store: bounded lanes that write rows in order and try again until they are stored.
//!
//! A lane writes one batch at a time, so a later version of a row never overtakes an earlier one. A store that is away
//! keeps the lane waiting; whoever fills lanes decides what to do when one is full. Rows that a store refuses while it takes
//! others wait aside and are tried again beside the lane.

mod lane;
mod metrics;
mod patience;
mod put_off;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dead_letters::{DeadLetter, DeadLetters};
use super::{Backend, StorageError, WriteOutcome};
use crate::model::row::Row;
use crate::model::schema::Model;
use crate::model::time_bucket::day_of;
use crate::telemetry::ledger::End;
use crate::telemetry::{Stay, Throttle};
use crate::util::clock::Clock;
use crate::util::text::{SHOWN_BYTES, head};
pub use lane::Lane;
pub use metrics::WriterMetrics;
use patience::Patience;
use put_off::{PutOff, Refusal, Sent};

enum Order {
    Write(Vec<Row>, usize, Stay),
    Notify(oneshot::Sender<()>, Until),
}

/// What someone waits for.
#[derive(Debug, Clone, Copy)]
enum Until {
    Stored,
    /// Stored, given up, or waiting aside.
    Settled,
}

/// What was tried again, and what came of it.
type Tried = (Vec<Sent>, Result<Vec<WriteOutcome>, StorageError>);

/// What is left to do after a write.
struct Settled {
    again: Vec<(Row, Option<Refusal>)>,
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
    put_off: Arc<Mutex<PutOff>>,
    /// Of the queued bytes those that wait aside, as of the last look.
    held: usize,
    trying: Option<JoinHandle<Tried>>,
    /// Batches written so far.
    batches: u64,
    metrics: WriterMetrics,
    dead_letters: Option<Arc<DeadLetters>>,
    stop: CancellationToken,
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
/// Rows that go to the store in one write.
const MAX_ROWS_PER_WRITE: usize = 5000;
/// The same while the server stops: a store that answers late is asked less often.
const MAX_ROWS_IN_HASTE: usize = 20_000;
/// After so many refusals, about three seconds, rows of a model and day are taken as refused by themselves if others are not.
const REFUSALS_OF_A_PART: u32 = 6;
/// How long what waits aside is still tried when a lane ends, some of the seconds that a server has to stop.
const LAST_PATIENCE: Duration = Duration::from_secs(8);
/// The part of a lane's bytes that rows which are refused by themselves may take; the oldest beyond are given up.
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
        put_off: Arc::default(),
        max_bytes,
        metrics: metrics.clone(),
        shed_log: Arc::new(Throttle::new(Clock::System)),
        wait: None,
        stay: None,
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
        put_off: Arc::clone(&lane.put_off),
        held: 0,
        trying: None,
        batches: 0,
        metrics,
        dead_letters: None,
        stop: CancellationToken::new(),
        log: Throttle::new(Clock::System),
        rejection_log: Throttle::new(Clock::System),
    };
    (lane, writer)
}

impl<S: Backend + 'static> LaneWriter<S> {
    /// Keeps what the store refuses for good; without this it is only counted and logged.
    pub fn with_dead_letters(mut self, letters: Arc<DeadLetters>) -> LaneWriter<S> {
        self.dead_letters = Some(letters);
        self
    }

    /// From `stop` on the store is tried more often.
    pub fn hastened_by(mut self, stop: CancellationToken) -> LaneWriter<S> {
        self.stop = stop;
        self
    }

    fn put_off(&self) -> MutexGuard<'_, PutOff> {
        locked(&self.put_off)
    }

    /// Works until every [`Lane`] is dropped and all is written.
    pub async fn run(mut self) {
        loop {
            let next_try = self.put_off().next_try();
            let order = tokio::select! {
                tried = ended(&mut self.trying) => {
                    self.tried(tried).await;
                    continue;
                }
                () = at(next_try), if self.trying.is_none() => {
                    self.try_again();
                    continue;
                }
                order = self.orders.recv() => order,
            };
            match order {
                Some(Order::Notify(done, until)) => self.notify(done, until),
                Some(Order::Write(rows, bytes, _stay)) => {
                    let (rows, bytes, waiting) = self.gather(rows, bytes).await;
                    self.write_batch(rows, bytes).await;
                    if let Some((done, until)) = waiting {
                        self.notify(done, until);
                    }
                }
                None => break,
            }
        }
        self.finish().await;
    }

    /// Writes what waits aside, or gives it up after some more refusals or some seconds: nobody will be there to write it
    /// later.
    async fn finish(&mut self) {
        self.put_off().hurry(Instant::now());
        let end = Instant::now() + LAST_PATIENCE;
        loop {
            let is_over = Instant::now() >= end;
            let times = if is_over { 0 } else { REFUSALS_OF_A_PART };
            let refused = self.put_off().refused(times);
            self.give_up(refused, "when the server stopped").await;
            let next_try = self.put_off().next_try();
            if next_try.is_none() {
                // What may be under way is given up already.
                if let Some(trying) = self.trying.take() {
                    trying.abort();
                }
                return;
            }
            tokio::select! {
                tried = ended(&mut self.trying) => self.tried(tried).await,
                () = at(next_try), if self.trying.is_none() => self.try_again(),
                () = tokio::time::sleep_until(end) => {}
            }
        }
    }

    fn notify(&self, done: oneshot::Sender<()>, until: Until) {
        match until {
            Until::Stored => self.put_off().listen(self.batches, done),
            // Whoever asked may have given up.
            Until::Settled => done.send(()).unwrap_or_default(),
        }
    }

    async fn write_batch(&mut self, rows: Vec<Row>, bytes: usize) {
        self.batches += 1;
        let (blocked, rows) = {
            let put_off = self.put_off();
            let is_blocked = |row: &Row| !put_off.is_empty() && put_off.is_blocked(row);
            rows.into_iter().partition::<Vec<Row>, _>(is_blocked)
        };
        let blocked = blocked.into_iter().map(|row| (row, None)).collect();
        self.put_off().add(blocked, self.batches);
        if !rows.is_empty() {
            let refused = self.store(rows).await;
            self.put_off().add(refused, self.batches);
        }
        self.settled(bytes).await;
    }

    /// Starts to try again what is due of what waits aside, beside what else the lane writes.
    fn try_again(&mut self) {
        let sent = self.put_off().due(Instant::now());
        let (storage, metrics) = (Arc::clone(&self.storage), self.metrics.clone());
        self.trying = Some(tokio::spawn(async move {
            let rows: Vec<Row> = sent.iter().map(|sent| sent.row.clone()).collect();
            let outcome = metrics.measure(storage.write(&rows)).await;
            (sent, outcome)
        }));
    }

    async fn tried(&mut self, (sent, outcome): Tried) {
        match outcome {
            Ok(outcomes) => {
                let rows = sent.iter().map(|sent| sent.row.clone()).collect();
                let settled = self.settle(rows, outcomes.clone());
                self.bury(settled.rejected).await;
                if settled.again.len() < sent.len() {
                    self.note_away(false, "");
                }
                if let Some((_, Some(refusal))) = settled.again.first() {
                    let rows = self.put_off().rows();
                    self.say_waiting(rows, &refusal.reason);
                }
                let outcomes: Vec<_> = sent.into_iter().zip(outcomes).collect();
                self.put_off().settle(&outcomes, Instant::now());
            }
            Err(error) => {
                self.metrics.failed.inc();
                self.say_waiting(sent.len(), &error.to_string());
                self.put_off().failed(&sent, Instant::now());
            }
        }
        self.settled(0).await;
    }

    /// So many bytes of a batch are stored, or wait aside, which has a bound too.
    async fn settled(&mut self, bytes: usize) {
        let beyond = self.put_off().beyond(self.max_bytes / PUT_OFF_PART);
        self.give_up(beyond, "and there was no more room for what waits")
            .await;
        let (rows, held, replaced) = {
            let mut put_off = self.put_off();
            (put_off.rows(), put_off.bytes(), put_off.take_replaced())
        };
        for model in replaced {
            self.metrics.replaced.inc();
            self.metrics.end(&model, 1, End::Dropped("replaced"));
        }
        let freed = (self.held + bytes).saturating_sub(held);
        self.held = held;
        self.queued.fetch_sub(freed, Ordering::Relaxed);
        let queued = self.queued.load(Ordering::Relaxed);
        let gauge = self.metrics.queued.with_label_values(&[self.name]);
        gauge.set(queued as i64);
        let gauge = self.metrics.put_off.with_label_values(&[self.name]);
        gauge.set(rows as i64);
        self.drained.notify_waiters();
    }

    async fn give_up(&self, rows: Vec<(Row, String)>, when: &str) {
        let letters = rows.into_iter().map(|(row, reason)| {
            let model = row.model.name.as_str();
            self.metrics.rejected.with_label_values(&[model]).inc();
            self.metrics.end(&row.model, 1, End::DeadLettered);
            let reason = format!("refused again and again {when}: {reason}");
            DeadLetter { row, reason }
        });
        self.bury(letters.collect()).await;
    }

    /// Adds what else comes within the linger time, until someone waits for what was queued so far.
    async fn gather(
        &mut self,
        mut rows: Vec<Row>,
        mut bytes: usize,
    ) -> (Vec<Row>, usize, Option<(oneshot::Sender<()>, Until)>) {
        let (linger, max_rows) = match self.stop.is_cancelled() {
            true => (Duration::ZERO, MAX_ROWS_IN_HASTE),
            false => (self.linger, MAX_ROWS_PER_WRITE),
        };
        let deadline = Instant::now() + linger;
        while rows.len() < max_rows {
            match tokio::time::timeout_at(deadline, self.orders.recv()).await {
                Ok(Some(Order::Write(more, more_bytes, _))) => {
                    rows.extend(more);
                    bytes += more_bytes;
                }
                Ok(Some(Order::Notify(done, until))) => return (rows, bytes, Some((done, until))),
                Ok(None) | Err(_) => break,
            }
        }
        (rows, bytes, None)
    }

    /// Writes rows as soon as the store answers; returns those that it does not take now.
    async fn store(&self, rows: Vec<Row>) -> Vec<(Row, Option<Refusal>)> {
        let mut patience = Patience::new(self.stop.clone());
        loop {
            match self.metrics.measure(self.storage.write(&rows)).await {
                Ok(outcomes) => {
                    debug_assert_eq!(outcomes.len(), rows.len(), "one outcome per row");
                    let offered = rows.len();
                    let settled = self.settle(rows, outcomes);
                    self.bury(settled.rejected).await;
                    let refusal = settled.again.first().and_then(|(_, r)| r.as_ref());
                    let reason = refusal.map(|refusal| refusal.reason.as_str());
                    let takes_some = settled.again.len() < offered;
                    if takes_some {
                        self.put_off().others_were_taken();
                    }
                    // A store that answers but takes nothing is as good as none.
                    let is_news = self.note_away(!takes_some, reason.unwrap_or_default());
                    if let Some(reason) = reason.filter(|_| !is_news) {
                        self.say_waiting(settled.again.len(), reason);
                    }
                    return settled.again;
                }
                Err(error) => {
                    self.metrics.failed.inc();
                    let reason = error.to_string();
                    if !self.note_away(true, &reason) {
                        self.say_waiting(rows.len(), &reason);
                    }
                }
            }
            patience.rest().await;
        }
    }

    /// Remembers whether the store takes anything, and says when it no longer does; whether it said that.
    fn note_away(&self, is_away: bool, reason: &str) -> bool {
        let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
        let away = self.metrics.away.with_label_values(&[self.name]);
        away.set(is_away.into());
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
        let mut rejected = Vec::new();
        let part = |row: &Row| (row.model.name.clone(), day_of(row.time_bucket));
        let is_put_off = |outcome: &WriteOutcome| matches!(outcome, WriteOutcome::Retry(_));
        let mut taken = HashSet::new();
        if outcomes.iter().any(is_put_off) {
            let rows = rows.iter().zip(&outcomes);
            let rows = rows.filter(|(_, outcome)| !is_put_off(outcome));
            taken.extend(rows.map(|(row, _)| part(row)));
        }
        let mut stored: HashMap<*const Model, (Arc<Model>, u64), foldhash::fast::FixedState> =
            HashMap::default();
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            match outcome {
                WriteOutcome::Stored => {
                    let count = stored.entry(Arc::as_ptr(&row.model));
                    count.or_insert_with(|| (row.model, 0)).1 += 1;
                }
                WriteOutcome::Retry(reason) => {
                    let is_of_all = !taken.contains(&part(&row));
                    again.push((row, Some(Refusal { reason, is_of_all })));
                }
                WriteOutcome::Rejected(reason) => {
                    let model = row.model.name.as_str();
                    self.metrics.rejected.with_label_values(&[model]).inc();
                    self.metrics.end(&row.model, 1, End::DeadLettered);
                    rejected.push(DeadLetter { row, reason });
                }
            }
        }
        for (model, count) in stored.values() {
            let counter = &self.metrics.stored;
            counter.with_label_values(&[&model.name]).inc_by(*count);
            self.metrics.end(model, *count, End::Stored);
        }
        self.metrics.retried.inc_by(again.len() as u64);
        Settled { again, rejected }
    }

    async fn bury(&self, rejected: Vec<DeadLetter>) {
        let Some(DeadLetter { row, reason }) = rejected.first() else {
            return;
        };
        if let Some(held_back) = self.rejection_log.admit() {
            tracing::warn!(
                model = row.model.name,
                id = head(&row.id, SHOWN_BYTES),
                reason = head(reason, 5 * SHOWN_BYTES),
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

fn locked(put_off: &Mutex<PutOff>) -> MutexGuard<'_, PutOff> {
    put_off.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for an instant; for ever if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Waits for the try under way; for ever if there is none.
async fn ended(trying: &mut Option<JoinHandle<Tried>>) -> Tried {
    let Some(running) = trying else {
        return std::future::pending().await;
    };
    let tried = running.await;
    *trying = None;
    tried.unwrap_or_else(|error| {
        let reason = format!("storage work did not finish: {error}");
        (vec![], Err(StorageError::Unavailable(reason)))
    })
}
