//! The Elasticsearch 7 store in the layout of 8.1.0: one index per model and day behind an alias, ids that repeat.
//!
//! Here the parts come together; requests and answers are in the modules below. Nothing connects before it is asked
//! something, so the server may come later than this process. A missing index is a day without data, never an error.
//! Not here: retries and batching over time, which belong to the writer, and deletion of old days.

mod bulk;
mod bulk_answer;
mod check;
mod client;
mod counters;
mod difference;
pub(super) mod document;
mod gather;
mod inspect;
mod install;
mod load;
mod maintenance;
mod metadata;
mod metrics;
mod names;
mod node;
mod options;
mod reach;
mod records;
mod scroll;
mod search;
mod shadows;
mod stored_id;
mod template;
mod topology;
mod trust_store;
mod ui_template;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use names::NameSpaceError;
pub use options::{ElasticsearchOptions, OptionsError};

use client::Client;
use counters::Counters;
use gather::Gather;
use inspect::Reported;
use load::Doc;
use names::Names;
use search::Freshened;
use serde_json::Value;
use shadows::Shadows;

use super::backend::Backend;
use super::query::*;
use super::{Reach, StorageError, WriteOutcome};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::model::time_bucket::Zone;
use crate::telemetry::Registers;
use crate::util::clock::Clock;

type Answer<T> = Result<T, StorageError>;

/// Indices that one request refreshes.
const REFRESHED_AT_ONCE: usize = 20;

/// An Elasticsearch 7 cluster.
#[derive(Debug)]
pub struct Elasticsearch {
    client: Arc<Client>,
    names: Names,
    options: ElasticsearchOptions,
    zone: Zone,
    clock: Clock,
    /// Epoch milliseconds; tells nodes apart where they should not all do the same at the same time.
    started_ms: i64,
    reported: Reported,
    shadows: Shadows,
    counters: Counters,
    freshened: Freshened,
    /// Indices that are refreshed at the same moment.
    refreshing: Gather<String, ()>,
    /// Documents that are asked for at the same moment.
    getting: Gather<Vec<Value>, Vec<Doc>>,
    /// Little time is left.
    is_hasty: AtomicBool,
}

impl Elasticsearch {
    /// Checks the options and reads the trust store; does not connect.
    pub fn new(
        options: ElasticsearchOptions,
        zone: Zone,
        clock: Clock,
    ) -> Result<Elasticsearch, OptionsError> {
        Ok(Elasticsearch {
            client: Arc::new(Client::new(&options, clock.clone())?),
            names: Names::new(&options.name_space)?.with_day_step(options.day_step),
            options,
            counters: Counters::new(clock.clone()).map_err(OptionsError::Counters)?,
            freshened: Freshened::default(),
            refreshing: Gather::new(REFRESHED_AT_ONCE),
            getting: Gather::new(load::MAX_IDS),
            is_hasty: AtomicBool::new(false),
            zone,
            started_ms: clock.now_ms(),
            clock,
            reported: Reported::default(),
            shadows: Shadows::default(),
        })
    }

    /// From now on more bulk requests go at a time than the settings say: seconds are left to write everything.
    pub fn hasten(&self) {
        self.is_hasty.store(true, Ordering::Relaxed);
    }

    /// From now on takes addresses, passwords and certificates of these options; all else stays.
    pub fn reconnect(&self, options: &ElasticsearchOptions) -> Result<(), OptionsError> {
        self.client.reconnect(options)
    }

    /// Shows what this store counts. Fails if a name is taken.
    pub fn register(&self, registry: &impl Registers) -> prometheus::Result<()> {
        self.counters.register(registry)
    }
}

impl Backend for Elasticsearch {
    async fn install(&self, schema: &Schema) -> Answer<Vec<String>> {
        self.create_missing(schema).await
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        self.write_rows(rows).await
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        self.load_rows(keys).await
    }

    async fn reach(&self, models: &[Arc<Model>], since: u64) -> Answer<Reach> {
        self.reach_of(models, since).await
    }

    async fn aggregates(
        &self,
        model: &Model,
        entity_ids: &[&str],
        range: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        self.values_of_entities(model, entity_ids, range).await
    }

    async fn top_n(&self, model: &Model, filter: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        self.top_entities(model, filter).await
    }

    async fn sampled_records(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> Answer<Vec<SampledRecord>> {
        self.top_records(model, filter).await
    }

    async fn services(&self, filter: &ServiceFilter, limit: usize) -> Answer<Page<ServiceTraffic>> {
        self.find_services(filter, limit).await
    }

    async fn instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> Answer<Page<InstanceTraffic>> {
        self.find_instances(service_id, alive_since, limit).await
    }

    async fn endpoints(
        &self,
        service_id: &str,
        keyword: &str,
        limit: usize,
    ) -> Answer<Vec<EndpointTraffic>> {
        self.find_endpoints(service_id, keyword, limit).await
    }

    async fn address_aliases(&self, since: u64, limit: usize) -> Answer<Vec<AddressAlias>> {
        self.find_address_aliases(since, limit).await
    }

    async fn relations(
        &self,
        model: &Model,
        range: BucketRange,
        filter: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        self.find_relations(model, range, filter).await
    }

    async fn segments(&self, filter: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        self.find_segments(filter).await
    }

    async fn trace(&self, filter: &TraceFilter) -> Answer<Page<SegmentData>> {
        self.segments_of_trace(filter).await
    }

    async fn alarms(&self, filter: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        self.find_alarms(filter).await
    }

    async fn records(&self, model: &Arc<Model>, filter: &RecordFilter) -> Answer<Page<Row>> {
        self.find_records(model, filter).await
    }

    async fn ui_templates(&self, including_disabled: bool) -> Answer<Vec<UiTemplate>> {
        self.list_ui_templates(including_disabled).await
    }

    async fn add_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.create_ui_template(template).await
    }

    async fn replace_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        self.update_ui_template(template).await
    }

    async fn remove_expired(&self, schema: &Schema, expiry: Expiry) -> Answer<Vec<String>> {
        self.delete_expired(schema, expiry).await
    }

    async fn refresh(&self) -> Answer<()> {
        self.refresh_all().await
    }

    async fn ping(&self) -> Answer<()> {
        self.client.get("/").await?;
        Ok(())
    }
}
