//! Files of the store: their names, how they are opened, set aside and deleted, and what an SQLite failure means.
//!
//! One file per day and family makes expiry a matter of deleting files and lets a query open only the days it asks for.
//! What is inside a file is the business of `format` and `table`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::unclean::Unclean;
use super::{aside, format};
use crate::model::schema::ModelKind;
use crate::model::time_bucket::{Downsampling, day_of, start_of};
use crate::storage::{BucketRange, StorageError};

/// How long to wait for another process that holds a lock on a file.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Between two looks whether the directory is free.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Locked while a process uses the directory; it stays behind, empty.
const LOCK_FILE: &str = "lock";
/// KiB of page cache of a connection that writes; filled only as far as needed.
const WRITE_CACHE_KIB: i64 = 16 * 1024;
/// KiB of page cache of a connection that reads; the operating system caches as well.
const READ_CACHE_KIB: i64 = 768;
/// Pages in the write-ahead log before they are moved to the database: pages written often are moved once.
const CHECKPOINT_PAGES: i64 = 8_000;
/// Bytes that the write-ahead log is cut back to after such a move.
const LOG_BYTES: i64 = 64 << 20;
/// Prepared statements kept per connection; a day has some seventy tables.
const STATEMENTS: usize = 256;

/// What the rows of a day file have in common: how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Metrics, relations and traffic.
    Metrics,
    /// Segments, alarms and other records.
    Records,
}

impl Family {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Family::Metrics => "metrics",
            Family::Records => "records",
        }
    }
}

/// One file. Day files sort by family, then by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FileKey {
    /// Everything without a day.
    Meta,
    /// The day as `yyyyMMdd`.
    Day(Family, u64),
}

impl FileKey {
    /// Where rows of a kind and bucket are stored; `None` if the bucket is no date.
    pub(super) fn of(kind: ModelKind, time_bucket: u64) -> Option<FileKey> {
        let family = match kind {
            ModelKind::Management => return Some(FileKey::Meta),
            ModelKind::Metrics => Family::Metrics,
            ModelKind::Record => Family::Records,
        };
        let date = start_of(time_bucket)?;
        (date.year() >= 1970).then(|| FileKey::Day(family, day_of(time_bucket)))
    }

    fn name(self) -> String {
        match self {
            FileKey::Meta => "meta.db".to_owned(),
            FileKey::Day(family, day) => format!("{}-{day}.db", family.prefix()),
        }
    }

    fn parse(name: &str) -> Option<FileKey> {
        let (prefix, day) = name.strip_suffix(".db")?.split_once('-')?;
        let family = [Family::Metrics, Family::Records]
            .into_iter()
            .find(|f| f.prefix() == prefix)?;
        let kind = match family {
            Family::Metrics => ModelKind::Metrics,
            Family::Records => ModelKind::Record,
        };
        let day = (day.len() == 8).then(|| day.parse().ok()).flatten()?;
        FileKey::of(kind, day)
    }
}

/// What a directory is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    /// Nothing is changed, by nobody.
    Read,
    /// Nothing is changed here; a server may go on writing.
    Look,
}

/// The directory and which day files it has. No other process writes to it meanwhile, but where one only looks: rows are written
/// whole, so two would undo each other's.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Whether nothing may be changed.
    is_read_only: bool,
    known: RwLock<BTreeSet<FileKey>>,
    /// Found damaged, with what was wrong.
    damaged: Mutex<BTreeMap<FileKey, String>>,
    pub(super) unclean: Unclean,
    /// Locked as long as it is open; `None` if a server has it.
    lock: Option<File>,
}

/// Waits a moment for a process that is about to end; who only looks goes on without the lock.
fn lock(dir: &Path, access: Access) -> Result<Option<File>, StorageError> {
    let path = dir.join(LOCK_FILE);
    let failed = |e: std::io::Error| StorageError::Unavailable(format!("{}: {e}", path.display()));
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let file = options.open(&path).map_err(failed)?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
            Err(TryLockError::WouldBlock) if access == Access::Look => return Ok(None),
            Err(TryLockError::WouldBlock) if waited >= LOCK_WAIT => {
                return Err(StorageError::Unavailable(format!(
                    "{} is in use by another process; stop that one, or choose another folder with --data",
                    dir.display()
                )));
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(LOCK_PAUSE);
                waited += LOCK_PAUSE;
            }
        }
    }
}

impl Files {
    /// Creates the directory if needed and lists its files. Files with other names are left alone.
    pub(super) fn scan(dir: &Path) -> Result<Files, StorageError> {
        std::fs::create_dir_all(dir).map_err(|e| unavailable(dir, &e))?;
        Files::list(dir, Access::Write)
    }

    /// Lists the files of a directory, none of which is changed: not even write-ahead logs are folded in.
    pub(super) fn scan_to_read(dir: &Path) -> Result<Files, StorageError> {
        Files::list(dir, Access::Read)
    }

    /// The same while a server may be writing.
    pub(super) fn scan_to_look(dir: &Path) -> Result<Files, StorageError> {
        Files::list(dir, Access::Look)
    }

    fn list(dir: &Path, access: Access) -> Result<Files, StorageError> {
        let failed = |e: std::io::Error| unavailable(dir, &e);
        let lock = lock(dir, access)?;
        let mut known = BTreeSet::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            known.extend(name.to_str().and_then(FileKey::parse));
        }
        Ok(Files {
            dir: dir.to_owned(),
            is_read_only: access != Access::Write,
            known: RwLock::new(known),
            damaged: Mutex::default(),
            unclean: Unclean::read(dir),
            lock,
        })
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, key: FileKey) -> PathBuf {
        self.dir.join(key.name())
    }

    pub(super) fn all(&self) -> Vec<FileKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().copied().collect()
    }

    pub(super) fn contains(&self, key: FileKey) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&key)
    }

    pub(super) fn add(&self, key: FileKey) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key);
    }

    pub(super) fn remove(&self, key: FileKey) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&key);
    }

    /// Day files of a family that can hold buckets of a range, oldest first; `None` is every day. A range whose ends are no
    /// buckets of one precision says nothing about days.
    pub(super) fn days(&self, family: Family, range: Option<BucketRange>) -> Vec<FileKey> {
        let (first, last) = match range {
            Some(BucketRange { start, end })
                if Downsampling::of(start).is_some()
                    && Downsampling::of(start) == Downsampling::of(end) =>
            {
                (day_of(start), day_of(end))
            }
            _ => (0, u64::MAX),
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .copied()
            .filter(|key| matches!(key, FileKey::Day(f, day) if *f == family && (first..=last).contains(day)))
            .collect()
    }

    /// Opens a file to write, creating it if needed.
    pub(super) fn open_writer(&self, key: FileKey) -> Result<Connection, StorageError> {
        let path = self.path(key);
        if self.is_read_only {
            let text = format!("{}: opened to be read only", path.display());
            return Err(StorageError::Refused(text));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut conn = open(&path, flags).map_err(|e| self.failure(key, &e))?;
        let version = format::version(&conn, &path).inspect_err(|e| self.note(key, e))?;
        format::bring_up_to_date(&mut conn, version).map_err(|e| self.failure(key, &e))?;
        let tune = || {
            conn.pragma_update(None, "synchronous", "NORMAL")?;
            conn.pragma_update(None, "cache_size", -WRITE_CACHE_KIB)?;
            conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            conn.pragma_update(None, "journal_size_limit", LOG_BYTES)
        };
        tune().map_err(|e| self.failure(key, &e))?;
        self.add(key);
        Ok(conn)
    }

    /// Opens an existing file to read.
    pub(super) fn open_reader(&self, key: FileKey) -> Result<Connection, StorageError> {
        let conn = self.open_to_read(&self.path(key));
        self.as_reader(key, conn.map_err(|e| self.failure(key, &e))?)
    }

    /// Opens an existing file to read while nobody else has it open. Unlike [`Files::open_reader`] this needs no space on
    /// the disk, not even the few KiB that connections share.
    pub(super) fn open_alone(&self, key: FileKey) -> Result<Connection, StorageError> {
        let path = self.path(key);
        let exclusive = |conn: &Connection| {
            conn.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))
        };
        let conn = self
            .open_to_read(&path)
            .and_then(|conn| exclusive(&conn).map(|()| conn))
            .map_err(|e| self.failure(key, &e))?;
        self.as_reader(key, conn)
    }

    /// Readers open for writing too: the last one to close a file then folds its write-ahead log in. Where nothing may be
    /// changed, a file without such a log is opened so that SQLite makes no files beside it, unless a server could begin to
    /// write to it.
    fn open_to_read(&self, path: &Path) -> rusqlite::Result<Connection> {
        if !self.is_read_only {
            return open(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        }
        let log = std::fs::metadata(with_suffix(path, LOG_SUFFIX));
        if self.lock.is_none() || log.is_ok_and(|log| log.len() > 0) {
            return open(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        }
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    uri.push(char::from(*byte));
                }
                other => uri += &format!("%{other:02X}"),
            }
        }
        uri += "?immutable=1";
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        open(Path::new(&uri), flags)
    }

    fn as_reader(&self, key: FileKey, conn: Connection) -> Result<Connection, StorageError> {
        format::version(&conn, &self.path(key)).inspect_err(|e| self.note(key, e))?;
        let tune = || {
            conn.pragma_update(None, "synchronous", "NORMAL")?;
            conn.pragma_update(None, "cache_size", -READ_CACHE_KIB)?;
            conn.pragma_update(None, "query_only", true)
        };
        tune().map_err(|e| self.failure(key, &e))?;
        Ok(conn)
    }

    /// What a failure on a file means to the caller. That one is damaged is remembered until it is set aside.
    pub(super) fn failure(&self, key: FileKey, error: &rusqlite::Error) -> StorageError {
        let failure = failure(&self.path(key), error);
        self.note(key, &failure);
        failure
    }

    fn note(&self, key: FileKey, failure: &StorageError) {
        if matches!(failure, StorageError::Damaged(_)) {
            let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.insert(key, failure.to_string());
        }
    }

    /// Whether a file was found damaged since the last [`Files::set_damaged_aside`].
    pub(super) fn has_damaged(&self) -> bool {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        !damaged.is_empty()
    }

    /// Renames damaged files, `close` having seen to it that nobody has them open, so that their days start anew. Nothing
    /// is deleted.
    pub(super) fn set_damaged_aside(
        &self,
        mut close: impl FnMut(FileKey),
    ) -> Result<(), StorageError> {
        let damaged =
            std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner));
        for (key, reason) in damaged {
            close(key);
            let kept = aside::set_aside(&self.path(key))?;
            self.remove(key);
            tracing::error!(
                file = %self.path(key).display(),
                kept_as = %kept.display(),
                reason,
                "a damaged file was set aside, a new one takes its place; `sqlite3 FILE .recover` can save most rows, \
                 see docs/embedded-store.md"
            );
        }
        Ok(())
    }

    /// Deletes what was set aside of days of a family before `day` and returns those days.
    pub(super) fn delete_aside(&self, family: Family, day: u64) -> Result<Vec<u64>, StorageError> {
        let mut deleted = Vec::new();
        for path in aside::list(&self.dir)? {
            match aside::original(&path).and_then(FileKey::parse) {
                Some(FileKey::Day(f, d)) if f == family && d < day => {
                    delete(&path)?;
                    deleted.push(d);
                }
                _ => {}
            }
        }
        Ok(deleted)
    }

    /// Deletes a file that nobody has open.
    pub(super) fn delete(&self, key: FileKey) -> Result<(), StorageError> {
        self.remove(key);
        delete(&self.path(key))
    }
}

/// A database file and what SQLite keeps beside it.
pub(super) const SUFFIXES: [&str; 3] = ["", LOG_SUFFIX, "-shm"];
/// Of the write-ahead log.
pub(super) const LOG_SUFFIX: &str = "-wal";

/// A path with a suffix.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn delete(path: &Path) -> Result<(), StorageError> {
    for suffix in SUFFIXES {
        match std::fs::remove_file(with_suffix(path, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(unavailable(path, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn unavailable(path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::Unavailable(format!("{}: {error}", path.display()))
}

/// Nothing is read yet.
fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(LOCK_WAIT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// What a failure on a file means to the caller.
pub(super) fn failure(path: &Path, error: &rusqlite::Error) -> StorageError {
    let text = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StorageError::Damaged(text),
        Some(ErrorCode::DiskFull) => StorageError::Unavailable(format!(
            "{text}; free some space or keep fewer days (SW_CORE_RECORD_DATA_TTL, SW_CORE_METRICS_DATA_TTL)"
        )),
        Some(ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::TypeMismatch) | None => {
            StorageError::Refused(text)
        }
        Some(_) => StorageError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_decides_the_file() {
        use ModelKind::{Management, Metrics, Record};
        for (kind, bucket, name) in [
            (Management, 0, Some("meta.db")),
            (Metrics, 20_200_915, Some("metrics-20200915.db")),
            (Metrics, 2_020_091_510, Some("metrics-20200915.db")),
            (Metrics, 202_009_151_059, Some("metrics-20200915.db")),
            (Record, 20_200_915_105_930, Some("records-20200915.db")),
            (Metrics, 0, None),
            (Metrics, 20_201_399, None),
            (Record, 99_999_999_999_999, None),
            (Record, 19_690_915_105_930, None),
            (Record, u64::MAX, None),
        ] {
            let file = FileKey::of(kind, bucket);
            assert_eq!(file.map(FileKey::name).as_deref(), name, "{bucket}");
            if kind != Management {
                assert_eq!(name.and_then(FileKey::parse), file, "{bucket}");
            }
        }
        for other in [
            "metrics-2020.db",
            "metrics-20201399.db",
            "meta.db",
            "x-20200915.db",
            "metrics-20200915.db-wal",
        ] {
            assert_eq!(FileKey::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_range_opens_only_its_days() {
        let dir = tempfile::tempdir().unwrap();
        for day in [20_200_914, 20_200_915, 20_200_916] {
            std::fs::write(dir.path().join(format!("metrics-{day}.db")), "").unwrap();
        }
        let files = Files::scan(dir.path()).unwrap();
        for (range, days) in [
            (None, vec![20_200_914, 20_200_915, 20_200_916]),
            (Some((20_200_915, 20_200_915)), vec![20_200_915]),
            (
                Some((2_020_091_423, 2_020_091_500)),
                vec![20_200_914, 20_200_915],
            ),
            (Some((202_009_160_000, 202_009_170_000)), vec![20_200_916]),
            (Some((202_009_170_000, 202_009_160_000)), vec![]),
            (
                Some((0, 20_200_915)),
                vec![20_200_914, 20_200_915, 20_200_916],
            ),
        ] {
            let range = range.map(|(start, end)| BucketRange { start, end });
            let want: Vec<_> = days
                .into_iter()
                .map(|d| FileKey::Day(Family::Metrics, d))
                .collect();
            assert_eq!(files.days(Family::Metrics, range), want, "{range:?}");
            assert!(files.days(Family::Records, range).is_empty());
        }
    }
}
