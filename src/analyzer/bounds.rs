//! How much one message may say. Looked at in its encoded form: a few bytes can stand for so much that decoding them
//! would take a multiple of memory.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Reject;
use crate::model::message::Message;

const MAX_BYTES: usize = 4 << 20;
/// Of pages that were fetched together.
const MAX_SCRAPE_BYTES: usize = 40 << 20;
/// Messages inside a message, at any depth. Agents cut a segment at some hundred spans, each with a few tags.
const MAX_PARTS: usize = 50_000;

/// The repeated messages of a message, by field number.
struct Shape(&'static [(u32, &'static Shape)]);

const LEAF: Shape = Shape(&[]);
/// Memory, pools and collections.
const JVM_METRIC: Shape = Shape(&[(3, &LEAF), (4, &LEAF), (5, &LEAF)]);
const JVM_METRICS: Shape = Shape(&[(1, &JVM_METRIC)]);
const CLR_METRICS: Shape = Shape(&[(1, &LEAF)]);
const PROPERTIES: Shape = Shape(&[(3, &LEAF)]);
/// Instances with their dimensions.
const MIXER: Shape = Shape(&[(1, &Shape(&[(2, &LEAF)]))]);
/// Labels, of a single value and of a histogram, and buckets.
const SINGLE_METER: Shape = Shape(&[(2, &LEAF)]);
const HISTOGRAM_METER: Shape = Shape(&[(2, &LEAF), (3, &LEAF)]);
const METER: Shape = Shape(&[(1, &SINGLE_METER), (2, &HISTOGRAM_METER)]);
const METERS: Shape = Shape(&[(1, &METER), (15, &METER)]);
const METRIC_FAMILY: Shape = Shape(&[(4, &LEAF)]);
const ENVOY_METRICS: Shape = Shape(&[(2, &METRIC_FAMILY)]);
const LOG_ENTRIES: Shape = Shape(&[(1, &LEAF)]);
const ACCESS_LOGS: Shape = Shape(&[(2, &LOG_ENTRIES)]);
const SCRAPE: Shape = Shape(&[(3, &LEAF)]);

/// The messages inside of one message so far.
#[derive(Debug, Default)]
pub(super) struct Parts(usize);

impl Parts {
    /// One more, if there may be one more.
    pub(super) fn add(&mut self) -> Result<(), Reject> {
        self.0 += 1;
        if self.0 > MAX_PARTS {
            return Err(Reject::TooLarge);
        }
        Ok(())
    }
}

/// Refuses what is larger than any agent has reason to send. The parts of a segment are counted where they are decoded.
pub(super) fn check(message: &Message) -> Result<(), Reject> {
    let max = match message {
        Message::Prometheus(_) => MAX_SCRAPE_BYTES,
        _ => MAX_BYTES,
    };
    if message.bytes().len() > max {
        return Err(Reject::TooLarge);
    }
    let shape = match message {
        Message::Segment(_) => return Ok(()),
        Message::JvmMetrics(_) => &JVM_METRICS,
        Message::ClrMetrics(_) => &CLR_METRICS,
        Message::InstanceProperties(_) => &PROPERTIES,
        Message::KeepAlive(_)
        | Message::Mesh(_)
        | Message::ProfileSnapshot(_)
        | Message::ProfileTaskNotified(_)
        | Message::ProfileTaskFinished(_) => &LEAF,
        Message::Mixer(_) => &MIXER,
        Message::Meters(_) => &METERS,
        Message::EnvoyMetrics { .. } => &ENVOY_METRICS,
        Message::EnvoyAccessLogs { .. } => &ACCESS_LOGS,
        Message::Prometheus(_) => &SCRAPE,
    };
    count(message.bytes(), shape, &mut Parts::default())
}

/// Adds the messages inside `encoded` to `parts`.
fn count(encoded: &[u8], shape: &Shape, parts: &mut Parts) -> Result<(), Reject> {
    let undecodable = |_| Reject::Undecodable;
    let mut rest = encoded;
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(undecodable)?;
        let inner = shape.0.iter().find(|(field, _)| *field == tag);
        let Some((_, inner)) = inner.filter(|_| wire_type == WireType::LengthDelimited) else {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(undecodable)?;
            continue;
        };
        parts.add()?;
        let length = decode_varint(&mut rest).map_err(undecodable)?;
        let length = usize::try_from(length).map_err(|_| Reject::Undecodable)?;
        let (part, after) = rest.split_at_checked(length).ok_or(Reject::Undecodable)?;
        count(part, inner, parts)?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::analyzer::trace::segment::Segment;

    /// One span with as many bytes of empty references, tags or logs.
    fn span_with(field: u8, times: usize) -> Vec<u8> {
        let inner = [field << 3 | 2, 0].repeat(times);
        let mut segment = vec![0x1a];
        prost::encoding::encode_varint(inner.len() as u64, &mut segment);
        segment.extend(inner);
        segment
    }

    #[test]
    fn a_message_that_says_too_much_is_refused() {
        let empty_spans = |n: usize| [0x1a, 0x00].repeat(n);
        for (what, message, want) in [
            ("nothing", vec![], Ok(())),
            ("many spans", empty_spans(MAX_PARTS), Ok(())),
            ("more", empty_spans(MAX_PARTS + 1), Err(Reject::TooLarge)),
            ("references", span_with(5, MAX_PARTS), Err(Reject::TooLarge)),
            ("tags", span_with(12, MAX_PARTS), Err(Reject::TooLarge)),
            ("a few logs", span_with(13, 100), Ok(())),
            ("huge", vec![0; MAX_BYTES + 1], Err(Reject::TooLarge)),
            ("cut off", vec![0x1a, 0xff], Err(Reject::Undecodable)),
            ("cut in a part", vec![0x1a, 9, 1], Err(Reject::Undecodable)),
        ] {
            let message = Message::Segment(Bytes::from(message));
            let decoded = check(&message).and_then(|()| Segment::decode(message.bytes()));
            assert_eq!(decoded.map(|_| ()), want, "{what}");
        }
    }
}
