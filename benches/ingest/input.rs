//! Segments for the benchmarks: recorded ones, or those of a generated shop, as if they were new.

use std::io::Read;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oap::journal::Message;
use oap_proto::agent::SegmentObject;
use prost::Message as _;

use crate::shop::Shop;

/// Segments of a recorded scenario of an instrumented shop: seven services with their databases, caches and queues.
const SCENARIO: &[u8] = include_bytes!("../../tests/data/golden-a/scenario.jsonl.gz");

/// Where segments come from.
pub(crate) enum Input {
    /// Recorded ones, again and again.
    Recorded(Vec<SegmentObject>),
    Shop(Shop),
}

impl Input {
    pub(crate) fn recorded() -> anyhow::Result<Input> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(SCENARIO).read_to_string(&mut text)?;
        let mut segments = Vec::new();
        for line in text.lines() {
            let step: serde_json::Value = serde_json::from_str(line)?;
            if step["rpc"] == "TraceSegmentReportService/collect" {
                let encoded = step["base64"].as_str().context("a message without bytes")?;
                let bytes = STANDARD.decode(encoded)?;
                segments.push(SegmentObject::decode(bytes.as_slice())?);
            }
        }
        anyhow::ensure!(!segments.is_empty(), "the recording has no segments");
        Ok(Input::Recorded(segments))
    }

    /// The n-th segment, its first span begun at an instant, with ids of its own.
    pub(crate) fn segment(&self, n: usize, at_ms: i64) -> SegmentObject {
        let recorded = match self {
            Input::Recorded(segments) => segments,
            Input::Shop(shop) => return shop.segment(n, at_ms),
        };
        let mut segment = recorded[n % recorded.len()].clone();
        let round = n / recorded.len();
        segment.trace_id.push_str(&format!(".{round}"));
        segment.trace_segment_id.push_str(&format!(".{round}"));
        let later = at_ms - segment.spans.first().map_or(at_ms, |span| span.start_time);
        for span in &mut segment.spans {
            span.start_time += later;
            span.end_time += later;
        }
        segment
    }
}

/// Segments of a second after the other.
pub(crate) struct Traffic {
    pub(crate) input: Input,
    pub(crate) per_second: usize,
    /// Epoch milliseconds of second 0.
    pub(crate) start_ms: i64,
}

impl Traffic {
    /// Encoded segments that begin in a second.
    pub(crate) fn second(&self, second: usize) -> Vec<Message> {
        (0..self.per_second)
            .map(|i| {
                let at_ms = (second * 1000 + i * 1000 / self.per_second) as i64;
                let segment = self
                    .input
                    .segment(second * self.per_second + i, self.start_ms + at_ms);
                Message::Segment(segment.encode_to_vec().into())
            })
            .collect()
    }
}
