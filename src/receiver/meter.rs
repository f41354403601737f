//! Meters over gRPC: all that comes on one stream belongs together (8.1.0 spec, A.10).

use bytes::{BufMut, Bytes, BytesMut};
use oap_proto::agent::Commands;
use oap_proto::{RawMessage, legacy, v3};
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::{Request, Response, Status, Streaming};

use super::handover::{Handover, Protocol, nothing_to_do, owned, status};
use crate::journal::{Message, Refused};
use crate::model::message::kind;

/// A stream is handed over in parts of this many messages, ...
const PART_MESSAGES: usize = 10_000;
/// ... or this many bytes. Agents send a few hundred messages of some hundred bytes.
const PART_BYTES: usize = 256 * 1024;

/// Field numbers of `MeterPart`.
const METER_DATA: u32 = 1;
const FIRST: u32 = 15;

/// Serves both names.
#[derive(Debug, Clone)]
pub(super) struct Meter(pub(super) Handover);

impl Meter {
    /// In a task of its own: what came on a stream counts also when its peer is gone, which ends the call.
    async fn receive(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        let receiving = self.clone().receive_all(request.into_inner());
        let ended = tokio::spawn(receiving).await;
        ended.map_err(|failed| Status::internal(failed.to_string()))??;
        Ok(nothing_to_do())
    }

    async fn receive_all(self, mut stream: Streaming<RawMessage>) -> Result<(), Status> {
        let mut part = Part::default();
        let mut lost = 0;
        loop {
            let end = match self.0.next(&mut stream).await {
                Ok(Some(message)) => {
                    part.push(&message.0);
                    if !part.is_full() {
                        continue;
                    }
                    None
                }
                Ok(None) => Some(Ok(())),
                Err(broken) => Some(Err(broken)),
            };
            let messages = part.messages;
            match self.0.deliver(Protocol::Grpc, part.take()).await {
                Ok(()) => {}
                Err(Refused::Overloaded) => lost += messages,
                Err(Refused::Closed) => return Err(status(Refused::Closed)),
            }
            if let Some(end) = end {
                return self.0.ended(kind::METERS, lost, end);
            }
        }
    }
}

/// What came on a stream since the last part, as the fields of a `MeterPart`.
#[derive(Default)]
struct Part {
    encoded: BytesMut,
    messages: usize,
    /// The first message of the stream, which says who reports.
    first: Bytes,
}

impl Part {
    fn push(&mut self, message: &Bytes) {
        if self.first.is_empty() && message.len() < PART_BYTES {
            self.first = owned(RawMessage(message.clone()));
        }
        append(&mut self.encoded, METER_DATA, message);
        self.messages += 1;
    }

    fn is_full(&self) -> bool {
        self.messages >= PART_MESSAGES || self.encoded.len() >= PART_BYTES
    }

    /// One message, or none if nothing came. The next part names the first message of the stream again.
    fn take(&mut self) -> Vec<Message> {
        if self.messages == 0 {
            return vec![];
        }
        self.messages = 0;
        let mut next = BytesMut::new();
        append(&mut next, FIRST, &self.first);
        let encoded = std::mem::replace(&mut self.encoded, next);
        vec![Message::Meters(encoded.freeze())]
    }
}

fn append(encoded: &mut BytesMut, field: u32, message: &Bytes) {
    encode_key(field, WireType::LengthDelimited, encoded);
    encode_varint(message.len() as u64, encoded);
    encoded.put_slice(message);
}

#[tonic::async_trait]
impl legacy::meter_report_service_server::MeterReportService for Meter {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request).await
    }
}

#[tonic::async_trait]
impl v3::meter_report_service_server::MeterReportService for Meter {
    async fn collect(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        self.receive(request).await
    }

    async fn collect_batch(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<Commands>, Status> {
        let stream = request.into_inner();
        self.0
            .receive(stream, kind::METERS, Message::Meters)
            .await?;
        Ok(nothing_to_do())
    }
}

#[cfg(test)]
mod tests {
    use oap_proto::agent::{MeterData, MeterPart};
    use prost::Message as _;

    use super::*;

    #[test]
    fn each_part_names_the_first_message() {
        let data = |service: &str, timestamp| MeterData {
            service: service.to_owned(),
            timestamp,
            ..MeterData::default()
        };
        let read = |part: &mut Part| {
            let messages = part.take();
            assert_eq!(messages.len(), 1);
            MeterPart::decode(messages[0].bytes().clone()).unwrap()
        };
        let mut part = Part::default();
        assert!(part.take().is_empty());
        for (service, timestamp) in [("shop", 1), ("", 2)] {
            part.push(&data(service, timestamp).encode_to_vec().into());
        }
        let first = read(&mut part);
        assert_eq!(first.meter_data, [data("shop", 1), data("", 2)]);
        assert_eq!(first.first, None);
        assert!(part.take().is_empty(), "nothing came since");
        part.push(&data("", 3).encode_to_vec().into());
        let second = read(&mut part);
        assert_eq!(second.meter_data, [data("", 3)]);
        assert_eq!(second.first, Some(data("shop", 1)));
    }

    #[test]
    fn a_part_has_a_bound() {
        let mut part = Part::default();
        part.push(&vec![0; PART_BYTES].into());
        assert!(part.is_full());
        assert!(part.first.is_empty());
        let mut part = Part::default();
        for _ in 1..PART_MESSAGES {
            part.push(&Bytes::new());
        }
        assert!(!part.is_full());
        part.push(&Bytes::new());
        assert!(part.is_full());
    }
}
