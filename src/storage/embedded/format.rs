//! The version of the layout inside a file: kept in SQLite's `user_version`, brought up to date when the store opens.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::file::failure;
use super::table;
use crate::storage::StorageError;

/// Version that this program writes.
pub(super) const VERSION: i64 = 2;
/// Bytes of a page; several segments fit in one.
const PAGE_BYTES: i64 = 8 * 1024;

/// The version of a file, 0 if it is empty. One that is newer or not of this store is an error.
pub(super) fn version(conn: &Connection, path: &Path) -> Result<i64, StorageError> {
    let read = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = read("PRAGMA user_version").map_err(|e| failure(path, &e))?;
    let tables = read("SELECT count(*) FROM sqlite_schema").map_err(|e| failure(path, &e))?;
    match version {
        0 if tables > 0 => Err(StorageError::Refused(format!(
            "{}: not a file of this store; move it to another folder",
            path.display()
        ))),
        0..=VERSION => Ok(version),
        _ => Err(StorageError::Refused(format!(
            "{}: has format {version}, this program knows formats up to {VERSION}; use a newer program, or move the \
             file to another folder to go on without its day",
            path.display()
        ))),
    }
}

/// Makes an empty file one of this store, and a file of an older version one of this version. All or nothing: a process that is
/// killed meanwhile leaves the older version.
pub(super) fn bring_up_to_date(conn: &mut Connection, version: i64) -> rusqlite::Result<()> {
    match version {
        VERSION => Ok(()),
        0 => {
            conn.pragma_update(None, "page_size", PAGE_BYTES)?;
            conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            conn.pragma_update(None, "user_version", VERSION)
        }
        _ => {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            one_index_for_entities(&tx)?;
            tx.pragma_update(None, "user_version", VERSION)?;
            tx.commit()
        }
    }
}

/// 1 → 2: one index of segments by service has instance and endpoint as well, instead of an index for each of the three.
fn one_index_for_entities(conn: &Connection) -> rusqlite::Result<()> {
    for entity in ["service_id", "service_instance_id", "endpoint_id"] {
        conn.execute_batch(&format!("DROP INDEX IF EXISTS segment_by_{entity}"))?;
    }
    if table::has(conn, table::SEGMENT, &[])? {
        table::ensure_segment_index(conn)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::file::{Family, FileKey};
    use super::super::testing::{Store, row};
    use super::*;
    use crate::model::row::Cell;

    fn indexes(conn: &Connection) -> Vec<String> {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'segment' ORDER BY name";
        let mut statement = conn.prepare(sql).unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// As the program of the first version made them.
    fn made_older(path: &Path) {
        let listed = "time_bucket, start_time, latency, is_error";
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("DROP INDEX segment_by_service_id; PRAGMA user_version = 1")
            .unwrap();
        for entity in ["service_id", "service_instance_id", "endpoint_id"] {
            conn.execute_batch(&format!(
                "CREATE INDEX segment_by_{entity} ON segment (seq >> 16, {entity}, {listed})"
            ))
            .unwrap();
        }
    }

    #[test]
    fn an_older_file_gets_the_layout_of_this_version_and_keeps_its_rows() {
        let store = Store::new();
        let key = FileKey::Day(Family::Records, 20_200_915);
        let cells = [("service_id", Cell::text("a.1"))];
        store.write(&[row(
            &store.model("segment"),
            "s",
            20_200_915_105_900,
            &cells,
        )]);
        let path = store.files.path(key);
        let wanted = indexes(&Connection::open(&path).unwrap());
        made_older(&path);
        assert_ne!(indexes(&Connection::open(&path).unwrap()), wanted);

        drop(store.files.open_writer(key).unwrap());
        let conn = Connection::open(&path).unwrap();
        assert_eq!(indexes(&conn), wanted);
        assert_eq!(version(&conn, &path).unwrap(), VERSION);
        let found = store.load(&store.model("segment"), &["s"], None);
        assert_eq!(found[0].as_ref().unwrap().cell("service_id"), &cells[0].1);
    }

    #[test]
    fn a_file_without_segments_only_changes_its_version() {
        let store = Store::new();
        let path = store.files.path(FileKey::Meta);
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        drop(conn);
        let conn = store.files.open_writer(FileKey::Meta).unwrap();
        assert_eq!(version(&conn, &path).unwrap(), VERSION);
    }

    #[test]
    fn foreign_and_newer_files_are_named() {
        let store = Store::new();
        let path = store.files.path(FileKey::Meta);
        for (sql, part) in [
            ("CREATE TABLE other (a)", "not a file of this store"),
            ("PRAGMA user_version = 3", "has format 3"),
        ] {
            std::fs::remove_file(&path).unwrap();
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            for result in [
                store.files.open_writer(FileKey::Meta),
                store.files.open_reader(FileKey::Meta),
            ] {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("meta.db") && error.contains(part), "{error}");
            }
        }
    }
}
