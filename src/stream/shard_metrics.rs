//! What all shards together count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of all shards.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    /// Facts taken in.
    pub(super) facts: IntCounter,
    /// Facts given up, by reason and scope.
    pub(super) shed: IntCounterVec,
    /// Rows read back.
    pub(super) read_back: IntCounter,
    /// Metric rows held now.
    pub(super) rows: IntGauge,
    /// Metadata entries held now.
    pub(super) metadata: IntGauge,
    /// Bytes of both, about.
    pub(super) row_bytes: IntGauge,
    pub(super) metadata_bytes: IntGauge,
}

impl ShardMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<ShardMetrics> {
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
                "Rows read back because their bucket began before this process held it",
            )?,
            rows: IntGauge::new("stream_rows", "Metric rows held in memory")?,
            metadata: IntGauge::new(
                "stream_metadata",
                "Services, instances, endpoints and addresses held in memory",
            )?,
            row_bytes: IntGauge::new("stream_row_bytes", "Bytes of metric rows, about")?,
            metadata_bytes: IntGauge::new("stream_metadata_bytes", "Bytes of metadata, about")?,
        };
        registry.register(Box::new(metrics.facts.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        registry.register(Box::new(metrics.read_back.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.metadata.clone()))?;
        registry.register(Box::new(metrics.row_bytes.clone()))?;
        registry.register(Box::new(metrics.metadata_bytes.clone()))?;
        Ok(metrics)
    }
}
