//! A bound of the connections of a port. Who asks nothing makes room for who comes: first those that never asked, then those that
//! asked long ago.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use prometheus::IntCounter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// How many connections may be open at a time.
#[derive(Debug, Clone)]
pub struct Room {
    pub connections: usize,
    /// A connection without a request is closed after so long.
    pub opening: Duration,
    /// Counts those that are closed because as many as may be are open.
    pub refused: IntCounter,
}

/// The connections of one port.
#[derive(Debug)]
pub(super) struct Seats {
    room: Room,
    taken: Mutex<Taken>,
    log: Throttle,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    gives_way: CancellationToken,
    requests: u32,
    has_asked: bool,
    idle_since: Instant,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    of: Arc<Seats>,
    number: u64,
    /// Cancelled when it has to make room.
    pub(super) gives_way: CancellationToken,
}

/// A request of a connection, until its answer is there.
struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(room: Room) -> Arc<Seats> {
        Arc::new(Seats {
            room,
            taken: Mutex::default(),
            log: Throttle::new(Clock::System),
        })
    }

    /// A place for a connection that has come; `None` if all others are being answered.
    pub(super) fn take(self: &Arc<Seats>) -> Option<Arc<Seat>> {
        let mut taken = self.taken();
        if taken.seats.len() >= self.room.connections {
            self.room.refused.inc();
            let idle = taken.seats.iter().filter(|(_, seat)| seat.requests == 0);
            let victim = idle.min_by_key(|(_, seat)| (seat.has_asked, seat.idle_since));
            let victim = victim.map(|(number, _)| *number);
            if let Some(held_back) = self.log.admit() {
                let connections = self.room.connections;
                let closed = match victim {
                    Some(_) => "the one that has asked nothing for the longest time",
                    None => "the new one",
                };
                tracing::warn!(
                    connections,
                    closed,
                    held_back,
                    "as many connections to the telemetry port as may be are open"
                );
            }
            taken.seats.remove(&victim?)?.gives_way.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        let gives_way = CancellationToken::new();
        let state = State {
            gives_way: gives_way.clone(),
            requests: 0,
            has_asked: false,
            idle_since: Instant::now(),
        };
        taken.seats.insert(number, state);
        drop(taken);
        Some(Arc::new(Seat {
            of: Arc::clone(self),
            number,
            gives_way,
        }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Returns when the time for the first request is over and none has come.
    pub(super) async fn is_silent(&self) {
        tokio::time::sleep(self.of.room.opening).await;
        let has_asked = {
            let taken = self.of.taken();
            taken.seats.get(&self.number).is_some_and(|s| s.has_asked)
        };
        if has_asked {
            std::future::pending::<()>().await;
        }
    }

    /// Routes that tell this place of their requests.
    pub(super) fn watch(self: &Arc<Seat>, router: Router) -> Router {
        let seat = Arc::clone(self);
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let busy = Busy::begin(Arc::clone(&seat));
            async move {
                let answer = next.run(request).await;
                drop(busy);
                answer
            }
        }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.of.taken().seats.remove(&self.number);
    }
}

impl Busy {
    fn begin(seat: Arc<Seat>) -> Busy {
        if let Some(state) = seat.of.taken().seats.get_mut(&seat.number) {
            state.requests += 1;
            state.has_asked = true;
        }
        Busy(seat)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(state) = self.0.of.taken().seats.get_mut(&self.0.number) {
            state.requests -= 1;
            state.idle_since = Instant::now();
        }
    }
}
