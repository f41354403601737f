//! Segments and alarms: pages of the lists, and all segments of a trace. Bytes are read only for the latter.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::Source;
use super::load::to_row;
use super::search::{Completeness, Found, Hit, all_of, direction, search, term, within};
use super::{Answer, Elasticsearch};
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;
use crate::storage::StorageError;
use crate::storage::query::{
    AlarmFilter, AlarmRow, Page, RecordFilter, SegmentBrief, SegmentData, SegmentFilter,
    TraceFilter, TraceOrder,
};

const SEGMENT: &str = "segment";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Brief {
    segment_id: Option<String>,
    trace_id: Option<String>,
    endpoint_name: Option<String>,
    start_time: Option<i64>,
    latency: Option<i64>,
    is_error: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Whole {
    segment_id: Option<String>,
    service_id: Option<String>,
    service_instance_id: Option<String>,
    start_time: Option<i64>,
    data_binary: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Alarm {
    scope: Option<i64>,
    id0: Option<String>,
    alarm_message: Option<String>,
    start_time: Option<i64>,
}

impl Elasticsearch {
    pub(super) async fn find_segments(&self, filter: &SegmentFilter) -> Answer<Page<SegmentBrief>> {
        self.check_window(filter.offset, filter.limit)?;
        let order = match filter.order {
            TraceOrder::ByStartTime => "start_time",
            TraceOrder::ByDuration => "latency",
        };
        let body = json!({
            "query": all_of(conditions(filter)),
            // The id makes pages of equal keys repeatable.
            "sort": [{order: "desc"}, {"segment_id": "asc"}],
            "from": filter.offset,
            "size": filter.limit,
            "track_total_hits": true,
            "_source": ["segment_id", "trace_id", "endpoint_name", "start_time", "latency", "is_error"],
        });
        let target = match filter.range {
            Some(range) => self.names.target(SEGMENT, range),
            None => self.names.alias(SEGMENT),
        };
        let found: Found<Brief> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let total = found.total();
        let items = found.sources().map(|brief| SegmentBrief {
            segment_id: brief.segment_id.unwrap_or_default(),
            trace_id: brief.trace_id.unwrap_or_default(),
            endpoint_name: brief.endpoint_name.unwrap_or_default(),
            start_time: brief.start_time.unwrap_or(0),
            latency: brief.latency.unwrap_or(0),
            is_error: brief.is_error == Some(1),
        });
        Ok(Page {
            items: items.collect(),
            total,
        })
    }

    pub(super) async fn segments_of_trace(
        &self,
        filter: &TraceFilter,
    ) -> Answer<Page<SegmentData>> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let limit = count(filter.limit).min(self.options.result_window());
        let mut body = json!({
            "query": all_of(vec![term("trace_id", filter.trace_id.as_str())]),
            "sort": [{"start_time": "asc"}, {"segment_id": "asc"}],
            "size": limit,
            "track_total_hits": true,
            "_source": ["segment_id", "service_id", "service_instance_id", "start_time", "data_binary"],
        });
        match &filter.behind {
            // However far into the trace this is, the window of the index does not count.
            Some((start_time, id)) => body["search_after"] = json!([start_time, id]),
            None => {
                self.check_window(count(filter.offset), limit)?;
                body["from"] = filter.offset.into();
            }
        }
        let target = match filter.days {
            Some(days) => self.names.target(SEGMENT, days),
            None => self.names.alias(SEGMENT),
        };
        let completeness = Completeness::BestEffort;
        let found: Answer<Found<Whole>> = search(&self.client, &target, completeness, &body).await;
        let found = match found {
            Err(StorageError::InvalidQuery(reason)) => match allowed_window(&reason) {
                // The index has a smaller window than the settings say.
                Some(window) if window < limit => {
                    body["size"] = window.into();
                    search(&self.client, &target, completeness, &body).await?
                }
                _ => return Err(StorageError::InvalidQuery(reason)),
            },
            found => found?,
        };
        let total = found.total();
        let items = found.hits().into_iter().map(segment_data);
        Ok(Page {
            items: items.collect::<Answer<_>>()?,
            total,
        })
    }

    pub(super) async fn find_records(
        &self,
        model: &Arc<Model>,
        filter: &RecordFilter,
    ) -> Answer<Page<Row>> {
        let mut clauses = vec![];
        for (column, values) in &filter.any_of {
            let values: Vec<Value> = values.iter().filter_map(plain).collect();
            clauses.push(json!({"terms": {*column: values}}));
        }
        if let Some((column, least, greatest)) = filter.between {
            clauses.push(json!({"range": {column: {"gte": least, "lte": greatest}}}));
        }
        let order = direction(filter.order);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let body = json!({
            "query": all_of(clauses),
            "sort": [{filter.sort_by: {"order": order, "unmapped_type": "long"}}],
            "size": limit.min(self.options.result_window()),
            "track_total_hits": true,
        });
        let target = self.names.alias(&model.name);
        let found: Found<Source> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let total = found.total();
        let hits = found.hits().into_iter();
        let rows = hits.map(|hit| to_row(&self.names, model, hit.id, &hit.index, &hit.source));
        Ok(Page {
            items: rows.collect::<Answer<_>>()?,
            total,
        })
    }

    pub(super) async fn find_alarms(&self, filter: &AlarmFilter) -> Answer<Page<AlarmRow>> {
        self.check_window(filter.offset, filter.limit)?;
        let mut clauses = vec![within(filter.range)];
        if let Some(scope) = filter.scope {
            clauses.push(term("scope", scope));
        }
        clauses.extend(phrase("alarm_message_match", filter.keyword.as_deref()));
        let body = json!({
            "query": all_of(clauses),
            "sort": [{"start_time": "desc"}],
            "from": filter.offset,
            "size": filter.limit,
            "track_total_hits": true,
            "_source": ["scope", "id0", "alarm_message", "start_time"],
        });
        let target = self.names.target("alarm_record", filter.range);
        let found: Found<Alarm> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let total = found.total();
        let items = found.sources().map(|alarm| AlarmRow {
            scope: alarm.scope.unwrap_or(0),
            id0: alarm.id0.unwrap_or_default(),
            message: alarm.alarm_message.unwrap_or_default(),
            start_time: alarm.start_time.unwrap_or(0),
        });
        Ok(Page {
            items: items.collect(),
            total,
        })
    }
}

fn conditions(filter: &SegmentFilter) -> Vec<Value> {
    let mut clauses: Vec<Value> = filter.range.map(within).into_iter().collect();
    let mut latency = json!({});
    if filter.min_duration != 0 {
        latency["gte"] = filter.min_duration.into();
    }
    if filter.max_duration != 0 {
        latency["lte"] = filter.max_duration.into();
    }
    if filter.min_duration != 0 || filter.max_duration != 0 {
        clauses.push(json!({"range": {"latency": latency}}));
    }
    let ids = [
        ("service_id", &filter.service_id),
        ("service_instance_id", &filter.instance_id),
        ("endpoint_id", &filter.endpoint_id),
        ("trace_id", &filter.trace_id),
    ];
    for (column, id) in ids {
        if let Some(id) = id {
            clauses.push(term(column, id.as_str()));
        }
    }
    if let Some(is_error) = filter.is_error {
        clauses.push(term("is_error", i64::from(is_error)));
    }
    clauses.extend(phrase(
        "endpoint_name_match",
        filter.endpoint_name.as_deref(),
    ));
    clauses
}

/// What a value is compared with; there is none for what is no value or is not indexed.
fn plain(cell: &Cell) -> Option<Value> {
    match cell {
        Cell::Long(n) => Some(json!(n)),
        Cell::Text(text) => Some(json!(&**text)),
        Cell::Double(n) => Some(json!(n)),
        Cell::Null | Cell::Bytes(_) => None,
    }
}

/// The words of a text, next to each other; no condition for an empty text.
fn phrase(column: &str, text: Option<&str>) -> Option<Value> {
    let text = text.filter(|t| !t.is_empty())?;
    Some(json!({"match_phrase": {column: text}}))
}

/// The window of an index that refused a search because it goes beyond it.
fn allowed_window(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("Result window is too large")?;
    let (_, rest) = rest.split_once("less than or equal to: [")?;
    rest.split_once(']')?.0.parse().ok()
}

fn segment_data(hit: Hit<Whole>) -> Answer<SegmentData> {
    let data = hit.source.data_binary.unwrap_or_default();
    let data = STANDARD.decode(data).map_err(|error| {
        StorageError::Damaged(format!(
            "segment {} in index {} is no Base64: {error}",
            hit.id, hit.index
        ))
    })?;
    Ok(SegmentData {
        segment_id: hit.source.segment_id.unwrap_or_default(),
        service_id: hit.source.service_id.unwrap_or_default(),
        // Those without one are sorted behind all others.
        start_time: hit.source.start_time.unwrap_or(i64::MAX),
        instance_id: hit.source.service_instance_id.unwrap_or_default(),
        data: data.into(),
    })
}
