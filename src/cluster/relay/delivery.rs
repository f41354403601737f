//! Increments on their way: batches to those who write them, and from others to this node.

use std::time::Duration;

use oap_proto::cluster as proto;
use proto::taken::Outcome;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use super::super::codec;
use super::super::peer::{Fate, InFlight};
use super::feed::{Arrival, Job};
use super::{Done, Relay};
use crate::stream::{Limit, Portion};

/// One batch at most, in memory; about as much on the wire.
const BATCH: Limit = Limit {
    increments: 5000,
    bytes: 4 << 20,
};
/// Before a batch is sent again.
const PAUSE: Duration = Duration::from_millis(500);
/// Processes of which the last batch is remembered; each node is one, each start another.
const MAX_SENDERS: usize = 1000;

impl Relay {
    /// Brings what waits to whoever writes it: the own shards, or another node that has no batch to answer.
    pub(super) fn hand_out(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let held = self.held;
        if !self.feed.is_full() {
            let own = self.waiting.take(Limit::NONE, |p| held.contains(p));
            self.give_to_shards(own, None);
        }
        let owners = self.view.owners().to_vec();
        for address in owners {
            self.send_to(&address);
        }
    }

    fn send_to(&mut self, address: &str) {
        let Some(peer) = self.peers.get_mut(address) else {
            return;
        };
        if peer.in_flight.is_some() || peer.epoch == 0 || peer.is_leaving {
            return;
        }
        let view = &self.view;
        let portion = self.waiting.take(BATCH, |p| view.owner(p) == Some(address));
        if portion.is_empty() {
            return;
        }
        let sent = &self.deps.metrics.remote.sent;
        sent.with_label_values(&[address, "N"])
            .inc_by(portion.len() as u64);
        // One number is never used twice: a node that counted as gone and comes back knows the last one.
        self.sequence += 1;
        let batch = proto::Batch {
            from: self.epoch,
            to: peer.epoch,
            sequence: self.sequence,
            ..codec::encode(&self.deps.plan, &portion)
        };
        peer.in_flight = Some(InFlight {
            batch,
            count: portion.len(),
            bytes: portion.bytes(),
            is_called: false,
            again_at: Instant::now(),
        });
        self.call(address);
    }

    fn call(&mut self, address: &str) {
        let Some(peer) = self.peers.get_mut(address) else {
            return;
        };
        let Some(flight) = &mut peer.in_flight else {
            return;
        };
        flight.is_called = true;
        let sequence = flight.batch.sequence;
        let batch = flight.batch.clone();
        let mut client = peer.client.clone();
        let address = address.to_owned();
        let timeout = self.options.peers.timeout;
        self.running.push(Box::pin(async move {
            let taken = tokio::time::timeout(timeout, client.push(batch)).await;
            let late = |_| Err(Status::deadline_exceeded("no answer in time"));
            Done::Pushed {
                address,
                sequence,
                taken: taken.unwrap_or_else(late).map(tonic::Response::into_inner),
            }
        }));
    }

    /// Sends again what failed.
    pub(super) fn send_again(&mut self, now: Instant) {
        let is_due = |flight: &InFlight| !flight.is_called && now >= flight.again_at;
        let due = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.in_flight.as_ref().is_some_and(is_due));
        let due: Vec<String> = due.map(|(address, _)| address.clone()).collect();
        for address in due {
            self.call(&address);
        }
    }

    pub(super) fn pushed(
        &mut self,
        address: &str,
        sequence: u64,
        taken: Result<proto::Taken, Status>,
    ) {
        let Some(peer) = self.peers.get_mut(address) else {
            return;
        };
        // The receiver may have said otherwise what became of it.
        let is_it = |flight: &mut InFlight| flight.batch.sequence == sequence && flight.is_called;
        let Some(mut flight) = peer.in_flight.take_if(is_it) else {
            return;
        };
        let fate = match taken {
            Ok(taken) => match taken.outcome() {
                Outcome::Taken => Fate::Taken(flight.count),
                Outcome::Leaving => Fate::Back(flight.batch),
                Outcome::Ended => {
                    // Who is there now says so itself.
                    peer.forget_process();
                    Fate::Uncertain(flight.batch)
                }
            },
            Err(status) => {
                tracing::debug!(address, %status, "a batch was not answered");
                self.deps
                    .metrics
                    .failures
                    .with_label_values(&["push"])
                    .inc();
                let errors = &self.deps.metrics.remote.send_errors;
                errors.with_label_values(&[address, "N"]).inc();
                flight.is_called = false;
                flight.again_at = Instant::now() + PAUSE;
                peer.in_flight = Some(flight);
                Fate::Open
            }
        };
        let is_much_waiting =
            self.waiting.len() >= BATCH.increments || self.waiting.bytes() >= BATCH.bytes;
        let is_more_waiting = matches!(fate, Fate::Taken(_)) && is_much_waiting;
        self.meet(fate);
        if is_more_waiting || self.is_leaving {
            self.hand_out();
        }
    }

    pub(super) fn delivered(&self, count: usize) {
        let exchanged = &self.deps.metrics.exchanged;
        exchanged.with_label_values(&["sent"]).inc_by(count as u64);
    }

    /// A batch that was not taken waits again.
    pub(super) fn take_back(&mut self, batch: proto::Batch) {
        let (portion, _) = codec::decode(&self.deps.plan, batch);
        self.waiting.merge(&self.deps.plan, portion);
    }

    /// Another node sends a batch; `None` if there is no room for it now.
    pub(super) fn take(&mut self, batch: proto::Batch) -> Option<Outcome> {
        if batch.to != self.epoch {
            return Some(Outcome::Ended);
        }
        let now = Instant::now();
        let (from, sequence) = (batch.from, batch.sequence);
        let before = self.taken.get(&from).map_or(0, |taken| taken.0);
        if sequence <= before {
            return Some(Outcome::Taken);
        }
        if self.is_leaving {
            return Some(Outcome::Leaving);
        }
        if self.feed.is_full() {
            return None;
        }
        let (portion, foreign) = codec::decode(&self.deps.plan, batch);
        // What this node does not write yet waits; if there is no room, with its sender.
        if self.waiting.is_full() && !portion.is_all_of(|p| self.held.contains(p)) {
            return None;
        }
        self.shed("unknown_here", foreign);
        self.deps.metrics.remote.unknown.inc_by(foreign);
        let exchanged = &self.deps.metrics.exchanged;
        let count = portion.len() as u64;
        exchanged.with_label_values(&["taken"]).inc_by(count);
        if self.taken.len() >= MAX_SENDERS {
            let oldest = self.taken.iter().min_by_key(|(_, (_, at))| *at);
            let oldest = oldest.map(|(epoch, _)| *epoch);
            oldest.and_then(|epoch| self.taken.remove(&epoch));
        }
        self.taken.insert(from, (sequence, now));
        self.receive(portion, None);
        Some(Outcome::Taken)
    }

    /// Takes in what others sent.
    pub(super) fn receive(&mut self, portion: Portion, done: Option<oneshot::Sender<()>>) {
        self.deps
            .metrics
            .remote
            .received
            .inc_by(portion.len() as u64);
        let at = Instant::now();
        self.take_in(portion, Some(Arrival { at, done }));
    }

    /// Takes increments in: those that this node writes go to its shards, the others wait.
    fn take_in(&mut self, portion: Portion, arrival: Option<Arrival>) {
        let held = self.held;
        let mut parts = portion.divide(2, |p| usize::from(!held.contains(p)));
        let others = parts.pop().unwrap_or_default();
        let own = parts.pop().unwrap_or_default();
        // Members keep theirs when it is full; nodes of the original do not send again.
        let can_wait = !self.waiting.is_full() || arrival.as_ref().is_none_or(|a| a.done.is_none());
        self.give_to_shards(own, arrival);
        match can_wait {
            true => self.waiting.merge(&self.deps.plan, others),
            false => self.shed("full", others.len() as u64),
        }
    }

    fn give_to_shards(&mut self, portion: Portion, arrival: Option<Arrival>) {
        if !portion.is_empty() || arrival.is_some() {
            self.feed(Job::TakeIn(portion, arrival));
        }
    }
}
