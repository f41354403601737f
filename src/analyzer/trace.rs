//! A segment becomes facts and records: spans in list order, then the segment itself (8.1.0 spec, B).

mod logic;
mod record;
mod span;
mod statement;

use bytes::Bytes;
use oap_proto::agent::{SegmentObject, SpanObject, SpanType};
use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::{Analyzer, Facts, Reject};

/// Ids longer than this cannot be document ids anywhere.
pub(super) const MAX_ID_BYTES: usize = 512;
/// Agents cut a segment at some hundred spans, which is less than a tenth of these.
const MAX_SEGMENT_BYTES: usize = 4 << 20;
const MAX_SPANS: usize = 10_000;
/// Number of the field `spans`.
const SPANS_FIELD: u32 = 3;

impl Analyzer {
    /// Analyses one segment. All checks come first, so a rejected segment leaves nothing behind.
    pub(super) fn segment(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        check_size(bytes)?;
        let segment = SegmentObject::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        if segment.spans.is_empty() {
            return Ok(());
        }
        check_ids(&segment)?;
        let buckets = self.second_buckets(&segment)?;
        if self.settings.is_trace_analysis_on {
            for (span, second) in segment.spans.iter().zip(buckets) {
                let minute = second / 100;
                match span.span_type() {
                    SpanType::Entry => self.entry_span(&segment, span, minute, facts),
                    SpanType::Exit => self.exit_span(&segment, span, second, facts),
                    SpanType::Local => self.local_span(&segment, span, minute, facts),
                }
            }
        }
        self.segment_record(&segment, bytes, facts)
    }

    fn second_buckets(&self, segment: &SegmentObject) -> Result<Vec<u64>, Reject> {
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
                    None => self
                        .zone
                        .second(span.start_time)
                        .ok_or(Reject::TimeOutOfRange)?,
                };
                last = Some((span.start_time, bucket));
                Ok(bucket)
            })
            .collect()
    }
}

/// Looks at the encoded form: a few bytes can say so much that decoding it would take a multiple of memory.
fn check_size(bytes: &Bytes) -> Result<(), Reject> {
    if bytes.len() > MAX_SEGMENT_BYTES {
        return Err(Reject::TooLarge);
    }
    let mut rest: &[u8] = bytes;
    let mut spans = 0;
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|_| Reject::Undecodable)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())
            .map_err(|_| Reject::Undecodable)?;
        spans += usize::from(tag == SPANS_FIELD);
    }
    if spans > MAX_SPANS {
        return Err(Reject::TooLarge);
    }
    Ok(())
}

fn check_ids(segment: &SegmentObject) -> Result<(), Reject> {
    let ids = [&segment.trace_id, &segment.trace_segment_id];
    let names = [&segment.service, &segment.service_instance];
    if ids.iter().chain(&names).any(|id| id.is_empty()) {
        return Err(Reject::MissingId);
    }
    if ids.iter().any(|id| id.len() > MAX_ID_BYTES) {
        return Err(Reject::IdTooLong);
    }
    Ok(())
}

/// Value of the last tag with a key.
fn last_tag<'a>(span: &'a SpanObject, key: &str) -> Option<&'a str> {
    span.tags
        .iter()
        .rev()
        .find(|tag| tag.key == key)
        .map(|tag| tag.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_says_too_much_is_refused_before_it_is_decoded() {
        let spans = |n: usize| Bytes::from([0x1a, 0x00].repeat(n));
        assert_eq!(check_size(&spans(MAX_SPANS)), Ok(()));
        assert_eq!(check_size(&spans(MAX_SPANS + 1)), Err(Reject::TooLarge));
        let huge = Bytes::from(vec![0; MAX_SEGMENT_BYTES + 1]);
        assert_eq!(check_size(&huge), Err(Reject::TooLarge));
        assert_eq!(
            check_size(&Bytes::from_static(b"\x1a\xff")),
            Err(Reject::Undecodable)
        );
    }
}
