//! Protobuf messages as fields within fields, without knowing what they mean, so that changed ones still decode.

use proptest::prelude::*;
use proptest::sample::Index;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// A change of one field, somewhere in a message.
#[derive(Debug, Clone)]
pub(super) struct FieldEdit {
    field: Index,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    Remove,
    /// So many more of it.
    Duplicate(usize),
    /// Another field number.
    Renumber(u32),
    Value(u64),
    Content(String),
    Bytes(Vec<u8>),
}

pub(super) fn field_edit() -> impl Strategy<Value = FieldEdit> {
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(i64::MIN as u64),
        Just(i32::MAX as u64),
        Just(i32::MIN as i64 as u64),
        // About the time of the recordings, in milliseconds.
        1_600_000_000_000..1_800_000_000_000_u64,
        any::<u64>(),
        0..200_u64,
    ];
    let texts = prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[a-c/.|_-]{0,6}",
        Just("status_code".to_owned()),
        Just("x-le".to_owned()),
        Just("db.type".to_owned()),
        Just("db.statement".to_owned()),
        Just("{\"logic-span\":true}".to_owned()),
        Just("{\"name\":\"a\",\"latency\":-1,\"status\":true}".to_owned()),
        (1..600_usize).prop_map(|n| "💥".repeat(n)),
    ];
    let change = prop_oneof![
        2 => Just(Change::Remove),
        3 => prop_oneof![9 => 1..5_usize, 1 => 5..500_usize].prop_map(Change::Duplicate),
        1 => (1..20_u32).prop_map(Change::Renumber),
        4 => numbers.prop_map(Change::Value),
        4 => texts.prop_map(Change::Content),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Change::Bytes),
    ];
    (any::<Index>(), change).prop_map(|(field, change)| FieldEdit { field, change })
}

#[derive(Debug, Clone)]
struct Field {
    number: u32,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

const MAX_DEPTH: usize = 12;

/// `None` for bytes that are no message.
fn parse(mut rest: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut rest).ok()?),
            WireType::SixtyFourBit => {
                let (bytes, after) = rest.split_first_chunk()?;
                rest = after;
                Value::Fixed64(*bytes)
            }
            WireType::ThirtyTwoBit => {
                let (bytes, after) = rest.split_first_chunk()?;
                rest = after;
                Value::Fixed32(*bytes)
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                let inner =
                    (depth < MAX_DEPTH && !bytes.is_empty()).then(|| parse(bytes, depth + 1));
                match inner.flatten() {
                    Some(fields) => Value::Message(fields),
                    None => Value::Bytes(bytes.to_vec()),
                }
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn encode(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, value } in fields {
        let mut delimited = |bytes: &[u8]| {
            encode_key(*number, WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        };
        match value {
            Value::Bytes(bytes) => delimited(bytes),
            Value::Message(fields) => {
                let mut inner = Vec::new();
                encode(fields, &mut inner);
                delimited(&inner);
            }
            Value::Varint(n) => {
                encode_key(*number, WireType::Varint, out);
                encode_varint(*n, out);
            }
            Value::Fixed64(bytes) => {
                encode_key(*number, WireType::SixtyFourBit, out);
                out.extend_from_slice(bytes);
            }
            Value::Fixed32(bytes) => {
                encode_key(*number, WireType::ThirtyTwoBit, out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// How many fields there are at any depth.
fn count(fields: &[Field]) -> usize {
    let inner = fields.iter().map(|field| match &field.value {
        Value::Message(fields) => count(fields),
        _ => 0,
    });
    fields.len() + inner.sum::<usize>()
}

impl FieldEdit {
    /// Leaves bytes that are no message alone.
    pub(super) fn apply(&self, input: &mut Vec<u8>) {
        let Some(mut fields) = parse(input, 0).filter(|fields| !fields.is_empty()) else {
            return;
        };
        let mut nth = self.field.index(count(&fields));
        self.change_nth(&mut fields, &mut nth);
        input.clear();
        encode(&fields, input);
    }

    /// Whether the field was among these.
    fn change_nth(&self, fields: &mut Vec<Field>, nth: &mut usize) -> bool {
        for at in 0..fields.len() {
            if *nth == 0 {
                self.change.apply(fields, at);
                return true;
            }
            *nth -= 1;
            if let Value::Message(inner) = &mut fields[at].value
                && self.change_nth(inner, nth)
            {
                return true;
            }
        }
        false
    }
}

impl Change {
    fn apply(&self, fields: &mut Vec<Field>, at: usize) {
        match self {
            Change::Remove => {
                fields.remove(at);
            }
            Change::Duplicate(times) => {
                let copies = vec![fields[at].clone(); *times];
                fields.splice(at..at, copies);
            }
            Change::Renumber(number) => fields[at].number = *number,
            Change::Value(n) => {
                fields[at].value = match fields[at].value {
                    Value::Fixed64(_) => Value::Fixed64(n.to_le_bytes()),
                    Value::Fixed32(_) => Value::Fixed32((*n as u32).to_le_bytes()),
                    _ => Value::Varint(*n),
                }
            }
            Change::Content(text) => fields[at].value = Value::Bytes(text.clone().into()),
            Change::Bytes(bytes) => fields[at].value = Value::Bytes(bytes.clone()),
        }
    }
}

#[test]
fn an_unchanged_message_is_encoded_as_it_was() {
    use prost::Message;
    let segment = crate::segments::Served::new("1", "shop", 1_600_167_570_000, 7);
    let bytes = segment.called_at("shop:80").encode_to_vec();
    let fields = parse(&bytes, 0).expect("a message");
    let mut again = Vec::new();
    encode(&fields, &mut again);
    assert_eq!(again, bytes);
    assert_eq!(count(&fields), 16, "{fields:?}");
}
