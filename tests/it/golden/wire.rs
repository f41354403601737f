//! Changes names and times inside encoded messages, without generated code: what is not named here stays as it is.

use std::borrow::Cow;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Text in which a name may stand.
    Text,
    /// Text that is the name of a service, an instance, an endpoint or an address.
    Name,
    /// Milliseconds since the epoch.
    Time,
    Message(fn(u64) -> Kind),
    /// Numbers, or parts without names and times.
    Other,
}

/// What is done with names and times.
pub trait Edit {
    /// Another text; `is_name` tells that this field holds nothing but a name.
    fn text(&mut self, text: &str, is_name: bool) -> String;
    /// Another instant, both in milliseconds since the epoch.
    fn time(&mut self, epoch_ms: i64) -> i64;
}

/// The first message of a method; `None` for a method that is not known here.
fn request(rpc: &str) -> Option<fn(u64) -> Kind> {
    Some(match rpc {
        "TraceSegmentReportService/collect" => segment,
        "JVMMetricReportService/collect" | "CLRMetricReportService/collect" => machine,
        "ServiceMeshMetricService/collect" => mesh,
        "ManagementService/reportInstanceProperties" | "ManagementService/keepAlive" => instance,
        "ProfileTask/collectSnapshot" => snapshot,
        _ => return None,
    })
}

fn segment(field: u64) -> Kind {
    match field {
        1 | 2 => Kind::Text,
        3 => Kind::Message(span),
        4 | 5 => Kind::Name,
        _ => Kind::Other,
    }
}

fn span(field: u64) -> Kind {
    match field {
        3 | 4 => Kind::Time,
        5 => Kind::Message(reference),
        6 | 7 => Kind::Name,
        12 => Kind::Message(pair),
        13 => Kind::Message(log),
        _ => Kind::Other,
    }
}

fn reference(field: u64) -> Kind {
    match field {
        5..=8 => Kind::Name,
        _ => Kind::Other,
    }
}

fn log(field: u64) -> Kind {
    match field {
        1 => Kind::Time,
        2 => Kind::Message(pair),
        _ => Kind::Other,
    }
}

fn pair(_: u64) -> Kind {
    Kind::Text
}

fn machine(field: u64) -> Kind {
    match field {
        1 => Kind::Message(|field| if field == 1 { Kind::Time } else { Kind::Other }),
        2 | 3 => Kind::Name,
        _ => Kind::Other,
    }
}

fn mesh(field: u64) -> Kind {
    match field {
        1 | 2 => Kind::Time,
        3..=7 => Kind::Name,
        _ => Kind::Other,
    }
}

fn instance(field: u64) -> Kind {
    match field {
        1 | 2 => Kind::Name,
        3 => Kind::Message(pair),
        _ => Kind::Other,
    }
}

fn snapshot(field: u64) -> Kind {
    match field {
        3 => Kind::Time,
        _ => Kind::Other,
    }
}

/// The message of a method with other names and times; `None` if the bytes or the method are not understood.
pub fn edit(rpc: &str, bytes: &[u8], edit: &mut impl Edit) -> Option<Vec<u8>> {
    message(bytes, request(rpc)?, edit)
}

/// The same for a stored segment.
pub fn edit_segment(bytes: &[u8], edit: &mut impl Edit) -> Option<Vec<u8>> {
    message(bytes, segment, edit)
}

fn message(mut bytes: &[u8], kind_of: fn(u64) -> Kind, edit: &mut impl Edit) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        put_varint(tag, &mut out);
        match (tag & 7, kind_of(tag >> 3)) {
            (0, Kind::Time) => {
                let time = edit.time(varint(&mut bytes)?.cast_signed());
                put_varint(time.cast_unsigned(), &mut out);
            }
            (0, _) => put_varint(varint(&mut bytes)?, &mut out),
            (1, _) => out.extend(bytes.split_off(..8)?),
            (2, kind) => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = bytes.split_off(..length)?;
                let content = match kind {
                    Kind::Message(inner) => Cow::from(message(content, inner, edit)?),
                    Kind::Text | Kind::Name => {
                        let is_name = matches!(kind, Kind::Name);
                        let text = edit.text(std::str::from_utf8(content).ok()?, is_name);
                        Cow::from(text.into_bytes())
                    }
                    Kind::Time | Kind::Other => Cow::from(content),
                };
                put_varint(content.len() as u64, &mut out);
                out.extend(content.iter());
            }
            (5, _) => out.extend(bytes.split_off(..4)?),
            _ => return None,
        }
    }
    Some(out)
}

/// Takes a number from the front.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 127 {
        out.push(u8::try_from(value & 127).unwrap_or_default() | 128);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}
