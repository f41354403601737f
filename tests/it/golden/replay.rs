//! Plays the recorded scenario to a server and compares the replies. A pause of the recording is a flush here.

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
enum Step {
    Wait {
        #[serde(rename = "wait_s")]
        _seconds: f64,
    },
    Send {
        /// `Service/method`, or `POST /path`.
        rpc: String,
        base64: String,
    },
}

/// A reply in the form of the recording.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reply {
    /// Line of the scenario, of its first message for a stream.
    line: usize,
    rpc: String,
    /// Name of the gRPC status, or number of the HTTP status.
    status: Value,
    /// HTTP, below 400.
    body: Option<String>,
    /// gRPC.
    response_base64: Option<String>,
}

/// Messages of one stream under way.
#[derive(Debug, Default)]
struct Stream {
    line: usize,
    rpc: String,
    messages: Vec<Bytes>,
}

impl Stream {
    async fn close(&mut self, sender: &Sender, replies: &mut Vec<Reply>) -> Result<()> {
        let stream = std::mem::take(self);
        if !stream.messages.is_empty() {
            let calling = Calling::ClientStream;
            replies.push(call(sender, stream.line, stream.rpc, calling, stream.messages).await?);
        }
        Ok(())
    }
}

async fn call(
    sender: &Sender,
    line: usize,
    rpc: String,
    calling: Calling,
    messages: Vec<Bytes>,
) -> Result<Reply> {
    let outcome = sender.call(&format!("/{rpc}"), calling, messages).await?;
    Ok(Reply {
        line,
        rpc,
        status: match &outcome {
            Ok(_) => json!("OK"),
            Err(code) => json!(format!("{code:?}").to_uppercase()),
        },
        body: None,
        response_base64: outcome.ok().map(|reply| STANDARD.encode(reply)),
    })
}

/// Plays every step in order.
pub async fn play(server: &TestServer) -> Result<Vec<Reply>> {
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let steps: Vec<Step> = recording::lines(&recording::folder().join("scenario.jsonl.gz"))?;
    let mut replies = vec![];
    let mut stream = Stream::default();
    for (line, step) in (1..).zip(steps) {
        let Step::Send { rpc, base64 } = step else {
            stream.close(&sender, &mut replies).await?;
            server.flush().await?;
            continue;
        };
        let message = Bytes::from(STANDARD.decode(&base64)?);
        if stream.rpc != rpc {
            stream.close(&sender, &mut replies).await?;
        }
        if let Some((method, path)) = rpc.split_once(' ') {
            let reply = sender.http(method, path, Some(message)).await?;
            replies.push(Reply {
                line,
                body: (reply.status < 400).then_some(reply.body),
                status: json!(reply.status),
                rpc,
                response_base64: None,
            });
        } else if STREAMING.contains(&rpc.as_str()) {
            if stream.messages.is_empty() {
                stream.line = line;
                stream.rpc = rpc;
            }
            stream.messages.push(message);
        } else {
            replies.push(call(&sender, line, rpc, Calling::Unary, vec![message]).await?);
        }
    }
    stream.close(&sender, &mut replies).await?;
    server.flush().await?;
    Ok(replies)
}

/// Replies that are not as recorded, by their line.
pub fn differences(replies: &[Reply]) -> Result<BTreeMap<String, String>> {
    let path = recording::folder().join("ingest-answers.jsonl");
    let recorded: Vec<Reply> = recording::lines(&path)?;
    let mut differences = BTreeMap::new();
    for want in &recorded {
        let got = replies.iter().find(|r| r.line == want.line);
        let want = Reply {
            body: want
                .body
                .clone()
                .filter(|_| want.status.as_u64().is_some_and(|status| status < 400)),
            ..want.clone()
        };
        if got != Some(&want) {
            let name = format!("reply to line {} ({})", want.line, want.rpc);
            differences.insert(name, format!("expected {want:?} got {got:?}"));
        }
    }
    let additional = replies.len().saturating_sub(recorded.len());
    if additional > 0 {
        differences.insert("additional replies".into(), additional.to_string());
    }
    Ok(differences)
}
