//! What writers count.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts};
use tokio::time::Instant;

use crate::model::schema::Model;
use crate::storage::{StorageError, WriteOutcome};
use crate::telemetry::ledger::{End, kind_of};
use crate::telemetry::registry::LATENCY_BUCKETS;
use crate::telemetry::{Ledger, Registers};

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
    /// 1 while the store takes nothing.
    pub(super) away: IntGaugeVec,
    /// `persistence_timer_bulk_execute_latency` and `persistence_timer_bulk_error_count`, names of the original: seconds of a
    /// write to the store, and writes that failed.
    execute: Histogram,
    errors: IntCounter,
    pub(super) ledger: Ledger,
}

impl WriterMetrics {
    pub fn new(registry: &impl Registers) -> prometheus::Result<WriterMetrics> {
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
        let execute = HistogramOpts::new(
            "persistence_timer_bulk_execute_latency",
            "Seconds that a write to the store took",
        );
        let execute = Histogram::with_opts(execute.buckets(LATENCY_BUCKETS.to_vec()))?;
        registry.register(Box::new(execute.clone()))?;
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
            away: of_lanes("storage_away", "1 while the store takes no writes")?,
            execute,
            errors: plain(
                "persistence_timer_bulk_error_count",
                "Writes to the store that failed as a whole, or with some of their rows",
            )?,
            ledger: Ledger::default(),
        })
    }

    /// The same, keeping these books.
    pub fn keeping(self, ledger: &Ledger) -> WriterMetrics {
        WriterMetrics {
            ledger: ledger.clone(),
            ..self
        }
    }

    /// One write to the store, measured.
    pub(super) async fn measure(
        &self,
        write: impl Future<Output = Result<Vec<WriteOutcome>, StorageError>>,
    ) -> Result<Vec<WriteOutcome>, StorageError> {
        let began = Instant::now();
        let outcomes = write.await;
        self.execute.observe(began.elapsed().as_secs_f64());
        let is_stored = |outcome: &WriteOutcome| *outcome == WriteOutcome::Stored;
        if !outcomes.as_ref().is_ok_and(|all| all.iter().all(is_stored)) {
            self.errors.inc();
        }
        outcomes
    }

    /// Rows of a model are done with.
    pub(super) fn end(&self, model: &Model, rows: u64, end: End<'_>) {
        self.ledger.settled(kind_of(model), rows, end);
    }
}
