//! What writers count.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters of all lanes.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    pub(super) stored: IntCounterVec,
    pub(super) rejected: IntCounterVec,
    pub(super) retried: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) shed: IntCounterVec,
    pub(super) replaced: IntCounter,
    pub(super) queued: IntGaugeVec,
}

impl WriterMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<WriterMetrics> {
        let by = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let plain = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let queued = IntGaugeVec::new(
            Opts::new(
                "storage_queued_bytes",
                "Estimated bytes waiting to be written",
            ),
            &["lane"],
        )?;
        registry.register(Box::new(queued.clone()))?;
        Ok(WriterMetrics {
            stored: by(
                "storage_stored_rows_total",
                "Rows stored, by model",
                "model",
            )?,
            rejected: by(
                "storage_rejected_rows_total",
                "Rows that the store refused for good, by model",
                "model",
            )?,
            shed: by(
                "storage_shed_rows_total",
                "Rows given up because the lane was full, by model",
                "model",
            )?,
            retried: plain(
                "storage_retried_rows_total",
                "Rows written again after a refusal",
            )?,
            failed: plain(
                "storage_failed_writes_total",
                "Writes that failed as a whole",
            )?,
            replaced: plain(
                "storage_replaced_rows_total",
                "Rows that were refused and then replaced by a newer version",
            )?,
            queued,
        })
    }
}
