//! The list of traces and one whole trace (query spec 2.8).

use std::collections::HashSet;

use oap_proto::agent::{
    KeyStringValuePair, RefType as AgentRefType, SegmentObject, SegmentReference, SpanLayer,
    SpanObject, SpanType,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::paging::Pagination;
use super::trace_tree;
use crate::model::time_bucket::Zone;
use crate::query::{Components, Cuts, QueryContext, QueryError};
use crate::storage::{
    Backend, BucketRange, SegmentBrief, SegmentData, SegmentFilter, TraceFilter, TraceOrder,
};

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

/// The spans of a trace, none if it is unknown, read in pages. A stored segment that cannot be read costs its own spans only;
/// what is beyond the limits is left out, counted and noted in `cuts`.
pub async fn trace<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    trace_id: &str,
) -> Result<Trace, QueryError> {
    let window = usize::try_from(cx.limits.result_window).unwrap_or(0);
    let mut part = TraceFilter {
        days: days(trace_id, &cx.zone, cx.clock.now_ms()),
        ..TraceFilter::first(trace_id, cx.limits.trace_segments.clamp(1, window.max(1)))
    };
    let mut page = cx.storage.trace(&part).await?;
    if page.total == 0 && part.days.take().is_some() {
        page = cx.storage.trace(&part).await?;
    }
    let total = u64::try_from(page.total).unwrap_or(0);
    let mut reader = SpanReader::default();
    while let Some(last) = page.items.last() {
        part.behind = Some((last.start_time, last.segment_id.clone()));
        part.offset += page.items.len();
        if !reader.read(page.items, cx) {
            break;
        }
        part.limit = part.limit.min(window.saturating_sub(part.offset));
        if part.limit == 0 || part.offset as u64 >= total {
            break;
        }
        page = cx.storage.trace(&part).await?;
    }
    if reader.is_full && reader.spans.is_empty() {
        let reason = format!("has spans of more than {} MiB", MAX_TRACE_BYTES >> 20);
        return Err(QueryError::argument("traceId", reason));
    }
    let shown = reader.seen.len() as u64;
    if reader.is_full || (part.limit == 0 && shown < total) {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        cx.note_if_cut(cuts, "trace", reader.seen.len(), total);
    }
    Ok(Trace {
        spans: trace_tree::sort(reader.spans),
    })
}

/// Days on which segments of a trace can be, by the time in its id; `None` if its id has none.
///
/// Agents make ids `PROCESS.THREAD.N` with N = 10,000 × milliseconds + a number, before the first segment begins. A clock that
/// is more than a day ahead has its reports refused, so that no other clock can be further behind it.
fn days(trace_id: &str, zone: &Zone, now_ms: i64) -> Option<BucketRange> {
    let made_ms = made_ms(trace_id, now_ms)?;
    Some(BucketRange {
        start: zone.second(made_ms - DAY_MS)?,
        end: zone.second(now_ms + DAY_MS)?,
    })
}

const DAY_MS: i64 = 86_400_000;

/// When an agent made an id of a trace or segment, if the id tells.
pub(super) fn made_ms(id: &str, now_ms: i64) -> Option<i64> {
    let mut parts = id.split('.');
    let (Some(_), Some(_), Some(time), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let made_ms = time.parse::<i64>().ok()? / 10_000;
    (made_ms > 0 && made_ms <= now_ms + DAY_MS).then_some(made_ms)
}

/// Collects spans as long as there is room for them.
#[derive(Debug, Default)]
struct SpanReader {
    spans: Vec<Span>,
    bytes: usize,
    /// Ids of segments: one that comes while pages are read moves others to the next page.
    seen: HashSet<String>,
    is_full: bool,
}

impl SpanReader {
    /// Takes the spans of segments; whether there is room for more.
    fn read<S>(&mut self, segments: Vec<SegmentData>, cx: &QueryContext<S>) -> bool {
        for segment in segments {
            if self.seen.contains(&segment.segment_id) {
                continue;
            }
            let encoded_bytes = segment.data.len();
            match SegmentObject::decode(segment.data) {
                Ok(object) => {
                    self.bytes += encoded_bytes + decoded_bytes(&object);
                    if self.bytes > MAX_TRACE_BYTES {
                        self.is_full = true;
                        return false;
                    }
                    self.spans.extend(spans_of(object, &cx.components));
                }
                Err(error) => {
                    cx.metrics.undecodable_segments.inc();
                    if let Some(held_back) = cx.metrics.damage_log.admit() {
                        tracing::warn!(
                            segment.id = segment.segment_id,
                            %error,
                            held_back,
                            "stored segment cannot be decoded"
                        );
                    }
                }
            }
            self.seen.insert(segment.segment_id);
        }
        true
    }
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
mod tests;
