//! The task around an analyzer: batches in, facts to their shards, records to their lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};
use tokio::sync::{mpsc, watch};

use crate::analyzer::{Analyzer, AnalyzerSettings, Facts, Reject};
use crate::journal::{Batch, Message, Work};
use crate::storage::writer::Lane;
use crate::stream::Route;
use crate::telemetry::Throttle;
use crate::telemetry::registry::LATENCY_BUCKETS;
use crate::util::clock::Clock;

/// Counters of all analyzers.
#[derive(Debug, Clone)]
pub(super) struct AnalysisMetrics {
    analyzed: IntCounter,
    rejected: IntCounterVec,
    /// `mesh_analysis_latency`, a name of the original that dashboards read: seconds, by message.
    mesh_latency: Histogram,
}

impl AnalysisMetrics {
    pub(super) fn new(registry: &prometheus::Registry) -> prometheus::Result<AnalysisMetrics> {
        let metrics = AnalysisMetrics {
            analyzed: IntCounter::new("analyzer_messages_total", "Messages analysed")?,
            rejected: IntCounterVec::new(
                Opts::new(
                    "analyzer_rejected_messages_total",
                    "Messages, and parts of messages, that made no sense, by kind and reason",
                ),
                &["kind", "reason"],
            )?,
            mesh_latency: Histogram::with_opts(
                HistogramOpts::new(
                    "mesh_analysis_latency",
                    "Seconds until a message about calls of a mesh was analysed",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
            )?,
        };
        registry.register(Box::new(metrics.analyzed.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.mesh_latency.clone()))?;
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

/// Facts handed over at once, about. A few bytes of a message can stand for a fact, which takes a hundred: those of a whole
/// batch may not fit into memory.
const MAX_LOT: usize = 4_000;

/// One analyzer and where its output goes.
pub(super) struct Analysis {
    pub(super) analyzer: Analyzer,
    /// The settings of the analyzer, which may change while it works.
    pub(super) settings: watch::Receiver<Arc<AnalyzerSettings>>,
    pub(super) route: Route,
    pub(super) records: Lane,
    pub(super) metrics: AnalysisMetrics,
    pub(super) log: Arc<RejectLog>,
}

impl Analysis {
    /// Works until the inbox closes.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Work>) -> anyhow::Result<()> {
        let mut facts = Facts::new(self.route.shards());
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
        // Without dynamic configuration nobody is left who could change them.
        if self.settings.has_changed().unwrap_or(false) {
            let settings = Arc::clone(&self.settings.borrow_and_update());
            self.analyzer.adopt(settings);
        }
        for message in &batch.messages {
            let began = is_of_mesh(message).then(Instant::now);
            let outcome = self.analyzer.analyze(message, facts);
            if let Some(began) = began {
                let seconds = began.elapsed().as_secs_f64();
                self.metrics.mesh_latency.observe(seconds);
            }
            match outcome {
                Ok(()) => self.metrics.analyzed.inc(),
                Err(reject) => self.reject(message, reject),
            }
            for reject in facts.rejected.drain(..) {
                self.reject(message, reject);
            }
            if facts.len() >= MAX_LOT {
                self.hand_over(facts).await;
            }
        }
        self.hand_over(facts).await;
    }

    async fn hand_over(&self, facts: &mut Facts) {
        for (shard, mut facts) in facts.take_shards().enumerate() {
            while !facts.is_empty() {
                let rest = facts.split_off(facts.len().min(MAX_LOT));
                let lot = std::mem::replace(&mut facts, rest);
                if self.route.send(shard, lot).await.is_err() {
                    tracing::error!("aggregation is gone, facts are lost");
                }
            }
        }
        if !facts.records.is_empty() {
            let records = std::mem::take(&mut facts.records);
            self.records.write_when_room(records).await;
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

fn is_of_mesh(message: &Message) -> bool {
    matches!(message, Message::Mesh(_) | Message::Mixer(_))
}
