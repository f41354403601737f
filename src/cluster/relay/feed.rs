//! The way from the relay into the shards: one thing after the other, beside the relay. Shards wait for the store, and whoever
//! does not answer the others meanwhile is taken for dead.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Done, Relay};
use crate::stream::{Partitions, Portion};

/// On their way is at most this part of what may wait, one of so many; then others keep theirs.
const PART: usize = 2;

/// Something to be done with the shards.
#[derive(Debug)]
pub(super) enum Job {
    /// They take this in, which others may have sent.
    TakeIn(Portion, Option<Arrival>),
    /// This node writes all of `held` from now on.
    Acquire { held: Partitions },
    /// It writes no more than `held`; what there is of `lost` is stored.
    Release { held: Partitions, lost: Partitions },
    /// It writes nothing any more, others did so meanwhile: what there is of `lost` is forgotten.
    Abandon { lost: Partitions },
}

/// Of what others sent.
#[derive(Debug)]
pub(super) struct Arrival {
    pub at: Instant,
    /// Whoever waits until the shards have it.
    pub done: Option<oneshot::Sender<()>>,
}

/// What became of a job.
#[derive(Debug)]
pub(super) struct Fed {
    increments: usize,
    bytes: usize,
    /// When it arrived, if others sent it.
    arrived: Option<Instant>,
    lost: Option<Partitions>,
    /// What is lost was written by others meanwhile.
    is_abandoned: bool,
}

/// Jobs in the order in which they came; one is under way.
#[derive(Debug)]
pub(super) struct Feed {
    jobs: VecDeque<Job>,
    is_busy: bool,
    increments: usize,
    /// As [`Portion::bytes`].
    bytes: usize,
    max_bytes: usize,
}

impl Feed {
    /// `capacity` are the bytes that may wait for other members.
    pub(super) fn new(capacity: usize) -> Feed {
        Feed {
            jobs: VecDeque::new(),
            is_busy: false,
            increments: 0,
            bytes: 0,
            max_bytes: capacity / PART,
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_busy && self.jobs.is_empty()
    }

    /// Whether others should keep what they have.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    /// Increments on their way.
    pub(super) fn len(&self) -> usize {
        self.increments
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Relay {
    /// Does something with the shards when all that came before is done.
    pub(super) fn feed(&mut self, job: Job) {
        if let Job::TakeIn(portion, _) = &job {
            self.feed.increments += portion.len();
            self.feed.bytes += portion.bytes();
        }
        self.feed.jobs.push_back(job);
        self.feed_next();
    }

    fn feed_next(&mut self) {
        if self.feed.is_busy {
            return;
        }
        let Some(job) = self.feed.jobs.pop_front() else {
            return;
        };
        self.feed.is_busy = true;
        let ground = self.deps.ground.clone();
        let shared = Arc::clone(&self.deps.held);
        self.running.push(Box::pin(async move {
            let (mut increments, mut bytes) = (0, 0);
            let (mut arrived, mut released) = (None, None);
            let is_abandoned = matches!(job, Job::Abandon { .. });
            let outcome = match job {
                Job::TakeIn(portion, arrival) => {
                    (increments, bytes) = (portion.len(), portion.bytes());
                    let outcome = ground.take_in(portion).await;
                    if let Some(Arrival { at, done }) = arrival {
                        arrived = Some(at);
                        // Whoever asked may have given up.
                        done.and_then(|done| done.send(()).ok());
                    }
                    outcome
                }
                Job::Acquire { held } => {
                    let outcome = ground.acquire().await;
                    *shared.write().await = held;
                    outcome
                }
                Job::Release { held, lost } => {
                    // Waits until what was let in before has arrived in the shards.
                    *shared.write().await = held;
                    released = Some(lost);
                    Ok(())
                }
                Job::Abandon { lost } => {
                    *shared.write().await = Partitions::default();
                    released = Some(lost);
                    Ok(())
                }
            };
            if outcome.is_err() {
                tracing::error!(increments, "aggregation is gone, increments are lost");
            }
            Done::Fed(Fed {
                increments,
                bytes,
                arrived,
                lost: released,
                is_abandoned,
            })
        }));
    }

    pub(super) fn fed(&mut self, fed: Fed) {
        self.feed.is_busy = false;
        self.feed.increments -= fed.increments;
        self.feed.bytes -= fed.bytes;
        if let Some(at) = fed.arrived {
            let latency = &self.deps.metrics.remote.latency;
            latency.observe(at.elapsed().as_secs_f64());
        }
        if let Some(partitions) = fed.lost {
            let ground = self.deps.ground.clone();
            self.running.push(Box::pin(async move {
                // If aggregation has ended, there is nothing to hand over either.
                match fed.is_abandoned {
                    true => ground.abandon(partitions).await.ok(),
                    false => ground.release(partitions).await.ok(),
                };
                Done::Released(partitions)
            }));
        }
        self.feed_next();
    }
}
