//! The composition root: builds every stage back to front, joins them, and takes them down front to back.
//!
//! The only module that knows all others. It decides nothing that a stage could decide.

pub mod alarm_tool;
mod alarms;
mod analysis;
mod answers;
mod cluster;
pub mod config_tool;
mod doors;
mod dynamic;
mod exports;
mod fetchers;
mod files;
mod health;
pub mod health_tool;
mod keeper;
mod pods;
mod profile;
mod rebalance;
mod repair;
mod secrets;
mod stages;
pub mod storage_tool;
mod store;
mod task;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{
    self, ClusterSettings, Configuration, FileSource, RunMode, Settings, StorageSettings,
};
use crate::journal::Intake;
use crate::model::time_bucket::Zone;
use crate::receiver::Receivers;
use crate::storage::{Backend, Store};
use crate::telemetry::{Ledger, Registry};
use crate::util::clock::Clock;
use stages::{Program, Stages};
use store::Purpose;
use task::Tasks;

/// How long a shutdown may take in all. Kubernetes gives a pod 30 s, of which some pass around it.
const SHUTDOWN: Duration = Duration::from_secs(27);
/// How long open calls may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(3);
/// How long whoever takes data in may take to end; those that are late are cut off, so that the stages have their time.
const DOORS: Duration = Duration::from_secs(6);

/// What the parts have in common.
#[derive(Debug, Clone)]
struct Shared {
    settings: Arc<Settings>,
    zone: Zone,
    clock: Clock,
    registry: Registry,
    storage: Arc<Store>,
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    grpc: SocketAddr,
    http: SocketAddr,
    stop: CancellationToken,
    /// Cancelled when everything that was taken in is stored.
    written: CancellationToken,
    doors: Tasks,
    keepers: Tasks,
    stages: Stages,
    intake: Intake,
    storage: Arc<Store>,
    ledger: Ledger,
}

/// Starts the server: both ports are open and every stage runs when this returns. The store need not be there yet.
pub async fn start(configuration: Configuration) -> anyhow::Result<Running> {
    start_with(configuration, Clock::System).await
}

/// [`start`] with another clock.
pub async fn start_with(configuration: Configuration, clock: Clock) -> anyhow::Result<Running> {
    let settings = Arc::new(configuration.settings.clone());
    let zone = zone(&settings)?;
    let program = Program::compile(&configuration)?;
    let files = files::read(&configuration)?;
    for note in &files.notes {
        tracing::warn!(note, "parts of a file have no effect");
    }
    let (host, port) = cluster::instance(&settings);
    let registry = Registry::new(host, port);
    let storage = Arc::new(store::open(&settings, &zone, &clock, Purpose::Write).await?);
    storage.register(&registry)?;
    repair::hours_and_days(&storage, &program, &program.schema(&settings)).await;
    let started = clock.now_ms() as f64 / 1000.0;
    let uptime = registry.gauge("uptime", "Epoch seconds of the start of the server")?;
    uptime.set(started.floor());
    if settings.cluster == ClusterSettings::Standalone {
        let size = registry.gauge("cluster_size", "Servers of the cluster, this one included")?;
        size.set(1.0);
    }
    let shared = Shared {
        settings,
        zone,
        clock,
        registry,
        storage,
    };
    let stop = CancellationToken::new();
    let (mut stages, intake) = stages::start(&shared, &program, &files, &stop)?;
    let context = answers::context(&shared, &stages, &files, &configuration)?;
    let tasks = Arc::new(profile::Tasks::new(&shared, &stages));
    // A store of our own is whole before anyone can ask it; if it cannot be, the keeper goes on trying.
    if matches!(shared.settings.storage, StorageSettings::Embedded(_))
        && let Err(error) = shared.storage.install(&stages.schema).await
    {
        tracing::debug!(%error, "the store is not whole yet");
    }
    let status = Arc::new(doors::status(&shared, &stop));
    let receivers = Receivers::new(intake.clone(), stages.receiver_metrics.clone()).giving(tasks);
    let lines = receivers.lines().clone();
    let (mut doors, grpc, http) = doors::open(
        &shared,
        receivers,
        context,
        &status,
        stages.services.take(),
        &stop,
    )
    .await?;
    doors.spawn("status", async move {
        status.watch().await;
        Ok(())
    });
    if let Some(others) = stages.others.take() {
        let stop = stop.clone();
        doors.spawn("rebalance", async move {
            rebalance::keep(lines, others, stop).await;
            Ok(())
        });
    }
    fetchers::start(&shared, &program.fetcher, &intake, &mut doors, &stop)?;
    dynamic::start(&shared, &program, &stages.inlets, &mut doors, &stop)?;
    let written = CancellationToken::new();
    let keepers = keeper::start(&shared, &stages, &configuration, &stop, &written)?;
    Ok(Running {
        grpc,
        http,
        stop,
        written,
        doors,
        keepers,
        stages,
        intake,
        storage: shared.storage,
        ledger: shared.registry.ledger().clone(),
    })
}

/// Says what was read from where, and what the operator should know.
pub fn introduce(configuration: &Configuration) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "observability analysis platform"
    );
    let (built_in, own): (Vec<_>, Vec<_>) = configuration
        .files
        .iter()
        .partition(|file| file.source == FileSource::BuiltIn);
    let (as_shipped, own): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|file| file.is_as_shipped());
    if !as_shipped.is_empty() {
        let names: Vec<&str> = as_shipped.iter().map(|file| file.name.as_str()).collect();
        tracing::info!(files = names.join(" "), "configuration as shipped");
    }
    for file in own {
        tracing::info!(file = file.name.as_str(), source = %file.source, "configuration file");
    }
    if !built_in.is_empty() {
        let names: Vec<&str> = built_in.iter().map(|file| file.name.as_str()).collect();
        tracing::info!(files = names.join(" "), "built-in configuration");
    }
    for notice in &configuration.notices {
        notice.log();
    }
}

/// Creates the storage structures and returns (`-Dmode=init`); waits a minute for a store that is not there.
pub async fn init(configuration: Configuration) -> anyhow::Result<()> {
    let clock = Clock::System;
    let settings = Arc::new(configuration.settings.clone());
    let zone = zone(&settings)?;
    let program = Program::compile(&configuration)?;
    let schema = program.schema(&settings);
    let storage = store::open(&settings, &zone, &clock, Purpose::Write).await?;
    keeper::create(&storage, &schema, &answers::templates(&configuration)?).await?;
    tracing::info!("the structures of the store exist, which is all that -Dmode=init asks for");
    Ok(())
}

/// Whether only the storage structures are to be created.
pub fn is_init(configuration: &Configuration) -> bool {
    configuration.settings.mode == RunMode::Init
}

impl Running {
    /// Address of the gRPC port.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Address of the HTTP port.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// What became of everything that came in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until all that was acknowledged so far is stored and visible.
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.intake.analyzed().await?;
        self.stages.flush().await?;
        self.storage.refresh().await.context("failed to refresh")?;
        Ok(())
    }

    /// Ends when a stage fails for good.
    pub async fn failed(&self) {
        self.stop.cancelled().await;
    }

    /// Takes no more, finishes what was acknowledged, writes it, then returns. An error means that not everything could
    /// be written in time, and says which part did not end.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        let Running {
            stop,
            written,
            doors,
            keepers,
            stages,
            intake,
            storage,
            ledger,
            ..
        } = self;
        stop.cancel();
        storage.hasten();
        let end = Instant::now() + SHUTDOWN;
        let late = doors.ended_within(DOORS).await;
        if !late.is_empty() {
            let doors = late.join(", ");
            tracing::warn!(doors, seconds = DOORS.as_secs(), "did not end, cut off");
        }
        drop(intake);
        let stored = tokio::time::timeout_at(end, stages.ended()).await;
        let Ok(is_well) = stored else {
            for (kind, units) in ledger.give_up("shutdown") {
                tracing::error!(kind, units, "not stored before the end, lost");
            }
            let seconds = SHUTDOWN.as_secs();
            if late.is_empty() {
                bail!("storage did not take everything within {seconds} s, the rest is lost");
            }
            bail!(
                "not everything was stored within {seconds} s, the rest is lost; these did not end before: {}",
                late.join(", ")
            );
        };
        if is_well {
            storage.completed();
        }
        written.cancel();
        tokio::time::timeout_at(end, keepers.ended())
            .await
            .context("everything is stored, but what is done now and then (dashboards, expiry) did not end")?;
        Ok(())
    }
}

fn zone(settings: &Settings) -> anyhow::Result<Zone> {
    let name = settings.time_zone.as_deref();
    let tz = config::time_zone(name).with_context(|| {
        let name = name.unwrap_or_default();
        format!("time zone {name:?} is not known; use a name such as Asia/Shanghai or UTC")
    })?;
    Ok(Zone::new(tz))
}

/// What the store is called in the log.
fn store_name(settings: &Settings) -> String {
    match &settings.storage {
        StorageSettings::Embedded(embedded) => {
            format!("embedded, in {}", embedded.dir.display())
        }
        StorageSettings::Elasticsearch(es) => {
            format!("Elasticsearch at {}", es.cluster_nodes.join(", "))
        }
    }
}
