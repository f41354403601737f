//! Segments for the benchmark: recorded ones, sent again and again as if they were new.

use std::io::Read;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oap::journal::Message;
use oap_proto::agent::SegmentObject;
use prost::Message as _;

/// Segments of a recorded scenario of an instrumented shop: seven services with their databases, caches and queues.
const SCENARIO: &[u8] = include_bytes!("../../tests/data/golden-a/scenario.jsonl.gz");
/// Each round of the recording is so much later than the one before.
const STEP_MS: i64 = 500;

pub(crate) struct Segments {
    pub(crate) messages: Vec<Message>,
    pub(crate) spans: usize,
    pub(crate) bytes: usize,
}

/// `count` segments with ids of their own.
pub(crate) fn segments(count: usize) -> anyhow::Result<Segments> {
    let recorded = recorded()?;
    let mut all = Segments {
        messages: Vec::with_capacity(count),
        spans: 0,
        bytes: 0,
    };
    for (i, segment) in recorded.iter().cycle().take(count).enumerate() {
        let round = (i / recorded.len()) as i64;
        let mut segment = segment.clone();
        segment.trace_id.push_str(&format!(".{round}"));
        segment.trace_segment_id.push_str(&format!(".{round}"));
        for span in &mut segment.spans {
            span.start_time += round * STEP_MS;
            span.end_time += round * STEP_MS;
        }
        all.spans += segment.spans.len();
        let bytes = segment.encode_to_vec();
        all.bytes += bytes.len();
        all.messages.push(Message::Segment(bytes.into()));
    }
    Ok(all)
}

fn recorded() -> anyhow::Result<Vec<SegmentObject>> {
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
    Ok(segments)
}
