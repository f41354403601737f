//! Small segments for tests that care about how many there are, not about what a trace looks like.

use bytes::Bytes;
use oap_proto::agent::{RefType, SegmentObject, SegmentReference, SpanObject, SpanType};
use prost::Message;

/// Method that takes a stream of segments.
pub const COLLECT: &str = "/TraceSegmentReportService/collect";

/// One served request.
#[derive(Debug, Clone)]
pub struct Served {
    pub id: String,
    pub service: String,
    /// Epoch milliseconds.
    pub start_ms: i64,
    pub latency_ms: i64,
    pub is_error: bool,
}

impl Served {
    pub fn new(id: impl Into<String>, service: &str, start_ms: i64, latency_ms: i64) -> Served {
        Served {
            id: id.into(),
            service: service.to_owned(),
            start_ms,
            latency_ms,
            is_error: false,
        }
    }

    /// A segment with one entry span of endpoint `/order`, by instance `SERVICE-1`, in trace `trace-ID`.
    pub fn segment(&self) -> SegmentObject {
        SegmentObject {
            trace_id: format!("trace-{}", self.id),
            trace_segment_id: format!("segment-{}", self.id),
            service: self.service.clone(),
            service_instance: format!("{}-1", self.service),
            spans: vec![SpanObject {
                parent_span_id: -1,
                start_time: self.start_ms,
                end_time: self.start_ms + self.latency_ms,
                operation_name: "/order".into(),
                span_type: SpanType::Entry.into(),
                is_error: self.is_error,
                ..SpanObject::default()
            }],
            ..SegmentObject::default()
        }
    }

    /// The same, called by service `web` at an address.
    pub fn called_at(&self, address: &str) -> SegmentObject {
        let mut segment = self.segment();
        segment.spans[0].refs.push(SegmentReference {
            ref_type: RefType::CrossProcess.into(),
            trace_id: segment.trace_id.clone(),
            parent_trace_segment_id: "caller".into(),
            parent_service: "web".into(),
            parent_service_instance: "web-1".into(),
            parent_endpoint: "/".into(),
            network_address_used_at_peer: address.into(),
            ..SegmentReference::default()
        });
        segment
    }

    /// A segment whose only span calls an address.
    pub fn calling(&self, address: &str) -> SegmentObject {
        let mut segment = self.segment();
        segment.spans[0].set_span_type(SpanType::Exit);
        segment.spans[0].peer = address.into();
        segment
    }

    pub fn bytes(&self) -> Bytes {
        bytes(&self.segment())
    }
}

pub fn bytes(segment: &SegmentObject) -> Bytes {
    segment.encode_to_vec().into()
}
