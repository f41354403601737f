//! Reading everything: the rows of a model and day in the order of their key, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::file::{Family, FileKey};
use super::pool::ReadPool;
use super::table;
use crate::model::id::metrics_id;
use crate::model::row::{Cell, Row};
use crate::model::schema::{Model, ModelKind, Schema};
use crate::storage::StorageError;
use crate::storage::transfer::RowPage;

/// Rows of a page at most.
const MAX_ROWS: usize = 2000;
/// Bytes of texts and blobs after which a page ends.
const MAX_BYTES: usize = 8 << 20;

fn files(pool: &ReadPool, model: &Model) -> Vec<FileKey> {
    match model.kind {
        ModelKind::Management => vec![FileKey::Meta],
        ModelKind::Metrics => pool.files.days(Family::Metrics, None),
        ModelKind::Record => pool.files.days(Family::Records, None),
    }
}

/// Days (`yyyyMMdd`) on which a model has a table, 0 for one without days.
pub(super) fn days(pool: &ReadPool, model: &Model) -> Result<Vec<u64>, StorageError> {
    let mut days = Vec::new();
    for file in files(pool, model) {
        if pool.query(file, |conn| table::has(conn, &model.name, &[]))? == Some(true) {
            days.push(match file {
                FileKey::Meta => 0,
                FileKey::Day(_, day) => day,
            });
        }
    }
    Ok(days)
}

/// Tables that no model of the schema explains.
pub(super) fn unknown_models(
    pool: &ReadPool,
    schema: &Schema,
) -> Result<BTreeSet<String>, StorageError> {
    let mut unknown = BTreeSet::new();
    for file in pool.files.all() {
        pool.query(file, |conn| {
            let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
            for name in tables.query_map([], |row| row.get::<_, String>(0))? {
                let name = name?;
                if schema.model(&name).is_none() {
                    unknown.insert(name);
                }
            }
            Ok(())
        })?;
    }
    Ok(unknown)
}

/// The rows behind a key, that of the last row of the page before.
pub(super) fn page(
    pool: &ReadPool,
    model: &Arc<Model>,
    day: u64,
    after: Option<&str>,
) -> Result<RowPage, StorageError> {
    let mut page = RowPage {
        rows: Vec::new(),
        next: None,
    };
    let Some(file) = FileKey::of(model.kind, day) else {
        return Ok(page);
    };
    let (key, (bucket, text)) = match table::key_column(model) {
        (true, column) => (
            format!("(time_bucket, {column}) > (?1, ?2) ORDER BY time_bucket, {column}"),
            after
                .map_or(Some((-1, "")), bucket_and_text)
                .ok_or_else(|| StorageError::InvalidQuery("not the key of a row".to_owned()))?,
        ),
        (false, column) => (
            format!("?1 <= 0 AND {column} > ?2 ORDER BY {column}"),
            (0, after.unwrap_or("")),
        ),
    };
    pool.query(file, |conn| {
        let Some(selection) = table::selection(conn, model)? else {
            return Ok(());
        };
        let mut statement = conn.prepare_cached(&format!("{selection} WHERE {key} LIMIT ?3"))?;
        let mut found = statement.query((bucket, text, MAX_ROWS as i64))?;
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            let row = read(model, row)?;
            bytes += row.cells.iter().map(size).sum::<usize>();
            page.rows.push(row);
            if bytes >= MAX_BYTES || page.rows.len() == MAX_ROWS {
                page.next = page.rows.last().map(key_of);
                break;
            }
        }
        Ok(())
    })?;
    Ok(page)
}

fn read(model: &Arc<Model>, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let id: Option<String> = row.get(model.columns.len() + 1)?;
    let mut row = table::read(model, id.as_deref().unwrap_or_default(), row)?;
    if table::is_metric(model) {
        let entity = row.cell("entity_id").as_text().unwrap_or_default();
        row.id = metrics_id(row.time_bucket, entity);
    }
    Ok(row)
}

fn key_of(row: &Row) -> String {
    match table::key_column(&row.model) {
        (true, "id") => format!("{}_{}", row.time_bucket, row.id),
        _ => row.id.clone(),
    }
}

fn bucket_and_text(key: &str) -> Option<(i64, &str)> {
    let (bucket, text) = table::metric_key(key)?;
    Some((table::sql_bucket(bucket), text))
}

fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Store, metric, row};
    use super::*;

    fn all(store: &Store, model: &Arc<Model>, day: u64) -> (usize, Vec<String>) {
        let (mut pages, mut ids, mut after) = (0, vec![], None);
        loop {
            let page = page(&store.pool, model, day, after.as_deref()).unwrap();
            pages += 1;
            ids.extend(page.rows.into_iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                return (pages, ids);
            }
        }
    }

    #[test]
    fn every_row_is_on_one_page() {
        let store = Store::new();
        let (minute, second) = (202_009_150_000, 20_200_915_000_000);
        let (cpm, all_count) = (store.model("service_cpm"), store.model("all_count"));
        let (segment, endpoint) = (store.model("segment"), store.model("endpoint_traffic"));
        let template = store.model("ui_template");
        let mut rows = vec![];
        for n in 0..2500 {
            rows.push(metric(&cpm, &format!("e_{}", n % 50), minute + n / 50, 1));
            rows.push(metric(&all_count, "", 20_200_915, 1));
            rows.push(row(&endpoint, &format!("e_{n}"), minute, &[]));
            rows.push(row(&template, &format!("t_{n}"), 0, &[]));
        }
        for n in 0..30 {
            let data = [("data_binary", Cell::Bytes(vec![0; 1 << 20].into()))];
            rows.push(row(
                &segment,
                &format!("s_{}", 99 - n),
                second + n % 2,
                &data,
            ));
        }
        store.write(&rows);
        for (model, day, want_pages, want) in [
            (&cpm, 20_200_915, 2, 2500),
            (&all_count, 20_200_915, 1, 1),
            (&endpoint, 20_200_915, 2, 2500),
            (&segment, 20_200_915, 4, 30),
            (&template, 0, 2, 2500),
            (&cpm, 20_200_914, 1, 0),
        ] {
            let (pages, ids) = all(&store, model, day);
            assert_eq!((pages, ids.len()), (want_pages, want), "{}", model.name);
            let wanted: BTreeSet<&str> = rows
                .iter()
                .filter(|r| Arc::ptr_eq(&r.model, model) && want > 0)
                .map(|r| r.id.as_str())
                .collect();
            assert_eq!(
                ids.iter().map(String::as_str).collect::<BTreeSet<_>>(),
                wanted
            );
        }
        assert_eq!(days(&store.pool, &segment).unwrap(), [20_200_915]);
        assert_eq!(days(&store.pool, &template).unwrap(), [0]);
        assert!(
            days(&store.pool, &store.model("alarm_record"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn tables_without_a_model_are_named() {
        let store = Store::new();
        store.write(&[metric(&store.model("service_cpm"), "a", 202_009_150_000, 1)]);
        let unknown = unknown_models(&store.pool, &store.schema).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}");
        let builtin = Schema::build(&[], &[], &[], false);
        let unknown = unknown_models(&store.pool, &builtin).unwrap();
        assert_eq!(unknown.iter().collect::<Vec<_>>(), ["service_cpm"]);
    }
}
