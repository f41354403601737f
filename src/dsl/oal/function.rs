//! The functions of OAL and what each takes (8.1.0 spec, D.4).

use crate::model::metrics::Function;

/// What a function takes from a source, besides its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number, cast to long.
    Long(Function),
    /// A number, cast to double.
    Double(Function),
    /// Nothing.
    Occurrence(Function),
    /// Nothing, but a condition as argument.
    Condition,
    /// A number; a text and a boolean attribute as arguments.
    Apdex,
    /// A number; step and count of buckets as arguments.
    Histogram,
    /// A number; the precision as argument.
    Percentile,
    /// As `Percentile`, for one rank.
    Rank(i32),
}

/// Name, shape and the form of its arguments for messages.
pub const FUNCTIONS: &[(&str, Shape, &str)] = &[
    ("longAvg", Shape::Long(Function::LongAvg), ""),
    ("doubleAvg", Shape::Double(Function::DoubleAvg), ""),
    ("sum", Shape::Long(Function::Sum), ""),
    ("count", Shape::Occurrence(Function::Count), ""),
    ("cpm", Shape::Occurrence(Function::Cpm), ""),
    ("max", Shape::Long(Function::Max), ""),
    ("min", Shape::Long(Function::Min), ""),
    ("maxDouble", Shape::Double(Function::MaxDouble), ""),
    ("minDouble", Shape::Double(Function::MinDouble), ""),
    ("percent", Shape::Condition, "condition"),
    ("apdex", Shape::Apdex, "name, status"),
    (
        "histogram",
        Shape::Histogram,
        "step, maximum number of steps",
    ),
    ("percentile", Shape::Percentile, "precision"),
    ("p50", Shape::Rank(50), "precision"),
    ("p75", Shape::Rank(75), "precision"),
    ("p90", Shape::Rank(90), "precision"),
    ("p95", Shape::Rank(95), "precision"),
    ("p99", Shape::Rank(99), "precision"),
];

/// Models that `disable` can switch off, as 8.1.0 lists them.
pub const DISABLEABLE: &[&str] = &[
    "segment",
    "top_n_database_statement",
    "endpoint_relation_server_side",
    "service_relation_server_side",
    "service_relation_client_side",
    "alarm_record",
    "http_access_log",
    "zipkin_span",
    "jaeger_span",
    "profile_task",
    "profile_task_log",
    "profile_task_segment_snapshot",
];
