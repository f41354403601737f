//! Whether others find this node at its address. If another one answers there, this one is the one that they do not find: it
//! takes no share, as both would write the same rows, and brings what it has to the others.

use std::time::Duration;

use oap_proto::cluster as proto;
use tokio::time::Instant;

use super::super::membership::Membership;
use super::super::peer::Peer;
use super::super::view::View;
use super::{Done, Relay};

/// Between two looks at who answers at the own address.
const SELF_CHECK: Duration = Duration::from_secs(30);
/// The same while another one does.
const SOON: Duration = Duration::from_secs(5);
/// Until the next look when others say that another one does.
const DOUBT: Duration = Duration::from_secs(1);
const SELF_CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// So many times in a row this node itself must have answered until the address is its own again: whatever is in between
/// may bring calls to the one and to the other.
const OWN_ANSWERS: u32 = 3;
/// Between two times that it is said.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// The own address as others may see it.
#[derive(Debug)]
pub(super) struct Claim {
    /// Empty if this node has none.
    address: String,
    /// Whether it is known who answers there; nothing is written before.
    is_checked: bool,
    next_check: Instant,
    rival: Option<Rival>,
}

/// Another node answers at the address of this one.
#[derive(Debug)]
struct Rival {
    said: Instant,
    own_answers: u32,
}

impl Claim {
    pub(super) fn new(now: Instant) -> Claim {
        Claim {
            address: String::new(),
            is_checked: true,
            next_check: now,
            rival: None,
        }
    }

    /// Whether another one is there.
    pub(super) fn is_taken(&self) -> bool {
        self.rival.is_some()
    }

    /// Whether this node may take part: it has no address, or it is known who answers there.
    pub(super) fn is_checked(&self) -> bool {
        self.is_checked
    }

    #[cfg(test)]
    pub(super) fn check(&mut self, address: &str) {
        self.address = address.to_owned();
        self.is_checked = true;
    }
}

impl Relay {
    /// Notes which address this node is listed under; one that is another's is not its own.
    pub(super) fn claim(&mut self, listed: &mut Membership, now: Instant) {
        let claim = &mut self.claim;
        if let Some(own) = &listed.own
            && *own != claim.address
        {
            claim.address.clone_from(own);
            claim.is_checked = false;
            claim.next_check = now;
            claim.rival = None;
        }
        if claim.is_taken() {
            listed.own = None;
        }
        if listed.own.is_some() || claim.is_taken() {
            self.change_own(listed.own.clone().unwrap_or_default());
        }
    }

    /// Others find this node there from now on, or nowhere. The members may be the same, but this one is another of them.
    fn change_own(&mut self, address: String) {
        if address == self.own {
            return;
        }
        if let Some(mut peer) = self.peers.remove(&address) {
            let fate = peer.forget_process();
            self.meet(fate);
        }
        self.own = address;
        self.view = View::default();
    }

    /// Looks now and then whether another node answers where the others look for this one.
    pub(super) fn check_own_address(&mut self, now: Instant) {
        let claim = &mut self.claim;
        if claim.address.is_empty() || now < claim.next_check {
            return;
        }
        claim.next_check = now + if claim.is_taken() { SOON } else { SELF_CHECK };
        let Ok(peer) = Peer::new(&claim.address, &self.options.peers, now) else {
            claim.is_checked = true;
            return;
        };
        let mut client = peer.client;
        let asked_as = self.epoch;
        let status = proto::Status {
            epoch: self.epoch,
            ..proto::Status::default()
        };
        self.running.push(Box::pin(async move {
            let answer = tokio::time::timeout(SELF_CHECK_TIMEOUT, client.sync(status)).await;
            // Many a node cannot call itself, which does no harm.
            let answer = answer.ok().and_then(Result::ok);
            let by = answer.map(|answer| answer.into_inner().epoch);
            Done::Answered { asked_as, by }
        }));
    }

    /// Another node has heard someone else at the address of this one, be it the process that was there before.
    pub(super) fn doubt_own_address(&mut self, now: Instant) {
        self.claim.next_check = self.claim.next_check.min(now + DOUBT);
    }

    /// Which process answered at the own address.
    pub(super) fn own_address_answered(&mut self, asked_as: u64, by: Option<u64>) {
        let now = Instant::now();
        if asked_as != self.epoch {
            // It has begun anew meanwhile.
            self.claim.next_check = now;
            return;
        }
        self.claim.is_checked = true;
        match (by, &mut self.claim.rival) {
            (None, _) => {}
            (Some(by), None) if by == asked_as => {}
            (Some(by), Some(rival)) if by == asked_as => {
                rival.own_answers += 1;
                if rival.own_answers >= OWN_ANSWERS {
                    self.claim.rival = None;
                    tracing::info!(
                        address = self.claim.address,
                        "nobody else answers at the address of this node any more, it takes its share"
                    );
                }
            }
            (Some(_), rival) => {
                let said = rival.as_ref().map(|rival| rival.said);
                let is_due = said.is_none_or(|said| now - said >= SAID_AGAIN);
                *rival = Some(Rival {
                    said: said.filter(|_| !is_due).unwrap_or(now),
                    own_answers: 0,
                });
                if is_due {
                    tracing::error!(
                        own = self.claim.address,
                        "another node answers at the address of this one, which therefore writes nothing and brings what it \
                         receives to the others: each needs an address of its own (gRPCHost, internalComHost)"
                    );
                }
            }
        }
        let is_taken = i64::from(self.claim.is_taken());
        self.deps.metrics.address_taken.set(is_taken);
        self.look();
        self.acquire();
    }
}
