//! Rows that a store does not take while it takes others, such as those of an index without an active primary shard. They
//! wait here, so that the lane can go on; a newer version of a row takes the place of the one that waits.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{LONGEST_PAUSE, row_bytes};
use crate::model::row::Row;
use crate::model::time_bucket::day_of;

/// What makes rows the same one: model, id and day.
type Key = (String, String, u64);

fn key(row: &Row) -> Key {
    let day = day_of(row.time_bucket);
    (row.model.name.clone(), row.id.clone(), day)
}

/// How long a row has waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// Number of the batch that it, or an earlier version of it, came with.
    pub batch: u64,
    pub refusals: u32,
}

/// The rows that wait, and who waits for them.
#[derive(Debug)]
pub(super) struct PutOff {
    rows: HashMap<Key, (Row, Wait)>,
    bytes: usize,
    /// Batch up to which everything must be settled, and whom to tell.
    listeners: Vec<(u64, oneshot::Sender<()>)>,
    next_try: Instant,
}

impl PutOff {
    pub(super) fn new() -> PutOff {
        PutOff {
            rows: HashMap::new(),
            bytes: 0,
            listeners: Vec::new(),
            next_try: Instant::now(),
        }
    }

    /// Estimated bytes of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the rows are to be written again; `None` if there are none.
    pub(super) fn next_try(&self) -> Option<Instant> {
        (!self.rows.is_empty()).then_some(self.next_try)
    }

    /// Takes out the rows that newer ones replace, and says how long each has waited.
    pub(super) fn replaced_by(&mut self, newer: &[Row]) -> HashMap<Key, Wait> {
        if self.rows.is_empty() {
            return HashMap::new();
        }
        let replaced = newer.iter().filter_map(|row| {
            let key = key(row);
            let (old, wait) = self.rows.remove(&key)?;
            self.bytes -= row_bytes(&old);
            Some((key, wait))
        });
        replaced.collect()
    }

    /// Lets rows wait, in the order of their versions. Returns how many of them later ones replaced.
    pub(super) fn add(&mut self, rows: Vec<Row>, waited: &HashMap<Key, Wait>, first: Wait) -> u64 {
        let mut replaced = 0;
        for row in rows {
            let key = key(&row);
            let wait = waited.get(&key).copied().unwrap_or(first);
            if self.rows.is_empty() {
                self.next_try = Instant::now() + LONGEST_PAUSE;
            }
            self.bytes += row_bytes(&row);
            if let Some((old, _)) = self.rows.insert(key, (row, wait)) {
                self.bytes -= row_bytes(&old);
                replaced += 1;
            }
        }
        replaced
    }

    /// Takes out all rows, to be written again.
    pub(super) fn take(&mut self) -> (Vec<Row>, HashMap<Key, Wait>) {
        self.bytes = 0;
        let taken = self.rows.drain();
        taken.map(|(key, (row, wait))| (row, (key, wait))).unzip()
    }

    /// Lets rows of [`PutOff::take`] wait again, after so many more refusals.
    pub(super) fn add_again(&mut self, rows: Vec<Row>, waits: &HashMap<Key, Wait>, refusals: u32) {
        for row in rows {
            if let Some(wait) = waited(waits, &row) {
                let wait = Wait {
                    refusals: wait.refusals + refusals,
                    ..wait
                };
                self.add(vec![row], &HashMap::new(), wait);
            }
        }
    }

    /// Tells when everything up to a batch is settled.
    pub(super) fn listen(&mut self, batch: u64, done: oneshot::Sender<()>) {
        self.listeners.push((batch, done));
        self.answer();
    }

    /// Tells those who need not wait any longer.
    pub(super) fn answer(&mut self) {
        let first = self.rows.values().map(|(_, wait)| wait.batch).min();
        let first = first.unwrap_or(u64::MAX);
        for (_, done) in self.listeners.extract_if(.., |(batch, _)| *batch < first) {
            // Whoever asked may have given up.
            done.send(()).unwrap_or_default();
        }
    }
}

/// How long a row has waited, if it has.
pub(super) fn waited(waits: &HashMap<Key, Wait>, row: &Row) -> Option<Wait> {
    if waits.is_empty() {
        return None;
    }
    waits.get(&key(row)).copied()
}
