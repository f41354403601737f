//! Rows on their way from one store to another: read page by page, as one line of JSON each.
//!
//! The fields of a line are those of a document of 8.1.0, whatever store it comes from, so that every store can take it.

use std::collections::HashMap;
use std::io::Write as _;

use serde::Deserialize;

use super::elasticsearch::document::{self, Source};
use crate::model::row::Row;
use crate::model::schema::Schema;

/// Some rows of a model and day.
#[derive(Debug)]
pub struct RowPage {
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// What is in a store and what is wrong with it, as lines for people.
#[derive(Debug, Default)]
pub struct Inspection {
    pub found: Vec<String>,
    pub problems: Vec<String>,
}

/// Why a line is no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("is not a line of an export: {0}")]
    Malformed(String),
    /// Nothing defines it here.
    #[error("model {0} is not known")]
    UnknownModel(String),
    #[error(
        "model {model} has no field {field}; import with the configuration that was exported with"
    )]
    UnknownField { model: String, field: String },
}

#[derive(Deserialize)]
struct Line {
    model: String,
    id: String,
    time_bucket: u64,
    fields: Source,
}

/// Appends a row with its line break.
pub fn append_line(out: &mut Vec<u8>, row: &Row) -> std::io::Result<()> {
    out.extend_from_slice(b"{\"model\":");
    document::append_text(out, &row.model.name)?;
    out.extend_from_slice(b",\"id\":");
    document::append_text(out, &row.id)?;
    write!(out, ",\"time_bucket\":{},\"fields\":", row.time_bucket)?;
    document::append(out, row)?;
    // The document ends its line itself.
    out.pop();
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// The row of a line.
pub fn read_line(schema: &Schema, line: &[u8]) -> Result<Row, LineError> {
    let malformed = |e: &dyn std::fmt::Display| LineError::Malformed(e.to_string());
    let line: Line = serde_json::from_slice(line).map_err(|e| malformed(&e))?;
    let Some(model) = schema.model(&line.model) else {
        return Err(LineError::UnknownModel(line.model));
    };
    let is_known = |name: &str| {
        (model.stores_time_bucket && name == "time_bucket") || model.column_index(name).is_some()
    };
    if let Some(field) = line.fields.keys().find(|name| !is_known(name)) {
        return Err(LineError::UnknownField {
            model: line.model,
            field: field.clone(),
        });
    }
    Ok(Row {
        cells: document::cells(model, &line.fields).map_err(|e| malformed(&e))?,
        model: model.clone(),
        id: line.id,
        time_bucket: line.time_bucket,
    })
}

/// Rows by model.
#[derive(Debug, Default)]
pub struct Tally(HashMap<String, u64>);

impl Tally {
    pub fn add(&mut self, model: &str) {
        match self.0.get_mut(model) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(model.to_owned(), 1)),
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn models(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut models: Vec<_> = self.0.iter().collect();
        models.sort();
        let models = models
            .iter()
            .map(|(model, count)| format!("{model} {count}"));
        f.write_str(&models.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::row::Cell;

    #[test]
    fn a_row_comes_back_out_of_its_line() {
        let schema = Schema::build(&[], &[], &[], false);
        for (model, id, time_bucket, column, cell) in [
            (
                "segment",
                "s \"1\"",
                20_200_915_105_930,
                "data_binary",
                Cell::Bytes(Bytes::from_static(b"\0\xff")),
            ),
            (
                "segment",
                "s",
                20_200_915_105_930,
                "endpoint_name",
                Cell::text("/ä\n"),
            ),
            (
                "service_traffic",
                "YQ==.1",
                202_009_151_059,
                "name",
                Cell::text("a"),
            ),
            ("ui_template", "APM", 0, "disabled", Cell::Long(1)),
        ] {
            let model = schema.model(model).unwrap();
            let mut row = Row {
                model: model.clone(),
                id: id.to_owned(),
                time_bucket,
                cells: vec![Cell::Null; model.columns.len()],
            };
            row.cells[model.column_index(column).unwrap()] = cell;
            let mut line = vec![];
            append_line(&mut line, &row).unwrap();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let read = read_line(&schema, &line).unwrap();
            assert_eq!(
                (read.id, read.time_bucket, read.cells),
                (row.id, row.time_bucket, row.cells)
            );
        }
    }

    #[test]
    fn what_is_no_row_is_told() {
        let schema = Schema::build(&[], &[], &[], false);
        for (line, want) in [
            ("{\"model\":", "not a line of an export"),
            ("{}", "missing field `model`"),
            (
                r#"{"model":"nope","id":"1","time_bucket":0,"fields":{}}"#,
                "model nope is not known",
            ),
            (
                r#"{"model":"segment","id":"1","time_bucket":0,"fields":{"colour":1}}"#,
                "model segment has no field colour",
            ),
            (
                r#"{"model":"service_traffic","id":"1","time_bucket":0,"fields":{"time_bucket":1}}"#,
                "has no field time_bucket",
            ),
            (
                r#"{"model":"segment","id":"1","time_bucket":0,"fields":{"latency":"long"}}"#,
                "column latency of model segment",
            ),
        ] {
            let error = read_line(&schema, line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{line}: {error}");
        }
    }
}
