//! What the receivers count. Names without a prefix are the original's, which dashboards read.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, core::Collector, opts,
};

/// Upper bounds in seconds, as the original's histograms have them.
const LATENCY_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

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
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            received: counter(
                "receiver_in_count",
                "Messages that arrived",
                &["kind", "protocol"],
            )?,
            refused: counter(
                "receiver_refused_count",
                "Messages that arrived and were not taken",
                &["kind", "reason"],
            )?,
            rejected_calls: counter(
                "receiver_rejected_call_count",
                "Calls turned away before a message was read",
                &["reason"],
            )?,
            trace_in_latency: registered(
                registry,
                HistogramVec::new(
                    HistogramOpts::from(opts!(
                        "trace_in_latency",
                        "Seconds until a segment was handed over"
                    ))
                    .buckets(LATENCY_BUCKETS.to_vec()),
                    &["protocol"],
                )?,
            )?,
            trace_analysis_errors: counter(
                "trace_analysis_error_count",
                "Segments that could not be analysed",
                &["protocol"],
            )?,
        })
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
