//! A message that crosses gRPC undecoded.
//!
//! Three reasons: what is stored of a segment are the bytes the agent sent; one message that cannot be decoded must
//! not end the stream it came in, which it would if the transport decoded it; and bad messages are then counted in
//! one place, where they are read.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

/// One encoded message, exactly as it was received or will be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawMessage(pub Bytes);

impl RawMessage {
    /// Encodes `message` for sending.
    pub fn encode_from(message: &impl Message) -> Self {
        Self(message.encode_to_vec().into())
    }

    /// Reads the bytes as an `M`.
    pub fn decode_as<M: Message + Default>(&self) -> Result<M, DecodeError> {
        M::decode(self.0.clone())
    }
}

impl Message for RawMessage {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    // The transport only calls `decode`, which goes through `merge` below. As a field of another message this
    // type would lose data, so that is an error.
    #[allow(deprecated)]
    fn merge_field(
        &mut self,
        _tag: u32,
        _wire_type: WireType,
        _buf: &mut impl Buf,
        _ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        Err(DecodeError::new("raw messages cannot be nested"))
    }

    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        self.0 = buf.copy_to_bytes(buf.remaining());
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{SegmentObject, SpanObject};

    fn segment() -> SegmentObject {
        SegmentObject {
            trace_id: "t1".into(),
            spans: vec![SpanObject {
                parent_span_id: -1,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn bytes_pass_unchanged_in_both_directions() {
        let raw = RawMessage::encode_from(&segment());
        let received = RawMessage::decode(raw.encode_to_vec().as_slice()).unwrap();
        assert_eq!(received, raw);
        assert_eq!(received.0, segment().encode_to_vec());
        assert_eq!(received.decode_as::<SegmentObject>().unwrap(), segment());
    }

    #[test]
    fn undecodable_bytes_are_carried_and_fail_only_when_read() {
        let raw = RawMessage::decode(&[0xff, 0xff, 0xff][..]).unwrap();
        assert_eq!(raw.0, [0xff, 0xff, 0xff][..]);
        assert!(raw.decode_as::<SegmentObject>().is_err());
    }
}
