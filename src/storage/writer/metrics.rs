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
    pub(super) put_off: IntGaugeVec,
}

impl WriterMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<WriterMetrics> {
        let by = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let plain = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let of_lanes = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["lane"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(WriterMetrics {
            stored: by(
                "storage_stored_rows_total",
                "Rows stored, by model",
                &["model"],
            )?,
            rejected: by(
                "storage_rejected_rows_total",
                "Rows that the store refused for good, by model",
                &["model"],
            )?,
            shed: by(
                "storage_shed_rows_total",
                "Rows given up because the lane was full, by model and by what kept it full: a store that is away (store_away) or \
                 slow (lane_full)",
                &["model", "reason"],
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
            queued: of_lanes(
                "storage_queued_bytes",
                "Estimated bytes waiting to be written",
            )?,
            put_off: of_lanes(
                "storage_put_off_rows",
                "Rows that the store does not take while it takes others, waiting to be written again",
            )?,
        })
    }
}
