//! What is counted about the work with Elasticsearch.

use prometheus::{IntCounter, IntCounterVec, Opts};

use crate::storage::WriteOutcome;
use crate::telemetry::{Registers, Throttle};
use crate::util::clock::Clock;

/// Counters of one store; they count whether or not anyone registers them.
#[derive(Debug)]
pub(super) struct Counters {
    pub bulk_requests: IntCounter,
    bulk_items: IntCounterVec,
    pub shortened_ids: IntCounter,
    pub created_indices: IntCounter,
    pub refreshes: IntCounter,
    cut_answers: IntCounterVec,
    cut_log: Throttle,
}

impl Counters {
    pub(super) fn new(clock: Clock) -> prometheus::Result<Counters> {
        let plain = |name: &str, help: &str| IntCounter::new(name, help);
        let by = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        Ok(Counters {
            bulk_requests: plain(
                "storage_elasticsearch_bulk_requests_total",
                "Bulk requests sent",
            )?,
            bulk_items: by(
                "storage_elasticsearch_bulk_items_total",
                "Documents of bulk requests, by what became of them",
                "outcome",
            )?,
            shortened_ids: plain(
                "storage_elasticsearch_shortened_ids_total",
                "Documents written under a shortened id, because theirs has more than 512 bytes",
            )?,
            created_indices: plain(
                "storage_elasticsearch_created_indices_total",
                "Indices created because a document found none",
            )?,
            refreshes: plain(
                "storage_elasticsearch_refreshes_total",
                "Refreshes of today's indices for a question about them",
            )?,
            cut_answers: by(
                "storage_elasticsearch_cut_answers_total",
                "Answers that leave something out because a limit was reached, by question",
                "question",
            )?,
            cut_log: Throttle::new(clock),
        })
    }

    /// Shows them. Fails if a name is taken.
    pub(super) fn register(&self, registry: &impl Registers) -> prometheus::Result<()> {
        for counter in [
            &self.bulk_requests,
            &self.shortened_ids,
            &self.created_indices,
            &self.refreshes,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        for counters in [&self.bulk_items, &self.cut_answers] {
            registry.register(Box::new(counters.clone()))?;
        }
        Ok(())
    }

    pub(super) fn count_item(&self, outcome: &WriteOutcome) {
        let outcome = match outcome {
            WriteOutcome::Stored => "stored",
            WriteOutcome::Retry(_) => "retry",
            WriteOutcome::Rejected(_) => "rejected",
        };
        self.bulk_items.with_label_values(&[outcome]).inc();
    }

    /// Counts an answer that has less than there is, and says so now and then.
    pub(super) fn note_cut(&self, question: &'static str, shown: usize, setting: &'static str) {
        self.cut_answers.with_label_values(&[question]).inc();
        if let Some(held_back) = self.cut_log.admit() {
            tracing::warn!(
                question,
                shown,
                setting,
                held_back,
                "answer leaves out what is beyond its limit"
            );
        }
    }
}
