//! A segment becomes facts and records: spans in list order, then the segment itself (8.1.0 spec, B).

mod logic;
mod record;
pub mod segment;
mod span;
mod statement;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use oap_proto::agent::SpanType;

use super::{Analyzer, Facts, Reject};
use segment::{Segment, Span};

/// Ids longer than this cannot be document ids anywhere.
pub(super) const MAX_ID_BYTES: usize = 512;

/// Real names have some hundred bytes at most; what is cut is still stored with the segment.
const MAX_NAME_BYTES: usize = 16 << 10;

impl Analyzer {
    /// Analyses one segment. All checks come first, so a rejected segment leaves nothing behind.
    pub(super) fn segment(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let segment = Segment::decode(bytes)?;
        check_ids(&segment)?;
        if segment.spans.is_empty() {
            return Ok(());
        }
        check_names(&segment)?;
        let buckets = self.second_buckets(&segment)?;
        if self.settings.is_trace_analysis_on {
            for (span, second) in segment.spans.iter().zip(buckets) {
                let minute = second / 100;
                match SpanType::try_from(span.span_type) {
                    Ok(SpanType::Entry) => self.entry_span(&segment, span, minute, facts),
                    Ok(SpanType::Exit) => self.exit_span(&segment, span, second, facts),
                    Ok(SpanType::Local) => self.local_span(&segment, span, minute, facts),
                    // Of a later protocol; it is stored with the segment.
                    Err(_) => {}
                }
            }
        }
        self.segment_record(&segment, bytes, facts)
    }

    fn second_buckets(&self, segment: &Segment<'_>) -> Result<Vec<u64>, Reject> {
        let mut last: Option<(i64, u64)> = None;
        segment
            .spans
            .iter()
            .map(|span| {
                let same_second = |(at, bucket): (i64, u64)| {
                    (at.div_euclid(1000) == span.start_time.div_euclid(1000)).then_some(bucket)
                };
                let bucket = match last.and_then(same_second) {
                    Some(bucket) => bucket,
                    None => self.second(span.start_time)?,
                };
                last = Some((span.start_time, bucket));
                Ok(bucket)
            })
            .collect()
    }
}

fn check_ids(segment: &Segment<'_>) -> Result<(), Reject> {
    let ids = [segment.trace_id, segment.trace_segment_id];
    let names = [segment.service, segment.service_instance];
    if ids.iter().chain(&names).any(|id| id.is_empty()) {
        return Err(Reject::MissingId);
    }
    if ids.iter().any(|id| id.len() > MAX_ID_BYTES) {
        return Err(Reject::IdTooLong);
    }
    Ok(())
}

/// Whether all names are short enough to be names.
fn check_names(segment: &Segment<'_>) -> Result<(), Reject> {
    check_name(segment.service)?;
    check_name(segment.service_instance)?;
    for span in &segment.spans {
        check_name(span.operation_name)?;
        check_name(span.peer)?;
        for reference in &span.refs {
            check_name(reference.parent_service)?;
            check_name(reference.parent_service_instance)?;
            check_name(reference.parent_endpoint)?;
            check_name(reference.network_address_used_at_peer)?;
        }
    }
    Ok(())
}

/// Refuses a name that is no name.
pub(super) fn check_name(name: &str) -> Result<(), Reject> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Reject::NameTooLong);
    }
    Ok(())
}

/// Value of the last tag with a key.
fn last_tag<'a>(span: &Span<'a>, key: &str) -> Option<&'a str> {
    span.tags
        .iter()
        .rev()
        .find(|tag| tag.key == key)
        .map(|tag| tag.value)
}
