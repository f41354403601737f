//! What is in a folder and whether SQLite finds every page of it in order; changes no row.

use std::path::Path;

use rusqlite::Connection;

use super::file::{FileKey, Files, LOG_SUFFIX, with_suffix};
use super::table::quoted;
use super::{aside, format};
use crate::storage::StorageError;
use crate::storage::transfer::Inspection;

/// Problems that are told of one file.
const TOLD: usize = 5;

/// Looks at every file of a folder that no other process uses. Blocks on file I/O.
pub(super) fn inspect(dir: &Path) -> Result<Inspection, StorageError> {
    let files = Files::scan_to_read(dir)?;
    let mut inspection = Inspection::default();
    let mut keys = files.all();
    if files.path(FileKey::Meta).exists() {
        keys.insert(0, FileKey::Meta);
    }
    for key in keys {
        let path = files.path(key);
        let file = || path.display();
        let looked = files
            .open_reader(key)
            .and_then(|conn| look(&conn, &path).map_err(|e| files.failure(key, &e)));
        match looked {
            Ok(look) => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let log = size(&with_suffix(&path, LOG_SUFFIX)).unwrap_or(0);
                let in_log = match log {
                    0 => String::new(),
                    log => format!(" ({:.1} MiB of them in its write-ahead log)", mib(log)),
                };
                let mib = mib(size(&path)? + log);
                let (version, rows) = (look.version, look.rows);
                let state = match (look.complaints.is_empty(), version < format::VERSION) {
                    (false, _) => "damaged",
                    (true, true) => "ok, brought up to date at the next start",
                    (true, false) => "ok",
                };
                let line = format!(
                    "{}: format {version}, {rows} rows, {mib:.1} MiB{in_log}, {state}",
                    file()
                );
                inspection.found.push(line);
                for complaint in look.complaints {
                    inspection.problems.push(format!("{}: {complaint}", file()));
                }
            }
            Err(error) => inspection.problems.push(error.to_string()),
        }
    }
    for path in aside::list(dir)? {
        inspection.problems.push(format!(
            "{}: was damaged and set aside; see docs/embedded-store.md, or delete it",
            path.display()
        ));
    }
    Ok(inspection)
}

struct Look {
    version: i64,
    rows: i64,
    complaints: Vec<String>,
}

fn look(conn: &Connection, path: &Path) -> rusqlite::Result<Look> {
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let complaints = check.query_map([], |row| row.get(0))?;
    let mut complaints = complaints.collect::<rusqlite::Result<Vec<String>>>()?;
    complaints.retain(|text| text != "ok");
    let mut look = Look {
        version: format::version(conn, path).unwrap_or(0),
        rows: 0,
        complaints,
    };
    if look.complaints.is_empty() {
        let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        for table in tables.query_map([], |row| row.get::<_, String>(0))? {
            let sql = format!("SELECT count(*) FROM {}", quoted(&table?));
            look.rows += conn.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
        }
    }
    Ok(look)
}

fn size(path: &Path) -> Result<u64, StorageError> {
    let metadata = std::fs::metadata(path);
    let metadata =
        metadata.map_err(|e| StorageError::Unavailable(format!("{}: {e}", path.display())))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{metric, schema};
    use super::super::{Backend, Embedded};
    use super::*;

    /// As after a process was killed.
    #[tokio::test]
    async fn what_lies_in_a_write_ahead_log_counts_and_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let schema = schema();
        let cpm = schema.model("service_cpm").unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        let rows: Vec<_> = (0..900)
            .map(|n| metric(cpm, &format!("{n:0>40}"), 202_009_130_000, 1))
            .collect();
        store.write(&rows).await.unwrap();
        for name in names(dir.path()) {
            std::fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
        }
        let log = copy.path().join("metrics-20200913.db-wal");
        let before = std::fs::read(&log).unwrap();
        assert!(before.len() > 50_000, "{}", before.len());
        let inspection = inspect(copy.path()).unwrap();
        assert!(inspection.problems.is_empty(), "{inspection:?}");
        let line = inspection.found.iter().find(|l| l.contains("20200913"));
        assert!(
            line.is_some_and(|l| l.contains("900 rows") && l.contains("in its write-ahead log")),
            "{inspection:?}"
        );
        assert!(std::fs::read(&log).unwrap() == before);
    }

    #[tokio::test]
    async fn every_file_is_told_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema();
        let cpm = schema.model("service_cpm").unwrap();
        let days = [
            202_009_130_000,
            202_009_140_000,
            202_009_150_000,
            202_009_160_000,
        ];
        {
            let store = Embedded::open(dir.path()).unwrap();
            let rows: Vec<_> = days
                .iter()
                .flat_map(|day| (0..900).map(|n| metric(cpm, &format!("{n:0>40}"), *day, 1)))
                .collect();
            store.write(&rows).await.unwrap();
        }
        let path = |name: &str| dir.path().join(name);
        let inspection = inspect(dir.path()).unwrap();
        assert!(inspection.problems.is_empty(), "{inspection:?}");
        assert_eq!(inspection.found.len(), 5);
        assert!(
            inspection.found[0].contains("meta.db: format 2, 0 rows"),
            "{inspection:?}"
        );
        assert!(inspection.found[1].contains("metrics-20200913.db: format 2, 900 rows"));

        let mut bytes = std::fs::read(path("metrics-20200913.db")).unwrap();
        let middle = bytes.len() - 8192;
        bytes[middle..].fill(0xee);
        std::fs::write(path("metrics-20200913.db"), bytes).unwrap();
        std::fs::write(path("metrics-20200914.db"), "garbage ".repeat(999)).unwrap();
        let newer = Connection::open(path("metrics-20200915.db")).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        std::fs::write(path("records-20200915.db.damaged-1"), "").unwrap();
        let before = names(dir.path());
        let inspection = inspect(dir.path()).unwrap();
        assert_eq!(names(dir.path()), before);
        for (name, text) in [
            ("metrics-20200913.db", ""),
            ("metrics-20200914.db", "not a database"),
            ("metrics-20200915.db", "format 99"),
            ("records-20200915.db.damaged-1", "set aside"),
        ] {
            let is_told = |p: &String| p.contains(name) && p.contains(text);
            assert!(
                inspection.problems.iter().any(is_told),
                "{name}: {inspection:?}"
            );
        }
        assert!(
            inspection
                .found
                .iter()
                .any(|f| f.contains("metrics-20200916.db: format 2, 900 rows"))
        );
    }

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = dir
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    }
}
