//! The JSON form of the agent messages, as lenient as the original's parser.
//!
//! Names are lowerCamel, enums come as names or numbers, 64-bit numbers as numbers or text, unknown fields are skipped,
//! null is the default, and of a field given twice the last counts. A value of the wrong JSON type fails the whole text.
//! Values go straight into the messages: there is no tree in between that a small text could blow up.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use oap_proto::agent::{
    InstancePingPkg, InstanceProperties, KeyStringValuePair, Log, RefType, SegmentObject,
    SegmentReference, SpanLayer, SpanObject, SpanType,
};
use prost::Message;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Objects in one text. An object costs its sender three bytes and us two hundred.
const MAX_OBJECTS: usize = 100_000;

/// `SegmentObject`
pub(super) fn segment(text: &str) -> Result<SegmentObject, serde_json::Error> {
    read::<Object<SegmentObject>>(text).map(|object| object.0)
}

/// An array of `SegmentObject`, each encoded.
pub(super) fn segments(text: &str) -> Result<Vec<Bytes>, serde_json::Error> {
    read::<EncodedList>(text).map(|list| list.0)
}

/// `InstanceProperties`
pub(super) fn instance_properties(text: &str) -> Result<InstanceProperties, serde_json::Error> {
    read::<Object<InstanceProperties>>(text).map(|object| object.0)
}

/// `InstancePingPkg`, with `properties` allowed (and checked) as the original does.
pub(super) fn instance_ping(text: &str) -> Result<InstancePingPkg, serde_json::Error> {
    instance_properties(text).map(|instance| InstancePingPkg {
        service: instance.service,
        service_instance: instance.service_instance,
    })
}

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    if text.bytes().filter(|&byte| byte == b'{').count() > MAX_OBJECTS {
        return Err(de::Error::custom(format!(
            "more than {MAX_OBJECTS} objects"
        )));
    }
    serde_json::from_str(text)
}

/// A message that takes its fields one by one.
trait FromJson: Default {
    /// Reads the value of field `name`, or skips it.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error>;
}

impl FromJson for SegmentObject {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "traceId" => self.trace_id = text(value)?,
            "traceSegmentId" => self.trace_segment_id = text(value)?,
            "spans" => self.spans = list(value)?,
            "service" => self.service = text(value)?,
            "serviceInstance" => self.service_instance = text(value)?,
            "isSizeLimited" => self.is_size_limited = flag(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

impl FromJson for SpanObject {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "spanId" => self.span_id = number(value)?,
            "parentSpanId" => self.parent_span_id = number(value)?,
            "startTime" => self.start_time = number(value)?,
            "endTime" => self.end_time = number(value)?,
            "refs" => self.refs = list(value)?,
            "operationName" => self.operation_name = text(value)?,
            "peer" => self.peer = text(value)?,
            "spanType" => self.span_type = choice(value, SpanType::from_str_name)?,
            "spanLayer" => self.span_layer = choice(value, SpanLayer::from_str_name)?,
            "componentId" => self.component_id = number(value)?,
            "isError" => self.is_error = flag(value)?,
            "tags" => self.tags = list(value)?,
            "logs" => self.logs = list(value)?,
            "skipAnalysis" => self.skip_analysis = flag(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

impl FromJson for SegmentReference {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "refType" => self.ref_type = choice(value, RefType::from_str_name)?,
            "traceId" => self.trace_id = text(value)?,
            "parentTraceSegmentId" => self.parent_trace_segment_id = text(value)?,
            "parentSpanId" => self.parent_span_id = number(value)?,
            "parentService" => self.parent_service = text(value)?,
            "parentServiceInstance" => self.parent_service_instance = text(value)?,
            "parentEndpoint" => self.parent_endpoint = text(value)?,
            "networkAddressUsedAtPeer" => self.network_address_used_at_peer = text(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

impl FromJson for Log {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "time" => self.time = number(value)?,
            "data" => self.data = list(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

impl FromJson for KeyStringValuePair {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "key" => self.key = text(value)?,
            "value" => self.value = text(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

impl FromJson for InstanceProperties {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "service" => self.service = text(value)?,
            "serviceInstance" => self.service_instance = text(value)?,
            "properties" => self.properties = list(value)?,
            _ => skip(value)?,
        }
        Ok(())
    }
}

fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(match map.next_value()? {
        Scalar::Null => String::new(),
        Scalar::Flag(flag) => flag.to_string(),
        Scalar::Whole(number) => number.to_string(),
        Scalar::Fraction(number) => number.to_string(),
        Scalar::Text(text) => text.into_owned(),
    })
}

fn flag<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    match map.next_value()? {
        Scalar::Null => Ok(false),
        Scalar::Flag(flag) => Ok(flag),
        Scalar::Text(text) if text == "true" => Ok(true),
        Scalar::Text(text) if text == "false" => Ok(false),
        other => Err(other.instead_of("true or false")),
    }
}

fn number<'de, A: MapAccess<'de>, N: TryFrom<i128> + Default>(map: &mut A) -> Result<N, A::Error> {
    let scalar: Scalar = map.next_value()?;
    let number = match &scalar {
        Scalar::Null => return Ok(N::default()),
        Scalar::Whole(number) => Some(*number),
        Scalar::Fraction(number) => whole(*number),
        Scalar::Text(text) => text
            .parse()
            .ok()
            .or_else(|| text.parse().ok().and_then(whole)),
        Scalar::Flag(_) => None,
    };
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| scalar.instead_of("a whole number in range"))
}

/// `1.0` and `1e3` are whole numbers as well. Those that a double cannot tell apart are out of any range that counts.
fn whole(number: f64) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i128)
}

/// An enum, as its number. A name that is not known, or is no name at all, is the default.
fn choice<'de, A: MapAccess<'de>, E: Into<i32>>(
    map: &mut A,
    by_name: fn(&str) -> Option<E>,
) -> Result<i32, A::Error> {
    let chosen = match map.next_value()? {
        Scalar::Text(text) => by_name(&text).map(Into::into).or_else(|| text.parse().ok()),
        Scalar::Whole(number) => i32::try_from(number).ok(),
        Scalar::Null | Scalar::Flag(_) | Scalar::Fraction(_) => None,
    };
    Ok(chosen.unwrap_or_default())
}

fn list<'de, A: MapAccess<'de>, M: FromJson>(map: &mut A) -> Result<Vec<M>, A::Error> {
    let objects: Option<Vec<Object<M>>> = map.next_value()?;
    Ok(objects
        .unwrap_or_default()
        .into_iter()
        .map(|object| object.0)
        .collect())
}

/// Any value that is not an array or an object.
enum Scalar<'de> {
    Null,
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text(Cow<'de, str>),
}

impl Scalar<'_> {
    fn instead_of<E: de::Error>(&self, wanted: &'static str) -> E {
        let found = match self {
            Scalar::Null => de::Unexpected::Unit,
            Scalar::Flag(flag) => de::Unexpected::Bool(*flag),
            Scalar::Whole(_) => de::Unexpected::Other("a number out of range"),
            Scalar::Fraction(number) => de::Unexpected::Float(*number),
            Scalar::Text(_) => de::Unexpected::Other("text"),
        };
        E::invalid_value(found, &wanted)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalars;
        impl<'de> Visitor<'de> for Scalars {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true, false or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Whole(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Whole(number.into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Fraction(number))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(Scalars)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A message read from a JSON object.
struct Object<M>(M);

impl<'de, M: FromJson> Deserialize<'de> for Object<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<M>(PhantomData<M>);
        impl<'de, M: FromJson> Visitor<'de> for Fields<M> {
            type Value = M;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
                let mut message = M::default();
                while let Some(Name(name)) = map.next_key()? {
                    message.field(&name, &mut map)?;
                }
                Ok(message)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Segments that are encoded one by one, so that only one of them at a time is spread out in memory.
struct EncodedList(Vec<Bytes>);

impl<'de> Deserialize<'de> for EncodedList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Vec<Bytes>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of segments")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Bytes>, A::Error> {
                let mut encoded = Vec::new();
                while let Some(Object(segment)) = seq.next_element::<Object<SegmentObject>>()? {
                    encoded.push(segment.encode_to_vec().into());
                }
                Ok(encoded)
            }
        }
        deserializer.deserialize_seq(Elements).map(Self)
    }
}
