//! Writing: rows by file, each file's rows in one transaction. One writer at a time, as SQLite wants it.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::file::{Family, FileKey, Files};
use super::table;
use crate::model::row::Row;
use crate::model::schema::Model;
use crate::storage::{StorageError, WriteOutcome};

/// Files kept open to write: today's, those of late data around midnight, and settings.
const OPEN: usize = 6;

/// A file open to write and the tables known to be as their models want them.
#[derive(Debug)]
struct OpenFile {
    key: FileKey,
    conn: Connection,
    ready: HashMap<String, Ready>,
}

#[derive(Debug)]
struct Ready {
    model: Arc<Model>,
    insert: Arc<str>,
}

/// The only one who writes.
#[derive(Debug)]
pub(super) struct Writer {
    files: Arc<Files>,
    /// Least recently used first.
    open: Vec<OpenFile>,
}

impl Writer {
    pub(super) fn new(files: Arc<Files>) -> Writer {
        Writer {
            files,
            open: Vec::new(),
        }
    }

    /// Stores rows and says for each what became of it. Fails if no file can be written for now.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<Vec<WriteOutcome>, StorageError> {
        let mut outcomes = vec![WriteOutcome::Stored; rows.len()];
        let mut batches: Vec<(FileKey, FileBatch<'_>)> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            match destination(row) {
                Ok(key) => match batches.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, batch)) => batch.push(at, row),
                    None => {
                        let mut batch = FileBatch::default();
                        batch.push(at, row);
                        batches.push((key, batch));
                    }
                },
                Err(reason) => set(&mut outcomes, at, WriteOutcome::Rejected(reason)),
            }
        }
        let mut unavailable = None;
        let mut has_stored = batches.is_empty();
        for (key, batch) in &batches {
            let mut refused = Vec::new();
            match self.file(*key, |file| file.store(batch, &mut refused)) {
                Ok(()) => {
                    has_stored = true;
                    for (at, reason) in refused {
                        set(&mut outcomes, at, WriteOutcome::Rejected(reason));
                    }
                }
                Err(error) => {
                    let reason = error.to_string();
                    for (at, _) in batch.models.iter().flat_map(|m| &m.rows) {
                        set(&mut outcomes, *at, WriteOutcome::Retry(reason.clone()));
                    }
                    match error {
                        StorageError::Unavailable(_) => unavailable = Some(error),
                        _ => has_stored = true,
                    }
                }
            }
        }
        match unavailable {
            Some(error) if !has_stored => Err(error),
            _ => Ok(outcomes),
        }
    }

    /// Creates the tables of models in a file.
    pub(super) fn ensure(
        &mut self,
        key: FileKey,
        models: &[Arc<Model>],
    ) -> Result<(), StorageError> {
        self.file(key, |file| {
            let tx = file
                .conn
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            for model in models {
                table::ensure(&tx, model)?;
            }
            tx.commit()
        })
    }

    /// Runs one statement on a file and says how many rows it changed.
    pub(super) fn execute(
        &mut self,
        key: FileKey,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<usize, StorageError> {
        self.file(key, |file| file.conn.prepare_cached(sql)?.execute(params))
    }

    /// What SQLite may hold in this process, in bytes; pages that were read or written are given up first.
    pub(super) fn limit_memory(&mut self, bytes: u64) -> Result<(), StorageError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.file(FileKey::Meta, |file| {
            let conn = &file.conn;
            conn.pragma_update_and_check(None, "soft_heap_limit", bytes, |_| Ok(()))
        })
    }

    /// Closes a file if it is open.
    pub(super) fn close(&mut self, key: FileKey) {
        self.open.retain(|file| file.key != key);
    }

    /// Runs work on a file. After a failure nothing half done is remembered. The file stays open if it can be used later: on a full
    /// disk it could not be opened again, not even to read.
    fn file<T>(
        &mut self,
        key: FileKey,
        work: impl FnOnce(&mut OpenFile) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let mut file = match self.open.iter().position(|file| file.key == key) {
            Some(at) => self.open.remove(at),
            None => {
                let conn = self.files.open_writer(key)?;
                if let FileKey::Day(Family::Metrics, day) = key {
                    self.files.unclean.used(day);
                }
                OpenFile {
                    key,
                    conn,
                    ready: HashMap::new(),
                }
            }
        };
        let done = work(&mut file).map_err(|e| self.files.failure(key, &e));
        if done.is_err() {
            file.ready.clear();
        }
        if matches!(done, Ok(_) | Err(StorageError::Unavailable(_))) {
            if self.open.len() >= OPEN {
                self.open.remove(0);
            }
            self.open.push(file);
        }
        done
    }
}

/// File of a row, or why it can be in none.
fn destination(row: &Row) -> Result<FileKey, String> {
    let key = FileKey::of(row.model.kind, row.time_bucket)
        .ok_or_else(|| format!("time bucket {} is no date", row.time_bucket))?;
    match table::objection(row) {
        Some(reason) => Err(reason),
        None => Ok(key),
    }
}

fn set(outcomes: &mut [WriteOutcome], at: usize, outcome: WriteOutcome) {
    if let Some(slot) = outcomes.get_mut(at) {
        *slot = outcome;
    }
}

/// Rows of one file by model, in the order they came: of two with one id, the later one stays.
#[derive(Default)]
struct FileBatch<'a> {
    models: Vec<ModelBatch<'a>>,
    by_model: HashMap<*const Model, usize>,
}

struct ModelBatch<'a> {
    model: &'a Arc<Model>,
    rows: Vec<(usize, &'a Row)>,
}

impl<'a> FileBatch<'a> {
    fn push(&mut self, at: usize, row: &'a Row) {
        let next = self.models.len();
        let index = *self.by_model.entry(Arc::as_ptr(&row.model)).or_insert(next);
        if index == next {
            self.models.push(ModelBatch {
                model: &row.model,
                rows: Vec::new(),
            });
        }
        if let Some(batch) = self.models.get_mut(index) {
            batch.rows.push((at, row));
        }
    }
}

impl OpenFile {
    /// Stores a batch whole, but for rows that can never be stored.
    fn store(
        &mut self,
        batch: &FileBatch<'_>,
        refused: &mut Vec<(usize, String)>,
    ) -> rusqlite::Result<()> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for part in &batch.models {
            let insert = match self.ready.get(&part.model.name) {
                Some(ready) if Arc::ptr_eq(&ready.model, part.model) => Arc::clone(&ready.insert),
                _ => {
                    table::ensure(&tx, part.model)?;
                    let insert: Arc<str> = table::insert_sql(part.model).into();
                    let ready = Ready {
                        model: Arc::clone(part.model),
                        insert: Arc::clone(&insert),
                    };
                    self.ready.insert(part.model.name.clone(), ready);
                    insert
                }
            };
            let mut statement = tx.prepare_cached(&insert)?;
            for (at, row) in &part.rows {
                let stored =
                    table::bind(&mut statement, row).and_then(|()| statement.raw_execute());
                match stored {
                    Ok(_) => {}
                    Err(e) if is_about_the_row(&e) => refused.push((*at, e.to_string())),
                    Err(e) => return Err(e),
                }
            }
        }
        tx.commit()
    }
}

fn is_about_the_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

#[cfg(test)]
mod tests {
    use super::super::file::Family;
    use super::super::testing::{Store, cells, row};
    use super::*;
    use crate::model::row::Cell;

    #[test]
    fn bad_rows_are_rejected_and_the_rest_is_stored() {
        let store = Store::new();
        let mut writer = Writer::new(Arc::clone(&store.files));
        let cpm = |id: &str, bucket| {
            row(
                &store.model("service_cpm"),
                id,
                bucket,
                &[("entity_id", Cell::text("a")), ("value", Cell::Long(1))],
            )
        };
        let mut short = cpm("202009151059_a", 202_009_151_059);
        short.cells.pop();
        let mut nan = row(
            &store.model("instance_jvm_cpu"),
            "202009151059_a",
            202_009_151_059,
            &cells(&[("entity_id", "a")]),
        );
        nan.cells.iter_mut().for_each(|c| {
            if *c == Cell::Null {
                *c = Cell::Double(f64::NAN);
            }
        });
        let rows = [
            cpm("202009151059_a", 202_009_151_059),
            cpm("0_a", 0),
            cpm("99999999_a", 99_999_999),
            cpm("202009151059_b", 202_009_151_059),
            cpm("202009151058_a", 202_009_151_059),
            short,
            nan,
            row(&store.model("segment"), "", 20_200_915_105_900, &[]),
            row(&store.model("segment"), "s", 20_200_915_105_900, &[]),
        ];
        let outcomes = writer.write(&rows).unwrap();
        let reasons: Vec<_> = outcomes
            .iter()
            .map(|o| match o {
                WriteOutcome::Stored => "stored",
                WriteOutcome::Retry(r) | WriteOutcome::Rejected(r) => r,
            })
            .collect();
        assert_eq!(
            reasons,
            [
                "stored",
                "time bucket 0 is no date",
                "time bucket 99999999 is no date",
                "id is not made of time bucket and entity",
                "id is not made of time bucket and entity",
                "row has 2 cells for 3 columns",
                "a value is not a finite number",
                "row has no id",
                "stored",
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_asks_for_a_retry_and_spares_the_others() {
        let store = Store::new();
        std::fs::write(
            store.dir.path().join("records-20200915.db"),
            "garbage ".repeat(999),
        )
        .unwrap();
        let mut writer = Writer::new(Arc::clone(&store.files));
        let traffic = row(
            &store.model("service_traffic"),
            "YQ==.1",
            202_009_151_059,
            &[],
        );
        let segment = row(&store.model("segment"), "s", 20_200_915_105_900, &[]);
        let outcomes = writer.write(&[segment, traffic]).unwrap();
        assert!(
            matches!(&outcomes[..], [WriteOutcome::Retry(e), WriteOutcome::Stored] if e.contains("records-20200915.db")),
            "{outcomes:?}"
        );
    }

    #[test]
    fn a_full_disk_keeps_rows_waiting_and_the_stored_ones_readable() {
        let store = Store::new();
        let mut writer = Writer::new(Arc::clone(&store.files));
        let segment = |n: usize| {
            let data = Cell::Bytes(vec![7; 100_000].into());
            let id = format!("s{n}");
            row(
                &store.model("segment"),
                &id,
                20_200_915_105_900,
                &[("data_binary", data)],
            )
        };
        let stored = [WriteOutcome::Stored];
        assert_eq!(writer.write(&[segment(0)]).unwrap(), stored);
        let limit = |writer: &Writer, pages: i64| {
            let conn = &writer.open.last().unwrap().conn;
            let set = conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            set.unwrap();
        };
        // A file cannot shrink: this is what it has.
        limit(&writer, 1);
        for _ in 0..3 {
            let error = writer.write(&[segment(1)]).unwrap_err();
            assert!(
                matches!(&error, StorageError::Unavailable(e)
                    if e.contains("records-20200915.db") && e.contains("SW_CORE_RECORD_DATA_TTL")),
                "{error}"
            );
            let found = store.load(&store.model("segment"), &["s0", "s1"], None);
            assert!(found[0].is_some() && found[1].is_none());
        }
        // Other files can have room.
        let traffic = row(
            &store.model("service_traffic"),
            "YQ==.1",
            202_009_151_059,
            &[],
        );
        let outcomes = writer.write(&[segment(1), traffic]).unwrap();
        assert!(
            matches!(&outcomes[..], [WriteOutcome::Retry(e), WriteOutcome::Stored] if e.contains("full")),
            "{outcomes:?}"
        );
        writer.open.rotate_left(1);
        limit(&writer, 1_000_000);
        assert_eq!(writer.write(&[segment(1)]).unwrap(), stored);
    }

    #[test]
    fn a_column_that_a_model_gains_is_added_to_an_existing_table() {
        let store = Store::new();
        let mut writer = Writer::new(Arc::clone(&store.files));
        let old = store.model("service_cpm");
        let new = {
            let mut model = Model::clone(&old);
            let extra = crate::model::schema::Column::new(
                "it's \"new\"",
                crate::model::schema::ColumnType::Keyword,
            );
            model.columns.push(extra);
            Arc::new(model)
        };
        let minute = 202_009_151_059;
        let entity =
            |name: &'static str| [("entity_id", Cell::text(name)), ("value", Cell::Long(7))];
        let mut wide = row(&new, "202009151059_b", minute, &entity("b"));
        *wide.cells.last_mut().unwrap() = Cell::text("x");
        for rows in [
            vec![row(&old, "202009151059_a", minute, &entity("a"))],
            vec![wide.clone()],
        ] {
            assert_eq!(writer.write(&rows).unwrap(), [WriteOutcome::Stored]);
        }
        let loaded = store.load(&new, &["202009151059_a", "202009151059_b"], Some(minute));
        let last: Vec<_> = loaded
            .iter()
            .map(|r| r.as_ref().unwrap().cells.last().unwrap())
            .collect();
        assert_eq!(last, [&Cell::Null, &Cell::text("x")]);
    }

    #[test]
    fn few_files_stay_open() {
        let store = Store::new();
        let mut writer = Writer::new(Arc::clone(&store.files));
        for day in 1..=20 {
            let bucket = (20_200_900 + day) * 10_000;
            let rows = [row(&store.model("service_traffic"), "YQ==.1", bucket, &[])];
            assert_eq!(writer.write(&rows).unwrap(), [WriteOutcome::Stored]);
        }
        assert_eq!(writer.open.len(), OPEN);
        assert_eq!(store.files.days(Family::Metrics, None).len(), 20);
    }
}
