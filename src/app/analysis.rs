//! The task around an analyzer: batches in, facts to their shards, records to their lane.

use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::mpsc;

use crate::analyzer::{Analyzer, Facts, Reject};
use crate::journal::{Batch, Message, Work};
use crate::storage::writer::Lane;
use crate::stream::Input;
use crate::telemetry::Throttle;

/// Counters of all analyzers.
#[derive(Debug, Clone)]
pub(super) struct AnalysisMetrics {
    analyzed: IntCounter,
    rejected: IntCounterVec,
}

impl AnalysisMetrics {
    pub(super) fn new(registry: &prometheus::Registry) -> prometheus::Result<AnalysisMetrics> {
        let metrics = AnalysisMetrics {
            analyzed: IntCounter::new("analyzer_messages_total", "Messages analysed")?,
            rejected: IntCounterVec::new(
                Opts::new(
                    "analyzer_rejected_messages_total",
                    "Messages that made no sense, by kind and reason",
                ),
                &["kind", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.analyzed.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        Ok(metrics)
    }
}

/// One analyzer and where its output goes.
pub(super) struct Analysis {
    pub(super) analyzer: Analyzer,
    pub(super) shards: Vec<mpsc::Sender<Input>>,
    pub(super) records: Lane,
    pub(super) metrics: AnalysisMetrics,
    pub(super) log: Throttle,
}

impl Analysis {
    /// Works until the inbox closes.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Work>) -> anyhow::Result<()> {
        let mut facts = Facts::new(self.shards.len());
        while let Some(work) = inbox.recv().await {
            match work {
                Work::Batch(batch) => self.analyze(batch, &mut facts).await,
                // Whoever asked may have given up.
                Work::Barrier(done) => done.send(()).unwrap_or_default(),
            }
        }
        Ok(())
    }

    async fn analyze(&mut self, batch: Batch, facts: &mut Facts) {
        for message in &batch.messages {
            match self.analyzer.analyze(message, facts) {
                Ok(()) => self.metrics.analyzed.inc(),
                Err(reject) => self.reject(message, reject),
            }
        }
        for (shard, facts) in self.shards.iter().zip(facts.take_shards()) {
            if !facts.is_empty() && shard.send(Input::Facts(facts)).await.is_err() {
                tracing::error!("aggregation is gone, facts are lost");
            }
        }
        if !facts.records.is_empty() {
            let records = std::mem::take(&mut facts.records);
            self.records.write_or_shed(records).await;
        }
    }

    fn reject(&self, message: &Message, reject: Reject) {
        let kind = message.kind();
        let reason = reject.to_string();
        let counter = self.metrics.rejected.with_label_values(&[kind, &reason]);
        counter.inc();
        if let Some(unsaid) = self.log.admit() {
            let bytes = message.bytes().len();
            tracing::warn!(kind, reason, bytes, unsaid, "message rejected");
        }
    }
}
