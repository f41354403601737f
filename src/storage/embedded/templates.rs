//! Dashboards, in the file without a day.

use super::file::FileKey;
use super::metadata::{number, text};
use super::pool::ReadPool;
use super::table;
use super::write::Writer;
use crate::storage::{StorageError, UiTemplate};

const TABLE: &str = "ui_template";
/// Dashboards listed at most, as in Elasticsearch.
const LISTED: i64 = 10_000;

pub(super) fn list(
    pool: &ReadPool,
    including_disabled: bool,
) -> Result<Vec<UiTemplate>, StorageError> {
    let found = pool.query(FileKey::Meta, |conn| {
        if !table::has(conn, TABLE, &[])? {
            return Ok(vec![]);
        }
        let sql = "SELECT name, type, configuration, activated, disabled FROM ui_template
                   WHERE ?1 OR disabled = 0 ORDER BY rowid LIMIT ?2";
        let mut statement = conn.prepare_cached(sql)?;
        let templates = statement.query_map((including_disabled, LISTED), |row| {
            Ok(UiTemplate {
                name: text(row, 0)?,
                ty: text(row, 1)?,
                configuration: text(row, 2)?,
                is_activated: number(row, 3)? == 1,
                is_disabled: number(row, 4)? == 1,
            })
        })?;
        templates.collect()
    })?;
    Ok(found.unwrap_or_default())
}

/// Whether the name was free.
pub(super) fn add(writer: &mut Writer, template: &UiTemplate) -> Result<bool, StorageError> {
    let sql =
        "INSERT OR IGNORE INTO ui_template (id, name, type, configuration, activated, disabled)
               VALUES (?1, ?1, ?2, ?3, ?4, ?5)";
    store(writer, sql, template)
}

/// Whether there was one of that name.
pub(super) fn replace(writer: &mut Writer, template: &UiTemplate) -> Result<bool, StorageError> {
    let sql = "UPDATE ui_template SET name = ?1, type = ?2, configuration = ?3, activated = ?4, disabled = ?5
               WHERE id = ?1";
    store(writer, sql, template)
}

fn store(writer: &mut Writer, sql: &str, template: &UiTemplate) -> Result<bool, StorageError> {
    let params = (
        &template.name,
        &template.ty,
        &template.configuration,
        template.is_activated,
        template.is_disabled,
    );
    Ok(writer.execute(FileKey::Meta, sql, params)? > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::Store;
    use super::*;

    #[test]
    fn dashboards_are_added_once_and_replaced() {
        let store = Store::new();
        let mut writer = Writer::new(Arc::clone(&store.files));
        let template = |name: &str, configuration: &str, is_disabled| UiTemplate {
            name: name.to_owned(),
            ty: "DASHBOARD".to_owned(),
            configuration: configuration.to_owned(),
            is_activated: true,
            is_disabled,
        };
        let (b, a) = (template("B", "1", false), template("A", "2", false));
        assert!(list(&store.pool, true).unwrap().is_empty());
        assert!(add(&mut writer, &b).unwrap());
        assert!(add(&mut writer, &a).unwrap());
        assert!(!add(&mut writer, &template("A", "other", false)).unwrap());
        assert_eq!(list(&store.pool, false).unwrap(), [b, a.clone()]);

        let hidden = template("B", "3", true);
        assert!(replace(&mut writer, &hidden).unwrap());
        assert!(!replace(&mut writer, &template("C", "4", false)).unwrap());
        assert_eq!(list(&store.pool, false).unwrap(), std::slice::from_ref(&a));
        assert_eq!(list(&store.pool, true).unwrap(), [hidden, a]);
    }
}
