//! A row: one document or table row of a storage model, the only thing that is ever written.

use std::sync::Arc;

use bytes::Bytes;

use super::schema::Model;

/// One column's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Long(i64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Bytes),
}

impl Cell {
    /// Text from anything string-like.
    pub fn text(value: impl Into<Arc<str>>) -> Cell {
        Cell::Text(value.into())
    }

    /// The number, a double truncated; `None` if this is no number.
    pub fn as_long(&self) -> Option<i64> {
        match self {
            Cell::Long(n) => Some(*n),
            Cell::Double(n) => Some(*n as i64),
            _ => None,
        }
    }

    /// The number as a double.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Cell::Long(n) => Some(*n as f64),
            Cell::Double(n) => Some(*n),
            _ => None,
        }
    }

    /// The text, `None` for other kinds.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Cell::Text(t) => Some(t),
            _ => None,
        }
    }
}

/// A row to write or as read. Writing is idempotent: the whole row replaces what has its id.
#[derive(Debug, Clone)]
pub struct Row {
    pub model: Arc<Model>,
    /// Document id (8.1.0 spec, C.3).
    pub id: String,
    /// Decides the day it is stored under; stored itself if the model says so. 0 for models without time.
    pub time_bucket: u64,
    /// One per column of the model, in its order.
    pub cells: Vec<Cell>,
}

impl Row {
    /// Value of a column; `Null` if the model has no such column.
    pub fn cell(&self, column: &str) -> &Cell {
        self.model
            .column_index(column)
            .and_then(|i| self.cells.get(i))
            .unwrap_or(&Cell::Null)
    }
}

/// Where to find a row.
#[derive(Debug, Clone)]
pub struct RowKey {
    pub model: Arc<Model>,
    pub id: String,
    /// Bucket whose day the row is stored under; `None` when the day is unknown (traffic and alias rows).
    pub time_bucket: Option<u64>,
}
