//! Who writes what: the members as this node sees them, what it gives up and what it takes over.

use std::collections::BTreeSet;
use std::time::Duration;

use oap_proto::cluster as proto;
use tokio::time::Instant;
use tonic::Status;

use super::super::peer::{FailureKind, Fate, Peer, Word};
use super::super::view::View;
use super::feed::Job;
use super::{Done, PATIENCE, Relay};
use crate::stream::Partitions;

/// Between two looks at a peer.
const SYNC: Duration = Duration::from_secs(1);
/// The same while something is to be settled.
const SOON: Duration = Duration::from_millis(100);
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// How long others may disagree before a partition that nobody writes is taken over all the same.
const DISAGREEMENT: Duration = Duration::from_secs(60);

/// How long connections of agents stay where they are after a member came or went: until a new one is ready, and whoever
/// brings agents to it knows.
const SETTLING: Duration = Duration::from_secs(20);

impl Relay {
    /// Looks at who is there; draws the consequences of what changed.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        self.excuse_others(now);
        let listed = self.deps.membership.borrow_and_update().clone();
        let listed = listed.or_else(|| self.hearsay(now));
        let is_known = listed.is_some();
        let mut listed = listed.unwrap_or_default();
        self.claim(&mut listed, now);
        for address in &listed.members {
            if *address == self.own || self.peers.contains_key(address) {
                continue;
            }
            match Peer::new(address, &self.options.peers, now) {
                Ok(peer) => {
                    self.peers.insert(address.clone(), peer);
                }
                Err(error) => {
                    if let Some(held_back) = self.deps.log.admit() {
                        tracing::warn!(address, %error, held_back, "a member cannot be called");
                    }
                }
            }
        }
        self.bury(now);
        let mut participants = BTreeSet::new();
        let mut receives_only = BTreeSet::new();
        for (address, peer) in &self.peers {
            if listed.members.contains(address) && !peer.is_leaving && !peer.is_dead(now) {
                participants.insert(address.clone());
                if peer.receives_only {
                    receives_only.insert(address.clone());
                }
            }
        }
        let is_alone = participants.is_empty();
        if self.is_leaving {
            participants.extend(self.last_one(now).filter(|_| is_alone));
        } else if listed.own.is_some()
            || is_alone && (is_known || self.callers.is_empty() && now - self.began > PATIENCE)
        {
            participants.insert(self.own.clone());
            if self.options.receives_only {
                receives_only.insert(self.own.clone());
            }
        }
        let is_same = self.view.participants().iter().eq(&participants)
            && self.receives_only == receives_only;
        if !is_same {
            self.change(View::new(participants, &receives_only), now);
            self.receives_only = receives_only;
        }
        self.peers.retain(|address, peer| {
            listed.members.contains(address) || peer.limbo.is_some() || peer.in_flight.is_some()
        });
    }

    /// Who writes while all leave: one after the other.
    fn last_one(&self, now: Instant) -> Option<String> {
        let is_candidate = |peer: &Peer| peer.is_leaving && !peer.is_through && !peer.is_dead(now);
        let peers = self.peers.iter().filter(|(_, peer)| is_candidate(peer));
        let own = Some(&self.own).filter(|_| !self.is_through);
        peers.map(|(address, _)| address).chain(own).min().cloned()
    }

    /// Gives up on nodes that are gone.
    fn bury(&mut self, now: Instant) {
        let mut fates = Vec::new();
        let mut buried = Vec::new();
        for (address, peer) in &mut self.peers {
            let has_left = peer.limbo.is_some() && peer.has_handed_over(now);
            if has_left && !peer.is_empty {
                tracing::warn!(address, "a member went without handing over");
                self.deps.metrics.lost_members.inc();
            }
            if has_left {
                peer.limbo = None;
            }
            if peer.is_dead(now) && peer.epoch != 0 {
                if peer.is_participant || peer.limbo.is_some() {
                    let reason = peer.reason();
                    tracing::warn!(
                        address,
                        reason,
                        "a member does not answer and counts as gone"
                    );
                    self.deps.metrics.lost_members.inc();
                }
                buried.push(peer.epoch);
                fates.push(peer.forget_process());
            } else if peer.is_dead(now) && peer.is_participant {
                let reason = peer.reason();
                tracing::warn!(
                    address,
                    reason,
                    "a member that is listed has never answered and is passed over until it does: is the address right, does \
                     it run?"
                );
            }
        }
        for epoch in buried {
            self.remember_buried(epoch, now);
        }
        for fate in fates {
            self.meet(fate);
        }
    }

    fn change(&mut self, view: View, now: Instant) {
        self.view = view;
        self.view_number += 1;
        self.changed = now;
        self.wanting = None;
        tracing::info!(
            members = self.view.participants().join(" "),
            own = self.own,
            "members of the cluster"
        );
        let participants = self.view.participants();
        for (address, peer) in &mut self.peers {
            let was = std::mem::replace(&mut peer.is_participant, participants.contains(address));
            peer.agreed = Partitions::default();
            peer.next_sync = now;
            if peer.is_participant {
                peer.limbo = None;
            } else if was && !peer.has_handed_over(now) {
                peer.limbo = Some(now);
            }
        }
        let is_first = participants.first() == Some(&self.own);
        self.deps.is_first.send_replace(is_first);
        let lost = self.held.without(self.view.share(&self.own));
        self.release(lost);
        self.acquire();
        self.sync_due(now);
    }

    fn release(&mut self, lost: Partitions) {
        if lost.is_empty() {
            return;
        }
        self.held = self.held.without(lost);
        self.deps.owned.send_replace(self.held);
        self.releasing = self.releasing.or(lost);
        let held = self.held;
        self.feed(Job::Release { held, lost });
    }

    /// What this node should write and does not.
    fn wanted(&self) -> Partitions {
        let share = self.view.share(&self.own);
        share.without(self.held).without(self.releasing)
    }

    /// Begins to write what all others agree to.
    pub(super) fn acquire(&mut self) {
        let wanted = self.wanted();
        if wanted.is_empty() || !self.claim.is_checked() {
            self.wanting = None;
            return;
        }
        let since = *self.wanting.get_or_insert_with(Instant::now);
        let is_waited_for = self.peers.values().any(|peer| peer.limbo.is_some());
        let mut ready = match is_waited_for {
            true => Partitions::default(),
            false => wanted,
        };
        for peer in self.peers.values().filter(|peer| peer.is_participant) {
            ready = ready.and(peer.agreed);
        }
        if ready.is_empty() && since.elapsed() > DISAGREEMENT {
            tracing::warn!(
                partitions = wanted.len(),
                "other members do not agree who writes what, taken over all the same"
            );
            ready = wanted;
        }
        if ready.is_empty() {
            return;
        }
        self.held = self.held.or(ready);
        self.deps.owned.send_replace(self.held);
        self.feed(Job::Acquire { held: self.held });
        tracing::info!(
            partitions = ready.len(),
            all = self.held.len(),
            "taken over"
        );
        self.next_hand_out = Instant::now();
    }

    /// Tells all peers at once.
    pub(super) fn sync_all(&mut self) {
        let now = Instant::now();
        for peer in self.peers.values_mut() {
            peer.next_sync = now;
        }
        self.sync_due(now);
    }

    pub(super) fn sync_due(&mut self, now: Instant) {
        if !self.claim.is_checked() {
            return;
        }
        let wanted = self.wanted();
        let is_settled = wanted.is_empty() && !self.is_leaving;
        // As long as it is among those who write, it may take over something.
        let is_empty = self.is_leaving
            && self.held.is_empty()
            && self.releasing.is_empty()
            && !self.view.participants().contains(&self.own);
        let was_through = self.is_through && is_empty;
        let view = self.view_number;
        let connections = self.deps.connections.count();
        for (address, peer) in &mut self.peers {
            if peer.is_syncing || now < peer.next_sync {
                continue;
            }
            peer.is_syncing = true;
            peer.next_sync = now
                + if is_settled && peer.limbo.is_none() {
                    SYNC
                } else {
                    SOON
                };
            let status = proto::Status {
                address: self.own.clone(),
                epoch: self.epoch,
                receives_only: self.options.receives_only,
                leaving: self.is_leaving,
                empty: is_empty,
                through: was_through,
                participants: self.view.participants().to_vec(),
                wanted: wanted.to_bytes(),
                your_epoch: peer.epoch,
                taken: self.taken.get(&peer.epoch).map_or(0, |taken| taken.0),
                connections,
            };
            let mut client = peer.client.clone();
            let address = address.clone();
            let asked_as = self.epoch;
            self.running.push(Box::pin(async move {
                let answer = tokio::time::timeout(SYNC_TIMEOUT, client.sync(status)).await;
                let late = |_| Err(Status::deadline_exceeded("no answer in time"));
                Done::Synced {
                    address,
                    view,
                    was_through,
                    asked_as,
                    answer: answer.unwrap_or_else(late).map(tonic::Response::into_inner),
                }
            }));
        }
    }

    pub(super) fn synced(
        &mut self,
        address: &str,
        view: u64,
        was_through: bool,
        asked_as: u64,
        answer: Result<proto::Answer, Status>,
    ) {
        let now = Instant::now();
        let Some(peer) = self.peers.get_mut(address) else {
            return;
        };
        peer.is_syncing = false;
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                self.deps
                    .metrics
                    .failures
                    .with_label_values(&["sync"])
                    .inc();
                match peer.fail(&status, now) {
                    Some(failure) if failure.kind == FailureKind::Tls => tracing::error!(
                        address,
                        reason = failure.reason,
                        "a member cannot be trusted, what it writes waits here: its certificate must be issued by an \
                         authority in gRPCSslTrustedCAPath and name this address (or gRPCSslMemberName), and all members \
                         need the same gRPCSslEnabled"
                    ),
                    Some(failure) if failure.kind == FailureKind::Token => tracing::error!(
                        address,
                        reason = failure.reason,
                        "a member refuses this node, what it writes waits here: all members need the same \
                         receiver-sharing-server.default.authentication (SW_AUTHENTICATION)"
                    ),
                    Some(failure) => {
                        tracing::info!(address, reason = failure.reason, "a member did not answer");
                    }
                    None => tracing::debug!(address, %status, "a member did not answer"),
                }
                return;
            }
        };
        let fate = peer.hear(
            Word {
                epoch: answer.epoch,
                receives_only: answer.receives_only,
                is_leaving: answer.leaving,
                // Only its own calls tell.
                is_empty: peer.is_empty,
                is_through: false,
                taken: Some(answer.taken),
                connections: answer.connections,
            },
            now,
        );
        peer.answered = Some((answer.epoch, now));
        peer.succeed();
        peer.knows_through |= was_through;
        // Unless it has begun anew since it asked.
        let is_buried = answer.buried && asked_as == self.epoch;
        if view == self.view_number {
            peer.agreed = Partitions::from_bytes(&answer.agreed);
        }
        self.meet(fate);
        if answer.contested {
            self.doubt_own_address(now);
        }
        if is_buried {
            self.begin_anew(answer.epoch);
        }
        self.look();
        self.acquire();
    }

    /// Another node says what it is and wants.
    pub(super) fn answer(&mut self, status: proto::Status) -> proto::Answer {
        let now = Instant::now();
        if self.deps.membership.borrow().is_none() {
            self.remember_caller(&status.address, now);
        }
        let mut is_contested = false;
        if let Some(peer) = self.peers.get_mut(&status.address) {
            is_contested = peer.is_answered_by_another(status.epoch, now);
            let is_about_us = status.your_epoch == self.epoch;
            let fate = peer.hear(
                Word {
                    epoch: status.epoch,
                    receives_only: status.receives_only,
                    is_leaving: status.leaving,
                    is_empty: status.empty,
                    is_through: status.through,
                    taken: is_about_us.then_some(status.taken),
                    connections: status.connections,
                },
                now,
            );
            self.meet(fate);
            self.look();
        }
        let limbo = self.peers.iter().filter(|(_, peer)| peer.limbo.is_some());
        let is_settled = limbo
            .into_iter()
            .all(|(address, _)| *address == status.address);
        let is_same = self.view.participants() == status.participants;
        let agreed = match is_settled && is_same {
            true => Partitions::from_bytes(&status.wanted)
                .and(self.view.share(&status.address))
                .without(self.held)
                .without(self.releasing),
            false => Partitions::default(),
        };
        proto::Answer {
            epoch: self.epoch,
            receives_only: self.options.receives_only,
            leaving: self.is_leaving,
            agreed: agreed.to_bytes(),
            taken: self.taken.get(&status.epoch).map_or(0, |taken| taken.0),
            connections: self.deps.connections.count(),
            buried: self.buried.contains_key(&status.epoch),
            contested: is_contested,
        }
    }

    /// How many agents the other nodes have, if it is time to compare: all said so a moment ago, and none came or went lately.
    pub(super) fn compared(&self, now: Instant) -> Option<Vec<u32>> {
        let participants = self.view.participants();
        let is_settled = !self.is_leaving
            && now - self.changed > SETTLING
            && participants.contains(&self.own)
            && self.peers.values().all(|peer| peer.limbo.is_none());
        let others = self.peers.values().filter(|peer| peer.is_participant);
        let others = others.map(|peer| peer.connections(now));
        others.collect::<Option<_>>().filter(|_| is_settled)
    }

    /// Acts on what became of a batch.
    pub(super) fn meet(&mut self, fate: Fate) {
        match fate {
            Fate::Open => {}
            Fate::Taken(count) => self.delivered(count),
            Fate::Back(batch) => self.take_back(batch),
            Fate::Uncertain(batch) => {
                self.deps.metrics.uncertain.inc();
                self.take_back(batch);
            }
        }
    }
}
