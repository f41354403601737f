//! Another node as this one knows it: which process answers there, since when it is silent, and the batch on its way to it.

use std::error::Error;
use std::io;
use std::time::Duration;

use oap_proto::cluster as proto;
use proto::exchange_client::ExchangeClient;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::config::TOKEN_KEY;
use crate::stream::Partitions;

/// After so much silence a node counts as dead.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// The same if its machine says that nobody listens.
const REFUSAL: Duration = Duration::from_secs(3);
/// How long a node that left the list, or says that it leaves, may take to hand over.
const HANDING_OVER: Duration = Duration::from_secs(30);
/// Between two times that the same reason of a failure is said.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// Before another reason is said.
const OTHER_REASON: Duration = Duration::from_secs(60);
/// Nodes tell each other their numbers each second.
const FRESH: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// As for agents; a batch has some MiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 50 << 20;

/// How nodes call each other.
#[derive(Debug, Clone, Default)]
pub struct PeerOptions {
    /// `None` is clear text.
    pub tls: Option<ClientTlsConfig>,
    /// `core.default.remoteTimeout`, for one batch.
    pub timeout: Duration,
    /// `authentication`, sent with every call.
    pub token: Option<AsciiMetadataValue>,
}

/// Puts the token on every call.
#[derive(Debug, Clone)]
pub(super) struct Carry(Option<AsciiMetadataValue>);

impl Interceptor for Carry {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        Ok(request)
    }
}

/// What a node says about itself in every message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub epoch: u64,
    pub receives_only: bool,
    pub is_leaving: bool,
    /// Leaves and writes nothing now.
    pub is_empty: bool,
    /// Has handed over everything for good.
    pub is_through: bool,
    /// The last batch of this process that it took; `None` if it does not speak of this process.
    pub taken: Option<u64>,
    /// Connections of agents, if it gives them away.
    pub connections: Option<u32>,
}

/// A batch that has no answer yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub batch: proto::Batch,
    pub count: usize,
    /// As [`crate::stream::Portion::bytes`].
    pub bytes: usize,
    pub is_called: bool,
    pub again_at: Instant,
}

/// What becomes of a batch in flight by what its receiver says.
#[derive(Debug)]
pub(super) enum Fate {
    /// Nothing yet.
    Open,
    Taken(usize),
    /// It was not taken; it must go elsewhere.
    Back(proto::Batch),
    /// The process ended; nobody can tell.
    Uncertain(proto::Batch),
}

/// Another node.
#[derive(Debug)]
pub(super) struct Peer {
    pub client: ExchangeClient<InterceptedService<Channel, Carry>>,
    /// Its process; 0 if unknown.
    pub epoch: u64,
    pub receives_only: bool,
    pub is_leaving: bool,
    pub is_empty: bool,
    pub is_through: bool,
    /// Since when it is one of the members, or was last heard.
    heard: Instant,
    refused: Option<Instant>,
    /// Why the last call failed, and when that was last said.
    failure: Option<(String, Instant)>,
    /// The process that last answered a look there, and when.
    pub answered: Option<(u64, Instant)>,
    connections: Option<u32>,
    pub is_participant: bool,
    /// Since when it is no participant any more and has not handed over.
    pub limbo: Option<Instant>,
    /// What it will not write in the view of now.
    pub agreed: Partitions,
    pub is_syncing: bool,
    pub next_sync: Instant,
    /// It was told that this node is through.
    pub knows_through: bool,
    pub in_flight: Option<InFlight>,
}

impl Peer {
    /// At `host:port`. Fails if that is none.
    pub(super) fn new(
        address: &str,
        options: &PeerOptions,
        now: Instant,
    ) -> Result<Peer, tonic::transport::Error> {
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let mut endpoint = Endpoint::new(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        if let Some(tls) = &options.tls {
            endpoint = endpoint.tls_config(tls.clone())?;
        }
        let client =
            ExchangeClient::with_interceptor(endpoint.connect_lazy(), Carry(options.token.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Peer {
            client,
            epoch: 0,
            receives_only: false,
            is_leaving: false,
            is_empty: false,
            is_through: false,
            heard: now,
            refused: None,
            failure: None,
            answered: None,
            connections: None,
            is_participant: false,
            limbo: None,
            agreed: Partitions::default(),
            is_syncing: false,
            next_sync: now,
            knows_through: false,
            in_flight: None,
        })
    }

    /// Whether it must be taken for dead.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        let refused = self.refused.is_some_and(|since| now - since > REFUSAL);
        now - self.heard > SILENCE || refused && !self.is_leaving
    }

    /// Whether the wait for what it holds is over.
    pub(super) fn has_handed_over(&self, now: Instant) -> bool {
        let is_late = self.limbo.is_some_and(|since| now - since > HANDING_OVER);
        self.is_empty || is_late || !self.is_leaving && self.is_dead(now)
    }

    /// A message of it arrived.
    pub(super) fn hear(&mut self, word: Word, now: Instant) -> Fate {
        self.heard = now;
        self.refused = None;
        self.receives_only = word.receives_only;
        let before = std::mem::replace(&mut self.epoch, word.epoch);
        let mut fate = Fate::Open;
        if before != word.epoch {
            fate = self.forget_process();
            self.epoch = word.epoch;
        }
        self.connections = word.connections;
        self.is_leaving |= word.is_leaving;
        // A leaving node writes again when it is the last one.
        self.is_empty = word.is_empty;
        self.is_through |= word.is_through;
        // Who leaves takes nothing any more, so this is final.
        let last = word.taken.filter(|_| word.is_leaving);
        if let Some(last) = last
            && let Some(flight) = self.in_flight.take()
        {
            fate = match flight.batch.sequence <= last {
                true => Fate::Taken(flight.count),
                false => Fate::Back(flight.batch),
            };
        }
        fate
    }

    /// Whether calls of its address arrived at another process a moment ago than this one that says to be there.
    pub(super) fn is_answered_by_another(&self, epoch: u64, now: Instant) -> bool {
        let fresh = self.answered.filter(|(_, at)| now - *at <= FRESH);
        fresh.is_some_and(|(answered, _)| answered != epoch)
    }

    /// How many agents are connected to it, if it said so a moment ago.
    pub(super) fn connections(&self, now: Instant) -> Option<u32> {
        self.connections.filter(|_| now - self.heard <= FRESH)
    }

    /// The process that was there has ended.
    pub(super) fn forget_process(&mut self) -> Fate {
        self.epoch = 0;
        self.is_leaving = false;
        self.is_empty = false;
        self.is_through = false;
        self.limbo = None;
        self.knows_through = false;
        self.agreed = Partitions::default();
        self.connections = None;
        match self.in_flight.take() {
            Some(flight) => Fate::Uncertain(flight.batch),
            None => Fate::Open,
        }
    }

    /// A call was answered.
    pub(super) fn succeed(&mut self) {
        self.failure = None;
    }

    /// A call failed; returns why if that is to be said: when it is news, and every ten minutes.
    ///
    /// Who is there but cannot be trusted is not dead: it goes on writing, and two who write the same would destroy each
    /// other's rows. What is meant for it waits.
    pub(super) fn fail(&mut self, status: &Status, now: Instant) -> Option<Failure> {
        let failure = Failure::of(status);
        match failure.kind {
            FailureKind::Refused => {
                self.refused.get_or_insert(now);
            }
            FailureKind::Tls | FailureKind::Token => {
                // Who was leaving has gone: this is another process.
                if !self.is_leaving {
                    self.heard = now;
                }
                self.refused = None;
            }
            FailureKind::Other => self.refused = None,
        }
        // Reasons may take turns.
        let is_known = |(reason, said): &(String, Instant)| {
            let pause = match *reason == failure.reason {
                true => SAID_AGAIN,
                false => OTHER_REASON,
            };
            now - *said < pause
        };
        if self.failure.as_ref().is_some_and(is_known) {
            return None;
        }
        self.failure = Some((failure.reason.clone(), now));
        Some(failure)
    }

    /// This node heard nobody for so long, which says nothing about the others.
    pub(super) fn excuse(&mut self, lapse: Duration, now: Instant) {
        self.heard = now.min(self.heard + lapse);
        self.refused = None;
    }

    /// Why the last call failed; empty if it did not.
    pub(super) fn reason(&self) -> &str {
        self.failure.as_ref().map_or("", |(reason, _)| reason)
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: FailureKind,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Nobody listens there.
    Refused,
    /// Someone does, but not over a TLS that this node trusts.
    Tls,
    /// A member that has another token.
    Token,
    Other,
}

impl Failure {
    fn of(status: &Status) -> Failure {
        let mut kind = match status.code() {
            Code::Unauthenticated => FailureKind::Token,
            _ => FailureKind::Other,
        };
        let mut reason = status.message().to_owned();
        let mut cause = status.source();
        while let Some(error) = cause {
            reason = error.to_string();
            if let Some(io) = error.downcast_ref::<io::Error>() {
                if io.kind() == io::ErrorKind::ConnectionRefused {
                    kind = FailureKind::Refused;
                }
                // What an io::Error carries is not its source.
                if io
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>())
                {
                    kind = FailureKind::Tls;
                }
            }
            // What a node that wants TLS answers to one that does not, read as HTTP/2.
            if error.is::<rustls::Error>() || reason == "frame with invalid size" {
                kind = FailureKind::Tls;
            }
            cause = error.source();
        }
        Failure { kind, reason }
    }
}

#[cfg(test)]
mod tests;
