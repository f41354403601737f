//! Pages of a list that is sorted by a number over several files: remembers the best hits, counts all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rusqlite::Connection;

use super::file::FileKey;
use super::pool::ReadPool;
use crate::storage::{Page, StorageError};

/// Hits that can be reached by paging: Elasticsearch's default result window, kept so that answers agree.
const WINDOW: i64 = 10_000;

/// A hit; the greatest comes first in the list, equal numbers in the order they were stored.
type Hit = (i64, Reverse<(FileKey, i64)>);

/// Which hits are wanted, and the candidates so far.
#[derive(Debug)]
pub(super) struct Hits {
    offset: usize,
    end: usize,
    best: BinaryHeap<Reverse<Hit>>,
    total: i64,
}

impl Hits {
    pub(super) fn new(offset: i64, limit: i64) -> Result<Hits, StorageError> {
        let end = offset.checked_add(limit);
        match (usize::try_from(offset), usize::try_from(limit), end) {
            (Ok(offset), Ok(limit), Some(..=WINDOW)) => Ok(Hits {
                offset,
                end: offset + limit,
                best: BinaryHeap::new(),
                total: 0,
            }),
            (Ok(_), Ok(_), _) => Err(StorageError::InvalidQuery(format!(
                "offset {offset} + limit {limit} is beyond the result window of {WINDOW}"
            ))),
            _ => Err(StorageError::InvalidQuery(format!(
                "offset {offset} and limit {limit} must not be negative"
            ))),
        }
    }

    /// Notes that so many rows meet the conditions.
    pub(super) fn count(&mut self, rows: i64) {
        self.total += rows;
    }

    /// How many of the best are kept.
    pub(super) fn kept(&self) -> usize {
        self.end
    }

    /// What a row must be sorted by, or more, to be among the best.
    pub(super) fn threshold(&self) -> i64 {
        match self.best.peek() {
            Some(Reverse((worst, _))) if self.best.len() >= self.end => *worst,
            _ => i64::MIN,
        }
    }

    /// Notes a row that meets the conditions, which [`Hits::count`] is told apart.
    pub(super) fn add(&mut self, file: FileKey, rowid: i64, sort_by: i64) {
        let hit = Reverse((sort_by, Reverse((file, rowid))));
        if self.best.len() < self.end {
            self.best.push(hit);
        } else if let Some(mut worst) = self.best.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    /// The page, its rows read by `fetch`. A row that was replaced since it was noted is left out.
    pub(super) fn page<T>(
        self,
        pool: &ReadPool,
        fetch: impl Fn(&Connection, i64) -> rusqlite::Result<Option<T>>,
    ) -> Result<Page<T>, StorageError> {
        let wanted: Vec<(FileKey, i64)> = self
            .best
            .into_sorted_vec()
            .into_iter()
            .skip(self.offset)
            .map(|Reverse((_, Reverse(place)))| place)
            .collect();
        let mut items = Vec::with_capacity(wanted.len());
        for run in wanted.chunk_by(|a, b| a.0 == b.0) {
            let Some((file, _)) = run.first() else {
                continue;
            };
            pool.query(*file, |conn| {
                for (_, rowid) in run {
                    items.extend(fetch(conn, *rowid)?);
                }
                Ok(())
            })?;
        }
        Ok(Page {
            items,
            total: self.total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Family;
    use super::*;

    #[test]
    fn the_window_is_that_of_elasticsearch() {
        for (offset, limit, is_valid) in [
            (0, 0, true),
            (0, 10_000, true),
            (9_990, 10, true),
            (9_990, 11, false),
            (-1, 10, false),
            (0, -1, false),
            (-5, 5, false),
            (i64::MAX, 1, false),
            (i64::MAX, i64::MAX, false),
        ] {
            assert_eq!(
                Hits::new(offset, limit).is_ok(),
                is_valid,
                "{offset} {limit}"
            );
        }
    }

    #[test]
    fn the_best_are_kept_in_order() {
        let file = |day| FileKey::Day(Family::Records, day);
        let mut hits = Hits::new(1, 3).unwrap();
        for (day, rowid, sort_by) in [
            (2, 1, 5),
            (1, 1, 5),
            (1, 2, 9),
            (2, 2, 1),
            (2, 3, 7),
            (1, 3, 5),
            (2, 4, -3),
        ] {
            hits.add(file(day), rowid, sort_by);
        }
        assert_eq!(hits.threshold(), 5);
        hits.count(7);
        assert_eq!(hits.total, 7);
        let order: Vec<_> = hits
            .best
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((n, Reverse((f, r))))| (n, f, r))
            .collect();
        assert_eq!(
            order,
            [
                (9, file(1), 2),
                (7, file(2), 3),
                (5, file(1), 1),
                (5, file(1), 3)
            ]
        );
    }
}
