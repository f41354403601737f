//! How a model looks as a table: columns, keys, indexes, and rows in and out of SQLite.
//!
//! Names are those of the model, so any SQLite tool shows what 8.1.0 would store. A metric is keyed by bucket and entity,
//! which its id consists of: rows of one minute lie together, so writing appends. Everything else is keyed by its id, super
//! datasets by bucket and id: a row that is written again has the same bucket, and ids alone would scatter writes over the file.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row as SqlRow};

use crate::model::row::{Cell, Row};
use crate::model::schema::{ColumnType, Model, ModelKind};

/// Column of the rows that are not keyed by bucket and entity.
const ID: &str = "id";
const TIME_BUCKET: &str = "time_bucket";
const ENTITY_ID: &str = "entity_id";
/// Position of a row in the order of arrival, in tables of super datasets.
pub(super) const SEQ: &str = "seq";
/// First column of indexes by what is scattered in time, such as trace ids. Rows that arrive together share a region, so writing
/// touches one small part of the index however long the day gets; a query looks into each region.
pub(super) const REGION: &str = "seq >> 16";
pub(super) const SEGMENT: &str = "segment";
/// What a trace list filters and sorts by.
const LISTED: &str = "time_bucket, start_time, latency, is_error";

/// Whether a model's rows are keyed by bucket and entity.
pub(super) fn is_metric(model: &Model) -> bool {
    model.kind == ModelKind::Metrics && model.is_downsampled
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the key of a model's rows begins with the bucket, and the column that is or ends it.
pub(super) fn key_column(model: &Model) -> (bool, &'static str) {
    match is_metric(model) {
        true => (true, ENTITY_ID),
        false => (model.is_super_dataset, ID),
    }
}

/// Columns with their SQL declaration: first the key, bytes last so that reading the rest never touches them.
fn declarations(model: &Model) -> Vec<(&str, &'static str)> {
    let mut list = if is_metric(model) {
        vec![
            (TIME_BUCKET, "INTEGER NOT NULL"),
            (ENTITY_ID, "TEXT NOT NULL DEFAULT ''"),
        ]
    } else if model.kind == ModelKind::Management {
        vec![(ID, "TEXT NOT NULL PRIMARY KEY")]
    } else if model.is_super_dataset {
        vec![
            (SEQ, "INTEGER PRIMARY KEY"),
            (ID, "TEXT NOT NULL"),
            (TIME_BUCKET, "INTEGER NOT NULL"),
        ]
    } else {
        vec![
            (ID, "TEXT NOT NULL PRIMARY KEY"),
            (TIME_BUCKET, "INTEGER NOT NULL"),
        ]
    };
    let mut columns: Vec<_> = model.columns.iter().collect();
    columns.sort_by_key(|c| c.ty == ColumnType::Binary);
    for column in columns {
        let ty = match column.ty {
            ColumnType::Int | ColumnType::Long => "INTEGER",
            ColumnType::Double => "REAL",
            ColumnType::Keyword | ColumnType::Table | ColumnType::Json => "TEXT",
            ColumnType::Binary => "BLOB",
        };
        if !list.iter().any(|(name, _)| *name == column.name) {
            list.push((column.name, ty));
        }
    }
    list
}

/// Names and columns of the indexes beside the key. Those of `segment` hold all that a trace list filters and sorts by.
fn indexes(model: &Model) -> Vec<(&'static str, String)> {
    let plain = |names: &[&'static str]| names.iter().map(|n| (*n, (*n).to_owned())).collect();
    match model.name.as_str() {
        SEGMENT => vec![
            (TIME_BUCKET, LISTED.to_owned()),
            ("trace_id", format!("{REGION}, trace_id")),
            segment_index(),
        ],
        "instance_traffic" | "endpoint_traffic" => plain(&["service_id"]),
        "profile_task_segment_snapshot" => plain(&[TIME_BUCKET, "task_id", "segment_id"]),
        _ if model.kind == ModelKind::Record => plain(&[TIME_BUCKET]),
        _ => vec![],
    }
}

/// The index of segments by service, which has instance and endpoint as well: those of a service are few.
fn segment_index() -> (&'static str, String) {
    let parts = format!("{REGION}, service_id, {LISTED}, service_instance_id, endpoint_id");
    ("service_id", parts)
}

/// Creates the index of segments by service.
pub(super) fn ensure_segment_index(conn: &Connection) -> rusqlite::Result<()> {
    ensure_index(conn, SEGMENT, &segment_index())
}

fn ensure_index(
    conn: &Connection,
    model: &str,
    (name, parts): &(&str, String),
) -> rusqlite::Result<()> {
    let index = quoted(&format!("{model}_by_{name}"));
    let table = quoted(model);
    conn.execute_batch(&format!(
        "CREATE INDEX IF NOT EXISTS {index} ON {table} ({parts})"
    ))
}

/// Creates the table of a model, or adds the columns that the model has gained.
pub(super) fn ensure(conn: &Connection, model: &Model) -> rusqlite::Result<()> {
    let table = quoted(&model.name);
    let declared = declarations(model);
    let existing = columns(conn, &model.name)?;
    if existing.is_empty() {
        let mut parts: Vec<String> = declared
            .iter()
            .map(|(name, ty)| format!("{} {ty}", quoted(name)))
            .collect();
        let mut options = "";
        if is_metric(model) {
            parts.push(format!("PRIMARY KEY ({TIME_BUCKET}, {ENTITY_ID})"));
            options = " WITHOUT ROWID";
        } else if model.is_super_dataset {
            parts.push(format!("UNIQUE ({TIME_BUCKET}, {ID})"));
        }
        conn.execute_batch(&format!(
            "CREATE TABLE {table} ({}){options}",
            parts.join(", ")
        ))?;
    } else {
        for (name, ty) in declared
            .iter()
            .filter(|(name, _)| !existing.contains(*name))
        {
            conn.execute_batch(&format!(
                "ALTER TABLE {table} ADD COLUMN {} {ty}",
                quoted(name)
            ))?;
        }
    }
    for index in indexes(model) {
        ensure_index(conn, &model.name, &index)?;
    }
    Ok(())
}

/// Regions of a super dataset's table.
pub(super) fn regions(conn: &Connection, table: &str) -> rusqlite::Result<Range<i64>> {
    let sql = format!("SELECT max(seq) >> 16 FROM {}", quoted(table));
    let last: Option<i64> = conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok(0..last.map_or(0, |last| last + 1))
}

/// Columns that a table has, empty if there is no such table.
pub(super) fn columns(conn: &Connection, table: &str) -> rusqlite::Result<HashSet<String>> {
    let mut statement = conn.prepare_cached("SELECT name FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Whether a table exists with all these columns.
pub(super) fn has(conn: &Connection, table: &str, names: &[&str]) -> rusqlite::Result<bool> {
    let existing = columns(conn, table)?;
    Ok(!existing.is_empty() && names.iter().all(|name| existing.contains(*name)))
}

/// Statement that replaces a row; its parameters are those of [`bind`].
pub(super) fn insert_sql(model: &Model) -> String {
    let mut names = match () {
        () if is_metric(model) => vec![TIME_BUCKET],
        () if model.kind == ModelKind::Management => vec![ID],
        () => vec![ID, TIME_BUCKET],
    };
    names.extend(model.columns.iter().map(|c| c.name));
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let table = quoted(&model.name);
    format!(
        "INSERT OR REPLACE INTO {table} ({}) VALUES ({marks})",
        names.join(", ")
    )
}

/// Why a row cannot be stored, whatever the state of the store.
pub(super) fn objection(row: &Row) -> Option<String> {
    let model = &row.model;
    if row.cells.len() != model.columns.len() {
        let (cells, columns) = (row.cells.len(), model.columns.len());
        return Some(format!("row has {cells} cells for {columns} columns"));
    }
    if row
        .cells
        .iter()
        .any(|cell| matches!(cell, Cell::Double(n) if !n.is_finite()))
    {
        return Some("a value is not a finite number".to_owned());
    }
    if !is_metric(model) {
        return row.id.is_empty().then(|| "row has no id".to_owned());
    }
    let entity = match model.has_entity_id() {
        true => row.cell(ENTITY_ID).as_text(),
        false => Some(""),
    };
    (metric_key(&row.id) != entity.map(|e| (row.time_bucket, e)))
        .then(|| "id is not made of time bucket and entity".to_owned())
}

/// Bucket and entity that a metric's id consists of.
pub(super) fn metric_key(id: &str) -> Option<(u64, &str)> {
    let (bucket, entity) = id.split_once('_').unwrap_or((id, ""));
    Some((bucket.parse().ok()?, entity))
}

struct Bound<'a>(&'a Cell);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Long(n) => ValueRef::Integer(*n),
            Cell::Double(n) => ValueRef::Real(*n),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Sets the parameters of [`insert_sql`].
pub(super) fn bind(statement: &mut rusqlite::Statement<'_>, row: &Row) -> rusqlite::Result<()> {
    let mut at = 1;
    if !is_metric(&row.model) {
        statement.raw_bind_parameter(at, row.id.as_str())?;
        at += 1;
    }
    if row.model.kind != ModelKind::Management {
        statement.raw_bind_parameter(at, sql_bucket(row.time_bucket))?;
        at += 1;
    }
    for cell in &row.cells {
        statement.raw_bind_parameter(at, Bound(cell))?;
        at += 1;
    }
    Ok(())
}

/// A bucket as SQLite's signed number; what does not fit is beyond every stored bucket.
pub(super) fn sql_bucket(time_bucket: u64) -> i64 {
    i64::try_from(time_bucket).unwrap_or(i64::MAX)
}

/// Statement that reads a row by bucket and entity (metrics) or by id; `None` if there is no such table.
pub(super) fn select_sql(conn: &Connection, model: &Model) -> rusqlite::Result<Option<String>> {
    let key = if is_metric(model) {
        "time_bucket = ?1 AND entity_id = ?2".to_owned()
    } else if model.is_super_dataset {
        // The index of ids begins with the bucket: looking through it is far less than looking through the rows.
        let table = quoted(&model.name);
        format!("{SEQ} = (SELECT {SEQ} FROM {table} WHERE {ID} = ?1 LIMIT 1)")
    } else {
        format!("{ID} = ?1")
    };
    let selection = selection(conn, model)?;
    Ok(selection.map(|selection| format!("{selection} WHERE {key}")))
}

/// Beginning of a statement that reads rows, their columns as [`read`] wants them, then the id (null for metrics).
pub(super) fn selection(conn: &Connection, model: &Model) -> rusqlite::Result<Option<String>> {
    let existing = columns(conn, &model.name)?;
    if existing.is_empty() {
        return Ok(None);
    }
    let or_null = |name| match existing.contains(name) {
        true => quoted(name),
        false => "NULL".to_owned(),
    };
    let mut names = vec![or_null(TIME_BUCKET)];
    names.extend(model.columns.iter().map(|c| or_null(c.name)));
    names.push(or_null(ID));
    let table = quoted(&model.name);
    Ok(Some(format!("SELECT {} FROM {table}", names.join(", "))))
}

/// The row of an id from the columns of [`selection`].
pub(super) fn read(model: &Arc<Model>, id: &str, row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let mut cells = Vec::with_capacity(model.columns.len());
    for at in 1..=model.columns.len() {
        cells.push(match row.get_ref(at)? {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(n) => Cell::Long(n),
            ValueRef::Real(n) => Cell::Double(n),
            ValueRef::Text(text) => Cell::text(String::from_utf8_lossy(text)),
            ValueRef::Blob(bytes) => Cell::Bytes(Bytes::copy_from_slice(bytes)),
        });
    }
    let time_bucket = row.get::<_, Option<i64>>(0)?.unwrap_or(0);
    Ok(Row {
        model: Arc::clone(model),
        id: id.to_owned(),
        time_bucket: u64::try_from(time_bucket).unwrap_or(0),
        cells,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::schema;
    use super::*;

    #[test]
    fn any_tool_sees_the_columns_of_the_model() {
        let schema = schema();
        for (model, want) in [
            (
                "endpoint_cpm",
                "time_bucket entity_id service_id value total",
            ),
            (
                "all_percentile",
                "time_bucket entity_id value precision dataset",
            ),
            ("service_traffic", "id time_bucket name node_type"),
            (
                "ui_template",
                "id name type configuration activated disabled",
            ),
            (
                "segment",
                "seq id time_bucket segment_id trace_id statement service_id service_instance_id endpoint_name endpoint_id \
                 start_time end_time latency is_error version data_binary",
            ),
        ] {
            let conn = Connection::open_in_memory().unwrap();
            for _ in 0..2 {
                ensure(&conn, schema.model(model).unwrap()).unwrap();
            }
            let sql = format!("SELECT group_concat(name, ' ') FROM pragma_table_info('{model}')");
            let names: String = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(names, want);
        }
    }

    #[test]
    fn every_model_can_be_a_table() {
        let schema = schema();
        let conn = Connection::open_in_memory().unwrap();
        for model in schema.models() {
            ensure(&conn, model).unwrap();
            conn.prepare(&insert_sql(model)).unwrap();
            conn.prepare(&select_sql(&conn, model).unwrap().unwrap())
                .unwrap();
        }
    }
}
