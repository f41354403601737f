//! What every door does with a message: count it, offer it to the journal, count and log it if that refuses.

use std::sync::Arc;

use bytes::Bytes;
use oap_proto::{RawMessage, agent::Commands};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::ReceiverMetrics;
use crate::journal::{Intake, Message, Refused};
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        }
    }
}

/// The way from a door to the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    intake: Intake,
    pub(super) metrics: ReceiverMetrics,
    throttles: Arc<Throttles>,
    /// Cancelled when the server leaves.
    pub(super) leaving: CancellationToken,
}

#[derive(Debug)]
struct Throttles {
    refused: Throttle,
    unreadable: Throttle,
}

impl Handover {
    pub(super) fn new(intake: Intake, metrics: ReceiverMetrics) -> Self {
        Self {
            intake,
            metrics,
            throttles: Arc::new(Throttles {
                refused: Throttle::new(Clock::System),
                unreadable: Throttle::new(Clock::System),
            }),
            leaving: CancellationToken::new(),
        }
    }

    /// The same for a door that closes when `leaving` is cancelled.
    pub(super) fn until(&self, leaving: &CancellationToken) -> Self {
        Self {
            leaving: leaving.clone(),
            ..self.clone()
        }
    }

    /// Offers messages of one kind; `Ok` is the moment to acknowledge them.
    pub(super) async fn deliver(
        &self,
        protocol: Protocol,
        messages: Vec<Message>,
    ) -> Result<(), Refused> {
        let Some(kind) = messages.first().map(Message::kind) else {
            return Ok(());
        };
        let count = messages.len() as u64;
        self.metrics
            .received
            .with_label_values(&[kind, protocol.name()])
            .inc_by(count);
        let began = Instant::now();
        let outcome = self.intake.accept(messages).await;
        let seconds = began.elapsed().as_secs_f64();
        self.metrics.came(kind, protocol.name(), count, seconds);
        if let Err(refused) = outcome {
            let reason = refused.reason();
            let counter = self.metrics.refused.with_label_values(&[kind, reason]);
            counter.inc_by(count);
            if let Some(held_back) = self.throttles.refused.admit() {
                tracing::warn!(
                    kind,
                    reason,
                    messages = count,
                    held_back,
                    "messages refused"
                );
            }
        }
        outcome
    }

    /// Serves a gRPC call that carries one message.
    pub(super) async fn report(
        &self,
        request: Request<RawMessage>,
        kind: fn(Bytes) -> Message,
    ) -> Result<Response<Commands>, Status> {
        self.take(request, kind).await?;
        Ok(nothing_to_do())
    }

    /// Takes the message of a gRPC call. `Ok` is the moment to reply.
    pub(super) async fn take(
        &self,
        request: Request<RawMessage>,
        kind: fn(Bytes) -> Message,
    ) -> Result<(), Status> {
        let message = kind(owned(request.into_inner()));
        self.deliver(Protocol::Grpc, vec![message])
            .await
            .map_err(status)
    }

    /// Counts messages that never reached the journal.
    pub(super) fn count_refused(&self, kind: &str, reason: &str, messages: u64) {
        self.metrics
            .refused
            .with_label_values(&[kind, reason])
            .inc_by(messages);
        let ledger = self.intake.ledger();
        ledger.turned_away(kind, messages, reason);
    }

    /// Counts and logs one request or stream that broke before its message could be read.
    pub(super) fn unreadable(&self, kind: &str, reason: &str, error: &dyn std::fmt::Display) {
        self.count_refused(kind, reason, 1);
        if let Some(held_back) = self.throttles.unreadable.admit() {
            tracing::warn!(kind, reason, %error, held_back, "message rejected");
        }
    }
}

/// The answer to nearly every report.
pub(super) fn nothing_to_do() -> Response<Commands> {
    Response::new(Commands::default())
}

/// How a refusal reads on gRPC.
///
/// Overload is INTERNAL: agents log that, lose the batch and go on. UNAVAILABLE and RESOURCE_EXHAUSTED would make them
/// drop the channel and stop all their senders until they have reconnected, so one full queue would cost heartbeats
/// and metrics as well, and end in a storm of reconnects. When we shut down, leaving the channel is what they should do.
pub(super) fn status(refused: Refused) -> Status {
    match refused {
        Refused::Overloaded => Status::internal(refused.to_string()),
        Refused::Closed => Status::unavailable(refused.to_string()),
    }
}

/// Copies are cheaper than what they free, below this size in bytes.
const COPIED_BELOW: usize = 64 * 1024;

/// The message in memory of its own. The transport hands out slices of its read buffer, and a waiting message of
/// 500 bytes must not keep 8 KiB alive that nobody counts.
pub(super) fn owned(message: RawMessage) -> Bytes {
    if message.0.len() < COPIED_BELOW {
        Bytes::copy_from_slice(&message.0)
    } else {
        message.0
    }
}
