//! The inner stages: analyzers, shards, writers and the store behind them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::alarms::{self, AlarmInlets};
use super::analysis::{Analysis, AnalysisMetrics, RejectLog, analyzer_settings};
use super::cluster;
use super::dynamic::Inlets;
use super::exports;
use super::files::Files;
use super::task::Tasks;
use crate::analyzer::meter::{MeterMetrics, Meters};
use crate::analyzer::pods::PodMap;
use crate::analyzer::prometheus::PrometheusRules;
use crate::analyzer::{Analyzer, AnalyzerSettings, Known};
use crate::config::{
    Configuration, DEFAULT_BUDGET, FETCHER_RULES, METER_RULES, Settings, StorageSettings,
};
use crate::dsl::alarm::{self, AlarmSettings};
use crate::dsl::meter::{self, MeterRule};
use crate::dsl::oal::{self, OalProgram};
use crate::dsl::prometheus::{self, FetchRules};
use crate::journal::{Intake, Limits};
use crate::model::metrics::{Function, MeterDefinition};
use crate::model::schema::{Model, Schema};
use crate::model::scope::Scope;
use crate::receiver::ReceiverMetrics;
use crate::storage::DeadLetters;
use crate::storage::writer::{Lane, WriterMetrics, lane};
use crate::stream::shard::Dependencies;
use crate::stream::{
    AddressBook, BYTES_PER_METADATA, BYTES_PER_ROW, Earlier, Partitions, Plan, Route, Shard,
    ShardMetrics, StreamOptions, TaskBook,
};

/// Lots of facts that may wait for one shard; some megabytes.
const SHARD_INBOX: usize = 8;
/// How long a receiver waits for room: a little less than agents wait for an answer (30 s).
const PATIENCE: Duration = Duration::from_secs(25);
/// How long rows for Elasticsearch may wait for company; `flushInterval` can only shorten it.
const MAX_LINGER: Duration = Duration::from_secs(1);

/// The running inner stages.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) schema: Arc<Schema>,
    pub(super) addresses: Arc<AddressBook>,
    pub(super) profile_tasks: Arc<TaskBook>,
    /// If access logs are analysed.
    pub(super) pods: Option<Arc<PodMap>>,
    /// What may change while the stages run.
    pub(super) inlets: Inlets,
    /// What other nodes call.
    pub(super) services: Option<cluster::Services>,
    /// Whether this node does what one node does for all.
    pub(super) is_first: watch::Receiver<bool>,
    /// How many agents other nodes have, if surplus ones are to be given away.
    pub(super) others: Option<watch::Receiver<Option<Vec<u32>>>>,
    route: Route,
    pub(super) receiver_metrics: ReceiverMetrics,
    lanes: Vec<Lane>,
    tasks: Tasks,
}

impl Stages {
    /// Writes everything that was analysed and waits for it.
    pub(super) async fn flush(&self) -> anyhow::Result<()> {
        self.route.flush().await?;
        for lane in &self.lanes {
            lane.drained().await;
        }
        Ok(())
    }

    /// Lets every stage see its inbox close and waits until the last row is written. Whether no stage failed.
    pub(super) async fn ended(self) -> bool {
        let Stages {
            route,
            lanes,
            tasks,
            ..
        } = self;
        drop(route);
        drop(lanes);
        tasks.ended().await
    }
}

/// What scripts and rules define.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) oal: OalProgram,
    meter_rules: Vec<MeterRule>,
    /// Rules of the Prometheus fetcher.
    pub(super) fetcher: Vec<FetchRules>,
    pub(super) alarms: AlarmSettings,
}

impl Program {
    /// Compiles everything, or fails with all mistakes of all files.
    pub(super) fn compile(configuration: &Configuration) -> anyhow::Result<Program> {
        let oal = oal::compile(&configuration.oal_scripts());
        let meter_rules = meter::compile(&configuration.meter_rules());
        let fetcher = prometheus::compile(&configuration.fetcher_rules());
        let alarms = match configuration.alarm_rules() {
            Some(file) => {
                let metrics = oal.as_ref().map_or(&[][..], |oal| &oal.metrics);
                alarm::compile(&file.name, &file.text, metrics)
            }
            None => Ok(AlarmSettings::default()),
        };
        match (oal, meter_rules, fetcher, alarms) {
            (Ok(oal), Ok(meter_rules), Ok(fetcher), Ok(alarms)) => {
                let program = Program {
                    oal,
                    meter_rules,
                    fetcher,
                    alarms,
                };
                program.check_names()?;
                Ok(program)
            }
            (oal, meter_rules, fetcher, alarms) => {
                let mistakes = [oal.err(), meter_rules.err(), fetcher.err(), alarms.err()];
                let mistakes = mistakes.into_iter().flatten().flatten();
                let lines: Vec<String> = mistakes.map(|d| d.to_string()).collect();
                bail!("scripts or rules have mistakes:\n{}", lines.join("\n"))
            }
        }
    }

    fn meters(&self) -> Vec<MeterDefinition> {
        let received = self.meter_rules.iter().map(|rule| rule.definition.clone());
        received.chain(FetchRules::meters(&self.fetcher)).collect()
    }

    /// A metric has one model: rules of the receiver and of the fetcher must not share a name.
    fn check_names(&self) -> anyhow::Result<()> {
        let mut names = HashSet::new();
        let meters = self.meters();
        let twice = meters.iter().find(|meter| !names.insert(&meter.name));
        match twice.and_then(|meter| meter.name.strip_prefix("meter_")) {
            Some(name) => bail!(
                "rule `{name}` is in both {METER_RULES} and {FETCHER_RULES}, rename one of them"
            ),
            None => Ok(()),
        }
    }

    /// What a metric of the scripts is about.
    pub(super) fn scope(&self, metric: &str) -> Option<Scope> {
        let found = self.oal.metrics.iter().find(|m| m.name == metric);
        found.map(|metric| metric.scope)
    }

    /// Models whose hours and days are made of minutes, with what merges them.
    pub(super) fn downsampled(&self, schema: &Schema) -> Vec<(Arc<Model>, Function)> {
        let meters = self.meters();
        let metrics = self.oal.metrics.iter().map(|m| (&m.name, m.function));
        let meters = meters.iter().map(|m| (&m.name, m.function));
        let relations = schema.relations().iter();
        let relations = relations.map(|r| (&r.model.name, Function::Component));
        metrics
            .chain(meters)
            .chain(relations)
            .filter_map(|(name, function)| Some((Arc::clone(schema.model(name)?), function)))
            .collect()
    }

    /// The storage models.
    pub(super) fn schema(&self, settings: &Settings) -> Schema {
        let extra = settings.core.active_extra_model_columns;
        Schema::build(&self.oal.metrics, &self.meters(), &self.oal.disabled, extra)
    }
}

/// Bytes that this process may hold. Those who hold most of it get these parts, which cannot all be full at the same time: rows
/// of metrics 3/8, names and entities 1/4, records on their way to the store 3/16, received messages, metadata and, in a
/// cluster, what waits for other members 1/16 each, rows of metrics on their way 1/32, bulk requests 1/16 and SQLite in their place 1/6.
pub(super) fn budget(settings: &Settings) -> u64 {
    settings.memory_budget.unwrap_or(DEFAULT_BUDGET)
}

/// Starts writers, shards and analyzers, in this order, and returns the way in.
pub(super) fn start(
    shared: &Shared,
    program: &Program,
    files: &Files,
    stop: &CancellationToken,
) -> anyhow::Result<(Stages, Intake)> {
    let settings = &shared.settings;
    let registry = &shared.registry;
    let budget = budget(settings);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let schema = Arc::new(program.schema(settings));
    let plan = Plan::build(
        &program.oal.metrics,
        &program.meters(),
        &schema,
        files.thresholds.clone(),
    );
    let plan = plan.always_watching(exports::metrics(settings, &program.oal.metrics));
    plan.watch(&program.alarms.metrics());
    let plan = Arc::new(plan);
    let addresses = AddressBook::new(settings.core.max_size_of_network_address_alias);
    let addresses = Arc::new(addresses.counting(registry)?);
    let profile_tasks = Arc::new(TaskBook::default());
    let mut tasks = Tasks::new(stop);
    let mut lanes = Vec::new();
    let writer_metrics = WriterMetrics::new(registry)?.keeping(registry.ledger());
    let dead_letters = Arc::new(DeadLetters::new(
        settings.core.dead_letter_file.clone(),
        settings.core.dead_letter_bytes,
        shared.clock.clone(),
        registry,
    )?);
    let linger = match &settings.storage {
        StorageSettings::Embedded(_) => Duration::from_millis(200),
        StorageSettings::Elasticsearch(es) => es.flush_interval.min(MAX_LINGER),
    };
    let mut open_lane = |name, capacity: u64| -> anyhow::Result<Lane> {
        let bytes = usize::try_from(capacity).unwrap_or(usize::MAX);
        let storage = Arc::clone(&shared.storage);
        let (lane, writer) = lane(name, storage, bytes, linger, writer_metrics.clone());
        let lane = lane.measuring(registry.queue_wait(name)?, registry.queue_stay(name)?);
        registry.queue(name, "bytes", capacity, lane.depth());
        registry.memory(name, lane.depth());
        let writer = writer.with_dead_letters(Arc::clone(&dead_letters));
        let writer = writer.hastened_by(stop.clone());
        tasks.spawn(name, async move {
            writer.run().await;
            Ok(())
        });
        lanes.push(lane.clone());
        Ok(lane)
    };
    // Rows of metrics are made when there is room for them; what they are made from waits in the shards.
    let metrics_lane = open_lane("metrics-writer", budget / 32)?;
    let records_lane = open_lane("records-writer", budget / 16 * 3)?;
    let (owned, told) = watch::channel(Partitions::default());
    let alarms = alarms::start(
        shared,
        &program.alarms,
        &schema,
        (&records_lane, budget),
        told,
        (&mut tasks, stop),
    )?;
    let period = settings.core.persistent_period;
    let values = alarms.as_ref().map(|alarms| alarms.values.clone());
    let watcher = exports::start(shared, values, (&mut tasks, stop))?;
    let options = StreamOptions {
        with_hours: settings.core.downsampling_hour,
        with_days: settings.core.downsampling_day,
        max_rows: (budget / 8 * 3) as usize / BYTES_PER_ROW / cores,
        max_metadata: (budget / 16) as usize / BYTES_PER_METADATA / cores,
        ..match &settings.storage {
            StorageSettings::Embedded(_) => StreamOptions::prompt(period),
            StorageSettings::Elasticsearch(_) => StreamOptions::gathering(period),
        }
    };
    let shard_metrics = ShardMetrics::new(registry)?.keeping(registry.ledger());
    shard_metrics.show_memory(registry);
    let earlier = Arc::new(Earlier::default());
    let mut shards = Vec::new();
    for _ in 0..cores {
        let (sender, inbox) = mpsc::channel(SHARD_INBOX);
        registry.queue("shards", "batches", SHARD_INBOX as u64, waiting(&sender));
        let dependencies = Dependencies {
            plan: Arc::clone(&plan),
            schema: Arc::clone(&schema),
            storage: Arc::clone(&shared.storage),
            lane: metrics_lane.clone(),
            addresses: Arc::clone(&addresses),
            earlier: Arc::clone(&earlier),
            zone: shared.zone.clone(),
            clock: shared.clock.clone(),
            metrics: shard_metrics.clone(),
        };
        let shard = match &watcher {
            Some(watcher) => Shard::new(dependencies, options).watched_by(watcher.clone()),
            None => Shard::new(dependencies, options),
        };
        tasks.spawn("stream-shard", async move {
            shard.run(inbox).await;
            Ok(())
        });
        shards.push(sender);
    }
    let receiver_metrics = ReceiverMetrics::new(registry)?;
    let parts = cluster::Parts {
        agents: receiver_metrics.agents(),
        check: receiver_metrics.check_of_members(cluster::authentication(settings)),
        shards,
        plan: &plan,
        addresses: &addresses,
        watcher,
        owned,
        budget,
    };
    let connection = cluster::start(shared, parts, &mut tasks, stop)?;
    let limits = Limits {
        queued_bytes: (budget / 16) as usize,
        patience: PATIENCE,
    };
    let (intake, inboxes) = Intake::new(cores, limits);
    let intake = intake.measured(registry.ledger(), registry.queue_wait("analyzers")?);
    registry.queue("analyzers", "bytes", budget / 16, intake.queued_bytes());
    registry.memory("analyzers", intake.queued_bytes());
    let analysis_metrics = AnalysisMetrics::new(registry, &receiver_metrics.trace_analysis_errors)?;
    let reject_log = Arc::new(RejectLog::new(shared.clock.clone()));
    let meter_metrics = MeterMetrics::new(registry)?;
    let window_bytes = meter_metrics.window_bytes();
    registry.memory("meter-windows", window_bytes);
    let meters = Arc::new(Meters::new(
        program.meter_rules.clone(),
        meter_metrics,
        shared.clock.clone(),
    ));
    let envoy = settings.receivers.envoy.as_ref();
    let pods = envoy
        .filter(|envoy| envoy.als_http_analysis)
        .map(|_| Arc::<PodMap>::default());
    let (analyzer_sender, current_settings) = watch::channel(Arc::new(AnalyzerSettings {
        access_log_pods: pods.clone(),
        ..analyzer_settings(settings, files)
    }));
    let prometheus = match program.fetcher.as_slice() {
        [] => None,
        files => {
            let rules = PrometheusRules::new(files, &shared.registry, &shared.clock)?;
            Some(Arc::new(rules))
        }
    };
    let known = Arc::new(Known::new((budget / 4) as usize));
    let names = Arc::clone(&known);
    registry.memory("names", move || names.bytes() as u64);
    for inbox in inboxes {
        let settings = current_settings.clone();
        let analyzer = Analyzer::new(
            Arc::clone(&settings.borrow()),
            &schema,
            shared.zone.clone(),
            shared.clock.clone(),
            Arc::clone(&addresses),
        );
        let analysis = Analysis {
            analyzer: match &prometheus {
                Some(rules) => analyzer.with_prometheus(Arc::clone(rules)),
                None => analyzer,
            }
            .sharing(&known)
            .knowing_tasks(Arc::clone(&profile_tasks))
            .with_meters(Arc::clone(&meters)),
            settings,
            route: connection.route.clone(),
            records: records_lane.clone(),
            metrics: analysis_metrics.clone(),
            log: Arc::clone(&reject_log),
        };
        tasks.spawn("analyzer", analysis.run(inbox));
    }
    let stages = Stages {
        schema,
        addresses,
        profile_tasks,
        pods,
        receiver_metrics,
        inlets: Inlets {
            analyzer: analyzer_sender,
            plan,
            alarms: alarms.map(|AlarmInlets { program, .. }| program),
        },
        services: connection.services,
        is_first: connection.is_first,
        others: connection.others,
        route: connection.route,
        lanes,
        tasks,
    };
    Ok((stages, intake))
}

/// How many things wait in a channel, read when asked; this does not keep it open.
fn waiting<T: Send + 'static>(sender: &mpsc::Sender<T>) -> impl Fn() -> u64 + Send + Sync + use<T> {
    let sender = sender.downgrade();
    move || {
        let sender = sender.upgrade();
        sender.map_or(0, |sender| {
            (sender.max_capacity() - sender.capacity()) as u64
        })
    }
}
