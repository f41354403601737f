//! Requests to whichever node answers, and what its refusals mean.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::{Node, NodeError, Reply, Request};
use super::options::{ElasticsearchOptions, OptionsError};
use super::search::{Searches, searches};
use super::trust_store::certificates;
use crate::config::EsProtocol;
use crate::storage::StorageError;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

const JSON: &str = "application/json";
const LINES_OF_JSON: &str = "application/x-ndjson";
/// Longest reason that is passed on; the server quotes documents.
const MAX_REASON_CHARS: usize = 400;
/// Longest list of shards in one.
const MAX_SHARDS_CHARS: usize = 200;

/// Round robin over the nodes.
#[derive(Debug)]
pub struct Client {
    /// Replaced as a whole when passwords or certificates change.
    nodes: RwLock<Vec<Arc<Node>>>,
    next: AtomicUsize,
    clock: Clock,
    request_timeout: Duration,
    pub(super) searches: Searches,
    search_log: Throttle,
}

impl Client {
    pub fn new(options: &ElasticsearchOptions, clock: Clock) -> Result<Client, OptionsError> {
        Ok(Client {
            nodes: RwLock::new(nodes(options)?),
            next: AtomicUsize::new(0),
            search_log: Throttle::new(clock.clone()),
            clock,
            request_timeout: options.request_timeout,
            searches: searches(),
        })
    }

    /// From now on takes addresses, passwords and certificates of these options; requests under way go on as they are.
    pub fn reconnect(&self, options: &ElasticsearchOptions) -> Result<(), OptionsError> {
        let nodes = nodes(options)?;
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
        Ok(())
    }

    /// Asks for a path; any answer but success is an error.
    pub async fn get(&self, path: &str) -> Result<Bytes, StorageError> {
        accepted(self.send(Method::Get, path, None, JSON).await?)
    }

    /// Asks for a path; the caller judges the answer.
    pub async fn ask(&self, path: &str) -> Result<Reply, StorageError> {
        self.send(Method::Get, path, None, JSON).await
    }

    /// Like [`Client::get`], where there may be nothing.
    pub async fn find(&self, path: &str) -> Result<Option<Bytes>, StorageError> {
        let reply = self.send(Method::Get, path, None, JSON).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        accepted(reply).map(Some)
    }

    /// Puts a JSON body, or none; the caller judges the answer.
    pub async fn put(&self, path: &str, body: Option<&Value>) -> Result<Reply, StorageError> {
        let body = body.map(|b| Bytes::from(b.to_string()));
        self.send(Method::Put, path, body, JSON).await
    }

    /// Deletes a path; `false` if it was not there.
    pub async fn delete(&self, path: &str) -> Result<bool, StorageError> {
        let reply = self.send(Method::Delete, path, None, JSON).await?;
        if reply.status == 404 {
            return Ok(false);
        }
        accepted(reply).map(|_| true)
    }

    /// Posts a JSON body; the caller judges the answer.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Reply, StorageError> {
        let body = Bytes::from(body.to_string());
        self.send(Method::Post, path, Some(body), JSON).await
    }

    /// Posts a JSON body and parses the answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, StorageError> {
        parse(&accepted(self.post_json(path, body).await?)?)
    }

    /// Posts lines of JSON; the caller judges the answer.
    pub async fn post_lines(&self, path: &str, lines: Bytes) -> Result<Reply, StorageError> {
        self.send(Method::Post, path, Some(lines), LINES_OF_JSON)
            .await
    }

    /// Says that a search missed shards, now and then.
    pub fn warn_of_incomplete_search(&self, target: &str, failed_shards: u64, reason: &str) {
        if let Some(held_back) = self.search_log.admit() {
            tracing::warn!(
                index.name = target,
                shards.failed = failed_shards,
                reason,
                held_back,
                "search answered without some shards"
            );
        }
    }

    /// Every request may be repeated, so a lost one goes to the next node.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        content_type: &'static str,
    ) -> Result<Reply, StorageError> {
        let request = Request {
            method,
            path: path.to_owned(),
            body,
            content_type,
            timeout: self.request_timeout,
        };
        let mut reasons: Vec<String> = vec![];
        let mut last_reply = None;
        for node in self.candidates() {
            match node.send(&request).await {
                Ok(reply) if matches!(reply.status, 502..=504) => {
                    self.note_failure(&node, path, &format!("status {}", reply.status));
                    last_reply = Some(reply);
                }
                Ok(reply) => {
                    if node.succeeded() {
                        tracing::info!(node = node.address, "elasticsearch node is back");
                    }
                    return Ok(reply);
                }
                Err(NodeError::Lost(reason)) => {
                    self.note_failure(&node, path, &reason);
                    reasons.push(format!("{}: {reason}", node.address));
                }
                Err(NodeError::TimedOut(reason)) => {
                    self.note_failure(&node, path, &reason);
                    return Err(StorageError::Unavailable(format!(
                        "elasticsearch node {} gave no answer in time: {reason}",
                        node.address
                    )));
                }
                Err(NodeError::TooLarge(what)) => {
                    return Err(StorageError::Refused(format!(
                        "elasticsearch node {} sent {what}",
                        node.address
                    )));
                }
            }
        }
        last_reply.ok_or_else(|| {
            StorageError::Unavailable(format!(
                "no elasticsearch node answers ({})",
                reasons.join("; ")
            ))
        })
    }

    /// All nodes, the next one first, paused ones last.
    fn candidates(&self) -> Vec<Arc<Node>> {
        let now = self.clock.now_ms();
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let mut candidates = nodes.clone();
        drop(nodes);
        let start = self.next.fetch_add(1, Ordering::Relaxed) % candidates.len();
        candidates.rotate_left(start);
        candidates.sort_by_key(|node| node.is_paused(now));
        candidates
    }

    fn note_failure(&self, node: &Node, path: &str, reason: &str) {
        if node.failed(self.clock.now_ms()) {
            tracing::warn!(
                node = node.address,
                path,
                reason,
                "elasticsearch node does not answer"
            );
        }
    }
}

/// The body of a success, else what went wrong.
pub fn accepted(reply: Reply) -> Result<Bytes, StorageError> {
    if (200..300).contains(&reply.status) {
        Ok(reply.body)
    } else {
        Err(refusal(&reply))
    }
}

/// An answer as the type that it must have.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(body).map_err(|error| {
        StorageError::Damaged(format!("elasticsearch answer cannot be read: {error}"))
    })
}

/// The error that an unsuccessful answer stands for.
pub fn refusal(reply: &Reply) -> StorageError {
    let cause = serde_json::from_slice::<ErrorBody>(&reply.body)
        .map(|body| body.error.to_string())
        .unwrap_or_else(|_| shortened(String::from_utf8_lossy(&reply.body).trim()));
    let text = format!("elasticsearch answers {}: {cause}", reply.status);
    match reply.status {
        401 => StorageError::Unavailable(format!(
            "{text}; check user and password (SW_ES_USER, SW_ES_PASSWORD)"
        )),
        403 => StorageError::Unavailable(format!(
            "{text}; check the user's rights and whether indices are blocked"
        )),
        408 | 429 | 500.. => StorageError::Unavailable(text),
        _ => StorageError::Refused(text),
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Cause,
}

/// Why something was refused, as the server nests it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Value")]
pub struct Cause {
    /// For example `mapper_parsing_exception`.
    pub ty: String,
    pub reason: String,
}

impl From<Value> for Cause {
    fn from(value: Value) -> Cause {
        if let Some(text) = value.as_str() {
            return Cause {
                ty: String::new(),
                reason: shortened(text),
            };
        }
        // A failed search says why only in its root cause.
        let root = value.pointer("/root_cause/0").unwrap_or(&value);
        let text = |from: &Value, key: &str| from[key].as_str().unwrap_or_default().to_owned();
        let mut reason = text(root, "reason");
        let inner = text(&value["caused_by"], "reason");
        if !inner.is_empty() && !reason.contains(&inner) {
            reason = format!("{reason}: {inner}");
        }
        match missing_shards(&reason) {
            Some(reason) => Cause {
                ty: String::new(),
                reason,
            },
            None => Cause {
                ty: text(root, "type"),
                reason: shortened(&reason),
            },
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ty.as_str() {
            "" => f.write_str(&self.reason),
            ty => write!(f, "{ty}: {}", self.reason),
        }
    }
}

/// In words of use to an operator, that shards are missing; the server advises to do without what they hold.
fn missing_shards(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("due to missing shards ")?;
    let (shards, _) = rest.split_once(". Consider using")?;
    Some(format!(
        "shards {} are not there; after a start of elasticsearch they come by themselves, otherwise GET /_cat/shards shows where they are",
        cut(shards, MAX_SHARDS_CHARS)
    ))
}

fn shortened(text: &str) -> String {
    cut(text, MAX_REASON_CHARS)
}

fn cut(text: &str, most_chars: usize) -> String {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn nodes(options: &ElasticsearchOptions) -> Result<Vec<Arc<Node>>, OptionsError> {
    let trusted = match (&options.trust_store_path, options.protocol) {
        (Some(path), EsProtocol::Https) => Some(certificates(path, &options.trust_store_pass)?),
        _ => None,
    };
    let nodes = options
        .cluster_nodes
        .iter()
        .map(|address| address.trim())
        .filter(|address| !address.is_empty())
        .map(|address| Node::new(address, options, trusted.as_deref()).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    match nodes.is_empty() {
        true => Err(OptionsError::NoNodes),
        false => Ok(nodes),
    }
}

#[cfg(test)]
mod tests;
