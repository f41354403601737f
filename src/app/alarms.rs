//! The alarm stage and its hooks, built from `alarm-settings.yml` or a text that takes its place.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::task::Tasks;
use crate::alarm::{
    AlarmMetrics, AlarmProgram, AlarmStage, Alarms, BYTES_PER_WINDOW, HookMetrics, Hooks,
    NamedTarget, Target,
};
use crate::config::ClusterSettings;
use crate::dsl::alarm::AlarmSettings;
use crate::model::schema::Schema;
use crate::storage::writer::Lane;
use crate::stream::{Partitions, Watched};
use crate::telemetry::Throttle;

/// Lots of values that may wait for the rules.
const INBOX: usize = 64;

/// The ways into the stage.
#[derive(Debug)]
pub(super) struct AlarmInlets {
    /// For values of metrics.
    pub(super) values: mpsc::Sender<Watched>,
    /// For other rules.
    pub(super) program: watch::Sender<Arc<AlarmProgram>>,
}

/// What the stage needs to know of the settings. Fails if alarms cannot be sent to where they should go.
pub(super) fn program(settings: &AlarmSettings) -> anyhow::Result<AlarmProgram> {
    let mut targets = Vec::new();
    for (number, url) in (1..).zip(&settings.webhooks) {
        let target = Target::webhook(url).context("failed to prepare a webhook")?;
        targets.push((format!("webhook-{number}"), target));
    }
    if let Some(target) = &settings.grpc_hook {
        let target = Target::grpc(target)
            .with_context(|| format!("gRPCHook: {}:{} is no address", target.host, target.port))?;
        targets.push(("grpc".to_owned(), target));
    }
    let named = |(name, target)| Arc::new(NamedTarget { name, target });
    Ok(AlarmProgram {
        rules: settings.rules.clone(),
        targets: targets.into_iter().map(named).collect(),
    })
}

/// Starts the stage if there are rules or may be later.
pub(super) fn start(
    shared: &Shared,
    settings: &AlarmSettings,
    schema: &Schema,
    (lane, budget): (&Lane, u64),
    owned: watch::Receiver<Partitions>,
    (tasks, stop): (&mut Tasks, &CancellationToken),
) -> anyhow::Result<Option<AlarmInlets>> {
    for note in &settings.notes {
        tracing::warn!(note, "a part of alarm-settings.yml has no effect");
    }
    let may_change = shared.settings.dynamic.is_some() && shared.settings.alarm;
    let Some(state) = schema.model("alarm_state") else {
        return Ok(None);
    };
    if settings.rules.is_empty() && !may_change {
        return Ok(None);
    }
    let program = program(settings).context("alarm-settings.yml")?;
    let metrics = HookMetrics::new(&shared.registry)?;
    let mut hooks = Hooks::new(metrics, shared.clock.clone(), stop.clone());
    hooks.replace(&program.targets);
    tracing::info!(
        rules = program.rules.len(),
        hooks = program.targets.len(),
        "alarm rules are checked"
    );
    let max_windows = usize::try_from(budget / 16 / BYTES_PER_WINDOW).unwrap_or(usize::MAX);
    let now_ms = shared.clock.now_ms();
    let rules = program.rules.clone();
    let (sender, program) = watch::channel(Arc::new(program));
    let stage = AlarmStage {
        alarms: Alarms::new(rules, now_ms, max_windows),
        program,
        owned: Some(owned).filter(|_| shared.settings.cluster != ClusterSettings::Standalone),
        storage: Arc::clone(&shared.storage),
        lane: lane.clone(),
        record: schema.model("alarm_record").cloned(),
        state: Arc::clone(state),
        hooks,
        zone: shared.zone.clone(),
        clock: shared.clock.clone(),
        metrics: AlarmMetrics::new(&shared.registry)?,
        log: Throttle::new(shared.clock.clone()),
    };
    let (values, inbox) = mpsc::channel(INBOX);
    tasks.spawn("alarms", async move {
        stage.run(inbox).await;
        Ok(())
    });
    Ok(Some(AlarmInlets {
        values,
        program: sender,
    }))
}
