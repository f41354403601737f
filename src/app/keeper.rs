//! What is done now and then: creating what the store lacks, learning addresses from other nodes, deleting old days.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answers;
use super::stages::Stages;
use super::task::Tasks;
use super::{pods, profile};
use crate::cluster::kubernetes::PodReader;
use crate::config::{Configuration, StorageSettings};
use crate::model::fact::AddressAlias;
use crate::model::schema::Schema;
use crate::model::time_bucket::DAY_MS;
use crate::storage::{Backend, Expiry, StorageError, Store, UiTemplate};
use crate::stream::{AddressBook, TaskBook};

const MINUTE_MS: i64 = 60_000;
/// Between two looks for addresses that other nodes learned (8.1.0 spec, B.7).
const ADDRESS_PERIOD: Duration = Duration::from_secs(10);
/// How far back such a look goes.
const ADDRESS_WINDOW_MS: i64 = 10 * MINUTE_MS;
/// Between two checks that the indices of today exist.
const INSTALL_PERIOD: Duration = Duration::from_secs(60);
/// Between two looks whether the store is ready for the first reading.
const INSTALLED_POLL: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Starts the keepers; they end with `stop`.
pub(super) fn start(
    shared: &Shared,
    stages: &Stages,
    configuration: &Configuration,
    stop: &CancellationToken,
) -> anyhow::Result<Tasks> {
    let templates = answers::templates(configuration)?;
    let mut tasks = Tasks::new(stop);
    let until_stop = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
            Ok(())
        }
    };
    let keeper = Keeper {
        shared: shared.clone(),
        schema: Arc::clone(&stages.schema),
        addresses: Arc::clone(&stages.addresses),
        profile_tasks: Arc::clone(&stages.profile_tasks),
    };
    let layout = keeper.clone();
    tasks.spawn(
        "storage-layout",
        until_stop(Box::pin(async move { layout.layout(templates).await })),
    );
    let addresses = keeper.clone();
    tasks.spawn(
        "addresses",
        until_stop(Box::pin(async move { addresses.addresses().await })),
    );
    if shared.settings.receivers.profile {
        let profile = keeper.clone();
        tasks.spawn(
            "profile-tasks",
            until_stop(Box::pin(async move { profile.profile_tasks().await })),
        );
    }
    if let Some(pods) = &stages.pods {
        let keeping = pods::keep(PodReader::new(None), Arc::clone(pods), pods::PERIOD);
        tasks.spawn("pods", until_stop(Box::pin(keeping)));
    }
    if shared.settings.core.enable_data_keeper_executor {
        tasks.spawn(
            "data-keeper",
            until_stop(Box::pin(async move { keeper.expiry().await })),
        );
    }
    Ok(tasks)
}

/// Creates what is missing; tries until the store is there.
pub(super) async fn install(storage: &Store, schema: &Schema) {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    while let Err(error) = storage.install(schema).await {
        // What it waits for may change: first nobody answers, then the password is wrong.
        let reason = error.to_string();
        if reason != said {
            tracing::warn!(reason, "waiting for storage");
            said = reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if !said.is_empty() {
        tracing::info!("storage is there");
    }
}

/// Stores the dashboards whose names are free.
pub(super) async fn add_templates(
    storage: &Store,
    templates: &[UiTemplate],
) -> Result<(), StorageError> {
    for template in templates {
        storage.add_ui_template(template).await?;
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Keeper {
    shared: Shared,
    schema: Arc<Schema>,
    addresses: Arc<AddressBook>,
    profile_tasks: Arc<TaskBook>,
}

impl Keeper {
    async fn layout(&self, templates: Vec<UiTemplate>) {
        let storage = &self.shared.storage;
        install(storage, &self.schema).await;
        while let Err(error) = add_templates(storage, &templates).await {
            tracing::warn!(%error, "dashboards are not stored yet");
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        let is_elasticsearch = matches!(
            self.shared.settings.storage,
            StorageSettings::Elasticsearch(_)
        );
        let mut day = self.today();
        loop {
            tokio::time::sleep(INSTALL_PERIOD).await;
            let today = self.today();
            if is_elasticsearch && today != day {
                match storage.install(&self.schema).await {
                    Ok(()) => day = today,
                    Err(error) => tracing::warn!(%error, "indices of today are not created yet"),
                }
            }
        }
    }

    fn today(&self) -> u64 {
        let shared = &self.shared;
        shared.zone.day(shared.clock.now_ms()).unwrap_or(0)
    }

    async fn addresses(&self) {
        let shared = &self.shared;
        // Until the first look, calls to known services seem to go to unknown peers: it comes as early as it can.
        while !shared.storage.is_installed() {
            tokio::time::sleep(INSTALLED_POLL).await;
        }
        let mut failure_pause = FIRST_PAUSE;
        let mut is_first = true;
        loop {
            let window = if is_first {
                i64::from(shared.settings.core.metrics_data_ttl) * DAY_MS
            } else {
                ADDRESS_WINDOW_MS
            };
            let since = (shared.clock.now_ms() - window).max(0);
            let since = shared.zone.minute(since).unwrap_or(0);
            let limit = match &shared.settings.storage {
                StorageSettings::Embedded(_) => 10_000,
                StorageSettings::Elasticsearch(es) => es.result_window_max_size,
            };
            let pause = match shared.storage.address_aliases(since, limit).await {
                Ok(aliases) => {
                    // Agents may have said something newer while the store was away.
                    let is_news = |alias: &&AddressAlias| {
                        !is_first || self.addresses.find(&alias.address).is_none()
                    };
                    self.addresses.learn(aliases.iter().filter(is_news));
                    is_first = false;
                    failure_pause = ADDRESS_PERIOD;
                    ADDRESS_PERIOD
                }
                Err(error) => {
                    tracing::debug!(%error, "addresses could not be read");
                    failure_pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn profile_tasks(&self) {
        let shared = &self.shared;
        let limit = answers::limits(&shared.settings).profile_tasks;
        while !shared.storage.is_installed() {
            tokio::time::sleep(INSTALLED_POLL).await;
        }
        loop {
            match profile::look(shared, &self.schema, limit).await {
                Ok(tasks) => self.profile_tasks.replace(tasks),
                Err(error) => tracing::debug!(%error, "profile tasks could not be read"),
            }
            tokio::time::sleep(profile::PERIOD).await;
        }
    }

    async fn expiry(&self) {
        let core = &self.shared.settings.core;
        loop {
            tokio::time::sleep(core.data_keeper_execute_period).await;
            let day = |ttl: u32| {
                let then = self.shared.clock.now_ms() - i64::from(ttl) * DAY_MS;
                self.shared.zone.day(then).unwrap_or(0)
            };
            let expiry = Expiry {
                records: day(core.record_data_ttl),
                metrics: day(core.metrics_data_ttl),
            };
            let storage = &self.shared.storage;
            match storage.remove_expired(&self.schema, expiry).await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    tracing::info!(removed = removed.join(", "), "expired days deleted");
                }
                Err(error) => tracing::warn!(%error, "expired days could not be deleted"),
            }
        }
    }
}
