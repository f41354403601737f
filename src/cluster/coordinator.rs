//! Nodes that announce themselves at a centre and read there who else did: ZooKeeper, etcd, Consul, Nacos (8.1.0 spec, G.3).
//!
//! Whatever goes wrong with the centre, the members that are known stay: that one of them has died is noticed by the relay
//! itself. A node that the centre has forgotten announces itself anew, and lists without it, and those without others who have not
//! done so yet, count for nothing meanwhile.

mod center;
mod consul;
mod etcd;
mod nacos;
mod strange;
mod zookeeper;

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clients::CenterError;
use super::membership::Membership;
use super::metrics::ClusterMetrics;
use crate::config::{CoordinatorSettings, OwnAddress};
use center::{Center, Listing};
use strange::Strange;

/// Between two looks, and before the second one, as in the original.
const PERIOD: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(1);
/// How long a call of the centre may take, all its servers together.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// After how long without a word from the centre that is said.
const SILENCE: Duration = Duration::from_secs(4);
/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two times that the same failure is said.
const SAY_AGAIN: Duration = Duration::from_secs(600);
/// How long a list without this node counts for nothing.
const UNLISTED: Duration = Duration::from_secs(30);
/// After a time without the centre, or one that it has forgotten: how long members that are known and missing from a list stay,
/// and a node that knows nobody believes no list. Each of them looks within this time and announces itself anew.
const SETTLING: Duration = Duration::from_secs(15);
/// However often the centre goes away and comes back: how long after its first list a node that knows nobody believes the next one.
/// Who knows nobody works alone before long, which is worse than a list that lacks some.
const UNBELIEVING: Duration = Duration::from_secs(30);

/// Keeps this node announced, and the others known.
#[derive(Debug)]
pub struct Coordinator {
    provider: &'static str,
    center: Center,
    /// `None` for a node that does not announce itself.
    own: Option<OwnAddress>,
    metrics: ClusterMetrics,
    /// Whether the centre took this node.
    is_registered: bool,
    /// When it last took it.
    announced: Option<Instant>,
    /// When it last heard that this node is still there.
    renewed: Instant,
    /// When the centre was last away, or found to have forgotten.
    troubled: Option<Instant>,
    /// Since when lists are not believed although nobody is known.
    unbelieving: Option<Instant>,
    /// Since when this node is not in the list.
    unlisted: Option<Instant>,
    /// Whether it was said that this node is not in the list.
    is_unlisted_said: bool,
    strange: Strange,
    /// What was said last about a failure, and when.
    said: Option<(String, Instant)>,
}

impl Coordinator {
    /// Prepares the client; nobody is asked yet. Fails if the settings lead to no address.
    pub fn new(
        settings: &CoordinatorSettings,
        own: Option<OwnAddress>,
        metrics: ClusterMetrics,
    ) -> Result<Coordinator, CenterError> {
        Ok(Coordinator {
            provider: settings.provider(),
            center: Center::new(settings)?,
            own,
            metrics,
            is_registered: false,
            announced: None,
            renewed: Instant::now(),
            troubled: None,
            unbelieving: None,
            unlisted: None,
            is_unlisted_said: false,
            strange: Strange::default(),
            said: None,
        })
    }

    /// Tells of every change, until this node leaves, which it then tells the centre.
    pub async fn keep(
        mut self,
        membership: watch::Sender<Option<Membership>>,
        stop: CancellationToken,
    ) {
        let mut usual = SOON;
        loop {
            let pause = tokio::select! {
                () = stop.cancelled() => break,
                is_settled = self.look(&membership) => if is_settled { usual } else { SOON },
            };
            usual = PERIOD;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = self.center.changed() => {}
            }
        }
        self.leave().await;
    }

    /// One round: announces this node if it has to be, and reads the list. `false` if the next one should be soon.
    async fn look(&mut self, membership: &watch::Sender<Option<Membership>>) -> bool {
        let (failure, listing) = self.ask(membership).await;
        let mut failure = failure.err();
        let is_settled = match listing {
            Ok(mut listing) => {
                let strange = std::mem::take(&mut listing.strange);
                self.metrics.pass_over(strange.len());
                self.strange.name(strange, self.center.remedy_if_strange());
                self.judge(listing, membership)
            }
            Err(error) => {
                self.metrics.coordinator_failed("list");
                self.troubled = Some(Instant::now());
                failure.get_or_insert(error);
                // It may be back only for a moment.
                membership.borrow().is_some()
            }
        };
        match failure {
            Some(error) => self.say(&error, membership),
            None if self.said.take().is_some() => {
                tracing::info!(
                    provider = self.provider,
                    "the coordinator does what it is asked again"
                );
            }
            None => {}
        }
        is_settled
    }

    /// What became of this node's announcement, and the list. That no word comes is said while it is waited for.
    async fn ask(
        &mut self,
        membership: &watch::Sender<Option<Membership>>,
    ) -> (Result<(), CenterError>, Result<Listing, CenterError>) {
        let is_said = self.said.is_some();
        let (provider, remedy) = (self.provider, self.center.remedy(""));
        let mut silence = None;
        let outcome = {
            let asking = async {
                let announced = self.announce().await;
                let listing = in_time(CALL_TIMEOUT, self.center.list()).await;
                (announced, listing)
            };
            tokio::pin!(asking);
            match tokio::time::timeout(SILENCE, &mut asking).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    if !is_said {
                        let reason = format!("no answer for {SILENCE:?}");
                        complain(provider, &reason, remedy, membership);
                        silence = Some((reason, Instant::now()));
                    }
                    asking.await
                }
            }
        };
        if silence.is_some() {
            self.said = silence;
        }
        outcome
    }

    /// Sees to it that this node is announced, if it has to be.
    async fn announce(&mut self) -> Result<(), CenterError> {
        let Some(own) = &self.own else {
            return Ok(());
        };
        if self.is_registered {
            let is_due = |period| self.renewed.elapsed() >= period;
            if !self.center.renewal().is_some_and(is_due) {
                return Ok(());
            }
            let renewing = in_time(CALL_TIMEOUT, self.center.renew(own)).await;
            self.is_registered = renewing.inspect_err(|_| {
                self.metrics.coordinator_failed("renew");
            })?;
        }
        if !self.is_registered {
            self.metrics.registered.set(0);
            let registering = in_time(CALL_TIMEOUT, self.center.register(own)).await;
            registering.inspect_err(|_| self.metrics.coordinator_failed("register"))?;
            self.is_registered = true;
            self.announced = Some(Instant::now());
            self.metrics.registrations.inc();
            self.metrics.registered.set(1);
            let (provider, own) = (self.provider, own.member());
            tracing::info!(provider, own, "this node is announced to the others");
        }
        self.renewed = Instant::now();
        Ok(())
    }

    /// Hands the list on if it can be believed. `false` if it should be read again soon.
    fn judge(&mut self, listing: Listing, membership: &watch::Sender<Option<Membership>>) -> bool {
        let now = Instant::now();
        let own = self.own.as_ref().map(OwnAddress::member);
        let is_listed = own
            .as_ref()
            .is_some_and(|own| listing.members.contains(own));
        let is_awaited = own.is_some() && !is_listed;
        if let Some(own) = &own
            && is_awaited
            && self.is_registered
            && self.is_forgotten(now)
            && !listing.unwell.contains(own)
        {
            tracing::info!(
                own,
                "the coordinator does not know this node, which announces itself again"
            );
            self.is_registered = false;
            self.troubled = Some(now);
            self.metrics.registered.set(0);
        }
        if is_awaited {
            let since = *self.unlisted.get_or_insert(now);
            if now - since < UNLISTED {
                return false;
            }
            if !std::mem::replace(&mut self.is_unlisted_said, true) {
                tracing::warn!(
                    own,
                    remedy = self.center.remedy_if_unlisted(),
                    "the coordinator does not list this node, others send it nothing"
                );
            }
        } else {
            self.unlisted = None;
            self.is_unlisted_said = false;
        }
        let is_settling = self.troubled.is_some_and(|since| now - since < SETTLING);
        let is_receiver = own.is_none();
        let mut own = own.filter(|_| is_listed);
        let mut members = listing.members;
        let mut is_settled = true;
        match &*membership.borrow() {
            Some(known) if is_settling && !known.members.is_subset(&members) => {
                members.extend(known.members.iter().cloned());
                own = own.or_else(|| known.own.clone());
                is_settled = false;
            }
            Some(_) => {}
            // A receiver waits for those who write.
            None if is_receiver && members.is_empty() => return false,
            None if is_settling => {
                let since = *self.unbelieving.get_or_insert(now);
                if now - since < UNBELIEVING {
                    return false;
                }
            }
            None => {}
        }
        let news = Some(Membership { own, members });
        membership.send_if_modified(|known| {
            let is_news = *known != news;
            *known = news;
            is_news
        });
        is_settled
    }

    /// Whether a node that is not in the list was forgotten: lists can be a moment behind, and if announcing it helped nothing for
    /// long, something keeps it from the list.
    fn is_forgotten(&self, now: Instant) -> bool {
        let pause = match self.is_unlisted_said {
            true => UNLISTED,
            false => PERIOD,
        };
        self.announced.is_none_or(|then| now - then >= pause)
    }

    async fn leave(&mut self) {
        let Some(own) = &self.own else {
            return;
        };
        self.metrics.registered.set(0);
        match in_time(LEAVE_TIMEOUT, self.center.leave(own)).await {
            // It was never in the list, or has gone from there before.
            Ok(()) if !self.is_registered => {}
            Ok(()) => tracing::info!(own = own.member(), "this node is taken from the list"),
            Err(error) => {
                self.metrics.coordinator_failed("leave");
                if !self.is_registered {
                    return;
                }
                let reason = error.to_string();
                tracing::warn!(
                    reason,
                    "this node could not be taken from the list, where it stays until the coordinator misses it"
                );
            }
        }
    }

    /// Says a reason when it is another one, and every ten minutes.
    fn say(&mut self, error: &CenterError, membership: &watch::Sender<Option<Membership>>) {
        let reason = error.to_string();
        let is_same =
            |(last, when): &(String, Instant)| *last == reason && when.elapsed() < SAY_AGAIN;
        if self.said.as_ref().is_some_and(is_same) {
            return;
        }
        let remedy = self.center.remedy(&reason);
        complain(self.provider, &reason, remedy, membership);
        self.said = Some((reason, Instant::now()));
    }
}

fn complain(
    provider: &str,
    reason: &str,
    remedy: &str,
    membership: &watch::Sender<Option<Membership>>,
) {
    let known = membership.borrow().as_ref().map(|m| m.members.len());
    let meanwhile = match known {
        Some(_) => "members that are known stay",
        None => "metrics wait; after a minute this node works alone",
    };
    tracing::warn!(
        provider,
        reason,
        remedy,
        known,
        "the coordinator does not do what it is asked, {meanwhile}"
    );
}

/// A call with a bound.
async fn in_time<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, CenterError>>,
) -> Result<T, CenterError> {
    match tokio::time::timeout(bound, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CenterError(format!("no answer within {bound:?}"))),
    }
}

#[cfg(test)]
mod tests;
