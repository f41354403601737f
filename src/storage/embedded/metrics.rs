//! Questions about metric values: one entity over time, and the top of all entities.

use hashbrown::HashMap;
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
    // The key begins with the bucket: hop from one stored bucket to the next and look the entity up in each.
    let (table, value) = (quoted(&model.name), quoted(column));
    let sql = format!(
        "WITH RECURSIVE bucket (at) AS (
             SELECT min(time_bucket) FROM {table} WHERE time_bucket >= ?1
             UNION ALL
             SELECT (SELECT min(time_bucket) FROM {table} WHERE time_bucket > at) FROM bucket WHERE at < ?2)
         SELECT total({value}), count({value}) FROM bucket CROSS JOIN {table}
         WHERE at <= ?2 AND time_bucket = at AND entity_id = ?3"
    );
    let mut totals = vec![(0.0, 0); entity_ids.len()];
    let (start, end) = (sql_bucket(range.start), sql_bucket(range.end));
    for file in pool.files.days(Family::Metrics, Some(range)) {
        pool.query(file, |conn| {
            if !table::has(conn, &model.name, &[column])? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&sql)?;
            for (id, (sum, count)) in entity_ids.iter().zip(&mut totals) {
                statement.query_row((start, end, id), |row| {
                    *sum += row.get::<_, f64>(0)?;
                    *count += row.get::<_, i64>(1)?;
                    Ok(())
                })?;
            }
            Ok(())
        })?;
    }
    let value = |(sum, count): (f64, i64)| {
        (count > 0).then(|| match function {
            QueryFunction::Avg => sum / count as f64,
            QueryFunction::Sum => sum,
        })
    };
    Ok(totals.into_iter().map(value).collect())
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
    let mut columns = vec![column];
    let mut condition = "";
    if filter.service_id.is_some() {
        columns.push("service_id");
        condition = " AND service_id = ?3";
    }
    let sql = format!(
        "SELECT entity_id, {} FROM {} WHERE time_bucket BETWEEN ?1 AND ?2{condition}",
        quoted(column),
        quoted(&model.name)
    );
    let mut entities: HashMap<Box<str>, (f64, u64), foldhash::fast::RandomState> =
        HashMap::default();
    for file in pool.files.days(Family::Metrics, Some(filter.range)) {
        pool.query(file, |conn| {
            if !table::has(conn, &model.name, &columns)? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&sql)?;
            statement.raw_bind_parameter(1, sql_bucket(filter.range.start))?;
            statement.raw_bind_parameter(2, sql_bucket(filter.range.end))?;
            if let Some(service) = &filter.service_id {
                statement.raw_bind_parameter(3, service)?;
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let value = match row.get_ref(1)? {
                    ValueRef::Integer(n) => n as f64,
                    ValueRef::Real(n) => n,
                    _ => continue,
                };
                let (sum, count) = entities.entry_ref(row.get_ref(0)?.as_str()?).or_default();
                *sum += value;
                *count += 1;
            }
            Ok(())
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
        let cases: [(_, _, _, _, &[(&str, f64)]); 8] = [
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
                &[("s_1", 7.0), ("t_1", 8.0), ("s_2", 9.0)],
            ),
            (
                "endpoint_cpm",
                Some("s"),
                Descending,
                9,
                &[("s_2", 9.0), ("s_1", 7.0)],
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
