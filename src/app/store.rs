//! The selected store: how it is opened, and for what.

use anyhow::Context;

use super::stages::budget;
use crate::config::{EsSettings, RunMode, Settings, StorageSettings};
use crate::model::time_bucket::Zone;
use crate::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use crate::storage::embedded::Embedded;
use crate::storage::{Store, StoreKind};
use crate::util::clock::Clock;

/// Lanes that write at the same time.
const LANES: u64 = 2;
/// The usual length of a bulk request, and the shortest: shorter ones cost more than they save.
const BULK_BYTES: u64 = 5 << 20;
const MIN_BULK_BYTES: u64 = 256 << 10;

/// How long one of so many bulk requests of each lane may be, so that together they take a sixteenth of the budget.
fn bulk_bytes(budget: u64, concurrent_requests: usize) -> usize {
    let requests = LANES * (concurrent_requests as u64).max(1);
    let bytes = (budget / 16 / requests).clamp(MIN_BULK_BYTES, BULK_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    /// Nothing in an embedded store is changed then.
    Read,
    /// The same, and a server may go on writing.
    Look,
}

/// Opens the selected store; an Elasticsearch need not be there yet.
pub(super) async fn open(
    settings: &Settings,
    zone: &Zone,
    clock: &Clock,
    purpose: Purpose,
) -> anyhow::Result<Store> {
    let kind = match &settings.storage {
        StorageSettings::Embedded(embedded) => {
            let dir = embedded.dir.clone();
            let opening = match purpose {
                Purpose::Write => Embedded::open,
                Purpose::Read => Embedded::open_to_read,
                Purpose::Look => Embedded::open_to_look,
            };
            let opened = tokio::task::spawn_blocking(move || opening(&dir)).await?;
            let opened = opened.context("failed to open the embedded store")?;
            if purpose == Purpose::Write {
                opened.limit_memory(budget(settings) / 6).await?;
            }
            StoreKind::Embedded(opened)
        }
        StorageSettings::Elasticsearch(es) => {
            StoreKind::Elasticsearch(Box::new(elasticsearch(settings, es, zone, clock)?))
        }
    };
    Ok(Store::new(kind))
}

fn elasticsearch(
    settings: &Settings,
    es: &EsSettings,
    zone: &Zone,
    clock: &Clock,
) -> anyhow::Result<Elasticsearch> {
    let options = ElasticsearchOptions {
        creates_templates: settings.mode != RunMode::NoInit,
        bulk_bytes: bulk_bytes(budget(settings), es.concurrent_requests),
        ..es.into()
    };
    Elasticsearch::new(options, zone.clone(), clock.clone())
        .context("storage.elasticsearch cannot be used")
}

/// Whether [`open`] can be called; looks at files that the settings name, asks nobody.
pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
    let zone = super::zone(settings)?;
    match &settings.storage {
        StorageSettings::Embedded(_) => Ok(()),
        StorageSettings::Elasticsearch(es) => {
            elasticsearch(settings, es, &zone, &Clock::System).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_requests_take_their_part_of_the_budget_together() {
        let mib = |n: u64| n << 20;
        for (budget, concurrent_requests, want) in [
            (mib(256), 2, 4 << 20),
            (mib(256), 16, 512 << 10),
            (mib(256), 0, 5 << 20),
            (mib(2048), 2, 5 << 20),
            (mib(16), 100, 256 << 10),
        ] {
            let bytes = bulk_bytes(budget, concurrent_requests);
            assert_eq!(bytes, want, "{budget} {concurrent_requests}");
        }
    }
}
