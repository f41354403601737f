//! A store that takes everything and keeps nothing, so that what is left is the cost of getting there.

use std::sync::Arc;

use oap::model::row::{Row, RowKey};
use oap::model::schema::{Model, Schema};
use oap::storage::*;

type Answer<T> = Result<T, StorageError>;

pub(crate) struct NullStore;

fn nothing<T>() -> Page<T> {
    Page {
        items: vec![],
        total: 0,
    }
}

impl Backend for NullStore {
    async fn install(&self, _: &Schema) -> Answer<Vec<String>> {
        Ok(vec![])
    }

    async fn write(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        Ok(vec![WriteOutcome::Stored; rows.len()])
    }

    async fn load(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn reach(&self, _: &[Arc<Model>], _: u64) -> Answer<Reach> {
        Ok(Reach::default())
    }

    async fn aggregates(
        &self,
        _: &Model,
        ids: &[&str],
        _: BucketRange,
    ) -> Answer<Vec<Option<f64>>> {
        Ok(vec![None; ids.len()])
    }

    async fn top_n(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<TopNEntity>> {
        Ok(vec![])
    }

    async fn sampled_records(&self, _: &Model, _: &TopNFilter) -> Answer<Vec<SampledRecord>> {
        Ok(vec![])
    }

    async fn services(&self, _: &ServiceFilter, _: usize) -> Answer<Page<ServiceTraffic>> {
        Ok(nothing())
    }

    async fn instances(&self, _: &str, _: u64, _: usize) -> Answer<Page<InstanceTraffic>> {
        Ok(nothing())
    }

    async fn endpoints(&self, _: &str, _: &str, _: usize) -> Answer<Vec<EndpointTraffic>> {
        Ok(vec![])
    }

    async fn address_aliases(&self, _: u64, _: usize) -> Answer<Vec<AddressAlias>> {
        Ok(vec![])
    }

    async fn relations(
        &self,
        _: &Model,
        _: BucketRange,
        _: &RelationFilter,
    ) -> Answer<Page<Relation>> {
        Ok(nothing())
    }

    async fn segments(&self, _: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        Ok(nothing())
    }

    async fn trace(&self, _: &TraceFilter) -> Answer<Page<SegmentData>> {
        Ok(nothing())
    }

    async fn alarms(&self, _: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        Ok(nothing())
    }

    async fn records(&self, _: &Arc<Model>, _: &RecordFilter) -> Answer<Page<Row>> {
        Ok(nothing())
    }

    async fn ui_templates(&self, _: bool) -> Answer<Vec<UiTemplate>> {
        Ok(vec![])
    }

    async fn add_ui_template(&self, _: &UiTemplate) -> Answer<bool> {
        Ok(true)
    }

    async fn replace_ui_template(&self, _: &UiTemplate) -> Answer<bool> {
        Ok(true)
    }

    async fn remove_expired(&self, _: &Schema, _: Expiry) -> Answer<Vec<String>> {
        Ok(vec![])
    }

    async fn ping(&self) -> Answer<()> {
        Ok(())
    }
}
