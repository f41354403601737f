//! The task around an analyzer: batches in, facts to their shards, records to their lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::mpsc;

use crate::analyzer::{Analyzer, Facts, Reject};
use crate::journal::{Batch, Message, Work};
use crate::storage::writer::Lane;
use crate::stream::Input;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

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

/// Says a rejection in the log, each kind and reason by itself; shared by all analyzers.
#[derive(Debug)]
pub(super) struct RejectLog {
    clock: Clock,
    throttles: Mutex<HashMap<(&'static str, Reject), Throttle>>,
}

impl RejectLog {
    pub(super) fn new(clock: Clock) -> RejectLog {
        RejectLog {
            clock,
            throttles: Mutex::default(),
        }
    }

    fn say(&self, kind: &'static str, reason: Reject, bytes: usize) {
        let mut throttles = self
            .throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let throttle = throttles
            .entry((kind, reason))
            .or_insert_with(|| Throttle::new(self.clock.clone()));
        if let Some(held_back) = throttle.admit() {
            tracing::warn!(kind, %reason, bytes, held_back, "message rejected");
        }
    }
}

/// One analyzer and where its output goes.
pub(super) struct Analysis {
    pub(super) analyzer: Analyzer,
    pub(super) shards: Vec<mpsc::Sender<Input>>,
    pub(super) records: Lane,
    pub(super) metrics: AnalysisMetrics,
    pub(super) log: Arc<RejectLog>,
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
        let label = reject.to_string();
        let counter = self.metrics.rejected.with_label_values(&[kind, &label]);
        counter.inc();
        self.log.say(kind, reject, message.bytes().len());
    }
}
