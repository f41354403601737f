//! What client streams have in common: one per batch, or one that stays open for hours.
//!
//! Messages go on as they arrive, in groups of what has arrived already; nothing waits for the end of a stream.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use oap_proto::RawMessage;
use tonic::{Code, Status, Streaming};

use super::handover::{Handover, Protocol, owned, status};
use crate::journal::{Message, Refused};

/// A group is handed over at this many messages, ...
const GROUP_MESSAGES: usize = 256;
/// ... or this many bytes.
const GROUP_BYTES: usize = 1024 * 1024;
/// When the server leaves, a stream on which nothing came for so long is ended, with UNAVAILABLE. An agent whose stream never
/// ends by itself (Python 0.4.0) was told to go and records nothing until then.
const SILENCE: Duration = Duration::from_millis(500);

impl Handover {
    /// Takes a stream to its end, each message as what `read` makes of it. `kind` is how such messages are counted.
    /// `Ok` if all were taken, which is the moment to reply.
    pub(super) async fn receive(
        &self,
        mut stream: Streaming<RawMessage>,
        kind: &'static str,
        mut read: impl FnMut(Bytes) -> Message + Send,
    ) -> Result<(), Status> {
        let mut lost = 0;
        loop {
            let mut group = Group::default();
            let mut end = group.push(self.next(&mut stream).await, &mut read);
            while end.is_none() && !group.is_full() {
                match stream.message().now_or_never() {
                    Some(next) => end = group.push(next, &mut read),
                    None => break,
                }
            }
            let size = group.messages.len();
            match self.deliver(Protocol::Grpc, group.messages).await {
                Ok(()) => {}
                // The stream goes on, since the next message may find room; the answer at its end tells.
                Err(Refused::Overloaded) => lost += size,
                Err(Refused::Closed) => return Err(status(Refused::Closed)),
            }
            if let Some(end) = end {
                return self.ended(kind, lost, end);
            }
        }
    }

    /// The next message. A stream on which nothing comes ends soon when the server leaves.
    pub(super) async fn next(
        &self,
        stream: &mut Streaming<RawMessage>,
    ) -> Result<Option<RawMessage>, Status> {
        let silence = async {
            self.leaving.cancelled().await;
            tokio::time::sleep(SILENCE).await;
        };
        tokio::select! {
            biased;
            next = stream.message() => next,
            () = silence => Err(Status::unavailable("the server is shutting down")),
        }
    }

    /// How a stream is answered after `lost` messages found no room.
    pub(super) fn ended(
        &self,
        kind: &str,
        lost: usize,
        end: Result<(), Status>,
    ) -> Result<(), Status> {
        match end {
            Ok(()) if lost == 0 => Ok(()),
            Ok(()) => Err(Status::internal(format!(
                "{lost} {kind} messages were lost: {}",
                Refused::Overloaded
            ))),
            Err(broken) => Err(self.broken(kind, broken)),
        }
    }

    /// Nobody hears the answer if the peer is gone. If the transport gave up on a message, agents must not take that
    /// for a network fault, as they take RESOURCE_EXHAUSTED.
    fn broken(&self, kind: &str, cause: Status) -> Status {
        let reason = match cause.code() {
            Code::OutOfRange | Code::ResourceExhausted => "too_large",
            Code::Internal => "framing",
            _ => return cause,
        };
        self.unreadable(kind, reason, &cause.message());
        match reason {
            "too_large" => Status::out_of_range(cause.message()),
            _ => cause,
        }
    }
}

/// Messages that arrived together.
#[derive(Default)]
struct Group {
    messages: Vec<Message>,
    bytes: usize,
}

impl Group {
    /// Adds what the stream gave; `Some` if that was its end.
    fn push(
        &mut self,
        next: Result<Option<RawMessage>, Status>,
        read: &mut impl FnMut(Bytes) -> Message,
    ) -> Option<Result<(), Status>> {
        match next {
            Ok(Some(message)) => {
                self.bytes += message.0.len();
                self.messages.push(read(owned(message)));
                None
            }
            Ok(None) => Some(Ok(())),
            Err(broken) => Some(Err(broken)),
        }
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= GROUP_MESSAGES || self.bytes >= GROUP_BYTES
    }
}
