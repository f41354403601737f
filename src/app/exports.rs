//! The exporter, and the task that gives minute values to it and to the alarm rules.

use std::collections::HashSet;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::task::Tasks;
use crate::config::Settings;
use crate::export::{ExportMetrics, Exporter};
use crate::model::metrics::{Function, MetricDefinition};
use crate::stream::Watched;

/// Lots of values that may wait to be given out.
const INBOX: usize = 64;

/// The metrics of the scripts whose values the exporter may be asked for: all but histograms (8.1.0 spec, J).
pub(super) fn metrics(settings: &Settings, metrics: &[MetricDefinition]) -> HashSet<String> {
    if settings.exporter.is_none() {
        return HashSet::new();
    }
    let exported = metrics.iter();
    let exported = exported.filter(|m| !matches!(m.function, Function::Histogram { .. }));
    exported.map(|metric| metric.name.clone()).collect()
}

/// Starts the exporter if there is one; returns where minute values go, who are passed on to `alarms`.
pub(super) fn start(
    shared: &Shared,
    alarms: Option<mpsc::Sender<Watched>>,
    (tasks, stop): (&mut Tasks, &CancellationToken),
) -> anyhow::Result<Option<mpsc::Sender<Watched>>> {
    let Some(settings) = &shared.settings.exporter else {
        return Ok(alarms);
    };
    let metrics = ExportMetrics::new(&shared.registry)?;
    let (exporter, task) = Exporter::new(settings, metrics, &shared.clock).with_context(|| {
        let (host, port) = (&settings.host, settings.port);
        format!("exporter.grpc: {host}:{port} is no address")
    })?;
    exporter.show(&shared.registry);
    tracing::info!(
        host = settings.host,
        port = settings.port,
        "minute values of metrics are exported"
    );
    let stop = stop.clone();
    tasks.spawn("exporter", async move {
        task.run(stop).await;
        Ok(())
    });
    let (sender, mut inbox) = mpsc::channel::<Watched>(INBOX);
    tasks.spawn("minute-values", async move {
        while let Some(watched) = inbox.recv().await {
            if let Watched::Values(values) = &watched {
                exporter.offer(values);
            }
            if let Some(alarms) = &alarms
                && alarms.send(watched).await.is_err()
            {
                tracing::error!("the alarm rules are gone, values are lost");
            }
        }
        Ok(())
    });
    Ok(Some(sender))
}
