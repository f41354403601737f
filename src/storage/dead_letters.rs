//! Rows that a store refuses for good, with the reason: lines of JSON in a file that a person can read, within a bound.
//!
//! When the file is half of the bound it becomes `<file>.1`, in the place of the one before. Where nothing can be written
//! (a read-only file system, a full disk) rows are counted as lost instead.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use prometheus::{IntCounterVec, Opts};
use serde_json::{Map, Value, json};

use crate::model::row::{Cell, Row};
use crate::telemetry::{Registers, Throttle};
use crate::util::clock::Clock;

/// A refused row and why it was refused.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub row: Row,
    pub reason: String,
}

/// The file of refused rows.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    /// Of both files together; 0 keeps nothing.
    max_bytes: u64,
    /// One writes at a time.
    turn: Mutex<()>,
    letters: IntCounterVec,
    clock: Clock,
    log: Throttle,
}

impl DeadLetters {
    /// Opens nothing yet. Fails if the name of its counter is taken.
    pub fn new(
        path: PathBuf,
        max_bytes: u64,
        clock: Clock,
        registry: &impl Registers,
    ) -> prometheus::Result<DeadLetters> {
        let opts = Opts::new(
            "storage_dead_letters_total",
            "Rows that the store refused for good, by whether they are in the file of dead letters",
        );
        let letters = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(letters.clone()))?;
        Ok(DeadLetters {
            path,
            max_bytes,
            turn: Mutex::default(),
            letters,
            log: Throttle::new(clock.clone()),
            clock,
        })
    }

    /// Where the rows are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends rows and counts which are kept.
    pub async fn keep(self: &Arc<Self>, letters: Vec<DeadLetter>) {
        let count = letters.len() as u64;
        let this = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || this.append(&letters)).await;
        let (kept, error) = match written {
            Ok((kept, error)) => (kept, error.map(|e| e.to_string())),
            Err(error) => (0, Some(error.to_string())),
        };
        self.letters.with_label_values(&["kept"]).inc_by(kept);
        let lost = count - kept;
        self.letters.with_label_values(&["lost"]).inc_by(lost);
        if let Some(error) = error
            && let Some(held_back) = self.log.admit()
        {
            tracing::warn!(
                file = %self.path.display(),
                lost,
                error,
                held_back,
                "refused rows cannot be kept for inspection, they are only counted"
            );
        }
    }

    /// How many of the letters, from the first, are in the file, and what went wrong with the rest.
    fn append(&self, letters: &[DeadLetter]) -> (u64, Option<std::io::Error>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = 0;
        let mut file: Option<(BufWriter<File>, u64)> = None;
        let mut write_all = || -> std::io::Result<()> {
            for letter in letters {
                let line = self.line(letter);
                let bytes = line.len() as u64;
                if bytes > self.max_bytes / 2 {
                    continue;
                }
                let (mut open, mut size) = match file.take() {
                    Some(open) => open,
                    None => self.open()?,
                };
                if size + bytes > self.max_bytes / 2 {
                    open.flush()?;
                    std::fs::rename(&self.path, self.older())?;
                    (open, size) = self.open()?;
                }
                open.write_all(&line)?;
                kept += 1;
                file = Some((open, size + bytes));
            }
            match file.take() {
                Some((mut open, _)) => open.flush(),
                None => Ok(()),
            }
        };
        match write_all() {
            Ok(()) => (kept, None),
            // What was buffered may be missing in the file.
            Err(error) => (0, Some(error)),
        }
    }

    fn open(&self) -> std::io::Result<(BufWriter<File>, u64)> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((BufWriter::new(file), size))
    }

    fn older(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }

    fn line(&self, letter: &DeadLetter) -> Vec<u8> {
        let DeadLetter { row, reason } = letter;
        let columns = row.model.columns.iter().zip(&row.cells);
        let fields: Map<String, Value> = columns
            .map(|(column, cell)| (column.name.to_owned(), value(cell)))
            .collect();
        let at = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        let letter = json!({
            "at": at.to_string(),
            "model": row.model.name,
            "reason": reason,
            "id": row.id,
            "time_bucket": row.time_bucket,
            "row": fields,
        });
        let mut line = letter.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Long(n) => json!(n),
        Cell::Double(n) => json!(n),
        Cell::Text(text) => json!(&**text),
        Cell::Bytes(bytes) => json!(STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::model::schema::Schema;

    fn letter(id: usize) -> DeadLetter {
        let schema = Schema::build(&[], &[], &[], false);
        DeadLetter {
            row: Row {
                model: Arc::clone(schema.model("endpoint_traffic").unwrap()),
                id: id.to_string(),
                time_bucket: 202_009_151_059,
                cells: vec![Cell::text("b3JkZXI=.1"), Cell::text("/a")],
            },
            reason: "status 400, \"mapper\"".to_owned(),
        }
    }

    fn counts(registry: &Registry) -> Vec<f64> {
        let families = registry.gather();
        let metrics = families[0].get_metric().iter();
        metrics.map(|m| m.get_counter().get_value()).collect()
    }

    fn letters(path: PathBuf, max_bytes: u64) -> (Registry, Arc<DeadLetters>) {
        let registry = Registry::new();
        let letters = DeadLetters::new(path, max_bytes, Clock::System, &registry).unwrap();
        (registry, Arc::new(letters))
    }

    #[tokio::test]
    async fn a_refused_row_can_be_read_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/dead-letters.jsonl");
        let (registry, letters) = letters(path.clone(), 1 << 20);
        letters.keep(vec![letter(1), letter(2)]).await;
        letters.keep(vec![letter(3)]).await;
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["id"], "3");
        assert_eq!(lines[2]["model"], "endpoint_traffic");
        assert_eq!(lines[2]["reason"], "status 400, \"mapper\"");
        assert_eq!(lines[2]["time_bucket"], 202_009_151_059_u64);
        assert_eq!(
            lines[2]["row"],
            json!({"service_id": "b3JkZXI=.1", "name": "/a"})
        );
        assert_eq!(counts(&registry), [3.0, 0.0]);
    }

    #[tokio::test]
    async fn both_files_together_stay_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        let (registry, letters) = letters(path.clone(), 4000);
        for id in 0..100 {
            letters.keep(vec![letter(id), letter(1000 + id)]).await;
        }
        let newest = std::fs::read_to_string(&path).unwrap();
        let older = std::fs::read_to_string(dir.path().join("d.jsonl.1")).unwrap();
        assert!(newest.len() <= 2000 && older.len() <= 2000 && older.len() > 1000);
        assert!(newest.contains("\"1099\""), "{newest}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(counts(&registry), [200.0, 0.0]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        // A file where a folder should be: as on a read-only file system nothing can be created.
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let (registry, nowhere) = letters(file.join("d.jsonl"), 1 << 20);
        nowhere.keep(vec![letter(1), letter(2)]).await;
        assert_eq!(counts(&registry), [0.0, 2.0]);
        let (registry, off) = letters(dir.path().join("off.jsonl"), 0);
        off.keep(vec![letter(1)]).await;
        assert_eq!(counts(&registry), [0.0, 1.0]);
        assert!(!off.path().exists());
    }
}
