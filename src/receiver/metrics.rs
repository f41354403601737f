//! What the receivers count. Names that begin with `trace_`, `istio_` and `envoy_` are the original's, which dashboards
//! read (8.1.0 spec, J).

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::grpc::TokenCheck;
use crate::config::Secret;
use crate::model::message::kind;
use crate::telemetry::Registry;

/// A counter and a histogram that the original has for messages of one kind.
#[derive(Debug, Clone)]
struct In {
    count: IntCounter,
    latency: Histogram,
}

impl In {
    fn new(registry: &Registry, name: &str, what: &str) -> prometheus::Result<In> {
        let count = registry.counters(&format!("{name}_count"), what, &[])?;
        let latency = format!("{what}: seconds until one was handed over");
        let latency = registry.latencies(&format!("{name}_latency"), &latency, &[])?;
        Ok(In {
            count: count.with_label_values::<&str>(&[]),
            latency: latency.with_label_values::<&str>(&[]),
        })
    }

    fn came(&self, count: u64, seconds: f64) {
        self.count.inc_by(count);
        (0..count).for_each(|_| self.latency.observe(seconds));
    }
}

/// Counters and histograms of all receivers.
#[derive(Debug, Clone)]
pub struct ReceiverMetrics {
    /// Messages that arrived, by `kind` and `protocol`.
    pub received: IntCounterVec,
    /// Messages that arrived and were not taken, by `kind` and `reason`.
    pub refused: IntCounterVec,
    /// Calls turned away before any message was read, by `reason`.
    pub rejected_calls: IntCounterVec,
    /// Open gRPC connections by whose they are: `agent`, `member`, `probe`, or `silent` before the first call.
    pub connections: IntGaugeVec,
    /// Closed gRPC connections, by `reason`.
    pub closed_connections: IntCounterVec,
    /// gRPC connections told to go to another node, by the `moment`.
    pub moved_connections: IntCounterVec,
    /// `trace_in_latency`: seconds until a segment was handed over, by `protocol`. Its count is the number of segments.
    pub trace_in_latency: HistogramVec,
    /// `trace_analysis_error_count`, by `protocol`.
    pub trace_analysis_errors: IntCounterVec,
    /// `istio_mesh_grpc_in_…`
    istio: In,
    /// `envoy_metric_in_…`
    envoy_metrics: In,
    /// `envoy_als_in_…`
    envoy_access_logs: In,
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
            connections: registry.gauges(
                "receiver_connections",
                "Open gRPC connections, by whose they are",
                &["kind"],
            )?,
            closed_connections: registry.counters(
                "receiver_closed_connections_total",
                "Closed gRPC connections",
                &["reason"],
            )?,
            moved_connections: registry.counters(
                "receiver_moved_connections_total",
                "gRPC connections of agents told to go so that another node gets them",
                &["moment"],
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
            istio: In::new(registry, "istio_mesh_grpc_in", "Reports of Istio's Mixer")?,
            envoy_metrics: In::new(
                registry,
                "envoy_metric_in",
                "Messages with metrics of Envoy",
            )?,
            envoy_access_logs: In::new(
                registry,
                "envoy_als_in",
                "Messages with access logs of Envoy",
            )?,
        })
    }

    /// How many agents are connected.
    pub fn agents(&self) -> IntGauge {
        self.connections.with_label_values(&["agent"])
    }

    /// What lets members of the cluster in who have this token, all if it is empty, and counts the others.
    pub fn check_of_members(&self, token: Secret) -> TokenCheck {
        TokenCheck::of_members(token, self.rejected_calls.clone())
    }

    /// Messages of a kind were handed over or refused, after so many seconds.
    pub(super) fn came(&self, kind: &str, protocol: &str, count: u64, seconds: f64) {
        match kind {
            kind::SEGMENT => {
                let latency = self.trace_in_latency.with_label_values(&[protocol]);
                (0..count).for_each(|_| latency.observe(seconds));
            }
            kind::MIXER => self.istio.came(count, seconds),
            kind::ENVOY_METRICS => self.envoy_metrics.came(count, seconds),
            kind::ENVOY_ACCESS_LOGS => self.envoy_access_logs.came(count, seconds),
            _ => {}
        }
    }
}
