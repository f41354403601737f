//! Reads a stored segment field by field, without generated code: unknown fields count too, proto3 defaults do not.

use serde_json::{Map, Value, json};

use super::wire::varint;

/// What a length-delimited field holds.
enum Kind {
    Text,
    Message(fn(u64) -> Kind),
}

fn segment(field: u64) -> Kind {
    match field {
        3 => Kind::Message(span),
        _ => Kind::Text,
    }
}

fn span(field: u64) -> Kind {
    match field {
        5 | 12 => Kind::Message(|_| Kind::Text),
        13 => Kind::Message(|field| match field {
            2 => Kind::Message(|_| Kind::Text),
            _ => Kind::Text,
        }),
        _ => Kind::Text,
    }
}

/// Field number → values in order; `None` if these bytes are no message.
pub fn decode(bytes: &[u8]) -> Option<Value> {
    message(bytes, segment)
}

fn message(mut bytes: &[u8], kind_of: fn(u64) -> Kind) -> Option<Value> {
    let mut fields: Map<String, Value> = Map::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let value = match wire_type {
            0 => match varint(&mut bytes)? {
                0 => continue,
                number => json!(number),
            },
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = bytes.split_off(..length)?;
                match kind_of(field) {
                    Kind::Message(inner) => message(content, inner)?,
                    Kind::Text if content.is_empty() => continue,
                    Kind::Text => json!(String::from_utf8_lossy(content)),
                }
            }
            _ => return None,
        };
        let values = fields
            .entry(field.to_string())
            .or_insert_with(|| Value::Array(vec![]));
        values.as_array_mut()?.push(value);
    }
    Some(Value::Object(fields))
}
