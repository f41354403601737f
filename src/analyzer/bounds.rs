//! How much one message may say. Looked at in its encoded form: a few bytes can stand for so much that decoding them
//! would take a multiple of memory.

use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::Reject;

const MAX_BYTES: usize = 4 << 20;
/// Spans of a segment, metrics of a report, properties of an instance. Agents cut a segment at some hundred spans.
const MAX_FIELDS: usize = 10_000;

/// Refuses what is larger than any agent has reason to send.
pub(super) fn check(bytes: &[u8]) -> Result<(), Reject> {
    if bytes.len() > MAX_BYTES {
        return Err(Reject::TooLarge);
    }
    let mut rest = bytes;
    let mut fields = 0;
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|_| Reject::Undecodable)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())
            .map_err(|_| Reject::Undecodable)?;
        fields += 1;
    }
    if fields > MAX_FIELDS {
        return Err(Reject::TooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_says_too_much_is_refused() {
        let empty_spans = |n: usize| [0x1a, 0x00].repeat(n);
        for (what, message, want) in [
            ("nothing", vec![], Ok(())),
            ("many spans", empty_spans(MAX_FIELDS), Ok(())),
            ("more", empty_spans(MAX_FIELDS + 1), Err(Reject::TooLarge)),
            ("huge", vec![0; MAX_BYTES + 1], Err(Reject::TooLarge)),
            ("cut off", vec![0x1a, 0xff], Err(Reject::Undecodable)),
        ] {
            assert_eq!(check(&message), want, "{what}");
        }
    }
}
