//! Questions about metric values: one entity over time, and the top of all entities.

use hashbrown::HashMap;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::file::Family;
use super::pool::ReadPool;
use super::table::{self, quoted, sql_bucket};
use crate::model::schema::{ColumnType, Model, QueryFunction};
use crate::storage::{BucketRange, Order, StorageError, TopNEntity, TopNFilter};

/// The value column, if it is a number.
fn value_column(model: &Model) -> Result<(&'static str, QueryFunction), StorageError> {
    let Some(value) = model.value else {
        return Err(StorageError::InvalidQuery(format!(
            "{} has no value to query",
            model.name
        )));
    };
    let ty = model
        .column_index(value.name)
        .and_then(|at| model.columns.get(at))
        .map(|column| column.ty);
    match ty {
        Some(ColumnType::Int | ColumnType::Long | ColumnType::Double) => {
            Ok((value.name, value.function))
        }
        _ => Err(StorageError::InvalidQuery(format!(
            "the values of {} are tables, not single numbers",
            model.name
        ))),
    }
}

/// Average or sum of the values of each entity.
pub(super) fn aggregates(
    pool: &ReadPool,
    model: &Model,
    entity_ids: &[String],
    range: BucketRange,
) -> Result<Vec<Option<f64>>, StorageError> {
    let (column, function) = value_column(model)?;
    if !model.has_entity_id() || !table::is_metric(model) {
        return Ok(vec![None; entity_ids.len()]);
    }
    let mut sums: Sums<&str> = HashMap::default();
    for id in entity_ids {
        sums.entry(id).or_default();
    }
    let source = Source::of(model, column);
    for file in pool.files.days(Family::Metrics, Some(range)) {
        pool.query(file, |conn| {
            if !table::has(conn, &model.name, &[column])? {
                return Ok(());
            }
            let buckets = source.buckets(conn, range)?;
            let Some(first) = buckets.first() else {
                return Ok(());
            };
            match source.has_more_rows(conn, *first, sums.len().saturating_mul(SCAN_RATIO))? {
                false => source.add_all(conn, &buckets, &mut sums),
                true => source.add_each(conn, &buckets, &mut sums),
            }
        })?;
    }
    let value = |id: &String| {
        let (sum, count) = *sums.get(id.as_str())?;
        (count > 0).then(|| match function {
            QueryFunction::Avg => sum / count as f64,
            QueryFunction::Sum => sum,
        })
    };
    Ok(entity_ids.iter().map(value).collect())
}

/// Entities by average value.
pub(super) fn top_n(
    pool: &ReadPool,
    model: &Model,
    filter: &TopNFilter,
) -> Result<Vec<TopNEntity>, StorageError> {
    let limit = positive(filter.limit)?;
    let (column, _) = value_column(model)?;
    let is_answerable = model.has_entity_id()
        && table::is_metric(model)
        && (filter.service_id.is_none() || model.has_service_id());
    if !is_answerable {
        return Ok(vec![]);
    }
    let source = Source::of(model, column);
    let mut entities: Sums<Box<str>> = HashMap::default();
    for file in pool.files.days(Family::Metrics, Some(filter.range)) {
        pool.query(file, |conn| match &filter.service_id {
            Some(service) if table::has(conn, &model.name, &[column, "service_id"])? => {
                source.add_service(conn, filter.range, service, &mut entities)
            }
            None if table::has(conn, &model.name, &[column])? => {
                source.add_range(conn, filter.range, &mut entities)
            }
            _ => Ok(()),
        })?;
    }
    let mut top: Vec<_> = entities
        .into_iter()
        .map(|(entity, (sum, count))| (sum / count as f64, entity))
        .collect();
    top.sort_unstable_by(|(a, a_id), (b, b_id)| {
        let by_value = match filter.order {
            Order::Ascending => a.total_cmp(b),
            Order::Descending => b.total_cmp(a),
        };
        by_value.then_with(|| a_id.cmp(b_id))
    });
    top.truncate(limit);
    Ok(top
        .into_iter()
        .map(|(value, entity)| TopNEntity {
            entity_id: entity.into_string(),
            value,
        })
        .collect())
}

/// Sum and number of values by entity.
type Sums<K> = HashMap<K, (f64, u64), foldhash::fast::RandomState>;

/// A bucket with so many times more rows than entities are asked for is not read as a whole: a row that is looked up costs as
/// much as some that lie one behind the other.
const SCAN_RATIO: usize = 6;

/// The table of a metric. Its key begins with the bucket, so reading hops from one stored bucket to the next.
struct Source {
    table: String,
    value: String,
}

impl Source {
    fn of(model: &Model, column: &str) -> Source {
        Source {
            table: quoted(&model.name),
            value: quoted(column),
        }
    }

    /// The stored buckets of a range.
    fn buckets(&self, conn: &Connection, range: BucketRange) -> rusqlite::Result<Vec<i64>> {
        let sql = format!(
            "SELECT min(time_bucket) FROM {} WHERE time_bucket >= ?1",
            self.table
        );
        let mut next = conn.prepare_cached(&sql)?;
        let mut buckets = vec![];
        let (mut from, end) = (sql_bucket(range.start), sql_bucket(range.end));
        while let Some(bucket) = next.query_row([from], |row| row.get::<_, Option<i64>>(0))?
            && bucket <= end
        {
            buckets.push(bucket);
            from = bucket.saturating_add(1);
        }
        Ok(buckets)
    }

    fn has_more_rows(&self, conn: &Connection, bucket: i64, than: usize) -> rusqlite::Result<bool> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE time_bucket = ?1 LIMIT ?2)",
            self.table
        );
        let limit = i64::try_from(than).unwrap_or(i64::MAX).saturating_add(1);
        let mut statement = conn.prepare_cached(&sql)?;
        statement.query_row((bucket, limit), |row| Ok(row.get::<_, i64>(0)? == limit))
    }

    /// Adds values of the entities by reading the buckets as a whole.
    fn add_all(
        &self,
        conn: &Connection,
        buckets: &[i64],
        sums: &mut Sums<&str>,
    ) -> rusqlite::Result<()> {
        let sql = self.select("time_bucket = ?1");
        let mut statement = conn.prepare_cached(&sql)?;
        for bucket in buckets {
            let mut rows = statement.query([bucket])?;
            while let Some(row) = rows.next()? {
                if let Some(sum) = sums.get_mut(row.get_ref(0)?.as_str()?) {
                    add(sum, row.get_ref(1)?);
                }
            }
        }
        Ok(())
    }

    /// Adds values of the entities by looking each one up.
    fn add_each(
        &self,
        conn: &Connection,
        buckets: &[i64],
        sums: &mut Sums<&str>,
    ) -> rusqlite::Result<()> {
        let sql = self.select("time_bucket = ?1 AND entity_id = ?2");
        let mut statement = conn.prepare_cached(&sql)?;
        for bucket in buckets {
            for (id, sum) in &mut *sums {
                let mut rows = statement.query((bucket, id))?;
                if let Some(row) = rows.next()? {
                    add(sum, row.get_ref(1)?);
                }
            }
        }
        Ok(())
    }

    /// Adds values of what belongs to a service: instances, endpoints and relations, whose ids begin with that of the service.
    fn add_service(
        &self,
        conn: &Connection,
        range: BucketRange,
        service: &str,
        sums: &mut Sums<Box<str>>,
    ) -> rusqlite::Result<()> {
        let sql = self.select(
            "time_bucket = ?1 AND entity_id >= ?2 AND entity_id < ?2 || '`' AND +service_id = ?2",
        );
        let mut statement = conn.prepare_cached(&sql)?;
        for bucket in self.buckets(conn, range)? {
            add_rows(statement.query((bucket, service))?, sums)?;
        }
        Ok(())
    }

    /// Adds values of all entities.
    fn add_range(
        &self,
        conn: &Connection,
        range: BucketRange,
        sums: &mut Sums<Box<str>>,
    ) -> rusqlite::Result<()> {
        let sql = self.select("time_bucket BETWEEN ?1 AND ?2");
        let mut statement = conn.prepare_cached(&sql)?;
        let bounds = (sql_bucket(range.start), sql_bucket(range.end));
        add_rows(statement.query(bounds)?, sums)
    }

    /// Entities and values.
    fn select(&self, condition: &str) -> String {
        let Source { table, value } = self;
        format!("SELECT entity_id, {value} FROM {table} WHERE {condition}")
    }
}

fn add_rows(mut rows: rusqlite::Rows<'_>, sums: &mut Sums<Box<str>>) -> rusqlite::Result<()> {
    while let Some(row) = rows.next()? {
        let value = row.get_ref(1)?;
        if matches!(value, ValueRef::Integer(_) | ValueRef::Real(_)) {
            add(
                sums.entry_ref(row.get_ref(0)?.as_str()?).or_default(),
                value,
            );
        }
    }
    Ok(())
}

/// Adds a value if there is one.
fn add((sum, count): &mut (f64, u64), value: ValueRef<'_>) {
    *sum += match value {
        ValueRef::Integer(n) => n as f64,
        ValueRef::Real(n) => n,
        _ => return,
    };
    *count += 1;
}

/// How many of a top-n list are wanted.
pub(super) fn positive(limit: i64) -> Result<usize, StorageError> {
    usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .ok_or_else(|| {
            StorageError::InvalidQuery(format!(
                "a list of {limit} entries was asked for, expected at least 1"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Store, metric};
    use super::*;

    fn store() -> Store {
        let store = Store::new();
        let m = |name, entity, bucket, value| metric(&store.model(name), entity, bucket, value);
        store.write(&[
            m("service_cpm", "a", 202_009_142_359, 10),
            m("service_cpm", "a", 202_009_150_000, 20),
            m("service_cpm", "a", 202_009_150_001, 60),
            m("service_cpm", "b", 202_009_150_000, 30),
            m("service_cpm", "c", 202_009_150_000, 30),
            m("service_cpm", "a", 2_020_091_500, 1),
            m("service_cpm", "a", 20_200_915, 2),
            m("service_count", "a", 202_009_142_359, 10),
            m("service_count", "a", 202_009_150_000, 5),
            m("endpoint_cpm", "s_1", 202_009_150_000, 7),
            m("endpoint_cpm", "s_2", 202_009_150_000, 9),
            m("endpoint_cpm", "t_1", 202_009_150_000, 8),
            m("endpoint_cpm", "st_1", 202_009_150_000, 7),
            m("all_count", "", 202_009_150_000, 8),
        ]);
        store
    }

    fn range(start: u64, end: u64) -> BucketRange {
        BucketRange { start, end }
    }

    #[test]
    fn values_of_an_entity_are_combined_over_buckets_of_one_precision() {
        let store = store();
        for (model, entity, start, end, want) in [
            (
                "service_cpm",
                "a",
                202_009_142_359,
                202_009_150_001,
                Some(30.0),
            ),
            (
                "service_cpm",
                "a",
                202_009_150_000,
                202_009_152_359,
                Some(40.0),
            ),
            (
                "service_cpm",
                "a",
                202_009_150_000,
                202_009_150_000,
                Some(20.0),
            ),
            ("service_cpm", "a", 2_020_091_400, 2_020_091_523, Some(1.0)),
            ("service_cpm", "a", 20_200_901, 20_200_930, Some(2.0)),
            ("service_cpm", "a", 202_009_150_001, 202_009_150_000, None),
            (
                "service_cpm",
                "b",
                202_009_140_000,
                202_009_152_359,
                Some(30.0),
            ),
            ("service_cpm", "z", 202_009_140_000, 202_009_152_359, None),
            (
                "service_count",
                "a",
                202_009_142_359,
                202_009_150_000,
                Some(15.0),
            ),
            (
                "instance_jvm_cpu",
                "a",
                202_009_142_359,
                202_009_150_000,
                None,
            ),
            ("all_count", "", 202_009_142_359, 202_009_150_000, None),
            (
                "top_n_database_statement",
                "",
                20_200_914_000_000,
                20_200_914_000_000,
                None,
            ),
        ] {
            let ids = [entity.to_owned(), "nobody".to_owned()];
            let got = aggregates(&store.pool, &store.model(model), &ids, range(start, end));
            assert_eq!(got.unwrap(), [want, None], "{model} {entity} {start} {end}");
        }
        for model in ["all_percentile", "service_relation_client_side"] {
            let error = aggregates(
                &store.pool,
                &store.model(model),
                &["a".to_owned()],
                range(20_200_915, 20_200_915),
            );
            assert!(
                matches!(error, Err(StorageError::InvalidQuery(_))),
                "{model}"
            );
        }
    }

    #[test]
    fn top_is_by_average_then_entity() {
        let store = store();
        let ask = |model: &str, service: Option<&str>, order, limit| {
            let filter = TopNFilter {
                service_id: service.map(str::to_owned),
                range: range(202_009_142_359, 202_009_150_001),
                limit,
                order,
            };
            top_n(&store.pool, &store.model(model), &filter)
        };
        use Order::{Ascending, Descending};
        let cases: [(_, _, _, _, &[(&str, f64)]); 9] = [
            (
                "service_cpm",
                None,
                Descending,
                9,
                &[("a", 30.0), ("b", 30.0), ("c", 30.0)],
            ),
            (
                "service_cpm",
                None,
                Ascending,
                2,
                &[("a", 30.0), ("b", 30.0)],
            ),
            (
                "endpoint_cpm",
                None,
                Descending,
                2,
                &[("s_2", 9.0), ("t_1", 8.0)],
            ),
            (
                "endpoint_cpm",
                None,
                Ascending,
                9,
                &[("s_1", 7.0), ("st_1", 7.0), ("t_1", 8.0), ("s_2", 9.0)],
            ),
            (
                "endpoint_cpm",
                Some("s"),
                Descending,
                9,
                &[("s_2", 9.0), ("s_1", 7.0)],
            ),
            // Ids that begin alike belong to another service.
            (
                "endpoint_cpm",
                Some("s"),
                Ascending,
                9,
                &[("s_1", 7.0), ("s_2", 9.0)],
            ),
            // Always the average, of sums too.
            ("service_count", None, Descending, 9, &[("a", 7.5)]),
            ("service_cpm", Some("a"), Descending, 9, &[]),
            ("all_count", None, Descending, 9, &[]),
        ];
        for (model, service, order, limit, want) in cases {
            let got = ask(model, service, order, limit).unwrap();
            let got: Vec<_> = got
                .iter()
                .map(|e| (e.entity_id.as_str(), e.value))
                .collect();
            assert_eq!(got, want, "{model} {service:?} {order:?} {limit}");
        }
        for (model, limit) in [
            ("service_cpm", 0),
            ("service_cpm", -1),
            ("all_percentile", 5),
        ] {
            let error = ask(model, None, Descending, limit);
            assert!(
                matches!(error, Err(StorageError::InvalidQuery(_))),
                "{model} {limit}"
            );
        }
    }
}
