//! What the query side needs, put together from the other parts.

use std::sync::Arc;

use anyhow::Context;

use super::Shared;
use super::files::Files;
use super::stages::{Stages, budget};
use crate::config::{Configuration, Settings, StorageSettings};
use crate::query::service::template_file;
use crate::query::{AliasLookup, Answers, QueryContext, QueryLimits, QueryMetrics};
use crate::storage::{Store, UiTemplate};
use crate::stream::AddressBook;

/// Lets topology see which service answers at an address.
struct Residents(Arc<AddressBook>);

impl AliasLookup for Residents {
    fn service_of(&self, address: &str) -> Option<String> {
        self.0.find(address).map(|r| r.service_id.clone())
    }
}

/// The dashboards that ship with the server, or that the operator put in their place.
pub(super) fn templates(configuration: &Configuration) -> anyhow::Result<Vec<UiTemplate>> {
    const FILE: &str = "ui-initialized-templates.yml";
    let text = configuration.file(FILE).map_or("", |f| f.text.as_str());
    template_file::parse(text).with_context(|| format!("{FILE} cannot be used"))
}

/// How much one question may ask.
pub(super) fn limits(settings: &Settings) -> QueryLimits {
    let common = QueryLimits {
        profile_snapshots: settings.core.max_size_of_analyze_profile_snapshot,
        profile_snapshot_page: settings.core.max_page_size_of_query_profile_snapshot,
        ..QueryLimits::default()
    };
    match &settings.storage {
        StorageSettings::Embedded(embedded) => QueryLimits {
            metadata: embedded.metadata_query_max_size,
            ..common
        },
        StorageSettings::Elasticsearch(es) => QueryLimits {
            metadata: es.metadata_query_max_size,
            trace_segments: es.segment_query_max_size,
            profile_tasks: es.profile_task_query_max_size,
            ..common
        },
    }
}

/// The context of all queries.
pub(super) fn context(
    shared: &Shared,
    stages: &Stages,
    files: &Files,
    configuration: &Configuration,
) -> anyhow::Result<Arc<QueryContext<Store>>> {
    let metrics = QueryMetrics::register(&shared.registry)?;
    let bound = (budget(&shared.settings) / 8) as usize;
    let answers = Answers::new(bound, metrics.refused_answers.clone());
    let held = Arc::clone(&answers);
    shared
        .registry
        .memory("answers", move || held.bytes() as u64);
    let remembering = Arc::clone(&shared.storage);
    shared
        .registry
        .memory("dashboards", move || remembering.remembered_bytes() as u64);
    Ok(Arc::new(QueryContext {
        storage: Arc::clone(&shared.storage),
        schema: Arc::clone(&stages.schema),
        zone: shared.zone.clone(),
        clock: shared.clock.clone(),
        components: Arc::clone(&files.components),
        aliases: Arc::new(Residents(Arc::clone(&stages.addresses))),
        templates: templates(configuration)?,
        limits: limits(&shared.settings),
        creating_profile_task: Default::default(),
        metrics,
        answers,
        health: shared
            .settings
            .health_checker
            .map(|_| shared.registry.clone()),
    }))
}
