//! Days of metrics that a killed process had open: what it was about to write to them is missing. They are written down while
//! files are in use, and crossed out when everything is written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::{Family, FileKey};
use super::pool::ReadPool;
use super::table;
use crate::model::schema::Model;
use crate::model::time_bucket::Downsampling;
use crate::storage::StorageError;

/// Name of the file with a day per line.
const LIST: &str = "unclean";
/// Takes the place of the list once it is whole: a process that is killed meanwhile leaves the list as it was.
const NEXT_LIST: &str = "unclean.tmp";
/// Days that are listed as in use; the latest ones.
const LISTED: usize = 8;

/// The list of such days in a folder.
#[derive(Debug)]
pub(super) struct Unclean {
    list: PathBuf,
    days: Mutex<Days>,
}

#[derive(Debug)]
struct Days {
    /// An earlier process left them.
    left: BTreeSet<u64>,
    in_use: BTreeSet<u64>,
}

impl Unclean {
    /// Reads what an earlier process left.
    pub(super) fn read(dir: &Path) -> Unclean {
        let list = dir.join(LIST);
        let listed = std::fs::read_to_string(&list).unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(
                    file = %list.display(),
                    %error,
                    "which days a killed process left cannot be read: if one was killed, their hours and days stay too low"
                );
            }
            String::new()
        });
        let days = Days {
            left: listed.lines().filter_map(|day| day.parse().ok()).collect(),
            in_use: BTreeSet::new(),
        };
        Unclean {
            list,
            days: Mutex::new(days),
        }
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The days that an earlier process left and that are not in order.
    pub(super) fn left(&self) -> Vec<u64> {
        self.days().left.iter().copied().collect()
    }

    /// They are in order.
    pub(super) fn repaired(&self) {
        let mut days = self.days();
        days.left.clear();
        self.save(&days);
    }

    /// Somebody writes to a day.
    pub(super) fn used(&self, day: u64) {
        let mut days = self.days();
        if days.in_use.insert(day) {
            if days.in_use.len() > LISTED {
                days.in_use.pop_first();
            }
            self.save(&days);
        }
    }

    /// Everything is written, and nobody writes any more.
    pub(super) fn completed(&self) {
        let mut days = self.days();
        if !days.in_use.is_empty() {
            days.in_use.clear();
            self.save(&days);
        }
    }

    fn save(&self, days: &Days) {
        let listed = days.left.union(&days.in_use);
        let lines: String = listed.map(|day| format!("{day}\n")).collect();
        let saved = match lines.is_empty() {
            true => std::fs::remove_file(&self.list),
            false => {
                let next = self.list.with_file_name(NEXT_LIST);
                std::fs::write(&next, lines).and_then(|()| std::fs::rename(&next, &self.list))
            }
        };
        match saved {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.list.display(), error = %e, "days in use cannot be written down");
            }
            _ => {}
        }
    }
}

/// The first minute (`yyyyMMddHHmm`) behind another one that a model has values of on a day.
pub(super) fn minute_after(
    pool: &ReadPool,
    model: &Model,
    day: u64,
    after: u64,
) -> Result<Option<u64>, StorageError> {
    let next = pool.query(FileKey::Day(Family::Metrics, day), |conn| {
        if !table::has(conn, &model.name, &[])? {
            return Ok(None);
        }
        let table = table::quoted(&model.name);
        let sql = format!("SELECT min(time_bucket) FROM {table} WHERE time_bucket > ?1");
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        conn.query_row(&sql, [after], |row| row.get::<_, Option<i64>>(0))
    })?;
    let next = next.flatten().and_then(|n| u64::try_from(n).ok());
    Ok(next.filter(|bucket| Downsampling::of(*bucket) == Some(Downsampling::Minute)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_listed_while_they_are_in_use_and_until_they_are_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let killed = Unclean::read(dir.path());
        for day in 1..=10 {
            killed.used(20_200_900 + day);
        }
        drop(killed);
        let second = Unclean::read(dir.path());
        assert_eq!(second.left().len(), LISTED);
        assert!(second.left().contains(&20_200_910));
        second.used(20_200_911);
        second.completed();
        assert_eq!(Unclean::read(dir.path()).left().len(), LISTED);
        let third = Unclean::read(dir.path());
        third.used(20_200_912);
        third.repaired();
        assert_eq!(Unclean::read(dir.path()).left(), [20_200_912]);
        third.completed();
        assert!(!dir.path().join(LIST).exists());
        assert!(!dir.path().join(NEXT_LIST).exists());
    }
}
