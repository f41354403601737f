//! Questions to a store and their answers, in the vocabulary of the model.

use bytes::Bytes;

use crate::model::row::Cell;

pub use crate::model::fact::AddressAlias;

/// Inclusive range of time buckets of one precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRange {
    pub start: u64,
    pub end: u64,
}

/// Last days (`yyyyMMdd`) that are too old to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub records: u64,
    pub metrics: u64,
}

/// Sort direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Which services to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFilter {
    /// Stored node type number.
    pub node_type: i64,
    /// Exact name.
    pub name: Option<String>,
    /// Any analysed word of the name (see [`words`]); an empty text is no filter.
    pub keyword: Option<String>,
}

/// A service as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTraffic {
    pub name: String,
    pub node_type: i64,
}

/// An instance as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceTraffic {
    pub service_id: String,
    pub name: String,
    /// JSON object as text, or `""`.
    pub properties: String,
}

/// An endpoint as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointTraffic {
    pub service_id: String,
    pub name: String,
}

/// Which rows of a relation stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationFilter {
    All,
    /// Source or dest service is one of these.
    Services(Vec<String>),
    /// Between the instances of two services, either direction.
    BetweenServices {
        client: String,
        server: String,
    },
    /// Source or dest endpoint is this one.
    Endpoint(String),
}

/// An edge with its most frequent component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub entity_id: String,
    pub component_id: i64,
}

/// Trace list order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceOrder {
    ByStartTime,
    ByDuration,
}

/// Which segments to list; all conditions are ANDed.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentFilter {
    /// Second buckets; `None` looks at every day.
    pub range: Option<BucketRange>,
    /// Milliseconds; 0 is no limit.
    pub min_duration: i64,
    /// Milliseconds; 0 is no limit.
    pub max_duration: i64,
    /// Analysed phrase in the endpoint name.
    pub endpoint_name: Option<String>,
    pub service_id: Option<String>,
    pub instance_id: Option<String>,
    pub endpoint_id: Option<String>,
    pub trace_id: Option<String>,
    pub is_error: Option<bool>,
    pub order: TraceOrder,
    pub offset: i64,
    pub limit: i64,
}

/// A line of the trace list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentBrief {
    pub segment_id: String,
    pub trace_id: String,
    pub endpoint_name: String,
    /// Epoch milliseconds.
    pub start_time: i64,
    /// Milliseconds.
    pub latency: i64,
    pub is_error: bool,
}

/// A stored segment with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentData {
    pub segment_id: String,
    pub service_id: String,
    pub instance_id: String,
    /// Epoch milliseconds.
    pub start_time: i64,
    /// The protobuf message as the agent sent it.
    pub data: Bytes,
}

/// Which part of a trace to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFilter {
    pub trace_id: String,
    /// Days to look at, as second buckets; `None` looks at every day.
    pub days: Option<BucketRange>,
    pub offset: usize,
    /// Start time and id of the last segment before the offset: a store may go on behind it instead of counting.
    pub behind: Option<(i64, String)>,
    pub limit: usize,
}

impl TraceFilter {
    /// The first segments of a trace, on any day.
    pub fn first(trace_id: impl Into<String>, limit: usize) -> TraceFilter {
        TraceFilter {
            trace_id: trace_id.into(),
            days: None,
            offset: 0,
            behind: None,
            limit,
        }
    }
}

/// One page of a longer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: i64,
}

impl<T> Page<T> {
    /// The first `shown` of `total`.
    pub(super) fn of(items: Vec<T>, total: usize) -> Page<T> {
        Page {
            items,
            total: i64::try_from(total).unwrap_or(i64::MAX),
        }
    }
}

/// Top of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct TopNFilter {
    /// Only entities of this service.
    pub service_id: Option<String>,
    pub range: BucketRange,
    pub limit: i64,
    pub order: Order,
}

/// An entity with its average.
#[derive(Debug, Clone, PartialEq)]
pub struct TopNEntity {
    pub entity_id: String,
    pub value: f64,
}

/// A record of a sampled list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledRecord {
    pub statement: Option<String>,
    pub latency: i64,
    pub trace_id: Option<String>,
}

/// Which alarms to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmFilter {
    /// Second buckets.
    pub range: BucketRange,
    /// Stored scope number.
    pub scope: Option<i64>,
    /// Analysed phrase in the message.
    pub keyword: Option<String>,
    pub offset: i64,
    pub limit: i64,
}

/// A stored alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmRow {
    pub scope: i64,
    pub id0: String,
    pub message: String,
    /// Epoch milliseconds.
    pub start_time: i64,
}

/// Which rows of a record model; all conditions are ANDed.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordFilter {
    /// Column and the values that it may have.
    pub any_of: Vec<(&'static str, Vec<Cell>)>,
    /// A column of numbers, or `time_bucket`, with its least and its greatest value.
    pub between: Option<(&'static str, i64, i64)>,
    /// A column of numbers.
    pub sort_by: &'static str,
    pub order: Order,
    pub limit: usize,
}

/// A stored dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiTemplate {
    pub name: String,
    pub ty: String,
    /// JSON text.
    pub configuration: String,
    pub is_activated: bool,
    pub is_disabled: bool,
}

/// English words that the stop analyzer leaves out (Lucene's default English list).
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

/// Words of a text as the `stop` analyzer sees them, with their positions: runs of letters in lower case, stop
/// words left out but counted (storage 2.5).
pub fn words(text: &str) -> Vec<(usize, String)> {
    text.split(|c: char| !c.is_alphabetic())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .enumerate()
        .filter(|(_, w)| !STOP_WORDS.contains(&w.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_letters_without_stop_words() {
        let text = words("/api/v1/the-users/42");
        let seen: Vec<_> = text.iter().map(|(at, w)| (*at, w.as_str())).collect();
        assert_eq!(seen, [(0, "api"), (1, "v"), (3, "users")]);
        assert!(words("-").is_empty());
    }
}
