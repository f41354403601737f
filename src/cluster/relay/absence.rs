//! A node that was away for longer than others wait, be it that its machine stood still or that the network was cut: they
//! write its share, so it must not go on where it was. And nodes that find each other without their coordinator.

use std::time::Duration;

use tokio::time::Instant;

use super::super::exchange::new_epoch;
use super::super::membership::Membership;
use super::super::peer::SILENCE;
use super::Relay;
use super::feed::Job;
use crate::stream::Partitions;

/// Without a look at the others for so long, this node itself stood still.
const LAPSE: Duration = Duration::from_secs(2);
/// Processes that counted as gone and may come back.
const MAX_BURIED: usize = 1000;
/// Nodes that may call before the coordinator has said who is there.
const MAX_CALLERS: usize = 1000;
/// How long the coordinator may say nothing while others call, until this node goes by what they say.
const HEARSAY: Duration = Duration::from_secs(5);

impl Relay {
    /// If this node stood still, the silence of the others says nothing about them.
    pub(super) fn excuse_others(&mut self, now: Instant) {
        let lapse = now - std::mem::replace(&mut self.looked, now);
        if lapse < LAPSE {
            return;
        }
        tracing::warn!(
            seconds = lapse.as_secs(),
            "this node stood still, others may have taken it for gone"
        );
        for peer in self.peers.values_mut() {
            peer.excuse(lapse, now);
        }
    }

    /// A process counts as gone; it is told if it comes back.
    pub(super) fn remember_buried(&mut self, epoch: u64, now: Instant) {
        if self.buried.len() >= MAX_BURIED {
            let oldest = self.buried.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(epoch, _)| *epoch);
            oldest.and_then(|epoch| self.buried.remove(&epoch));
        }
        self.buried.insert(epoch, now);
    }

    /// Others took this node for gone and write what it wrote: it begins anew, as another process. If it took the one that
    /// says so for gone as well, nobody knows better, and what it has is stored.
    pub(super) fn begin_anew(&mut self, other: u64) {
        if self.is_leaving {
            return;
        }
        let was_mutual = self.buried.contains_key(&other);
        tracing::warn!(
            partitions = self.held.len(),
            is_stored = was_mutual,
            "this node was not heard for so long that others write its share: it takes it over anew, and what it had not \
             stored of it may be lost"
        );
        self.deps.metrics.begun_anew.inc();
        self.epoch = new_epoch();
        let lost = std::mem::take(&mut self.held);
        for peer in self.peers.values_mut() {
            peer.agreed = Partitions::default();
        }
        if lost.is_empty() {
            return;
        }
        self.deps.owned.send_replace(self.held);
        self.releasing = self.releasing.or(lost);
        let held = self.held;
        self.feed(match was_mutual {
            true => Job::Release { held, lost },
            false => Job::Abandon { lost },
        });
    }

    /// Another node called that nobody has named yet.
    pub(super) fn remember_caller(&mut self, address: &str, now: Instant) {
        let has_room = self.callers.contains_key(address) || self.callers.len() < MAX_CALLERS;
        if has_room && !address.is_empty() {
            self.callers.insert(address.to_owned(), now);
        }
    }

    /// Who is there as long as the coordinator says nothing: those who call, and this node if it knows where they find it.
    /// Nobody may write what they do.
    pub(super) fn hearsay(&mut self, now: Instant) -> Option<Membership> {
        self.callers.retain(|_, heard| now - *heard <= SILENCE);
        if self.callers.is_empty() || !self.is_leaving && now - self.began < HEARSAY {
            return None;
        }
        let own = self.options.own.clone();
        let members = self.callers.keys().chain(&own).cloned().collect();
        let own = own.filter(|_| !self.is_leaving);
        Some(Membership { members, own })
    }
}
