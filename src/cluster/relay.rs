//! The task between the nodes: collects what others write, brings it there, and settles who writes what.
//!
//! Each partition is written by at most one node. One who gives it up stores everything first; one who takes it over asks
//! all others before, and they agree only if they know of the same members and do not write it. In between, increments wait
//! here. A batch goes to one process until that process says what became of it, so that nothing is lost or counted twice.

mod absence;
mod address;
mod delivery;
mod ending;
mod feed;
mod figures;
mod tenure;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oap_proto::cluster as proto;
use prometheus::IntGauge;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::membership::Membership;
use super::metrics::ClusterMetrics;
use super::peer::{Peer, PeerOptions};
use super::view::View;
use crate::model::fact::Fact;
use crate::stream::{AddressBook, Ground, Held, Increments, Limit, Partitions, Plan, Portion};
use crate::telemetry::Throttle;
use address::Claim;
use ending::Ending;
use feed::{Fed, Feed};

const TICK: Duration = Duration::from_millis(200);
/// Between two times that increments are sent.
const HAND_OUT: Duration = Duration::from_secs(1);
/// How long facts are held back while there is no room for what others write, before what is new of it is given up.
const HOLD_BACK: Duration = Duration::from_secs(10);
/// How long the coordinator may say nothing after the start, until this node works alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// What another node, or one of the original, wants.
#[derive(Debug)]
pub(super) enum Order {
    Sync(proto::Status, oneshot::Sender<proto::Answer>),
    Push(proto::Batch, oneshot::Sender<proto::Taken>),
    Merge(Portion, oneshot::Sender<()>),
}

/// What the relay needs from others.
#[derive(Debug)]
pub struct Dependencies {
    pub plan: Arc<Plan>,
    pub addresses: Arc<AddressBook>,
    pub ground: Ground,
    /// What this node writes, decided here.
    pub held: Held,
    /// The same for those who only look; told before the first value of what is new.
    pub owned: watch::Sender<Partitions>,
    /// Facts that it does write, counted since the last look.
    pub kept: Arc<AtomicU64>,
    /// Facts that it does not.
    pub facts: mpsc::Receiver<Vec<Fact>>,
    /// `None` until the coordinator has an answer.
    pub membership: watch::Receiver<Option<Membership>>,
    /// From then on this node hands everything over.
    pub stop: CancellationToken,
    pub metrics: ClusterMetrics,
    /// Whether this node should do what one node does for all.
    pub is_first: watch::Sender<bool>,
    /// Connections of agents, to be compared with those of other nodes.
    pub connections: Connections,
    pub log: Throttle,
}

/// How many agents are connected to the nodes.
#[derive(Debug, Default)]
pub struct Connections {
    /// To this one; `None` if it keeps what it has, which ends the giving away on all nodes.
    pub own: Option<IntGauge>,
    /// To the others, while it is time to compare.
    pub others: watch::Sender<Option<Vec<u32>>>,
}

impl Connections {
    fn count(&self) -> Option<u32> {
        let own = self.own.as_ref()?.get();
        Some(u32::try_from(own).unwrap_or(0))
    }
}

/// How the relay works.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Role Receiver: writes nothing as long as others do.
    pub receives_only: bool,
    /// Bytes that may wait for other members.
    pub capacity: usize,
    /// Address of this node if that is known without the coordinator.
    pub own: Option<String>,
    pub peers: PeerOptions,
}

/// Something that was going on and is over.
#[derive(Debug)]
enum Done {
    Synced {
        address: String,
        view: u64,
        was_through: bool,
        /// Number of this process then.
        asked_as: u64,
        answer: Result<proto::Answer, Status>,
    },
    Pushed {
        address: String,
        sequence: u64,
        taken: Result<proto::Taken, Status>,
    },
    Fed(Fed),
    Released(Partitions),
    /// Which process answered at the own address, if any, and the number of this one when it asked.
    Answered {
        asked_as: u64,
        by: Option<u64>,
    },
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The relay of this node.
#[derive(Debug)]
pub struct Relay {
    deps: Dependencies,
    options: RelayOptions,
    orders: mpsc::Receiver<Order>,
    /// This process.
    epoch: u64,
    /// Address of this node; empty as long as it has none.
    own: String,
    began: Instant,
    waiting: Increments,
    /// Since when there is no room there.
    full_since: Option<Instant>,
    peers: BTreeMap<String, Peer>,
    view: View,
    receives_only: BTreeSet<String>,
    /// Counts views.
    view_number: u64,
    /// Since when this view holds.
    changed: Instant,
    /// What this node writes, as the shards will know when all jobs are done.
    held: Partitions,
    releasing: Partitions,
    /// Since when something is wanted that others do not give.
    wanting: Option<Instant>,
    is_leaving: bool,
    /// Everything is handed over, nothing can come in any more.
    is_through: bool,
    /// The last batch taken of each process, and when.
    taken: HashMap<u64, (u64, Instant)>,
    /// Number of the last batch sent.
    sequence: u64,
    /// Processes that counted as gone, and since when.
    buried: HashMap<u64, Instant>,
    /// Who called, and when, while the coordinator says nothing.
    callers: BTreeMap<String, Instant>,
    /// When this node last looked at the others.
    looked: Instant,
    claim: Claim,
    running: FuturesUnordered<Running>,
    feed: Feed,
    next_hand_out: Instant,
    /// Address and state of the members that metrics name.
    named: BTreeSet<[String; 2]>,
}

impl Relay {
    pub(super) fn new(
        deps: Dependencies,
        options: RelayOptions,
        orders: mpsc::Receiver<Order>,
        epoch: u64,
    ) -> Relay {
        let now = Instant::now();
        Relay {
            waiting: Increments::new(options.capacity),
            full_since: None,
            feed: Feed::new(options.capacity),
            deps,
            options,
            orders,
            epoch,
            own: String::new(),
            began: now,
            peers: BTreeMap::new(),
            view: View::default(),
            receives_only: BTreeSet::new(),
            view_number: 0,
            changed: now,
            held: Partitions::default(),
            releasing: Partitions::default(),
            wanting: None,
            is_leaving: false,
            is_through: false,
            taken: HashMap::new(),
            sequence: 0,
            buried: HashMap::new(),
            callers: BTreeMap::new(),
            looked: now,
            claim: Claim::new(now),
            running: FuturesUnordered::new(),
            next_hand_out: now,
            named: BTreeSet::new(),
        }
    }

    /// Works until no more facts can come and everything is handed over. Others can call until then.
    pub async fn run(mut self) {
        self.looked = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_fed, mut is_ordered, mut is_coordinated) = (true, true, true);
        let mut ending: Option<Ending> = None;
        loop {
            tokio::select! {
                facts = self.deps.facts.recv(), if is_fed && self.takes_facts() => match facts {
                    Some(facts) => self.collect(facts),
                    None => is_fed = false,
                },
                order = self.orders.recv(), if is_ordered => match order {
                    Some(order) => self.obey(order),
                    None => is_ordered = false,
                },
                changed = self.deps.membership.changed(), if is_coordinated => match changed {
                    Ok(()) => self.look(),
                    Err(_) => is_coordinated = false,
                },
                Some(done) = self.running.next(), if !self.running.is_empty() => {
                    self.finish(done);
                }
                () = self.deps.stop.cancelled(), if !self.is_leaving => {
                    self.is_leaving = true;
                    self.look();
                    self.sync_all();
                }
                _ = tick.tick() => self.tick(),
            }
            if is_fed {
                continue;
            }
            // It may have come to its end without the signal.
            self.is_leaving = true;
            if self.is_over() {
                break;
            }
            let now = Instant::now();
            let is_stored = !self.releasing.is_empty() || !self.feed.is_idle();
            let ending = ending.get_or_insert_with(|| Ending::new(now));
            if ending.is_over(is_stored, now) {
                self.give_up();
                break;
            }
        }
    }

    /// Nobody has taken what is left.
    fn give_up(&mut self) {
        let rest = self.waiting.take(Limit::NONE, |_| true).len();
        let flights = self.peers.values_mut().filter_map(|p| p.in_flight.take());
        let increments = rest + flights.map(|flight| flight.count).sum::<usize>();
        if increments > 0 {
            tracing::error!(
                increments,
                "other nodes did not take everything in time, the rest is lost"
            );
            self.shed("no_owner", increments as u64);
        }
    }

    /// Whether nothing is left to do, once no more facts can come. If there are others, they are told.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let is_busy = !self.waiting.is_empty()
            || !self.feed.is_idle()
            || !self.releasing.is_empty()
            || self.peers.values().any(|peer| peer.in_flight.is_some());
        if is_busy {
            return false;
        }
        let others = self.peers.values();
        let mut others =
            others.filter(|peer| peer.epoch != 0 && !peer.is_through && !peer.is_dead(now));
        if self.is_through {
            return self.held.is_empty() && others.all(|peer| peer.knows_through);
        }
        if others.next().is_none() {
            // The shards write what they hold when they end.
            return true;
        }
        self.is_through = true;
        self.look();
        self.sync_all();
        false
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.look();
        self.acquire();
        self.sync_due(now);
        if now >= self.next_hand_out || self.waiting.bytes() > self.options.capacity / 2 {
            self.next_hand_out = now + HAND_OUT;
            self.hand_out();
        }
        self.send_again(now);
        self.check_own_address(now);
        self.count();
        let compared = self.compared(now);
        let others = &self.deps.connections.others;
        others.send_if_modified(|known| {
            let is_new = *known != compared;
            *known = compared;
            is_new
        });
    }

    /// Whether facts may come in. If there is no room for them, whoever brings them is held up, but not for long: what this node
    /// writes itself comes the same way.
    fn takes_facts(&mut self) -> bool {
        if !self.waiting.is_full() {
            self.full_since = None;
            return true;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        since.elapsed() >= HOLD_BACK
    }

    fn collect(&mut self, facts: Vec<Fact>) {
        let addresses = facts.iter().filter_map(|fact| match fact {
            Fact::Address { alias, .. } => Some(&**alias),
            _ => None,
        });
        self.deps.addresses.learn(addresses);
        self.waiting.absorb(&self.deps.plan, facts);
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have given up, which is as good as an answer that was lost.
        match order {
            Order::Sync(status, answer) => {
                let given = self.answer(status);
                answer.send(given).ok();
            }
            Order::Push(batch, answer) => {
                // Without an answer it is sent again.
                if let Some(outcome) = self.take(batch) {
                    let taken = proto::Taken {
                        outcome: outcome.into(),
                        epoch: self.epoch,
                    };
                    answer.send(taken).ok();
                }
            }
            Order::Merge(portion, done) => {
                let count = portion.len() as u64;
                let of_java = &self.deps.metrics.exchanged;
                of_java.with_label_values(&["of_java"]).inc_by(count);
                self.receive(portion, Some(done));
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Synced {
                address,
                view,
                was_through,
                asked_as,
                answer,
            } => self.synced(&address, view, was_through, asked_as, answer),
            Done::Pushed {
                address,
                sequence,
                taken,
            } => self.pushed(&address, sequence, taken),
            Done::Fed(fed) => self.fed(fed),
            Done::Answered { asked_as, by } => self.own_address_answered(asked_as, by),
            Done::Released(partitions) => {
                self.releasing = self.releasing.without(partitions);
                tracing::info!(
                    partitions = partitions.len(),
                    "handed over, everything of it is stored"
                );
                self.acquire();
                self.sync_all();
            }
        }
    }

    fn shed(&self, reason: &str, count: u64) {
        if count == 0 {
            return;
        }
        let shed = &self.deps.metrics.shed;
        shed.with_label_values(&[reason]).inc_by(count);
        if let Some(held_back) = self.deps.log.admit() {
            tracing::warn!(
                reason,
                count,
                held_back,
                "values given up on their way to other nodes"
            );
        }
    }
}

#[cfg(test)]
mod tests;
