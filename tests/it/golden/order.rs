//! Another order, other batches and other doors for the messages of a scenario.
//!
//! Only messages between two pauses change places: each phase of the scenario is about one minute, and the first teaches the
//! addresses that the others call. Keep-alives stay last in their phase, since an instance's last ping is the last to arrive.

use bytes::Bytes;
use oap_proto::agent::SegmentCollection;
use prost::Message;
use serde_json::Value;

use super::replay::{Action, Call, Door, Step, door, is_stream};
use crate::sender::Calling;

const SEGMENTS: &str = "TraceSegmentReportService/collect";
/// Messages of the largest batch.
const MAX_BATCH: usize = 20;

/// Numbers that a seed decides (SplitMix64).
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % end.max(1) as u64).unwrap_or_default()
    }

    /// Puts things into another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for i in (1..things.len()).rev() {
            things.swap(i, self.below(i + 1));
        }
    }
}

/// A segment by itself.
struct Segment {
    line: usize,
    /// Absent if it was recorded as JSON.
    bytes: Option<Bytes>,
    json: Value,
}

/// The scenario as the seed wants it.
pub fn shuffled(steps: Vec<Step>, seed: u64) -> Vec<Action> {
    let mut dice = Dice(seed);
    let mut actions = vec![];
    let mut phase = vec![];
    for step in steps {
        match step {
            Step::Wait => {
                actions.extend(shuffled_phase(std::mem::take(&mut phase), &mut dice));
                actions.push(Action::Flush);
            }
            step => phase.push(step),
        }
    }
    actions.extend(shuffled_phase(phase, &mut dice));
    actions
}

fn shuffled_phase(steps: Vec<Step>, dice: &mut Dice) -> Vec<Action> {
    let mut segments = vec![];
    let mut calls: Vec<Call> = vec![];
    for step in steps {
        let Step::Send {
            line,
            rpc,
            bytes,
            json,
        } = step
        else {
            continue;
        };
        match (rpc.as_str(), json) {
            ("POST /v3/segments", Value::Array(items)) => {
                let bytes = None;
                segments.extend(items.into_iter().map(|json| Segment {
                    line,
                    bytes: bytes.clone(),
                    json,
                }));
            }
            ("POST /v3/segment", json) => segments.push(Segment {
                line,
                bytes: None,
                json,
            }),
            (SEGMENTS, json) => segments.push(Segment {
                line,
                bytes: Some(bytes),
                json,
            }),
            _ => {
                let door = door(&rpc);
                let joins = is_stream(&door) && dice.below(3) > 0;
                match calls.last_mut() {
                    Some(call) if joins && call.door == door => {
                        call.lines.push(line);
                        call.messages.push(bytes);
                    }
                    _ => calls.push(Call {
                        lines: vec![line],
                        door,
                        messages: vec![bytes],
                    }),
                }
            }
        }
    }
    dice.shuffle(&mut segments);
    while !segments.is_empty() {
        let size = 1 + dice.below(MAX_BATCH);
        let rest = segments.split_off(size.min(segments.len()));
        calls.push(batch(segments, dice));
        segments = rest;
    }
    dice.shuffle(&mut calls);
    calls.sort_by_key(is_about_life);
    let mut actions = vec![];
    for call in calls {
        actions.push(Action::Call(call));
        if dice.below(16) == 0 {
            actions.push(Action::Flush);
        }
    }
    actions
}

fn is_about_life(call: &Call) -> bool {
    let (Door::Grpc { path, .. } | Door::Http { path }) = &call.door;
    path.starts_with("/ManagementService/") || path.starts_with("/v3/management/")
}

/// One call with these segments, through a door that takes them.
fn batch(segments: Vec<Segment>, dice: &mut Dice) -> Call {
    let lines = segments.iter().map(|segment| segment.line).collect();
    let encoded: Option<Vec<Bytes>> = segments
        .iter()
        .map(|segment| segment.bytes.clone())
        .collect();
    let (door, messages) = match (dice.below(4), encoded) {
        (0, Some(messages)) => (grpc(SEGMENTS, Calling::ClientStream), messages),
        (1, Some(messages)) => (
            grpc(&format!("skywalking.v3.{SEGMENTS}"), Calling::ClientStream),
            messages,
        ),
        (2, Some(segments)) => {
            let collection = SegmentCollection { segments };
            let path = "skywalking.v3.TraceSegmentReportService/collectInSync";
            (
                grpc(path, Calling::Unary),
                vec![collection.encode_to_vec().into()],
            )
        }
        _ => {
            let mut bodies: Vec<Value> = segments.into_iter().map(|segment| segment.json).collect();
            let (path, body) = match bodies.pop() {
                Some(body) if bodies.is_empty() => ("/v3/segment", body),
                last => ("/v3/segments", bodies.into_iter().chain(last).collect()),
            };
            let path = path.to_owned();
            (Door::Http { path }, vec![body.to_string().into()])
        }
    };
    Call {
        lines,
        door,
        messages,
    }
}

fn grpc(method: &str, calling: Calling) -> Door {
    Door::Grpc {
        path: format!("/{method}"),
        calling,
    }
}
