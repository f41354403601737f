//! What the receivers count. Names that begin with `trace_` are the original's, which dashboards read.

use prometheus::{HistogramVec, IntCounterVec};

use crate::telemetry::Registry;

/// Counters and histograms of all receivers.
#[derive(Debug, Clone)]
pub struct ReceiverMetrics {
    /// Messages that arrived, by `kind` and `protocol`.
    pub received: IntCounterVec,
    /// Messages that arrived and were not taken, by `kind` and `reason`.
    pub refused: IntCounterVec,
    /// Calls turned away before any message was read, by `reason`.
    pub rejected_calls: IntCounterVec,
    /// `trace_in_latency`: seconds until a segment was handed over, by `protocol`. Its count is the number of segments.
    pub trace_in_latency: HistogramVec,
    /// `trace_analysis_error_count`, by `protocol`.
    pub trace_analysis_errors: IntCounterVec,
}

impl ReceiverMetrics {
    /// Registers everything. Fails if one of the names is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            received: registry.counters(
                "receiver_in_count",
                "Messages that arrived",
                &["kind", "protocol"],
            )?,
            refused: registry.counters(
                "receiver_refused_count",
                "Messages that arrived and were not taken",
                &["kind", "reason"],
            )?,
            rejected_calls: registry.counters(
                "receiver_rejected_call_count",
                "Calls turned away before a message was read",
                &["reason"],
            )?,
            trace_in_latency: registry.latencies(
                "trace_in_latency",
                "Seconds until a segment was handed over",
                &["protocol"],
            )?,
            trace_analysis_errors: registry.counters(
                "trace_analysis_error_count",
                "Segments that could not be analysed",
                &["protocol"],
            )?,
        })
    }
}
