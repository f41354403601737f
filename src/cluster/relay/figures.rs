//! What the metrics say about the other nodes and the exchange with them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Relay;

impl Relay {
    /// Brings the metrics up to date.
    pub(super) fn count(&mut self) {
        let (full, unfit) = self.waiting.take_lost();
        self.shed("full", full);
        self.shed("unfit", unfit);
        let metrics = &self.deps.metrics;
        metrics.members.set(self.view.participants().len() as i64);
        metrics.partitions.set(self.held.len() as i64);
        let waiting = self.waiting.len() + self.feed.len();
        metrics.waiting.set(waiting as i64);
        let flights = self.peers.values().filter_map(|p| p.in_flight.as_ref());
        let flying: usize = flights.map(|flight| flight.bytes).sum();
        let bytes = self.waiting.bytes() + self.feed.bytes() + flying;
        metrics.held_bytes.store(bytes as u64, Ordering::Relaxed);
        metrics
            .waiting_bytes
            .store(self.waiting.bytes() as u64, Ordering::Relaxed);
        let kept = self.deps.kept.swap(0, Ordering::Relaxed);
        if kept > 0 {
            let stays = metrics.remote.sent.with_label_values(&[&*self.own, "Y"]);
            stays.inc_by(kept);
        }
        self.name_members();
    }

    /// Says who there is, in which state, and how large the share of each is.
    fn name_members(&mut self) {
        let now = Instant::now();
        let peers = self.peers.iter().map(|(address, peer)| {
            let state = match () {
                () if peer.is_dead(now) => "silent",
                () if peer.is_leaving => "leaving",
                () if peer.epoch == 0 => "unknown",
                () => "alive",
            };
            [address.clone(), state.to_owned()]
        });
        let own = match self.is_leaving {
            true => "leaving",
            false => "self",
        };
        let own = Some([self.own.clone(), own.to_owned()]).filter(|_| !self.own.is_empty());
        let named: BTreeSet<[String; 2]> = peers.chain(own).collect();
        let shares = &self.deps.metrics.shares;
        for [address, state] in self.named.difference(&named) {
            // It is there: it was set when it was named.
            shares.remove_label_values(&[address, state]).ok();
        }
        for [address, state] in &named {
            let share = self.view.share(address).len();
            shares
                .with_label_values(&[address, state])
                .set(share as i64);
        }
        self.named = named;
    }
}
