//! What all shards together count.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use crate::telemetry::registry::LATENCY_BUCKETS;
use crate::telemetry::{Ledger, Registers, Registry};

/// Counters of all shards.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    /// Facts taken in.
    pub(super) facts: IntCounter,
    /// Facts given up, by reason and scope.
    pub(super) shed: IntCounterVec,
    /// Rows read back.
    pub(super) read_back: IntCounter,
    /// Values that nobody looked at before their entity went to another node.
    pub(super) unwatched: IntCounter,
    /// Metric rows held now.
    pub(super) rows: IntGauge,
    /// Metadata entries held now.
    pub(super) metadata: IntGauge,
    /// Bytes of both, about.
    pub(super) row_bytes: IntGauge,
    pub(super) metadata_bytes: IntGauge,
    /// `metrics_aggregation`, a name of the original, by metric, level and dimensionality.
    pub(super) aggregation: IntCounterVec,
    /// `persistence_timer_bulk_prepare_latency`, another one: seconds to make rows of what changed.
    pub(super) prepare: Histogram,
    pub(super) ledger: Ledger,
}

impl ShardMetrics {
    pub fn new(registry: &impl Registers) -> prometheus::Result<ShardMetrics> {
        let metrics = ShardMetrics {
            facts: IntCounter::new("stream_facts_total", "Facts taken into aggregation")?,
            shed: IntCounterVec::new(
                Opts::new(
                    "stream_shed_total",
                    "Aggregated values given up, by reason and by the scope of what they are about",
                ),
                &["reason", "scope"],
            )?,
            read_back: IntCounter::new(
                "stream_read_back_rows_total",
                "Rows looked for in the store because their bucket began before this process held it",
            )?,
            unwatched: IntCounter::new(
                "stream_unwatched_values_total",
                "Minute values that alarm rules and the exporter had no room for before their entity went to another node",
            )?,
            rows: IntGauge::new("stream_rows", "Metric rows held in memory")?,
            metadata: IntGauge::new(
                "stream_metadata",
                "Services, instances, endpoints and addresses held in memory",
            )?,
            row_bytes: IntGauge::new("stream_row_bytes", "Bytes of metric rows, about")?,
            metadata_bytes: IntGauge::new("stream_metadata_bytes", "Bytes of metadata, about")?,
            aggregation: IntCounterVec::new(
                Opts::new(
                    "metrics_aggregation",
                    "Values merged: level 1 into minutes of this server, level 2 into what is stored",
                ),
                &["metricName", "level", "dimensionality"],
            )?,
            prepare: Histogram::with_opts(
                HistogramOpts::new(
                    "persistence_timer_bulk_prepare_latency",
                    "Seconds to make rows of changed values",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
            )?,
            ledger: Ledger::default(),
        };
        registry.register(Box::new(metrics.aggregation.clone()))?;
        registry.register(Box::new(metrics.prepare.clone()))?;
        registry.register(Box::new(metrics.facts.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        registry.register(Box::new(metrics.read_back.clone()))?;
        registry.register(Box::new(metrics.unwatched.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.metadata.clone()))?;
        registry.register(Box::new(metrics.row_bytes.clone()))?;
        registry.register(Box::new(metrics.metadata_bytes.clone()))?;
        Ok(metrics)
    }

    /// Shows what all shards together hold.
    pub fn show_memory(&self, registry: &Registry) {
        for (owner, gauge) in [
            ("metric-rows", &self.row_bytes),
            ("metadata", &self.metadata_bytes),
        ] {
            let gauge = gauge.clone();
            registry.memory(owner, move || u64::try_from(gauge.get()).unwrap_or(0));
        }
    }

    /// The same, keeping these books.
    pub fn keeping(self, ledger: &Ledger) -> ShardMetrics {
        ShardMetrics {
            ledger: ledger.clone(),
            ..self
        }
    }
}
