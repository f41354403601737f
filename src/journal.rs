//! The seam between receivers and analysis: receivers hand batches over here and learn when to acknowledge.
//!
//! A batch is accepted when it is in the bounded queue of an analyzer. Making it durable before that is this module's
//! place to grow; nothing outside it would change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

pub use crate::model::message::Message;
use crate::telemetry::Ledger;
use crate::telemetry::ledger::End;

/// Messages on their way to analysis; holds their share of the queue's bytes until dropped.
#[derive(Debug)]
pub struct Batch {
    pub messages: Vec<Message>,
    /// When it was queued.
    pub since: Instant,
    _bytes: OwnedSemaphorePermit,
}

/// What comes to an analyzer.
#[derive(Debug)]
pub enum Work {
    Batch(Batch),
    /// Answer when everything that came before is handed on.
    Barrier(oneshot::Sender<()>),
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the server is overloaded: the ingest queue stayed full")]
    Overloaded,
    #[error("the server is shutting down")]
    Closed,
}

impl Refused {
    /// Name in counters.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::Overloaded => "overloaded",
            Refused::Closed => "closed",
        }
    }
}

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Encoded bytes of all queued messages.
    pub queued_bytes: usize,
    /// How long a receiver waits for room before it refuses.
    pub patience: Duration,
}

/// The receivers' end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    analyzers: Vec<mpsc::Sender<Work>>,
    next: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    limits: Limits,
    ledger: Ledger,
    wait: Option<Histogram>,
}

/// Batches that may wait per analyzer, whatever their size.
const BATCHES_PER_ANALYZER: usize = 1024;
/// Permits are counted in units of this many bytes, since a semaphore counts in 32 bits at a time.
const UNIT: usize = 64;

impl Intake {
    /// A queue to each of `analyzers` consumers.
    pub fn new(analyzers: usize, limits: Limits) -> (Intake, Vec<mpsc::Receiver<Work>>) {
        let (senders, inboxes) = (0..analyzers.max(1))
            .map(|_| mpsc::channel(BATCHES_PER_ANALYZER))
            .unzip();
        let intake = Intake {
            analyzers: senders,
            next: Arc::default(),
            room: Arc::new(Semaphore::new(units(limits.queued_bytes) as usize)),
            limits,
            ledger: Ledger::default(),
            wait: None,
        };
        (intake, inboxes)
    }

    /// The same, keeping these books, and measuring how long receivers wait for room.
    pub fn measured(self, ledger: &Ledger, wait: Histogram) -> Intake {
        Intake {
            ledger: ledger.clone(),
            wait: Some(wait),
            ..self
        }
    }

    /// The books, for messages that never get here.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Hands messages of one kind over. `Ok` is the moment to acknowledge them; waits for room at most [`Limits::patience`].
    pub async fn accept(&self, messages: Vec<Message>) -> Result<(), Refused> {
        let Some(kind) = messages.first().map(Message::kind) else {
            return Ok(());
        };
        let units = messages.len() as u64;
        self.ledger.received(kind, units);
        let began = Instant::now();
        let outcome = self.hand_over(messages).await;
        if let Some(wait) = &self.wait {
            wait.observe(began.elapsed().as_secs_f64());
        }
        if let Err(refused) = outcome {
            let end = End::Dropped(refused.reason());
            self.ledger.settled(kind, units, end);
        }
        outcome
    }

    async fn hand_over(&self, messages: Vec<Message>) -> Result<(), Refused> {
        let size: usize = messages.iter().map(|m| m.bytes().len()).sum();
        let wanted = units(size).min(units(self.limits.queued_bytes));
        tokio::time::timeout(self.limits.patience, async {
            let permit = Arc::clone(&self.room)
                .acquire_many_owned(wanted)
                .await
                .map_err(|_| Refused::Closed)?;
            let batch = Batch {
                messages,
                since: Instant::now(),
                _bytes: permit,
            };
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.analyzers.len();
            let analyzer = self.analyzers.get(turn).ok_or(Refused::Closed)?;
            analyzer
                .send(Work::Batch(batch))
                .await
                .map_err(|_| Refused::Closed)
        })
        .await
        .map_err(|_| Refused::Overloaded)?
    }

    /// Waits until all that was accepted before is analysed.
    pub async fn analyzed(&self) -> Result<(), Refused> {
        for analyzer in &self.analyzers {
            let (done, is_done) = oneshot::channel();
            let barrier = Work::Barrier(done);
            analyzer.send(barrier).await.map_err(|_| Refused::Closed)?;
            is_done.await.map_err(|_| Refused::Closed)?;
        }
        Ok(())
    }

    /// Bytes that wait for analysis, read when asked; this does not keep the queue open.
    pub fn queued_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let capacity = units(self.limits.queued_bytes) as usize;
        let room = Arc::clone(&self.room);
        move || (capacity.saturating_sub(room.available_permits()) * UNIT) as u64
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT))
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn limits(queued_bytes: usize) -> Limits {
        Limits {
            queued_bytes,
            patience: Duration::from_millis(10),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_until_a_batch_is_done() {
        let (intake, mut inboxes) = Intake::new(1, limits(128));
        let message = || vec![Message::Segment(Bytes::from(vec![0; 100]))];
        assert_eq!(intake.accept(message()).await, Ok(()));
        assert_eq!(intake.accept(message()).await, Err(Refused::Overloaded));
        drop(inboxes[0].recv().await);
        assert_eq!(intake.accept(message()).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_the_queue_passes_alone() {
        let (intake, mut inboxes) = Intake::new(1, limits(128));
        let huge = vec![Message::Segment(Bytes::from(vec![0; 10_000]))];
        assert_eq!(intake.accept(huge).await, Ok(()));
        assert_eq!(intake.queued_bytes()(), 128);
        drop(inboxes[0].recv().await);
        assert_eq!(intake.queued_bytes()(), 0);
    }
}
