//! Writes: rows in bulk requests of bounded size, one outcome per row.
//!
//! Every action is `index` with the id of the row, so a request may be repeated. Retrying over time is for the caller.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write as _;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::bulk_answer::{FILTER, Item, items};
use super::client::{accepted, refusal};
use super::stored_id::{MAX_BYTES, stored_id};
use super::{Answer, Elasticsearch, document};
use crate::model::row::Row;
use crate::model::schema::ModelKind;
use crate::model::time_bucket::day_of;
use crate::storage::{StorageError, WriteOutcome};

/// How long the server waits for a primary shard before it answers that there is none; by default longer than a request may
/// take, so that nothing would be known of the other documents.
const TIMEOUT: &str = "timeout=10s";
/// Below the 100 MB that the server takes at most by default.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024 * 1024;

/// So many times as many requests go at a time when the server stops: nothing comes in any more that would need the memory.
const SLOTS_IN_HASTE: usize = 4;

/// One request: which rows, and their lines.
#[derive(Debug)]
struct Batch {
    positions: Vec<usize>,
    lines: Vec<u8>,
    /// Whether readers must see it at once.
    is_urgent: bool,
}

type Outcomes = Vec<(usize, WriteOutcome)>;

impl Elasticsearch {
    /// Writes rows; `Err` only if not one request came through.
    pub(super) async fn write_rows(&self, rows: &[Row]) -> Answer<Vec<WriteOutcome>> {
        let mut outcomes: Vec<Option<WriteOutcome>> = vec![None; rows.len()];
        let mut records = VecDeque::new();
        let mut settings = VecDeque::new();
        let newest = newest_versions(rows);
        let refused = self.create_shadowed(rows).await?;
        let reason_of = |row| match refused.is_empty() {
            true => None,
            false => refused.get(&self.index_of(row)),
        };
        for (i, (row, outcome)) in rows.iter().zip(&mut outcomes).enumerate() {
            match unfit(row) {
                Some(reason) => *outcome = Some(WriteOutcome::Rejected(reason)),
                None if newest.get(&key(row)) != Some(&i) => {}
                None if row.model.kind == ModelKind::Management => settings.push_back(i),
                None => match reason_of(row) {
                    Some(reason) => *outcome = Some(WriteOutcome::Retry(reason.clone())),
                    None => records.push_back(i),
                },
            }
            if row.id.len() > MAX_BYTES {
                self.counters.shortened_ids.inc();
            }
        }
        // Batches are encoded when a request slot is free, so memory holds no more than is in flight.
        let batches = self
            .batches(rows, records, false)
            .chain(self.batches(rows, settings, true));
        let mut results = stream::iter(batches)
            .map(|batch| self.send_batch(rows, batch))
            .buffer_unordered(self.slots());
        let mut first_failure = None;
        let mut has_answer = false;
        while let Some((known, failure)) = results.next().await {
            has_answer |= !known.is_empty();
            for (i, outcome) in known {
                if let Some(slot) = outcomes.get_mut(i) {
                    *slot = Some(outcome);
                }
            }
            first_failure = first_failure.or(failure);
        }
        drop(results);
        for (i, row) in rows.iter().enumerate() {
            let same = newest
                .get(&key(row))
                .and_then(|n| outcomes.get(*n).cloned());
            if let (Some(slot @ None), Some(same)) = (outcomes.get_mut(i), same) {
                *slot = same;
            }
        }
        match first_failure {
            Some(error) if !has_answer => Err(error),
            failure => {
                let reason = failure.map_or_else(String::new, |error| error.to_string());
                let unknown = || WriteOutcome::Retry(reason.clone());
                let outcomes = outcomes.into_iter();
                Ok(outcomes.map(|o| o.unwrap_or_else(unknown)).collect())
            }
        }
    }

    /// Requests at a time.
    pub(super) fn slots(&self) -> usize {
        let slots = self.options.concurrent_requests.max(1);
        match self.is_hasty.load(Ordering::Relaxed) {
            true => slots * SLOTS_IN_HASTE,
            false => slots,
        }
    }

    fn batches<'a>(
        &'a self,
        rows: &'a [Row],
        mut positions: VecDeque<usize>,
        is_urgent: bool,
    ) -> impl Iterator<Item = Batch> + Send + 'a {
        std::iter::from_fn(move || {
            let mut batch = Batch {
                positions: vec![],
                lines: vec![],
                is_urgent,
            };
            while let Some(i) = positions.front() {
                let before = batch.lines.len();
                if let Some(row) = rows.get(*i) {
                    self.append(&mut batch.lines, row);
                }
                let is_full = batch.positions.len() >= self.options.bulk_actions.max(1)
                    || batch.lines.len() > self.options.bulk_bytes;
                if is_full && !batch.positions.is_empty() {
                    batch.lines.truncate(before);
                    break;
                }
                batch.positions.extend(positions.pop_front());
            }
            (!batch.positions.is_empty()).then_some(batch)
        })
    }

    /// Appends action and document of a row.
    fn append(&self, lines: &mut Vec<u8>, row: &Row) {
        let prefix = self.names.prefix();
        let model = &row.model.name;
        let written = write!(lines, "{{\"index\":{{\"_index\":\"{prefix}{model}")
            .and_then(|()| match row.model.kind {
                ModelKind::Management => Ok(()),
                _ => {
                    let day = self.names.first_day(day_of(row.time_bucket));
                    write!(lines, "-{day}")
                }
            })
            .and_then(|()| lines.write_all(b"\",\"_id\":"))
            .and_then(|()| document::append_text(lines, &stored_id(&row.id)))
            .and_then(|()| lines.write_all(b"}}\n"))
            .and_then(|()| document::append(lines, row));
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
    }

    /// The outcomes that are known, and what went wrong with the rest.
    async fn send_batch(&self, rows: &[Row], batch: Batch) -> (Outcomes, Option<StorageError>) {
        let is_urgent = batch.is_urgent;
        let mut known = vec![];
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if part.positions.len() == 1 && part.lines.len() > MAX_DOCUMENT_BYTES {
                let reason = format!("document of {} bytes is too large", part.lines.len());
                known.extend(all(&part.positions, &WriteOutcome::Rejected(reason)));
                continue;
            }
            let path = if is_urgent {
                format!("/_bulk?refresh=true&{TIMEOUT}&{FILTER}")
            } else {
                format!("/_bulk?{TIMEOUT}&{FILTER}")
            };
            self.counters.bulk_requests.inc();
            let reply = match self.client.post_lines(&path, Bytes::from(part.lines)).await {
                Ok(reply) => reply,
                Err(error) => return (known, Some(error)),
            };
            match reply.status {
                // Too much at once, or one document that spoils the request: halves find out which.
                400 | 413 if part.positions.len() > 1 => {
                    let (left, right) = part.positions.split_at(part.positions.len() / 2);
                    let halves = [left, right]
                        .map(|half| self.batches(rows, half.to_vec().into(), is_urgent));
                    parts.extend(halves.into_iter().flatten());
                }
                400 | 413 => {
                    let reason = WriteOutcome::Rejected(refusal(&reply).to_string());
                    known.extend(all(&part.positions, &reason));
                }
                _ => {
                    let answer =
                        accepted(reply).and_then(|body| items(&body, part.positions.len()));
                    match answer {
                        Ok(items) => {
                            known.extend(self.judge(rows, &part.positions, &items));
                            self.create_lacking(rows, &part.positions, &items).await;
                        }
                        Err(error) => return (known, Some(error)),
                    }
                }
            }
        }
        (known, None)
    }

    fn judge(&self, rows: &[Row], positions: &[usize], items: &[Item]) -> Outcomes {
        let today = self.zone.day(self.clock.now_ms()).unwrap_or(0);
        let judged = positions.iter().zip(items).map(|(i, item)| {
            let day = rows.get(*i).map_or(today, |row| day_of(row.time_bucket));
            let outcome = item.outcome(day < today);
            self.counters.count_item(&outcome);
            (*i, outcome)
        });
        judged.collect()
    }

    /// Creates indices that documents did not find: they were deleted, or must not come into being by themselves
    /// (`action.auto_create_index`). Their rows are written again in any case, so a failure needs no answer here.
    async fn create_lacking(&self, rows: &[Row], positions: &[usize], items: &[Item]) {
        let lacking: BTreeMap<String, &Row> = positions
            .iter()
            .zip(items)
            .filter(|(_, item)| item.lacks_index())
            .filter_map(|(i, _)| rows.get(*i))
            .map(|row| (self.index_of(row), row))
            .collect();
        for (index, row) in lacking {
            let body = self.body_if_shadowed(&index, &row.model);
            match self.create_index(&index, body.as_ref()).await {
                Ok(is_new) => self.counters.created_indices.inc_by(is_new.into()),
                Err(error) => tracing::debug!(%error, "index that is lacking was not created"),
            }
        }
    }

    pub(super) fn index_of(&self, row: &Row) -> String {
        let model = &row.model.name;
        match row.model.kind {
            ModelKind::Management => self.names.alias(model),
            _ => self.names.daily(model, day_of(row.time_bucket)),
        }
    }
}

/// What makes rows the same document.
type Key<'a> = (&'a str, &'a str, u64);

fn key(row: &Row) -> Key<'_> {
    (&row.model.name, &row.id, day_of(row.time_bucket))
}

/// Position of the last row of each document. Only that one is sent: requests overtake each other, and an older version
/// that is refused and sent again later would win.
fn newest_versions(rows: &[Row]) -> HashMap<Key<'_>, usize> {
    let rows = rows.iter().enumerate();
    rows.map(|(i, row)| (key(row), i)).collect()
}

fn all(positions: &[usize], outcome: &WriteOutcome) -> Outcomes {
    positions.iter().map(|i| (*i, outcome.clone())).collect()
}

/// Why a row must not be part of any request.
fn unfit(row: &Row) -> Option<String> {
    if row.id.is_empty() {
        return Some("id is empty".to_owned());
    }
    if row.model.kind != ModelKind::Management && day_of(row.time_bucket) == 0 {
        return Some(format!("time bucket {} is no date", row.time_bucket));
    }
    None
}

#[cfg(test)]
mod tests;
