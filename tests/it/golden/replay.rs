//! Plays a scenario to a server and compares the replies. A pause of the recording is a flush here.

use std::collections::BTreeMap;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::recording;
use crate::sender::{Calling, Sender};
use crate::server::TestServer;

/// Methods whose neighbouring messages shared one stream.
const STREAMING: [&str; 4] = [
    "TraceSegmentReportService/collect",
    "ServiceMeshMetricService/collect",
    "ProfileTask/collectSnapshot",
    "MeterReportService/collect",
];

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Recorded {
    Wait {
        #[serde(rename = "wait_s")]
        _seconds: f64,
    },
    Send {
        rpc: String,
        base64: String,
        json: Option<Value>,
    },
}

/// A line of the scenario.
#[derive(Debug, Clone)]
pub enum Step {
    Wait,
    Send {
        line: usize,
        /// `Service/method`, or `POST /path`.
        rpc: String,
        bytes: Bytes,
        /// The message as JSON.
        json: Value,
    },
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    Grpc { path: String, calling: Calling },
    Http { path: String },
}

/// One call with the lines of the scenario that it says.
#[derive(Debug, Clone)]
pub struct Call {
    pub lines: Vec<usize>,
    pub door: Door,
    pub messages: Vec<Bytes>,
}

/// What a player does.
#[derive(Debug, Clone)]
pub enum Action {
    Call(Call),
    Flush,
}

/// An outcome in the form of the recording.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Outcome {
    /// Name of the gRPC status, or number of the HTTP status.
    status: Value,
    /// HTTP, below 400.
    body: Option<String>,
    /// gRPC.
    response_base64: Option<String>,
}

/// A recorded reply.
#[derive(Debug, Deserialize)]
struct RecordedReply {
    /// Line of the scenario, of its first message for a stream.
    line: usize,
    rpc: String,
    /// How many lines it answers.
    messages: Option<usize>,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What a server said to a call.
#[derive(Debug)]
pub struct Reply {
    lines: Vec<usize>,
    door: Door,
    outcome: Outcome,
}

/// The recorded scenario.
pub fn steps() -> Result<Vec<Step>> {
    let path = recording::folder().join("scenario.jsonl.gz");
    let lines = (1..).zip(recording::lines(&path)?);
    lines
        .map(|(line, recorded)| {
            let Recorded::Send { rpc, base64, json } = recorded else {
                return Ok(Step::Wait);
            };
            let bytes = Bytes::from(STANDARD.decode(&base64)?);
            let json = match json {
                Some(json) => json,
                None => serde_json::from_slice(&bytes)?,
            };
            Ok(Step::Send {
                line,
                rpc,
                bytes,
                json,
            })
        })
        .collect()
}

/// The calls of the recording.
pub fn as_recorded(steps: Vec<Step>) -> Vec<Action> {
    let mut actions: Vec<Action> = vec![];
    for step in steps {
        let Step::Send {
            line, rpc, bytes, ..
        } = step
        else {
            actions.push(Action::Flush);
            continue;
        };
        let door = door(&rpc);
        match actions.last_mut() {
            Some(Action::Call(call)) if call.door == door && is_stream(&door) => {
                call.lines.push(line);
                call.messages.push(bytes);
            }
            _ => actions.push(Action::Call(Call {
                lines: vec![line],
                door,
                messages: vec![bytes],
            })),
        }
    }
    actions
}

/// Where the recording sent a message.
pub fn door(rpc: &str) -> Door {
    match rpc.split_once(' ') {
        Some((_, path)) => Door::Http {
            path: path.to_owned(),
        },
        None => Door::Grpc {
            path: format!("/{rpc}"),
            calling: match STREAMING.contains(&rpc) {
                true => Calling::ClientStream,
                false => Calling::Unary,
            },
        },
    }
}

/// Whether a call can carry several messages.
pub fn is_stream(door: &Door) -> bool {
    matches!(
        door,
        Door::Grpc {
            calling: Calling::ClientStream,
            ..
        }
    )
}

/// Does everything in order.
pub async fn play(server: &TestServer, actions: Vec<Action>) -> Result<Vec<Reply>> {
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let mut replies = vec![];
    for action in actions {
        match action {
            Action::Flush => server.flush().await?,
            Action::Call(call) => replies.push(send(&sender, call).await?),
        }
    }
    server.flush().await?;
    Ok(replies)
}

async fn send(sender: &Sender, call: Call) -> Result<Reply> {
    let outcome = match &call.door {
        Door::Grpc { path, calling } => {
            let reply = sender.call(path, *calling, call.messages).await?;
            Outcome {
                status: match &reply {
                    Ok(_) => json!("OK"),
                    Err(code) => json!(format!("{code:?}").to_uppercase()),
                },
                body: None,
                response_base64: reply.ok().map(|reply| STANDARD.encode(reply)),
            }
        }
        Door::Http { path } => {
            let body = call.messages.into_iter().next();
            let reply = sender.http("POST", path, body).await?;
            Outcome {
                body: (reply.status < 400).then_some(reply.body),
                status: json!(reply.status),
                response_base64: None,
            }
        }
    };
    Ok(Reply {
        lines: call.lines,
        door: call.door,
        outcome,
    })
}

/// Recorded replies that were not given, by their line. What was said through another door must be answered as that door
/// does.
pub fn differences(replies: &[Reply]) -> Result<BTreeMap<String, String>> {
    let path = recording::folder().join("ingest-answers.jsonl");
    let recorded: Vec<RecordedReply> = recording::lines(&path)?;
    let mut differences = BTreeMap::new();
    for want in &recorded {
        let lines = want.line..want.line + want.messages.unwrap_or(1);
        let is_about = |reply: &&Reply| reply.lines.iter().any(|line| lines.contains(line));
        let about: Vec<&Reply> = replies.iter().filter(is_about).collect();
        let wrong = about
            .iter()
            .find(|reply| reply.outcome != expected(want, &reply.door));
        if about.is_empty() || wrong.is_some() {
            let name = format!("reply to line {} ({})", want.line, want.rpc);
            differences.insert(name, format!("expected {want:?} got {wrong:?}"));
        }
    }
    Ok(differences)
}

fn expected(want: &RecordedReply, door: &Door) -> Outcome {
    let is_http = matches!(door, Door::Http { .. });
    if is_http && !want.rpc.contains(' ') {
        return Outcome {
            status: json!(200),
            body: Some(String::new()),
            response_base64: None,
        };
    }
    let is_good = want
        .outcome
        .status
        .as_u64()
        .is_some_and(|status| status < 400);
    Outcome {
        body: want.outcome.body.clone().filter(|_| is_good),
        ..want.outcome.clone()
    }
}
