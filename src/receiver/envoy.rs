//! What Envoy proxies stream over gRPC: their metrics, and logs of the requests they handle.
//!
//! A proxy says who it is in the first message of a stream only, so that part is found there and goes with every message.

use bytes::Bytes;
use oap_proto::RawMessage;
use oap_proto::envoy::access_log::access_log_service_server::AccessLogService;
use oap_proto::envoy::metrics::metrics_service_server::MetricsService;
use oap_proto::envoy::{StreamAccessLogsResponse, StreamMetricsResponse};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::{Request, Response, Status, Streaming};

use super::handover::Handover;
use crate::journal::Message;
use crate::model::message::kind;

/// Metrics of proxies.
#[derive(Debug, Clone)]
pub(super) struct Metrics(pub(super) Handover);

/// Access logs of proxies.
#[derive(Debug, Clone)]
pub(super) struct AccessLogs(pub(super) Handover);

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        let mut identity = Identity::default();
        let read = |body| {
            let identifier = identity.of_stream(&self.0, kind::ENVOY_METRICS, &body);
            Message::EnvoyMetrics { identifier, body }
        };
        let stream = request.into_inner();
        self.0.receive(stream, kind::ENVOY_METRICS, read).await?;
        Ok(Response::new(StreamMetricsResponse::default()))
    }
}

#[tonic::async_trait]
impl AccessLogService for AccessLogs {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<RawMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut identity = Identity::default();
        let read = |body| {
            let identifier = identity.of_stream(&self.0, kind::ENVOY_ACCESS_LOGS, &body);
            Message::EnvoyAccessLogs { identifier, body }
        };
        let stream = request.into_inner();
        self.0
            .receive(stream, kind::ENVOY_ACCESS_LOGS, read)
            .await?;
        Ok(Response::new(StreamAccessLogsResponse::default()))
    }
}

/// Number of the field with the identifier, in the messages of both streams.
const IDENTIFIER: u32 = 1;
/// It is kept as long as its stream. In a mesh it has all labels of a pod, which is some kilobytes.
const MAX_IDENTIFIER_BYTES: usize = 64 * 1024;

/// Who sends a stream, once its first message is there.
#[derive(Default)]
struct Identity(Option<Bytes>);

impl Identity {
    /// The encoded identifier for a message of the stream; empty if the first one had none.
    fn of_stream(&mut self, handover: &Handover, kind: &str, message: &Bytes) -> Bytes {
        let identifier = self.0.get_or_insert_with(|| {
            let found = identifier_in(message);
            if found.len() <= MAX_IDENTIFIER_BYTES {
                return found.into();
            }
            let bytes = format!("{} bytes", found.len());
            handover.unreadable(kind, "identifier_too_large", &bytes);
            Bytes::new()
        });
        identifier.clone()
    }
}

/// Content of the identifier of a message. Several are parts of one, as protobuf has it; what follows something unreadable
/// is not looked for.
fn identifier_in(message: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = message;
    while let Ok((field, wire_type)) = decode_key(&mut rest) {
        if field == IDENTIFIER && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut rest).ok();
            let length = length.and_then(|n| usize::try_from(n).ok());
            let Some((part, after)) = length.and_then(|n| rest.split_at_checked(n)) else {
                return found;
            };
            found.extend_from_slice(part);
            rest = after;
        } else if skip_field(wire_type, field, &mut rest, DecodeContext::default()).is_err() {
            return found;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use oap_proto::envoy::{Identifier, MetricFamily, Node, StreamMetricsMessage};
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_identifier_is_found_wherever_it_is() {
        let identifier = Identifier {
            node: Some(Node {
                id: "sidecar~1".into(),
                cluster: "shop".into(),
            }),
        };
        let message = StreamMetricsMessage {
            identifier: Some(identifier.clone()),
            envoy_metrics: vec![MetricFamily::default(); 2],
        };
        let only_metrics = StreamMetricsMessage {
            identifier: None,
            ..message.clone()
        };
        let encoded = message.encode_to_vec();
        let metrics = only_metrics.encode_to_vec();
        let parts = |parts: &[&[u8]]| parts.concat();
        let id = StreamMetricsMessage {
            identifier: Some(identifier.clone()),
            ..StreamMetricsMessage::default()
        }
        .encode_to_vec();
        for (what, message, want) in [
            ("alone", encoded.clone(), identifier.encode_to_vec()),
            (
                "at the end",
                parts(&[&metrics, &id]),
                identifier.encode_to_vec(),
            ),
            (
                "twice",
                parts(&[&id, &metrics, &id]),
                identifier.encode_to_vec().repeat(2),
            ),
            ("none", metrics.clone(), vec![]),
            ("nothing", vec![], vec![]),
            ("cut off", id[..id.len() - 1].to_vec(), vec![]),
            ("no message", vec![0xff; 20], vec![]),
            ("another wire type", vec![0x08, 1], vec![]),
        ] {
            assert_eq!(identifier_in(&message), want, "{what}");
        }
    }
}
