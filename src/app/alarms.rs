//! The alarm stage and its hooks, built from `alarm-settings.yml`.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::task::Tasks;
use crate::alarm::{AlarmMetrics, AlarmStage, Alarms, Hook, HookMetrics, Target};
use crate::dsl::alarm::AlarmSettings;
use crate::model::minute_value::MinuteValue;
use crate::model::schema::Schema;
use crate::storage::writer::Lane;
use crate::telemetry::Throttle;

/// Lots of values that may wait for the rules.
const INBOX: usize = 64;
/// Rough bytes that a rule needs to remember an entity.
const BYTES_PER_WINDOW: u64 = 1024;

/// Starts them if there are rules; returns where values of metrics go.
pub(super) fn start(
    shared: &Shared,
    settings: &AlarmSettings,
    schema: &Schema,
    lane: &Lane,
    budget: u64,
    (tasks, stop): (&mut Tasks, &CancellationToken),
) -> anyhow::Result<Option<mpsc::Sender<Vec<MinuteValue>>>> {
    for note in &settings.notes {
        tracing::warn!(note, "a part of alarm-settings.yml has no effect");
    }
    let Some(state) = schema.model("alarm_state") else {
        return Ok(None);
    };
    if settings.rules.is_empty() {
        return Ok(None);
    }
    let mut targets = Vec::new();
    for (number, url) in (1..).zip(&settings.webhooks) {
        let target = Target::webhook(url).context("failed to prepare a webhook")?;
        targets.push((format!("webhook-{number}"), target));
    }
    if let Some(target) = &settings.grpc_hook {
        let target = Target::grpc(target).with_context(|| {
            format!(
                "gRPCHook in alarm-settings.yml: {}:{} is no address",
                target.host, target.port
            )
        })?;
        targets.push(("grpc".to_owned(), target));
    }
    let metrics = HookMetrics::new(&shared.registry)?;
    let mut hooks = Vec::new();
    for (name, target) in targets {
        let (hook, task) = Hook::new(name, target, metrics.clone(), shared.clock.clone());
        let stop = stop.clone();
        tasks.spawn("alarm-hook", async move {
            task.run(stop).await;
            Ok(())
        });
        hooks.push(hook);
    }
    tracing::info!(
        rules = settings.rules.len(),
        hooks = hooks.len(),
        "alarm rules are checked"
    );
    let max_windows = usize::try_from(budget / 16 / BYTES_PER_WINDOW).unwrap_or(usize::MAX);
    let now_ms = shared.clock.now_ms();
    let stage = AlarmStage {
        alarms: Alarms::new(settings.rules.clone(), now_ms, max_windows),
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
    let (sender, inbox) = mpsc::channel(INBOX);
    tasks.spawn("alarms", async move {
        stage.run(inbox).await;
        Ok(())
    });
    Ok(Some(sender))
}
