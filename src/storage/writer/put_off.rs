//! Rows that a store does not take while it takes others, such as those of an index that is blocked or has no primary shard.
//! They wait here by model and day, so that the lane goes on with the rest; what comes for the same model and day waits with
//! them, and a newer version of a row takes the place of the one that waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lane::row_bytes;
use super::{FIRST_PAUSE, LONGEST_PAUSE, MAX_ROWS_PER_WRITE};
use crate::model::row::{Row, RowKey};
use crate::model::schema::Model;
use crate::model::time_bucket::day_of;
use crate::storage::WriteOutcome;

/// Rows of a closed part that are tried.
const PROBE: usize = 10;
/// Of how much there is room for, the part in sixteenths that is left when rows had to go, so that they go in lots.
const KEPT_SIXTEENTHS: usize = 15;

/// A row that waits.
#[derive(Debug)]
struct Waiting {
    row: Row,
    /// Another one for each version that comes in.
    version: u64,
    /// Number of the batch that it, or an earlier version of it, came with.
    batch: u64,
    /// Whether this version is on its way to the store.
    is_sent: bool,
}

/// Why the store did not take a row.
#[derive(Debug)]
pub(super) struct Refusal {
    pub reason: String,
    /// Whether it took no row of the same model and day either.
    pub is_of_all: bool,
}

/// What waits of a model and day.
#[derive(Debug)]
struct Part {
    rows: HashMap<String, Waiting>,
    /// Whether the store takes no row of it: what else comes waits without being tried. If it takes some, as those of other
    /// shards, only newer versions of what waits do.
    is_closed: bool,
    next_try: Instant,
    pause: Duration,
    /// Tries since the store last took a row of this part.
    refusals: u32,
    /// Whether the store took rows of other parts meanwhile: it is not the store that is away.
    others_were_taken: bool,
    reason: String,
}

/// What is tried again: a version of a row.
#[derive(Debug)]
pub(super) struct Sent {
    pub row: Row,
    version: u64,
}

/// All rows that wait, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    /// By model, then by day.
    parts: HashMap<String, HashMap<u64, Part>>,
    rows: usize,
    bytes: usize,
    versions: u64,
    /// Models of versions that later ones replaced, since this was last taken.
    replaced: Vec<Arc<Model>>,
    /// Batch up to which everything must be stored, and whom to tell.
    listeners: Vec<(u64, oneshot::Sender<()>)>,
}

impl PutOff {
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Estimated bytes of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Part> {
        self.parts.values_mut().flat_map(HashMap::values_mut)
    }

    fn part(&mut self, row: &Row) -> Option<&mut Part> {
        let days = self.parts.get_mut(row.model.name.as_str())?;
        days.get_mut(&day_of(row.time_bucket))
    }

    /// Whether it has to wait: the store takes no rows of its model and day, or an earlier version of it waits.
    pub(super) fn is_blocked(&self, row: &Row) -> bool {
        let days = self.parts.get(row.model.name.as_str());
        let part = days.and_then(|days| days.get(&day_of(row.time_bucket)));
        part.is_some_and(|part| part.is_closed || part.rows.contains_key(&row.id))
    }

    /// The row that waits under a key, which is the newest version there is.
    pub(super) fn find(&self, key: &RowKey) -> Option<Row> {
        let days = self.parts.get(key.model.name.as_str())?;
        let found = match key.time_bucket {
            Some(bucket) => days.get(&day_of(bucket))?.rows.get(&key.id),
            None => {
                let newest = days
                    .iter()
                    .filter(|(_, part)| part.rows.contains_key(&key.id));
                let (_, part) = newest.max_by_key(|(day, _)| **day)?;
                part.rows.get(&key.id)
            }
        };
        found.map(|waiting| waiting.row.clone())
    }

    /// Lets rows of a batch wait, in the order of their versions: the store did not take them, or [`PutOff::is_blocked`] says so.
    pub(super) fn add(&mut self, rows: Vec<(Row, Option<Refusal>)>, batch: u64) {
        for (row, refusal) in rows {
            self.versions += 1;
            let version = self.versions;
            let days = self.parts.entry(row.model.name.clone()).or_default();
            let part = days.entry(day_of(row.time_bucket)).or_insert_with(|| Part {
                rows: HashMap::new(),
                is_closed: false,
                next_try: Instant::now() + FIRST_PAUSE,
                pause: FIRST_PAUSE,
                refusals: 1,
                others_were_taken: false,
                reason: String::new(),
            });
            if let Some(refusal) = refusal {
                part.reason = refusal.reason;
                part.is_closed = refusal.is_of_all;
            }
            let bytes = row_bytes(&row);
            match part.rows.get_mut(&row.id) {
                Some(waiting) => {
                    // What became of a version that is under way is not known yet.
                    if !waiting.is_sent {
                        self.replaced.push(Arc::clone(&waiting.row.model));
                    }
                    self.bytes = self.bytes + bytes - row_bytes(&waiting.row);
                    waiting.row = row;
                    waiting.version = version;
                    waiting.is_sent = false;
                }
                None => {
                    self.rows += 1;
                    self.bytes += bytes;
                    let waiting = Waiting {
                        version,
                        batch,
                        is_sent: false,
                        row,
                    };
                    part.rows.insert(waiting.row.id.clone(), waiting);
                }
            }
        }
    }

    /// Takes the models of the versions that later ones replaced, which nobody will store.
    pub(super) fn take_replaced(&mut self) -> Vec<Arc<Model>> {
        std::mem::take(&mut self.replaced)
    }

    /// When something is to be tried again; `None` if nothing waits.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let parts = self.parts.values().flat_map(HashMap::values);
        parts.map(|part| part.next_try).min()
    }

    /// What is to be tried again now. It goes on waiting here until [`PutOff::settle`] or [`PutOff::failed`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<Sent> {
        let mut sent = Vec::new();
        for part in self.all().filter(|part| part.next_try <= now) {
            let room = MAX_ROWS_PER_WRITE.saturating_sub(sent.len());
            let limit = match part.is_closed && part.refusals > 1 {
                true => PROBE.min(room),
                false => room,
            };
            for waiting in part.rows.values_mut().take(limit) {
                waiting.is_sent = true;
                sent.push(Sent {
                    row: waiting.row.clone(),
                    version: waiting.version,
                });
            }
        }
        sent
    }

    /// What became of rows that were tried again.
    pub(super) fn settle(&mut self, outcomes: &[(Sent, WriteOutcome)], now: Instant) {
        let mut tried: HashMap<(&str, u64), bool> = HashMap::new();
        for (Sent { row, version }, outcome) in outcomes {
            let day = day_of(row.time_bucket);
            let is_taken = !matches!(outcome, WriteOutcome::Retry(_));
            *tried.entry((&row.model.name, day)).or_default() |= is_taken;
            let Some(part) = self.part(row) else { continue };
            if let WriteOutcome::Retry(reason) = outcome {
                part.reason.clone_from(reason);
            }
            let Some(waiting) = part.rows.get_mut(&row.id) else {
                continue;
            };
            let is_current = waiting.version == *version;
            if is_current {
                waiting.is_sent = false;
            }
            if is_taken && is_current {
                self.remove(row);
            } else if !is_taken && !is_current {
                self.replaced.push(Arc::clone(&row.model));
            }
        }
        let is_any_taken = tried.values().any(|is_taken| *is_taken);
        for ((model, day), is_taken) in tried {
            let part = self
                .parts
                .get_mut(model)
                .and_then(|days| days.get_mut(&day));
            let Some(part) = part else { continue };
            if is_taken {
                part.is_closed = false;
                part.refusals = 0;
                part.pause = FIRST_PAUSE;
                part.next_try = now;
            } else {
                part.refusals += 1;
                part.pause = (part.pause * 2).min(LONGEST_PAUSE);
                part.next_try = now + part.pause;
            }
        }
        if is_any_taken {
            self.others_were_taken();
        }
        self.answer();
    }

    /// Nothing is known of rows that were tried again.
    pub(super) fn failed(&mut self, sent: &[Sent], now: Instant) {
        for Sent { row, version } in sent {
            let Some(part) = self.part(row) else { continue };
            if part.next_try <= now {
                part.pause = (part.pause * 2).min(LONGEST_PAUSE);
                part.next_try = now + part.pause;
            }
            match part.rows.get_mut(&row.id) {
                Some(waiting) if waiting.version == *version => waiting.is_sent = false,
                _ => self.replaced.push(Arc::clone(&row.model)),
            }
        }
    }

    /// The store took other rows: parts that it has refused for a while are refused by themselves.
    pub(super) fn others_were_taken(&mut self) {
        for part in self.all() {
            part.others_were_taken |= part.refusals >= super::REFUSALS_OF_A_PART;
        }
    }

    fn remove(&mut self, row: &Row) -> Option<Row> {
        let days = self.parts.get_mut(row.model.name.as_str())?;
        let day = day_of(row.time_bucket);
        let part = days.get_mut(&day)?;
        let removed = part.rows.remove(&row.id)?;
        if part.rows.is_empty() {
            days.remove(&day);
            if days.is_empty() {
                self.parts.remove(row.model.name.as_str());
            }
        }
        self.rows -= 1;
        self.bytes -= row_bytes(&removed.row);
        Some(removed.row)
    }

    /// Takes out what waits beyond so many bytes, the oldest first, with the reason of the store. Only of parts that are refused
    /// while others are taken: if the store takes nothing, what it has no room for must not come in.
    pub(super) fn beyond(&mut self, max_bytes: usize) -> Vec<(Row, String)> {
        if self.bytes <= max_bytes {
            return vec![];
        }
        let mut oldest = Vec::new();
        for part in self.all().filter(|part| part.others_were_taken) {
            let rows = part.rows.values().filter(|waiting| !waiting.is_sent);
            oldest.extend(rows.map(|w| (w.batch, w.version, w.row.clone(), part.reason.clone())));
        }
        oldest.sort_unstable_by_key(|(batch, version, ..)| (*batch, *version));
        let mut out = Vec::new();
        for (_, _, row, reason) in oldest {
            if self.bytes <= max_bytes / 16 * KEPT_SIXTEENTHS {
                break;
            }
            if let Some(row) = self.remove(&row) {
                out.push((row, reason));
            }
        }
        self.answer();
        out
    }

    /// Nothing more comes: everything is tried again soon, a few times.
    pub(super) fn hurry(&mut self, now: Instant) {
        for part in self.all() {
            part.refusals = 0;
            part.pause = FIRST_PAUSE;
            part.next_try = part.next_try.min(now);
        }
    }

    /// Takes out the parts that were refused so often, with the reason of the store.
    pub(super) fn refused(&mut self, times: u32) -> Vec<(Row, String)> {
        let mut out = Vec::new();
        for part in self.all().filter(|part| part.refusals >= times) {
            let rows = part.rows.values();
            out.extend(rows.map(|waiting| (waiting.row.clone(), part.reason.clone())));
        }
        for (row, _) in &out {
            self.remove(row);
        }
        self.answer();
        out
    }

    /// Tells when everything up to a batch is stored.
    pub(super) fn listen(&mut self, batch: u64, done: oneshot::Sender<()>) {
        self.listeners.push((batch, done));
        self.answer();
    }

    /// Tells those who need not wait any longer.
    fn answer(&mut self) {
        if self.listeners.is_empty() {
            return;
        }
        let parts = self.parts.values().flat_map(HashMap::values);
        let first = parts.flat_map(|part| part.rows.values().map(|waiting| waiting.batch));
        let first = first.min().unwrap_or(u64::MAX);
        for (_, done) in self.listeners.extract_if(.., |(batch, _)| *batch < first) {
            // Whoever asked may have given up.
            done.send(()).unwrap_or_default();
        }
    }
}
