//! The fetchers: one task per rule file.

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::task::Tasks;
use crate::dsl::prometheus::FetchRules;
use crate::fetcher::{Fetcher, FetcherMetrics};
use crate::journal::Intake;

/// Starts them; they end with `stop`.
pub(super) fn start(
    shared: &Shared,
    files: &[FetchRules],
    intake: &Intake,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let metrics = FetcherMetrics::new(&shared.registry)?;
    for rules in files {
        tracing::info!(
            file = rules.name,
            targets = rules.targets.len(),
            interval_ms = rules.interval.as_millis() as u64,
            "Prometheus targets are fetched"
        );
        let (intake, clock) = (intake.clone(), shared.clock.clone());
        let fetcher = Fetcher::new(rules.clone(), intake, clock, metrics.clone())?;
        let stop = stop.clone();
        tasks.spawn("prometheus-fetcher", async move {
            fetcher.run(stop).await;
            Ok(())
        });
    }
    Ok(())
}
