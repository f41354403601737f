//! Whole rows of record models, found by the values of their columns.

use std::sync::Arc;

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::file::Family;
use super::pool::ReadPool;
use super::table;
use crate::model::row::{Cell, Row};
use crate::model::schema::Model;
use crate::storage::{BucketRange, Order, Page, RecordFilter, StorageError};

const TIME_BUCKET: &str = "time_bucket";

/// At most `limit` rows of all days, in order, and how many there are.
pub(super) fn find(
    pool: &ReadPool,
    model: &Arc<Model>,
    filter: &RecordFilter,
) -> Result<Page<Row>, StorageError> {
    let mut conditions = vec![];
    let mut values: Vec<Value> = vec![];
    let mut columns = vec![filter.sort_by];
    for (column, allowed) in &filter.any_of {
        let places = vec!["?"; allowed.len()].join(", ");
        let name = match (model.name.as_str(), *column) {
            // A segment's own id is the id of its row, which is indexed.
            (table::SEGMENT, "segment_id") => "id",
            _ => column,
        };
        conditions.push(format!("{} IN ({places})", table::quoted(name)));
        values.extend(allowed.iter().map(value));
        columns.push(column);
    }
    let mut range = None;
    if let Some((column, least, greatest)) = filter.between {
        conditions.push(format!("{} BETWEEN ? AND ?", table::quoted(column)));
        values.extend([Value::Integer(least), Value::Integer(greatest)]);
        columns.push(column);
        let bucket = |number: i64| u64::try_from(number).unwrap_or(0);
        range = (column == TIME_BUCKET).then(|| BucketRange {
            start: bucket(least),
            end: bucket(greatest),
        });
    }
    let limit = Value::Integer(i64::try_from(filter.limit).unwrap_or(i64::MAX));
    let mut condition = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    if model.is_super_dataset {
        // Rows are large: an index says which ones are meant before any is read.
        let (seq, table) = (table::SEQ, table::quoted(&model.name));
        condition = format!(" WHERE {seq} IN (SELECT {seq} FROM {table}{condition})");
    }
    let direction = match filter.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let sort = table::quoted(filter.sort_by);
    let tail = format!("{condition} ORDER BY {sort} {direction} LIMIT ?");
    let count = format!(
        "SELECT count(*) FROM {}{condition}",
        table::quoted(&model.name)
    );
    let mut found: Vec<Row> = vec![];
    let mut total = 0;
    for file in pool.files.days(Family::Records, range) {
        pool.query(file, |conn| {
            let Some(selection) = table::selection(conn, model)? else {
                return Ok(());
            };
            if !table::has(conn, &model.name, &columns)? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&format!("{selection}{tail}"))?;
            let mut rows = statement.query(params_from_iter(values.iter().chain([&limit])))?;
            let before = found.len();
            while let Some(row) = rows.next()? {
                let id: String = row.get(model.columns.len() + 1)?;
                found.push(table::read(model, &id, row)?);
            }
            let here = found.len() - before;
            total += match here < filter.limit {
                true => here,
                false => conn
                    .prepare_cached(&count)?
                    .query_row(params_from_iter(&values), |row| row.get::<_, u32>(0))?
                    as usize,
            };
            Ok(())
        })?;
        sort_rows(&mut found, filter);
        found.truncate(filter.limit);
    }
    Ok(Page::of(found, total))
}

fn sort_rows(rows: &mut [Row], filter: &RecordFilter) {
    let key = |row: &Row| match filter.sort_by {
        TIME_BUCKET => table::sql_bucket(row.time_bucket),
        column => row.cell(column).as_long().unwrap_or(0),
    };
    match filter.order {
        Order::Ascending => rows.sort_by_key(key),
        Order::Descending => rows.sort_by_key(|row| std::cmp::Reverse(key(row))),
    }
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Long(n) => Value::Integer(*n),
        Cell::Double(n) => Value::Real(*n),
        Cell::Text(text) => Value::Text(text.to_string()),
        Cell::Bytes(bytes) => Value::Blob(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Store, row};
    use super::*;

    #[test]
    fn rows_of_all_days_come_in_order() {
        let store = Store::new();
        let model = store.model("profile_task_segment_snapshot");
        let snapshot = |day: u64, task: &str, sequence: i64| {
            let cells = [
                ("task_id", Cell::text(task)),
                ("sequence", Cell::Long(sequence)),
            ];
            row(
                &model,
                &format!("{task}_{sequence}_"),
                day * 1_000_000,
                &cells,
            )
        };
        let rows = [
            (20_200_916, "a", 3),
            (20_200_915, "a", 1),
            (20_200_916, "a", 2),
            (20_200_915, "b", 7),
        ];
        store.write(&rows.map(|(day, task, sequence)| snapshot(day, task, sequence)));
        let all = RecordFilter {
            any_of: vec![],
            between: None,
            sort_by: "sequence",
            order: Order::Ascending,
            limit: 10,
        };
        for (name, filter, want) in [
            ("all", all.clone(), vec![1, 2, 3, 7]),
            (
                "last two",
                RecordFilter {
                    order: Order::Descending,
                    limit: 2,
                    ..all.clone()
                },
                vec![7, 3],
            ),
            (
                "of a task",
                RecordFilter {
                    any_of: vec![("task_id", vec![Cell::text("a")])],
                    ..all.clone()
                },
                vec![1, 2, 3],
            ),
            (
                "of either",
                RecordFilter {
                    any_of: vec![
                        ("task_id", vec![Cell::text("a"), Cell::text("b")]),
                        ("sequence", vec![Cell::Long(7)]),
                    ],
                    ..all.clone()
                },
                vec![7],
            ),
            (
                "of none",
                RecordFilter {
                    any_of: vec![("task_id", vec![])],
                    ..all.clone()
                },
                vec![],
            ),
            (
                "between",
                RecordFilter {
                    between: Some(("sequence", 2, 3)),
                    ..all.clone()
                },
                vec![2, 3],
            ),
            (
                "of a day",
                RecordFilter {
                    between: Some((TIME_BUCKET, 20_200_915_000_000, 20_200_915_235_959)),
                    ..all.clone()
                },
                vec![1, 7],
            ),
        ] {
            let found = find(&store.pool, &model, &filter).unwrap();
            let shown: Vec<_> = found
                .items
                .iter()
                .map(|r| r.cell("sequence").as_long().unwrap())
                .collect();
            assert_eq!(shown, want, "{name}");
            let every = find(
                &store.pool,
                &model,
                &RecordFilter {
                    limit: 99,
                    ..filter
                },
            );
            assert_eq!(found.total, every.unwrap().items.len() as i64, "{name}");
        }
    }
}
