//! A segment as analysis reads it: texts stay in the message, what is never read is checked and passed over.
//!
//! Takes and refuses the same bytes as the generated decoder of `SegmentObject`, which would copy every text.

use std::str::from_utf8;

use oap_proto::agent::{RefType, SpanLayer, SpanType};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::analyzer::Reject;
use crate::analyzer::bounds::Parts;

/// `SegmentObject`
#[derive(Debug, Default)]
pub struct Segment<'a> {
    pub trace_id: &'a str,
    pub trace_segment_id: &'a str,
    pub service: &'a str,
    pub service_instance: &'a str,
    pub spans: Vec<Span<'a>>,
}

/// `SpanObject`
#[derive(Debug, Default)]
pub struct Span<'a> {
    pub span_id: i32,
    pub span_type: i32,
    pub span_layer: i32,
    pub component_id: i32,
    /// Epoch milliseconds.
    pub start_time: i64,
    /// Epoch milliseconds.
    pub end_time: i64,
    pub operation_name: &'a str,
    pub peer: &'a str,
    pub refs: Vec<Reference<'a>>,
    pub tags: Vec<Tag<'a>>,
    pub is_error: bool,
    pub skip_analysis: bool,
}

/// `SegmentReference`
#[derive(Debug, Default)]
pub struct Reference<'a> {
    pub ref_type: i32,
    pub parent_service: &'a str,
    pub parent_service_instance: &'a str,
    pub parent_endpoint: &'a str,
    pub network_address_used_at_peer: &'a str,
}

/// `KeyStringValuePair`
#[derive(Debug, Default)]
pub struct Tag<'a> {
    pub key: &'a str,
    pub value: &'a str,
}

impl<'a> Segment<'a> {
    /// Reads a message; more parts than a message may have are refused before they take memory.
    pub fn decode(encoded: &'a [u8]) -> Result<Segment<'a>, Reject> {
        let mut parts = Parts::default();
        let mut segment = Segment::default();
        for field in Fields(encoded) {
            let (tag, value) = field?;
            match tag {
                1 => segment.trace_id = value.text()?,
                2 => segment.trace_segment_id = value.text()?,
                3 => {
                    parts.add()?;
                    let span = Span::decode(value.message()?, &mut parts)?;
                    segment.spans.push(span);
                }
                4 => segment.service = value.text()?,
                5 => segment.service_instance = value.text()?,
                6 => _ = value.number()?,
                _ => {}
            }
        }
        Ok(segment)
    }
}

impl<'a> Span<'a> {
    fn decode(encoded: Fields<'a>, parts: &mut Parts) -> Result<Span<'a>, Reject> {
        let mut span = Span::default();
        for field in encoded {
            let (tag, value) = field?;
            match tag {
                1 => span.span_id = value.number()? as i32,
                2 => _ = value.number()?,
                3 => span.start_time = value.number()? as i64,
                4 => span.end_time = value.number()? as i64,
                5 => {
                    parts.add()?;
                    span.refs.push(Reference::decode(value.message()?)?);
                }
                6 => span.operation_name = value.text()?,
                7 => span.peer = value.text()?,
                8 => span.span_type = value.number()? as i32,
                9 => span.span_layer = value.number()? as i32,
                10 => span.component_id = value.number()? as i32,
                11 => span.is_error = value.number()? != 0,
                12 => {
                    parts.add()?;
                    span.tags.push(Tag::decode(value.message()?)?);
                }
                13 => {
                    parts.add()?;
                    pass_log(value.message()?, parts)?;
                }
                14 => span.skip_analysis = value.number()? != 0,
                _ => {}
            }
        }
        Ok(span)
    }

    /// An unknown number is the default, as everywhere in protobuf.
    pub fn span_type(&self) -> SpanType {
        SpanType::try_from(self.span_type).unwrap_or_default()
    }

    /// See [`Span::span_type`].
    pub fn span_layer(&self) -> SpanLayer {
        SpanLayer::try_from(self.span_layer).unwrap_or_default()
    }
}

impl<'a> Reference<'a> {
    fn decode(encoded: Fields<'a>) -> Result<Reference<'a>, Reject> {
        let mut reference = Reference::default();
        for field in encoded {
            let (tag, value) = field?;
            match tag {
                1 => reference.ref_type = value.number()? as i32,
                4 => _ = value.number()?,
                2 | 3 => _ = value.text()?,
                5 => reference.parent_service = value.text()?,
                6 => reference.parent_service_instance = value.text()?,
                7 => reference.parent_endpoint = value.text()?,
                8 => reference.network_address_used_at_peer = value.text()?,
                _ => {}
            }
        }
        Ok(reference)
    }

    /// See [`Span::span_type`].
    pub fn ref_type(&self) -> RefType {
        RefType::try_from(self.ref_type).unwrap_or_default()
    }
}

impl<'a> Tag<'a> {
    fn decode(encoded: Fields<'a>) -> Result<Tag<'a>, Reject> {
        let mut pair = Tag::default();
        for field in encoded {
            let (tag, value) = field?;
            match tag {
                1 => pair.key = value.text()?,
                2 => pair.value = value.text()?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

/// A log is stored with the segment, and means nothing to metrics.
fn pass_log(encoded: Fields<'_>, parts: &mut Parts) -> Result<(), Reject> {
    for field in encoded {
        let (tag, value) = field?;
        match tag {
            1 => _ = value.number()?,
            2 => {
                parts.add()?;
                Tag::decode(value.message()?)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The fields of a message, in the order of its bytes.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no field of a segment has.
    Foreign,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Reject>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.field().ok_or(Reject::Undecodable))
    }
}

impl<'a> Fields<'a> {
    /// `None` if the bytes are no message.
    #[inline]
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (tag, wire_type) = match *self.0 {
            // Most keys have one byte, which holds the wire type in its lowest three bits.
            [key @ 0x08..0x80, ref rest @ ..] => {
                self.0 = rest;
                let wire_type = WireType::try_from(u64::from(key & 7)).ok()?;
                (u32::from(key >> 3), wire_type)
            }
            _ => decode_key(&mut self.0).ok()?,
        };
        let value = match wire_type {
            WireType::Varint => Value::Number(self.varint()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => {
                skip_field(wire_type, tag, &mut self.0, DecodeContext::default()).ok()?;
                Value::Foreign
            }
        };
        Some((tag, value))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        match *self.0 {
            [byte @ ..0x80, ref rest @ ..] => {
                self.0 = rest;
                Some(byte.into())
            }
            _ => decode_varint(&mut self.0).ok(),
        }
    }
}

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, Reject> {
        match self {
            Value::Number(n) => Ok(n),
            _ => Err(Reject::Undecodable),
        }
    }

    fn text(self) -> Result<&'a str, Reject> {
        match self {
            Value::Bytes(bytes) => from_utf8(bytes).map_err(|_| Reject::Undecodable),
            _ => Err(Reject::Undecodable),
        }
    }

    fn message(self) -> Result<Fields<'a>, Reject> {
        match self {
            Value::Bytes(bytes) => Ok(Fields(bytes)),
            _ => Err(Reject::Undecodable),
        }
    }
}

#[cfg(test)]
mod tests {
    use oap_proto::agent::{KeyStringValuePair, Log, SegmentObject, SegmentReference, SpanObject};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// A message with every field set.
    fn full() -> SegmentObject {
        let pair = |key: &str| KeyStringValuePair {
            key: key.into(),
            value: "wért".into(),
        };
        let span = SpanObject {
            span_id: 1,
            parent_span_id: -1,
            start_time: 1_600_167_570_000,
            end_time: -3,
            refs: vec![SegmentReference {
                ref_type: 1,
                trace_id: "trace".into(),
                parent_trace_segment_id: "parent".into(),
                parent_span_id: 4,
                parent_service: "caller".into(),
                parent_service_instance: "caller-1".into(),
                parent_endpoint: "/call".into(),
                network_address_used_at_peer: "order:8080".into(),
            }],
            operation_name: "/order".into(),
            peer: "db:3306".into(),
            span_type: 2,
            span_layer: 3,
            component_id: 14,
            is_error: true,
            tags: vec![pair("a"), pair("b")],
            logs: vec![Log {
                time: 5,
                data: vec![pair("event")],
            }],
            skip_analysis: true,
        };
        SegmentObject {
            trace_id: "trace".into(),
            trace_segment_id: "segment".into(),
            spans: vec![SpanObject::default(), span],
            service: "order".into(),
            service_instance: "order-1".into(),
            is_size_limited: true,
        }
    }

    fn assert_same(ours: &Segment<'_>, generated: &SegmentObject) {
        assert_eq!(ours.trace_id, generated.trace_id);
        assert_eq!(ours.trace_segment_id, generated.trace_segment_id);
        assert_eq!(ours.service, generated.service);
        assert_eq!(ours.service_instance, generated.service_instance);
        assert_eq!(ours.spans.len(), generated.spans.len());
        for (span, wanted) in ours.spans.iter().zip(&generated.spans) {
            assert_eq!(span.span_id, wanted.span_id);
            assert_eq!(span.span_type(), wanted.span_type());
            assert_eq!(span.span_layer(), wanted.span_layer());
            assert_eq!(span.component_id, wanted.component_id);
            assert_eq!(span.start_time, wanted.start_time);
            assert_eq!(span.end_time, wanted.end_time);
            assert_eq!(span.operation_name, wanted.operation_name);
            assert_eq!(span.peer, wanted.peer);
            assert_eq!(span.is_error, wanted.is_error);
            assert_eq!(span.skip_analysis, wanted.skip_analysis);
            let tags = span.tags.iter().map(|t| (t.key, t.value));
            assert!(tags.eq(wanted.tags.iter().map(|t| (&*t.key, &*t.value))));
            assert_eq!(span.refs.len(), wanted.refs.len());
            for (reference, wanted) in span.refs.iter().zip(&wanted.refs) {
                assert_eq!(reference.ref_type(), wanted.ref_type());
                assert_eq!(reference.parent_service, wanted.parent_service);
                assert_eq!(reference.parent_endpoint, wanted.parent_endpoint);
                let instance = &wanted.parent_service_instance;
                assert_eq!(reference.parent_service_instance, instance);
                let address = &wanted.network_address_used_at_peer;
                assert_eq!(reference.network_address_used_at_peer, address);
            }
        }
    }

    #[test]
    fn every_field_is_read() {
        let generated = full();
        let bytes = generated.encode_to_vec();
        assert_same(&Segment::decode(&bytes).unwrap(), &generated);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        #[test]
        fn damaged_bytes_are_read_or_refused_as_the_generated_decoder_does(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = full().encode_to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            match (Segment::decode(&bytes), SegmentObject::decode(bytes.as_slice())) {
                (Ok(ours), Ok(generated)) => assert_same(&ours, &generated),
                (ours, generated) => prop_assert_eq!(ours.is_ok(), generated.is_ok()),
            }
        }
    }
}
