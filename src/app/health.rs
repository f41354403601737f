//! Looks again and again whether the store is well, for the gauge `health_check_storage_…` and the health checker
//! (8.1.0 spec, J).

use std::sync::Arc;
use std::time::Duration;

use prometheus::Gauge;

use super::Shared;
use crate::config::StorageSettings;
use crate::storage::{Backend, Store};

/// Before the first look.
const FIRST: Duration = Duration::from_secs(2);
/// Between two looks, unless the health checker says otherwise.
const PERIOD: Duration = Duration::from_secs(5);

/// The store as it is looked at.
#[derive(Debug)]
pub(super) struct Health {
    storage: Arc<Store>,
    gauge: Gauge,
    period: Duration,
}

impl Health {
    /// Fails if the name of the gauge is taken.
    pub(super) fn new(shared: &Shared) -> prometheus::Result<Health> {
        let part = match shared.settings.storage {
            StorageSettings::Embedded(_) => "storage_h2",
            StorageSettings::Elasticsearch(_) => "storage_elasticsearch",
        };
        Ok(Health {
            storage: Arc::clone(&shared.storage),
            gauge: shared.registry.health(part)?,
            period: shared.settings.health_checker.unwrap_or(PERIOD),
        })
    }

    /// Does not end.
    pub(super) async fn watch(self) {
        tokio::time::sleep(FIRST.min(self.period)).await;
        loop {
            let answer = tokio::time::timeout(self.period, self.storage.ping()).await;
            let is_well = matches!(answer, Ok(Ok(()))) && self.storage.is_installed();
            self.gauge.set(if is_well { 0.0 } else { 1.0 });
            tokio::time::sleep(self.period).await;
        }
    }
}
