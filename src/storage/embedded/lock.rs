//! One process per data directory: two would overwrite what the other holds in memory.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::Answer;
use crate::storage::StorageError;

/// Name of the file that says that the directory is in use.
const LOCK: &str = "oap.lock";
/// How long a process that is just ending may keep it.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Claims a directory for this process.
pub(super) fn claim(dir: &Path) -> Answer<File> {
    let path = dir.join(LOCK);
    let unusable = |error: &dyn std::fmt::Display| {
        StorageError::Unavailable(format!("{} cannot be locked: {error}", path.display()))
    };
    let file = File::create(&path).map_err(|e| unusable(&e))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StorageError::Unavailable(format!(
                    "another process uses {}",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let claimed = claim(dir.path()).unwrap();
        let refused = claim(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another process uses"), "{refused}");
        drop(claimed);
        assert!(claim(dir.path()).is_ok());
    }
}
