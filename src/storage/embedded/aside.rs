//! Damaged files that were set aside: `records-20200915.db.damaged-1` beside the others, until its day expires.

use std::path::{Path, PathBuf};

use super::file::{SUFFIXES, with_suffix};
use crate::storage::StorageError;

const MARK: &str = ".damaged-";
/// Damaged files of one day that are kept; a disk that spoils more is no place for data.
const KEPT: usize = 9;

/// Renames a file, with its write-ahead log, to a name that is free, and returns that.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StorageError> {
    let free = (1..=KEPT)
        .map(|n| with_suffix(path, &format!("{MARK}{n}")))
        .find(|kept| !kept.exists());
    let kept = free.ok_or_else(|| {
        StorageError::Damaged(format!(
            "{}: {KEPT} damaged files of this name were set aside already; check the disk, then move them away",
            path.display()
        ))
    })?;
    for suffix in SUFFIXES {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&kept, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::Unavailable(format!(
                    "{}: cannot be renamed: {e}",
                    path.display()
                )));
            }
            _ => {}
        }
    }
    Ok(kept)
}

/// What was set aside in a folder, sorted.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |e: std::io::Error| StorageError::Unavailable(format!("{}: {e}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_log = SUFFIXES.iter().any(|suffix| {
            !suffix.is_empty() && path.as_os_str().to_string_lossy().ends_with(suffix)
        });
        if !is_log && original(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Name of the file that one was before it was set aside.
pub(super) fn original(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    name.split_once(MARK).map(|(original, _)| original)
}
