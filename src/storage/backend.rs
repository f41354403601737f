//! What a store must be able to do. Every backend implements exactly this; the contract tests run on each.

use std::future::Future;
use std::sync::Arc;

use super::query::*;
use super::{Reach, StorageError, WriteOutcome};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, Schema};

type Answer<T> = Result<T, StorageError>;

/// A store. Reads see a write at the latest one refresh interval after it was acknowledged, except [`Backend::load`],
/// which sees it at once.
pub trait Backend: Send + Sync {
    /// Creates what is missing (templates, indices, files) for every model; repeatable, safe to race with other nodes. Says what
    /// is in the way of some models, whose rows cannot be stored until it is gone; the others are complete.
    fn install(&self, schema: &Schema) -> impl Future<Output = Answer<Vec<String>>> + Send;

    /// Writes rows; one outcome per row, in order. `Err` means nothing is known to be stored. Of several versions of
    /// a row only the last is stored, and its outcome is that of all: an earlier one written again later would undo it.
    fn write(&self, rows: &[Row]) -> impl Future<Output = Answer<Vec<WriteOutcome>>> + Send;

    /// Reads rows by id, one answer per key, in order. A key without time bucket is looked for on every day.
    fn load(&self, keys: &[RowKey]) -> impl Future<Output = Answer<Vec<Option<Row>>>> + Send;

    /// How far rows of these metrics reach, exactly for the buckets of a minute and those after it; earlier ones count as stored
    /// if there is something that holds their day. Sees every acknowledged write. What cannot be looked at counts as full.
    fn reach(
        &self,
        models: &[Arc<Model>],
        since: u64,
    ) -> impl Future<Output = Answer<Reach>> + Send;

    /// Average or sum of the value column over minute, hour or day buckets (decided by the digits of the range) for each of some
    /// entities, in their order. `None` if there is no row, or if the model has no entities.
    fn aggregates(
        &self,
        model: &Model,
        entity_ids: &[&str],
        range: BucketRange,
    ) -> impl Future<Output = Answer<Vec<Option<f64>>>> + Send;

    /// [`Backend::aggregates`] of one entity.
    fn aggregate(
        &self,
        model: &Model,
        entity_id: &str,
        range: BucketRange,
    ) -> impl Future<Output = Answer<Option<f64>>> + Send {
        async move {
            let values = self.aggregates(model, &[entity_id], range).await?;
            Ok(values.into_iter().next().flatten())
        }
    }

    /// Entities by the average of the value column; ties by entity id ascending. Ids of what belongs to a service begin with that of
    /// the service.
    fn top_n(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> impl Future<Output = Answer<Vec<TopNEntity>>> + Send;

    /// Records by latency.
    fn sampled_records(
        &self,
        model: &Model,
        filter: &TopNFilter,
    ) -> impl Future<Output = Answer<Vec<SampledRecord>>> + Send;

    /// Services, at most `limit`, and how many there are.
    fn services(
        &self,
        filter: &ServiceFilter,
        limit: usize,
    ) -> impl Future<Output = Answer<Page<ServiceTraffic>>> + Send;

    /// Instances of a service whose last ping is not before a minute bucket; at most `limit`, and how many there are.
    fn instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> impl Future<Output = Answer<Page<InstanceTraffic>>> + Send;

    /// Endpoints of a service; `keyword` as in [`ServiceFilter`], `""` is no filter.
    fn endpoints(
        &self,
        service_id: &str,
        keyword: &str,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<EndpointTraffic>>> + Send;

    /// Address aliases updated since a minute bucket.
    fn address_aliases(
        &self,
        since: u64,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<AddressAlias>>> + Send;

    /// Edges of a relation stream (`model`), at most 1000, most frequent first, and how many there are.
    fn relations(
        &self,
        model: &Model,
        range: BucketRange,
        filter: &RelationFilter,
    ) -> impl Future<Output = Answer<Page<Relation>>> + Send;

    /// A page of the trace list, without segment bytes.
    fn segments(
        &self,
        filter: &SegmentFilter,
    ) -> impl Future<Output = Answer<Page<SegmentBrief>>> + Send;

    /// A page of the segments of a trace, earliest day first. It may be shorter than asked for although there are more.
    fn trace(&self, filter: &TraceFilter)
    -> impl Future<Output = Answer<Page<SegmentData>>> + Send;

    /// A page of alarms, newest first.
    fn alarms(&self, filter: &AlarmFilter) -> impl Future<Output = Answer<Page<AlarmRow>>> + Send;

    /// Whole rows of a record model, as many as the filter lets through, and how many meet its conditions.
    fn records(
        &self,
        model: &Arc<Model>,
        filter: &RecordFilter,
    ) -> impl Future<Output = Answer<Page<Row>>> + Send;

    /// Stored dashboards.
    fn ui_templates(
        &self,
        including_disabled: bool,
    ) -> impl Future<Output = Answer<Vec<UiTemplate>>> + Send;

    /// All dashboards, disabled ones too, as they were read or changed last, for while the store is away; `None` if that is not known.
    fn last_ui_templates(&self) -> Option<Vec<UiTemplate>> {
        None
    }

    /// Inserts a dashboard if its name is free and says whether it was; visible at once.
    fn add_ui_template(&self, template: &UiTemplate) -> impl Future<Output = Answer<bool>> + Send;

    /// Replaces a dashboard, says whether there was one of that name; visible at once.
    fn replace_ui_template(
        &self,
        template: &UiTemplate,
    ) -> impl Future<Output = Answer<bool>> + Send;

    /// Makes everything that was written visible to reads; nothing to do where it is so anyway.
    fn refresh(&self) -> impl Future<Output = Answer<()>> + Send {
        async { Ok(()) }
    }

    /// Deletes whole days up to and including those of `expiry`; names what it deleted. Days that others deleted
    /// meanwhile are no error.
    fn remove_expired(
        &self,
        schema: &Schema,
        expiry: Expiry,
    ) -> impl Future<Output = Answer<Vec<String>>> + Send;

    /// Whether the store answers right now; the error says what is missing.
    fn ping(&self) -> impl Future<Output = Answer<()>> + Send;
}
