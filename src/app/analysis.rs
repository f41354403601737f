//! The task around an analyzer: batches in, facts to their shards, records to their lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Counter, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};
use tokio::sync::{mpsc, watch};

use super::files::Files;
use crate::analyzer::naming::NameLimits;
use crate::analyzer::{Analyzer, AnalyzerSettings, Facts, Reject};
use crate::config::Settings;
use crate::journal::{Batch, Message, Work};
use crate::model::row::Row;
use crate::model::time_bucket::DAY_MS;
use crate::storage::writer::Lane;
use crate::stream::Route;
use crate::telemetry::ledger::{End, kind_of};
use crate::telemetry::registry::LATENCY_BUCKETS;
use crate::telemetry::{Ledger, Registers, Registry, Throttle};
use crate::util::clock::Clock;

/// Counters of all analyzers.
#[derive(Debug, Clone)]
pub(super) struct AnalysisMetrics {
    analyzed: IntCounter,
    rejected: IntCounterVec,
    /// `mesh_analysis_latency`, a name of the original that dashboards read: seconds, by message.
    mesh_latency: Histogram,
    /// What rules for this server itself read, though the original does not count it.
    mesh_errors: IntCounter,
    /// `trace_analysis_error_count`, another such name. Only what came over gRPC can be unreadable here.
    trace_errors: IntCounterVec,
    /// `envoy_als_source_dispatch_count`, which the original never counts up.
    dispatched_access_logs: IntCounter,
    /// Seconds that analyzers worked, waiting left out.
    busy: Counter,
    /// Seconds that analyzers waited for room in the shards.
    wait: Histogram,
    /// Seconds that a batch was in the queue of an analyzer.
    stay: Histogram,
    ledger: Ledger,
}

impl AnalysisMetrics {
    /// `trace_errors` is `trace_analysis_error_count`, which receivers count, too.
    pub(super) fn new(
        registry: &Registry,
        trace_errors: &IntCounterVec,
    ) -> prometheus::Result<AnalysisMetrics> {
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
            mesh_errors: IntCounter::new(
                "mesh_analysis_error_count",
                "Messages about calls of a mesh that could not be analysed",
            )?,
            trace_errors: trace_errors.clone(),
            dispatched_access_logs: IntCounter::new(
                "envoy_als_source_dispatch_count",
                "Facts that access logs of Envoy became",
            )?,
            busy: Counter::new(
                "analyzer_busy_seconds_total",
                "Seconds that all analyzers together worked, without waiting",
            )?,
            wait: registry.queue_wait("shards")?,
            stay: registry.queue_stay("analyzers")?,
            ledger: registry.ledger().clone(),
        };
        registry.register(Box::new(metrics.analyzed.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.mesh_latency.clone()))?;
        registry.register(Box::new(metrics.mesh_errors.clone()))?;
        registry.register(Box::new(metrics.dispatched_access_logs.clone()))?;
        registry.register(Box::new(metrics.busy.clone()))?;
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
                Work::Batch(batch) => {
                    let stay = batch.since.elapsed().as_secs_f64();
                    self.metrics.stay.observe(stay);
                    self.analyze(batch, &mut facts).await;
                }
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
        let mut began = Instant::now();
        let mut aggregated = 0;
        for message in &batch.messages {
            let (records, len) = (facts.records.len(), facts.len());
            let message_began = is_of_mesh(message).then(Instant::now);
            let outcome = self.analyzer.analyze(message, facts);
            if let Some(began) = message_began {
                let seconds = began.elapsed().as_secs_f64();
                self.metrics.mesh_latency.observe(seconds);
            }
            let records = facts.records.get(records..).unwrap_or_default();
            let is_record = self.book(message.kind(), records);
            match outcome {
                Ok(()) => {
                    self.metrics.analyzed.inc();
                    aggregated += u64::from(!is_record);
                }
                Err(reject) => {
                    self.reject(message, reject);
                    let end = End::Dropped(reject.reason());
                    self.metrics.ledger.settled(message.kind(), 1, end);
                }
            }
            if let Message::EnvoyAccessLogs { .. } = message {
                let facts = facts.len().saturating_sub(len) as u64;
                self.metrics.dispatched_access_logs.inc_by(facts);
            }
            for reject in facts.rejected.drain(..) {
                self.reject(message, reject);
            }
            if facts.len() >= MAX_LOT {
                self.worked_since(began);
                self.hand_over(facts).await;
                began = Instant::now();
            }
        }
        // A batch has messages of one kind.
        if let Some(kind) = batch.messages.first().map(Message::kind) {
            let ledger = &self.metrics.ledger;
            ledger.settled(kind, aggregated, End::Aggregated);
        }
        self.worked_since(began);
        self.hand_over(facts).await;
    }

    /// Enters records that a message brought. Whether one of them is the message itself, which is received already.
    fn book(&self, message: &str, records: &[Row]) -> bool {
        let mut is_record = false;
        for row in records {
            let kind = kind_of(&row.model);
            if kind == message && !is_record {
                is_record = true;
            } else {
                self.metrics.ledger.received(kind, 1);
            }
        }
        is_record
    }

    fn worked_since(&self, began: Instant) {
        self.metrics.busy.inc_by(began.elapsed().as_secs_f64());
    }

    async fn hand_over(&self, facts: &mut Facts) {
        for (shard, mut facts) in facts.take_shards().enumerate() {
            while !facts.is_empty() {
                let rest = facts.split_off(facts.len().min(MAX_LOT));
                let lot = std::mem::replace(&mut facts, rest);
                let began = Instant::now();
                if self.route.send(shard, lot).await.is_err() {
                    tracing::error!("aggregation is gone, facts are lost");
                }
                self.metrics.wait.observe(began.elapsed().as_secs_f64());
            }
        }
        if !facts.records.is_empty() {
            let records = std::mem::take(&mut facts.records);
            self.records.write_when_room(records).await;
        }
    }

    fn reject(&self, message: &Message, reject: Reject) {
        let kind = message.kind();
        let label = reject.reason();
        let counter = self.metrics.rejected.with_label_values(&[kind, label]);
        counter.inc();
        if let Message::Segment(_) = message {
            self.metrics.trace_errors.with_label_values(&["grpc"]).inc();
        } else if is_of_mesh(message) {
            self.metrics.mesh_errors.inc();
        }
        self.log.say(kind, reject, message.bytes().len());
    }
}

fn is_of_mesh(message: &Message) -> bool {
    matches!(message, Message::Mesh(_) | Message::Mixer(_))
}

/// The settings of all analyzers.
pub(super) fn analyzer_settings(settings: &Settings, files: &Files) -> AnalyzerSettings {
    let names = NameLimits {
        service: settings.core.service_name_max_length,
        instance: settings.core.instance_name_max_length,
        endpoint: settings.core.endpoint_name_max_length,
    };
    let days = settings
        .core
        .record_data_ttl
        .max(settings.core.metrics_data_ttl);
    let max_age_ms = (i64::from(days) + 1) * DAY_MS;
    let common = AnalyzerSettings {
        names,
        max_age_ms,
        grouping: Arc::clone(&files.grouping),
        gateways: files.gateways.clone(),
        ..AnalyzerSettings::default()
    };
    match &settings.agent_analyzer {
        Some(analyzer) => AnalyzerSettings {
            sample_rate: i32::try_from(analyzer.sample_rate).unwrap_or(i32::MAX),
            slow_statements: analyzer.slow_db_access_threshold.clone(),
            max_statement_length: analyzer.max_slow_sql_length,
            is_trace_analysis_on: analyzer.trace_analysis,
            ..common
        },
        // Without the module there is no trace receiver either, so these are never looked at.
        None => AnalyzerSettings {
            is_trace_analysis_on: false,
            ..common
        },
    }
}
