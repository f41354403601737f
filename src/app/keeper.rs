//! What is done now and then: creating what the store lacks, learning addresses from other nodes, deleting old days.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answers;
use super::stages::Stages;
use super::task::Tasks;
use super::{health, pods, profile, secrets};
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
/// Between two checks that templates, indices and dashboards exist; someone may have deleted them.
const INSTALL_PERIOD: Duration = Duration::from_secs(15);
/// How long a server that only creates structures waits for a store that is not there.
const INIT_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether the store is ready for the first reading.
const INSTALLED_POLL: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Starts the keepers; they end with `stop`. What the store lacks for what is to be written is created until all is `written`.
pub(super) fn start(
    shared: &Shared,
    stages: &Stages,
    configuration: &Configuration,
    stop: &CancellationToken,
    written: &CancellationToken,
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
        is_first: stages.is_first.clone(),
    };
    let layout = keeper.clone();
    let written = written.clone();
    let keeping = until_stop(Box::pin(async move { layout.layout(templates).await }));
    let creating = keeper.clone();
    tasks.spawn("storage-layout", async move {
        tokio::select! {
            () = written.cancelled() => {}
            () = install(&creating.shared.storage, &creating.schema) => {}
        }
        keeping.await
    });
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
    if let StorageSettings::Elasticsearch(settings) = &shared.settings.storage
        && secrets::are_in_files(settings)
    {
        let watching = secrets::watch(Arc::clone(&shared.storage), (**settings).clone());
        let stop = stop.clone();
        tasks.spawn("secrets", async move {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = watching => ended,
            }
        });
    }
    if let Some(pods) = &stages.pods {
        let keeping = pods::keep(PodReader::new(None), Arc::clone(pods), pods::PERIOD);
        tasks.spawn("pods", until_stop(Box::pin(keeping)));
    }
    let health = health::Health::new(shared)?;
    tasks.spawn("health", until_stop(Box::pin(health.watch())));
    if shared.settings.core.enable_data_keeper_executor {
        tasks.spawn(
            "data-keeper",
            until_stop(Box::pin(async move { keeper.expiry().await })),
        );
    }
    Ok(tasks)
}

/// Creates what is missing; tries until the store is there.
async fn install(storage: &Store, schema: &Schema) {
    let mut waiting = Waiting::default();
    while let Err(error) = storage.install(schema).await {
        waiting.pause(&error).await;
    }
    waiting.end();
}

/// Creates what is missing, with dashboards; gives up if the store stays away or refuses.
pub(super) async fn create(
    storage: &Store,
    schema: &Schema,
    templates: &[UiTemplate],
) -> anyhow::Result<()> {
    let end = Instant::now() + INIT_PATIENCE;
    let mut waiting = Waiting::default();
    loop {
        let created = match storage.install(schema).await {
            Ok(obstacles) => {
                let added = add_templates(storage, templates).await;
                added.map(|()| obstacles)
            }
            Err(error) => Err(error),
        };
        match created {
            Ok(obstacles) if obstacles.is_empty() => return Ok(()),
            Ok(obstacles) => bail!(
                "not all structures of the store could be created: {}",
                obstacles.join("; ")
            ),
            Err(error @ StorageError::Unavailable(_)) if Instant::now() < end => {
                waiting.pause(&error).await;
            }
            Err(error) => {
                return Err(error).context("the structures of the store could not be created");
            }
        }
    }
}

/// Pauses between attempts, and what was said about them.
#[derive(Debug, Default)]
struct Waiting {
    said: String,
    attempts: u32,
}

impl Waiting {
    /// Says why, if that is news, and waits, longer each time.
    async fn pause(&mut self, error: &StorageError) {
        // What it waits for may change: first nobody answers, then the password is wrong.
        let reason = error.to_string();
        if reason != self.said {
            tracing::warn!(reason, "waiting for storage");
            self.said = reason;
        }
        let pause = FIRST_PAUSE * 2u32.pow(self.attempts.min(10));
        self.attempts += 1;
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }

    fn end(&self) {
        if !self.said.is_empty() {
            tracing::info!("storage is there");
        }
    }
}

/// Stores the dashboards that are not there.
async fn add_templates(storage: &Store, templates: &[UiTemplate]) -> Result<(), StorageError> {
    let stored = storage.ui_templates(true).await?;
    for template in templates {
        if stored.iter().all(|stored| stored.name != template.name) {
            storage.add_ui_template(template).await?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Keeper {
    shared: Shared,
    schema: Arc<Schema>,
    addresses: Arc<AddressBook>,
    profile_tasks: Arc<TaskBook>,
    /// Days are deleted by one node.
    is_first: watch::Receiver<bool>,
}

impl Keeper {
    async fn layout(&self, templates: Vec<UiTemplate>) {
        let storage = &self.shared.storage;
        let mut said = String::new();
        loop {
            let mut kept = add_templates(storage, &templates).await;
            if kept.is_ok() {
                if matches!(self.shared.settings.storage, StorageSettings::Embedded(_)) {
                    // Nobody else deletes anything there.
                    return;
                }
                tokio::time::sleep(INSTALL_PERIOD).await;
                // The store says itself what is in the way.
                kept = storage.install(&self.schema).await.map(drop);
            } else {
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            let reason = kept.map_or_else(|error| error.to_string(), |()| String::new());
            if !reason.is_empty() && reason != said {
                tracing::warn!(reason, "templates, indices or dashboards cannot be kept");
            }
            said = reason;
        }
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
        let limit = profile::most(&shared.settings);
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
        let mut announced = None;
        loop {
            tokio::time::sleep(core.data_keeper_execute_period).await;
            if !*self.is_first.borrow() {
                continue;
            }
            let now = self.shared.clock.now_ms();
            let day = |ms: i64| self.shared.zone.day(ms).unwrap_or(0);
            let days_ago = |ttl: u32| now - i64::from(ttl) * DAY_MS;
            let expiry = Expiry {
                records: day(days_ago(core.record_data_ttl)),
                metrics: day(days_ago(core.metrics_data_ttl)),
            };
            let storage = &self.shared.storage;
            match storage.remove_expired(&self.schema, expiry).await {
                Ok(removed) => {
                    if !removed.is_empty() {
                        tracing::info!(removed = removed.join(", "), "expired days deleted");
                    }
                    if announced.replace(expiry) != Some(expiry) {
                        tracing::info!(
                            on = day(now + DAY_MS),
                            records.until = day(days_ago(core.record_data_ttl) + DAY_MS),
                            metrics.until = day(days_ago(core.metrics_data_ttl) + DAY_MS),
                            "next deletion of expired days"
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "expired days could not be deleted"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
