//! Connections that read, lent to one query at a time and kept for the next one.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::READERS;
use super::file::{FileKey, Files};
use crate::storage::StorageError;

/// Connections kept open while nobody reads: as many as there can be at once for each file of a week of metrics and three days
/// of records. With fewer, questions about a week would open and close files all the time.
const IDLE: usize = READERS as usize * (8 + 4);

/// Least recently used first.
#[derive(Debug)]
pub(super) struct ReadPool {
    pub(super) files: Arc<Files>,
    idle: Mutex<Vec<(FileKey, Connection)>>,
    /// Held by whoever has a file open alone.
    alone: Mutex<()>,
}

impl ReadPool {
    pub(super) fn new(files: Arc<Files>) -> ReadPool {
        ReadPool {
            files,
            idle: Mutex::default(),
            alone: Mutex::default(),
        }
    }

    /// Runs a query on a file; `None` if there is no such file.
    pub(super) fn query<T>(
        &self,
        key: FileKey,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StorageError> {
        if !self.files.contains(key) {
            return Ok(None);
        }
        let run = |conn: &Connection| query(conn).map_err(|e| self.files.failure(key, &e));
        let opened = match self.take(key) {
            Some(conn) => Ok(conn),
            None => self.files.open_reader(key),
        };
        let conn = match opened {
            Ok(conn) => conn,
            Err(error @ StorageError::Unavailable(_)) => {
                let _turn = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
                let alone = self.files.open_alone(key).map_err(|_| error)?;
                return run(&alone).map(Some);
            }
            Err(error) => return Err(error),
        };
        let answer = run(&conn)?;
        self.put(key, conn);
        Ok(Some(answer))
    }

    fn take(&self, key: FileKey) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(k, _)| *k == key)?;
        Some(idle.remove(at).1)
    }

    fn put(&self, key: FileKey, conn: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (idle.len() >= IDLE).then(|| idle.remove(0));
        idle.push((key, conn));
        // Closing can take a while: not under the lock.
        drop(idle);
        drop(oldest);
    }

    /// Closes what is idle on a file.
    pub(super) fn close(&self, key: FileKey) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(k, _)| *k != key);
    }
}
