//! Bodies of questions while they come in: who sends half of one keeps nobody else from asking.
//!
//! No turn is taken before a body is whole. Until then what has come of all bodies is bounded in bytes, small ones aside, and of
//! too many the oldest gives way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

/// A body of so few bytes is always taken: pages of the user interface ask with one or two thousand.
const SMALL_BYTES: usize = 16 << 10;

/// Bounds of what is read at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one body.
    pub one_bytes: usize,
    /// Of all larger ones together, until their questions are read.
    pub all_bytes: usize,
    /// Bodies that come in at a time.
    pub bodies: usize,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBody {
    /// It is larger than one may be, or the client is gone.
    TooLargeOrCutOff,
    /// The others hold all that there may be.
    NoRoom,
    /// Others began later, and there are too many.
    GaveWay,
}

/// All bodies that come in.
#[derive(Debug)]
pub(super) struct Bodies {
    bounds: Bounds,
    held: AtomicUsize,
    next: AtomicU64,
    reading: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// A whole body, which takes its room among the others until it is dropped.
pub(super) struct Whole {
    pub bytes: BytesMut,
    _room: Taken,
}

impl Bodies {
    pub(super) fn new(bounds: Bounds) -> Arc<Bodies> {
        Arc::new(Bodies {
            bounds,
            held: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            reading: Mutex::default(),
        })
    }

    /// Reads one.
    pub(super) async fn read(self: &Arc<Bodies>, body: Body) -> Result<Whole, NoBody> {
        let place = self.begin();
        tokio::select! {
            biased;
            () = place.gives_way.cancelled() => Err(NoBody::GaveWay),
            whole = self.collect(body) => whole,
        }
    }

    async fn collect(self: &Arc<Bodies>, body: Body) -> Result<Whole, NoBody> {
        let mut room = Taken {
            of: Arc::clone(self),
            bytes: 0,
        };
        let mut bytes = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| NoBody::TooLargeOrCutOff)?;
            let after = bytes.len().saturating_add(chunk.len());
            if after > self.bounds.one_bytes {
                return Err(NoBody::TooLargeOrCutOff);
            }
            if after > SMALL_BYTES && !room.take(after) {
                return Err(NoBody::NoRoom);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Whole { bytes, _room: room })
    }

    fn begin(self: &Arc<Bodies>) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let gives_way = CancellationToken::new();
        let mut reading = self.reading();
        if reading.len() >= self.bounds.bodies
            && let Some((_, oldest)) = reading.pop_first()
        {
            oldest.cancel();
        }
        reading.insert(number, gives_way.clone());
        drop(reading);
        Place {
            of: Arc::clone(self),
            number,
            gives_way,
        }
    }

    fn reading(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that come in.
struct Place {
    of: Arc<Bodies>,
    number: u64,
    gives_way: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.reading().remove(&self.number);
    }
}

/// What one body has of the bytes of all.
struct Taken {
    of: Arc<Bodies>,
    bytes: usize,
}

impl Taken {
    /// Takes what is missing to so many bytes, if that is free.
    fn take(&mut self, bytes: usize) -> bool {
        let more = bytes - self.bytes;
        let bound = self.of.bounds.all_bytes;
        let taken = self
            .of
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(more).filter(|after| *after <= bound)
            });
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
