//! Good inputs: what real agents sent, each kind of message a few times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use bytes::Bytes;

use crate::captures::captures;

/// Messages of one kind that are taken; those of other lengths have other parts.
const MESSAGES_PER_KIND: usize = 60;

/// By the last two parts of the method.
static MESSAGES: LazyLock<Result<BTreeMap<String, Vec<Bytes>>, String>> =
    LazyLock::new(|| all().map_err(|error| format!("{error:#}")));

fn all() -> Result<BTreeMap<String, Vec<Bytes>>> {
    let mut messages: BTreeMap<String, BTreeMap<usize, Bytes>> = BTreeMap::new();
    for capture in captures()?.into_values() {
        for (method, sent) in capture.calls {
            let method = method.trim_start_matches('/');
            let method = method.trim_start_matches("skywalking.v3.").to_owned();
            let of_method = messages.entry(method).or_default();
            of_method.extend(sent.into_iter().map(|message| (message.len(), message)));
        }
    }
    let spread = |by_length: BTreeMap<usize, Bytes>| {
        let step = by_length.len().div_ceil(MESSAGES_PER_KIND).max(1);
        by_length.into_values().step_by(step).collect()
    };
    let messages = messages
        .into_iter()
        .map(|(method, found)| (method, spread(found)));
    Ok(messages.collect())
}

/// Messages that agents sent to a method, as `Service/method`.
pub(super) fn messages(method: &str) -> Result<Vec<Bytes>> {
    let all = MESSAGES.as_ref().map_err(|error| anyhow!("{error}"))?;
    all.get(method)
        .cloned()
        .ok_or_else(|| anyhow!("nobody called {method}"))
}

/// Bodies that agents posted to a path.
pub(super) fn bodies(path: &str) -> Result<Vec<Bytes>> {
    let wanted = format!("POST {path}");
    let mut bodies = BTreeSet::new();
    for capture in captures()?.into_values() {
        let sent = capture.requests.into_iter();
        let sent = sent.filter(|(request, _)| *request == wanted);
        bodies.extend(sent.filter_map(|(_, body)| body));
    }
    Ok(bodies.into_iter().collect())
}
