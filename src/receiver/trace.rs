//! Segments over gRPC: one call per batch, or one that stays open for hours.
//!
//! Messages go on as they arrive, in groups of what has arrived already; nothing waits for the end of a stream.

use futures_util::FutureExt;
use oap_proto::agent::{Commands, SegmentCollection};
use oap_proto::{RawMessage, legacy, v3};
use tonic::{Code, Request, Response, Status, Streaming};

use super::handover::{Handover, Protocol, nothing_to_do, owned, status};
use crate::journal::{Message, Refused};
use crate::model::message::kind;

/// A group is handed over at this many messages, ...
const GROUP_MESSAGES: usize = 256;
/// ... or this many bytes.
const GROUP_BYTES: usize = 1024 * 1024;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Trace(pub(super) Handover);

impl Trace {
    async fn receive(
        &self,
        mut stream: Streaming<RawMessage>,
    ) -> Result<Response<Commands>, Status> {
        let mut lost = 0;
        loop {
            let mut group = Group::default();
            let mut end = group.push(stream.message().await);
            while end.is_none() && !group.is_full() {
                match stream.message().now_or_never() {
                    Some(next) => end = group.push(next),
                    None => break,
                }
            }
            let size = group.messages.len();
            match self.0.deliver(Protocol::Grpc, group.messages).await {
                Ok(()) => {}
                // The stream goes on, since the next message may find room; the answer at its end tells.
                Err(Refused::Overloaded) => lost += size,
                Err(Refused::Closed) => return Err(status(Refused::Closed)),
            }
            match end {
                None => {}
                Some(Ok(())) if lost == 0 => return Ok(nothing_to_do()),
                Some(Ok(())) => {
                    return Err(Status::internal(format!(
                        "{lost} segments were lost: {}",
                        Refused::Overloaded
                    )));
                }
                Some(Err(broken)) => return Err(self.broken(broken)),
            }
        }
    }

    /// Nobody hears the answer if the peer is gone. If the transport gave up on a message, agents must not take that
    /// for a network fault, as they take RESOURCE_EXHAUSTED.
    fn broken(&self, cause: Status) -> Status {
        let reason = match cause.code() {
            Code::OutOfRange | Code::ResourceExhausted => "too_large",
            Code::Internal => "framing",
            _ => return cause,
        };
        self.0.unreadable(kind::SEGMENT, reason, &cause.message());
        match reason {
            "too_large" => Status::out_of_range(cause.message()),
            _ => cause,
        }
    }

    async fn receive_collection(
        &self,
        collection: SegmentCollection,
    ) -> Result<Response<Commands>, Status> {
        let segments = collection
            .segments
            .into_iter()
            .map(|segment| Message::Segment(owned(RawMessage(segment))))
            .collect();
        match self.0.deliver(Protocol::Grpc, segments).await {
            Ok(()) => Ok(nothing_to_do()),
            Err(refused) => Err(status(refused)),
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
    fn push(&mut self, next: Result<Option<RawMessage>, Status>) -> Option<Result<(), Status>> {
        match next {
            Ok(Some(message)) => {
                self.bytes += message.0.len();
                self.messages.push(Message::Segment(owned(message)));
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

#[tonic::async_trait]
impl legacy::trace_segment_report_service_server::TraceSegmentReportService for Trace {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl v3::trace_segment_report_service_server::TraceSegmentReportService for Trace {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request.into_inner()).await
    }

    async fn collect_in_sync(
        &self,
        request: Request<SegmentCollection>,
    ) -> Result<Response<Commands>, Status> {
        self.receive_collection(request.into_inner()).await
    }
}
