//! A metric as scripts or rules of meters define it, checked and resolved: what they compile to and aggregation runs.

use super::Function;
use crate::model::attr::Attr;
use crate::model::scope::{DetectPoint, RequestType, Scope};
use crate::model::source::{GcPhrase, MemoryPool};

/// Comparison in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
}

/// Right side of a filter, already of the attribute's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Text(String),
    Long(i64),
    Double(f64),
    Bool(bool),
    RequestType(RequestType),
    DetectPoint(DetectPoint),
    GcPhrase(GcPhrase),
    MemoryPool(MemoryPool),
}

/// One condition; several are ANDed.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub attr: Attr,
    pub op: CompareOp,
    pub literal: Literal,
}

/// What a source feeds into the function.
#[derive(Debug, Clone, PartialEq)]
pub enum Entrance {
    /// An attribute cast to int, as Java casts it.
    Int(Attr),
    /// An attribute cast to long.
    Long(Attr),
    /// An attribute cast to double.
    Double(Attr),
    /// The condition of `percent`.
    Match(Filter),
    /// Latency, status and the threshold of the service named by the attribute.
    Apdex {
        service: Attr,
        latency: Attr,
        status: Attr,
    },
    /// Nothing: every source counts once.
    One,
}

/// A metric: the one place that its index, its type in queries and its merge function derive from.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricDefinition {
    /// Stream name in lower case, which is also the index and the name in queries.
    pub name: String,
    pub scope: Scope,
    pub filters: Vec<Filter>,
    pub function: Function,
    pub entrance: Entrance,
}

/// What a meter is about. Rows of meters are apart from those of sources: an entity without meters has no room for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeterScope {
    Service,
    Instance,
    Endpoint,
}

impl MeterScope {
    /// The scope of the rows.
    pub fn scope(self) -> Scope {
        match self {
            MeterScope::Service => Scope::ServiceMeter,
            MeterScope::Instance => Scope::ServiceInstanceMeter,
            MeterScope::Endpoint => Scope::EndpointMeter,
        }
    }
}

/// A metric whose values come ready-made instead of from sources.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterDefinition {
    /// `meter_<rule name>`: the index and the name in queries.
    pub name: String,
    pub scope: MeterScope,
    /// One of the functions that take a [`super::MeterInput`].
    pub function: Function,
}
