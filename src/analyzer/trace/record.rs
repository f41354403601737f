//! The segment as it is stored: its bytes and what the trace list filters by (8.1.0 spec, B.9).

use std::sync::Arc;

use bytes::Bytes;
use oap_proto::agent::SpanType;

use super::segment::Segment;
use crate::analyzer::naming::cut;
use crate::analyzer::{Analyzer, Facts, Reject};
use crate::model::id::java_hash;
use crate::model::row::{Cell, Row};

/// Marks the protocol generation of the stored bytes.
const VERSION: i64 = 3;

impl Analyzer {
    pub(super) fn segment_record(
        &mut self,
        segment: &Segment<'_>,
        bytes: &Bytes,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let Some(model) = &self.segment_model else {
            return Ok(());
        };
        if java_hash(segment.trace_segment_id) % 10_000 >= self.settings.sample_rate {
            return Ok(());
        }
        let starts = segment.spans.iter().map(|s| s.start_time);
        let start = starts.filter(|t| *t != 0).min().unwrap_or(0);
        let ends = segment.spans.iter().map(|s| s.end_time);
        let end = ends.fold(0, i64::max);
        let is_error = segment.spans.iter().any(|s| s.is_error);
        let names = self.settings.names;
        let endpoint = segment
            .spans
            .iter()
            .rev()
            .find(|s| s.span_id == 0 || s.span_type == SpanType::Entry as i32)
            .map(|s| cut(s.operation_name, names.endpoint));
        let service = cut(segment.service, names.service);
        let group = endpoint.and_then(|name| self.endpoints.group(service, name));
        let endpoint = group.as_deref().or(endpoint);
        let instance = cut(segment.service_instance, names.instance);
        let set = self
            .entities
            .request(service, instance, endpoint.unwrap_or_default());
        let name = endpoint.map_or(Cell::Null, |_| Cell::Text(Arc::clone(&set.names.endpoint)));
        let endpoint_id = endpoint.map_or(Cell::Null, |_| Cell::Text(Arc::clone(&set.endpoint.id)));
        let statement = [endpoint.unwrap_or_default(), " - ", segment.trace_id].concat();
        facts.records.push(Row {
            model: Arc::clone(model),
            id: segment.trace_segment_id.to_owned(),
            time_bucket: self.second(start)?,
            cells: vec![
                Cell::text(segment.trace_segment_id),
                Cell::text(segment.trace_id),
                Cell::text(statement),
                Cell::Text(Arc::clone(&set.service.id)),
                Cell::Text(Arc::clone(&set.instance.id)),
                name,
                endpoint_id,
                Cell::Long(start),
                Cell::Long(end),
                Cell::Long(latency(start, end)),
                Cell::Long(is_error.into()),
                Cell::Bytes(bytes.clone()),
                Cell::Long(VERSION),
            ],
        });
        Ok(())
    }
}

/// Milliseconds in 32 bits: what is too long stays at the most, what ends before it began is cut as the original casts it.
fn latency(start: i64, end: i64) -> i64 {
    let milliseconds = end.saturating_sub(start);
    if milliseconds > i64::from(i32::MAX) {
        i64::from(i32::MAX)
    } else {
        i64::from(milliseconds as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::latency;

    #[test]
    fn a_latency_always_fits_its_column() {
        for (start, end, want) in [
            (1_600_167_570_000, 1_600_167_570_200, 200),
            (1_600_167_570_000, i64::MAX, i64::from(i32::MAX)),
            (5, 3, -2),
            (1_600_167_570_000, 0, 1_855_231_408),
        ] {
            assert_eq!(latency(start, end), want, "{start} {end}");
        }
    }
}
