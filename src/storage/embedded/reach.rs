//! How far the rows of metrics reach, by a look at the end of each table.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::file::{Family, FileKey};
use super::pool::ReadPool;
use super::table::{is_metric, quoted, sql_bucket};
use crate::model::schema::Model;
use crate::model::time_bucket::day_of;
use crate::storage::Reach;

/// Buckets of a precision: the first number that is one, and the first beyond.
const PRECISIONS: [(u64, u64); 3] = [
    (10_000_000, 100_000_000),
    (1_000_000_000, 10_000_000_000),
    (100_000_000_000, 1_000_000_000_000),
];

/// A file that cannot be read counts as full.
pub(super) fn reach(pool: &ReadPool, models: &[Arc<Model>], since: u64) -> Reach {
    let mut reach = Reach::since(since);
    for file in pool.files.days(Family::Metrics, None) {
        let FileKey::Day(_, day) = file else { continue };
        let looked = pool.query(file, |conn| {
            let tables = tables(conn)?;
            let models = models
                .iter()
                .filter(|m| is_metric(m) && tables.contains(&m.name));
            let mut found = Vec::new();
            for model in models {
                let newest = match day < day_of(since) {
                    true => vec![],
                    false => newest(conn, model)?,
                };
                found.push((model, newest));
            }
            Ok(found)
        });
        match looked {
            Ok(found) => {
                for (model, newest) in found.into_iter().flatten() {
                    reach.add_days(&model.name, day, day);
                    for bucket in newest {
                        reach.add_bucket(&model.name, bucket);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(day, %error, "stored values cannot be looked at, each is read");
                for model in models {
                    reach.add_days(&model.name, day, day);
                    reach.add_whole_day(&model.name, day);
                }
            }
        }
    }
    reach
}

fn tables(conn: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The newest bucket of each precision that has rows.
fn newest(conn: &Connection, model: &Model) -> rusqlite::Result<Vec<u64>> {
    let sql = format!(
        "SELECT time_bucket FROM {} WHERE time_bucket >= ?1 AND time_bucket < ?2 ORDER BY time_bucket DESC LIMIT 1",
        quoted(&model.name)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut found = Vec::new();
    for (first, beyond) in PRECISIONS {
        let bounds = (sql_bucket(first), sql_bucket(beyond));
        let bucket: Option<i64> = statement.query_row(bounds, |row| row.get(0)).optional()?;
        found.extend(bucket.and_then(|bucket| u64::try_from(bucket).ok()));
    }
    Ok(found)
}
