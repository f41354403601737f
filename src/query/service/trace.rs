//! The list of traces and one whole trace (query spec 2.8).

use oap_proto::agent::{
    KeyStringValuePair, RefType as AgentRefType, SegmentObject, SegmentReference, SpanLayer,
    SpanObject, SpanType,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::paging::Pagination;
use super::trace_tree;
use crate::query::{Components, QueryContext, QueryError};
use crate::storage::{Backend, SegmentBrief, SegmentFilter, TraceOrder};

/// Name that generated code has for an enum number it does not know.
const UNRECOGNIZED: &str = "UNRECOGNIZED";

/// Spans of a trace, decoded. A few bytes of a segment can stand for a span, which repeats the names of its segment.
const MAX_TRACE_BYTES: usize = 64 << 20;

/// Which traces by their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TraceState {
    All,
    Success,
    Error,
}

/// Order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum QueryOrder {
    ByStartTime,
    ByDuration,
}

/// What the listed segments have in common.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceQueryCondition {
    pub service_id: Option<String>,
    pub service_instance_id: Option<String>,
    pub trace_id: Option<String>,
    pub endpoint_id: Option<String>,
    pub endpoint_name: Option<String>,
    /// Not looked at if there is a trace id.
    pub query_duration: Option<Duration>,
    /// Milliseconds; 0 is no limit.
    pub min_trace_duration: Option<i64>,
    pub max_trace_duration: Option<i64>,
    pub trace_state: TraceState,
    pub query_order: QueryOrder,
    pub paging: Pagination,
}

/// A page of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceBrief {
    pub traces: Vec<BasicTrace>,
    pub total: i64,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicTrace {
    pub segment_id: String,
    pub endpoint_names: Vec<String>,
    /// Milliseconds.
    pub duration: i64,
    /// Epoch milliseconds.
    pub start: String,
    pub is_error: bool,
    pub trace_ids: Vec<String>,
}

/// All spans of a trace, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    pub spans: Vec<Span>,
}

/// A span with what its segment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    pub trace_id: String,
    pub segment_id: String,
    pub span_id: i64,
    pub parent_span_id: i64,
    pub refs: Vec<Ref>,
    pub service_code: String,
    pub service_instance_name: String,
    /// Epoch milliseconds.
    pub start_time: i64,
    pub end_time: i64,
    pub endpoint_name: String,
    #[serde(rename = "type")]
    pub ty: &'static str,
    pub peer: String,
    pub component: String,
    pub is_error: bool,
    pub layer: &'static str,
    pub tags: Vec<KeyValue>,
    pub logs: Vec<LogEntity>,
}

/// Where the work came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ref {
    pub trace_id: String,
    pub parent_segment_id: String,
    pub parent_span_id: i64,
    #[serde(rename = "type")]
    pub ty: RefType,
}

/// Kind of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefType {
    CrossProcess,
    CrossThread,
}

/// A tag, or a field of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
}

/// Something a span logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntity {
    /// Epoch milliseconds.
    pub time: i64,
    pub data: Vec<KeyValue>,
}

/// A page of segments.
pub async fn basic_traces<S: Backend>(
    cx: &QueryContext<S>,
    condition: Option<TraceQueryCondition>,
) -> Result<TraceBrief, QueryError> {
    let condition =
        condition.ok_or_else(|| QueryError::argument("condition", "must not be null"))?;
    let filter = filter(condition, cx.limits.result_window)?;
    let page = cx.storage.segments(&filter).await?;
    Ok(TraceBrief {
        traces: page.items.into_iter().map(basic_trace).collect(),
        total: page.total,
    })
}

fn filter(condition: TraceQueryCondition, window: i64) -> Result<SegmentFilter, QueryError> {
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    let trace_id = given(condition.trace_id);
    let range = match (&trace_id, condition.query_duration) {
        (Some(_), _) => None,
        (None, Some(duration)) => Some(duration.seconds()?),
        (None, None) => {
            let reason = "needs queryDuration or traceId";
            return Err(QueryError::argument("condition", reason));
        }
    };
    let (offset, limit) = condition.paging.offset_and_limit(window)?;
    Ok(SegmentFilter {
        range,
        min_duration: condition.min_trace_duration.unwrap_or(0),
        max_duration: condition.max_trace_duration.unwrap_or(0),
        endpoint_name: given(condition.endpoint_name),
        service_id: given(condition.service_id),
        instance_id: given(condition.service_instance_id),
        endpoint_id: given(condition.endpoint_id),
        trace_id,
        is_error: match condition.trace_state {
            TraceState::All => None,
            TraceState::Success => Some(false),
            TraceState::Error => Some(true),
        },
        order: match condition.query_order {
            QueryOrder::ByStartTime => TraceOrder::ByStartTime,
            QueryOrder::ByDuration => TraceOrder::ByDuration,
        },
        offset,
        limit,
    })
}

pub(super) fn basic_trace(segment: SegmentBrief) -> BasicTrace {
    BasicTrace {
        segment_id: segment.segment_id,
        endpoint_names: vec![segment.endpoint_name],
        duration: segment.latency,
        start: segment.start_time.to_string(),
        is_error: segment.is_error,
        trace_ids: vec![segment.trace_id],
    }
}

/// Every span of a trace; none if it is unknown. A stored segment that cannot be read costs its own spans only.
pub async fn trace<S: Backend>(cx: &QueryContext<S>, trace_id: &str) -> Result<Trace, QueryError> {
    let segments = cx.storage.trace(trace_id, cx.limits.trace_segments).await?;
    let mut spans = Vec::new();
    let mut bytes = 0;
    for segment in segments {
        let encoded_bytes = segment.data.len();
        match SegmentObject::decode(segment.data) {
            Ok(object) => {
                bytes += encoded_bytes + decoded_bytes(&object);
                if bytes > MAX_TRACE_BYTES {
                    let reason = format!("has spans of more than {} MiB", MAX_TRACE_BYTES >> 20);
                    return Err(QueryError::argument("traceId", reason));
                }
                spans.extend(spans_of(object, &cx.components));
            }
            Err(error) => {
                cx.metrics.undecodable_segments.inc();
                tracing::warn!(
                    segment.id = segment.segment_id,
                    %error,
                    "stored segment cannot be decoded"
                );
            }
        }
    }
    Ok(Trace {
        spans: trace_tree::sort(spans),
    })
}

/// What the spans of a segment take beside their own texts.
fn decoded_bytes(segment: &SegmentObject) -> usize {
    let ids = segment.trace_id.len() + segment.trace_segment_id.len();
    let repeated = ids + segment.service.len() + segment.service_instance.len();
    let spans = segment.spans.iter().map(|span| {
        let data = span.logs.iter().map(|log| log.data.len());
        let pairs = span.tags.len() + span.logs.len() + data.sum::<usize>();
        size_of::<Span>()
            + repeated
            + pairs * size_of::<KeyValue>()
            + span.refs.len() * size_of::<Ref>()
    });
    spans.sum()
}

pub(super) fn spans_of(segment: SegmentObject, components: &Components) -> Vec<Span> {
    let SegmentObject {
        trace_id,
        trace_segment_id,
        spans,
        service,
        service_instance,
        ..
    } = segment;
    let span = |span: SpanObject| Span {
        trace_id: trace_id.clone(),
        segment_id: trace_segment_id.clone(),
        span_id: span.span_id.into(),
        parent_span_id: span.parent_span_id.into(),
        refs: span.refs.into_iter().map(reference).collect(),
        service_code: service.clone(),
        service_instance_name: service_instance.clone(),
        start_time: span.start_time,
        end_time: span.end_time,
        endpoint_name: span.operation_name,
        ty: SpanType::try_from(span.span_type).map_or(UNRECOGNIZED, |t| t.as_str_name()),
        peer: span.peer,
        component: components.name(span.component_id.into()).to_owned(),
        is_error: span.is_error,
        layer: SpanLayer::try_from(span.span_layer).map_or(UNRECOGNIZED, |l| l.as_str_name()),
        tags: key_values(span.tags),
        logs: span
            .logs
            .into_iter()
            .map(|log| LogEntity {
                time: log.time,
                data: key_values(log.data),
            })
            .collect(),
    };
    spans.into_iter().map(span).collect()
}

fn reference(r: SegmentReference) -> Ref {
    let is_thread = r.ref_type == AgentRefType::CrossThread as i32;
    Ref {
        trace_id: r.trace_id,
        parent_segment_id: r.parent_trace_segment_id,
        parent_span_id: r.parent_span_id.into(),
        ty: if is_thread {
            RefType::CrossThread
        } else {
            RefType::CrossProcess
        },
    }
}

fn key_values(pairs: Vec<KeyStringValuePair>) -> Vec<KeyValue> {
    let pair = |p: KeyStringValuePair| KeyValue {
        key: p.key,
        value: p.value,
    };
    pairs.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::service::fake::{FakeStore, context};
    use crate::storage::SegmentData;

    fn stored(data: Vec<u8>) -> SegmentData {
        SegmentData {
            segment_id: "s".into(),
            service_id: "YQ==.1".into(),
            instance_id: "YQ==.1_aQ==".into(),
            data: data.into(),
        }
    }

    #[tokio::test]
    async fn an_unreadable_segment_costs_only_its_own_spans() {
        let segment = SegmentObject {
            trace_id: "t".into(),
            trace_segment_id: "s".into(),
            spans: vec![SpanObject {
                parent_span_id: -1,
                component_id: 1,
                span_type: 1,
                span_layer: 99,
                ..SpanObject::default()
            }],
            service: "a".into(),
            ..SegmentObject::default()
        };
        let cx = context(FakeStore {
            segments: vec![stored(vec![0xff, 0xff]), stored(segment.encode_to_vec())],
            ..FakeStore::default()
        });
        let spans = trace(&cx, "t").await.unwrap().spans;
        assert_eq!(spans.len(), 1);
        let span = &spans[0];
        assert_eq!((span.ty, span.layer), ("Exit", UNRECOGNIZED));
        assert_eq!((&*span.component, &*span.service_code), ("Tomcat", "a"));
        assert_eq!(cx.metrics.undecodable_segments.get(), 1);
    }

    #[tokio::test]
    async fn a_trace_that_would_fill_the_memory_is_refused() {
        let segment = |spans, service: usize| SegmentObject {
            trace_id: "t".into(),
            spans: vec![SpanObject::default(); spans],
            service: "x".repeat(service),
            ..SegmentObject::default()
        };
        for (segment, count) in [
            (segment(50_000, 16 << 10), 1),
            (segment(50_000, 10), 200),
            (segment(1000, 10), 2),
        ] {
            let spans = segment.spans.len();
            let cx = context(FakeStore {
                segments: vec![stored(segment.encode_to_vec()); count],
                ..FakeStore::default()
            });
            match trace(&cx, "t").await {
                Ok(trace) => assert_eq!((trace.spans.len(), spans), (2000, 1000)),
                Err(error) => assert!(
                    error.to_string().contains("64 MiB") && spans > 1000,
                    "{error}"
                ),
            }
        }
    }

    #[test]
    fn a_list_needs_a_duration_or_a_trace_and_a_page_in_reach() {
        let condition = |trace_id: Option<&str>, page_num| TraceQueryCondition {
            service_id: Some(String::new()),
            service_instance_id: None,
            trace_id: trace_id.map(str::to_owned),
            endpoint_id: None,
            endpoint_name: None,
            query_duration: None,
            min_trace_duration: None,
            max_trace_duration: Some(5),
            trace_state: TraceState::Error,
            query_order: QueryOrder::ByDuration,
            paging: Pagination {
                page_num: Some(page_num),
                page_size: 10,
            },
        };
        let found = filter(condition(Some("t"), 2), 10_000).unwrap();
        assert_eq!(
            (found.range, found.service_id, found.is_error),
            (None, None, Some(true))
        );
        assert_eq!(
            (found.min_duration, found.max_duration, found.offset),
            (0, 5, 10)
        );
        assert!(filter(condition(None, 1), 10_000).is_err());
        assert!(filter(condition(Some(""), 1), 10_000).is_err());
        assert!(filter(condition(Some("t"), 1001), 10_000).is_err());
    }
}
