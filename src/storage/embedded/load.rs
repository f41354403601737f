//! Reading rows by id.

use std::sync::Arc;

use super::file::{Family, FileKey};
use super::pool::ReadPool;
use super::table::{self, sql_bucket};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, ModelKind};
use crate::storage::StorageError;

/// One answer per key, in order.
pub(super) fn load(pool: &ReadPool, keys: &[RowKey]) -> Result<Vec<Option<Row>>, StorageError> {
    let mut rows: Vec<Option<Row>> = Vec::new();
    rows.resize_with(keys.len(), || None);
    let mut dated: Vec<(FileKey, Vec<usize>)> = Vec::new();
    let mut undated: Vec<(Family, Vec<usize>)> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        match day(key) {
            Some(bucket) => {
                if let Some(file) = FileKey::of(key.model.kind, bucket) {
                    push(&mut dated, file, at);
                }
            }
            None if key.model.kind == ModelKind::Record => push(&mut undated, Family::Records, at),
            None => push(&mut undated, Family::Metrics, at),
        }
    }
    for (file, wanted) in dated {
        find(pool, file, keys, wanted, &mut rows)?;
    }
    for (family, mut wanted) in undated {
        for file in pool.files.days(family, None).into_iter().rev() {
            if wanted.is_empty() {
                break;
            }
            wanted = find(pool, file, keys, wanted, &mut rows)?;
        }
    }
    Ok(rows)
}

/// A bucket of the day a row is stored under: a metric's id tells it too.
fn day(key: &RowKey) -> Option<u64> {
    match key.model.kind {
        ModelKind::Management => Some(0),
        _ if key.time_bucket.is_none() && table::is_metric(&key.model) => {
            Some(table::metric_key(&key.id).map_or(0, |(bucket, _)| bucket))
        }
        _ => key.time_bucket,
    }
}

fn push<K: PartialEq>(groups: &mut Vec<(K, Vec<usize>)>, key: K, at: usize) {
    match groups.iter_mut().find(|(k, _)| *k == key) {
        Some((_, group)) => group.push(at),
        None => groups.push((key, vec![at])),
    }
}

/// A key and its place among the answers.
type Wanted<'a> = (usize, &'a RowKey);

/// Looks for keys in one file and returns those that are not there.
fn find(
    pool: &ReadPool,
    file: FileKey,
    keys: &[RowKey],
    wanted: Vec<usize>,
    rows: &mut [Option<Row>],
) -> Result<Vec<usize>, StorageError> {
    let mut by_model: Vec<(&Arc<Model>, Vec<Wanted<'_>>)> = Vec::new();
    for at in &wanted {
        let Some(key) = keys.get(*at) else { continue };
        match by_model
            .iter_mut()
            .find(|(m, _)| Arc::ptr_eq(m, &key.model))
        {
            Some((_, group)) => group.push((*at, key)),
            None => by_model.push((&key.model, vec![(*at, key)])),
        }
    }
    pool.query(file, |conn| {
        for (model, group) in &by_model {
            let Some(sql) = table::select_sql(conn, model)? else {
                continue;
            };
            let mut statement = conn.prepare_cached(&sql)?;
            for (at, key) in group {
                let mut found = if table::is_metric(model) {
                    let Some((bucket, entity)) = table::metric_key(&key.id) else {
                        continue;
                    };
                    statement.query((sql_bucket(bucket), entity))?
                } else {
                    statement.query([&key.id])?
                };
                if let (Some(row), Some(slot)) = (found.next()?, rows.get_mut(*at)) {
                    *slot = Some(table::read(model, &key.id, row)?);
                }
            }
        }
        Ok(())
    })?;
    let is_missing = |at: &usize| rows.get(*at).is_some_and(Option::is_none);
    Ok(wanted.into_iter().filter(is_missing).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::testing::{Store, row};
    use super::*;
    use crate::model::row::Cell;

    #[test]
    fn rows_come_back_as_they_were_written() {
        let store = Store::new();
        let text = Cell::text;
        let rows = [
            row(
                &store.model("service_cpm"),
                "202009151059_a_b",
                202_009_151_059,
                &[
                    ("entity_id", text("a_b")),
                    ("value", Cell::Long(3)),
                    ("total", Cell::Long(i64::MIN)),
                ],
            ),
            row(
                &store.model("service_cpm"),
                "2020091510_a_b",
                2_020_091_510,
                &[("entity_id", text("a_b")), ("value", Cell::Long(4))],
            ),
            row(
                &store.model("service_cpm"),
                "20200915_a_b",
                20_200_915,
                &[("entity_id", text("a_b")), ("value", Cell::Long(5))],
            ),
            row(
                &store.model("instance_jvm_cpu"),
                "202009151059_i",
                202_009_151_059,
                &[
                    ("entity_id", text("i")),
                    ("value", Cell::Double(2.0)),
                    ("summation", Cell::Double(0.1)),
                ],
            ),
            row(
                &store.model("all_percentile"),
                "202009151059",
                202_009_151_059,
                &[
                    ("value", text("0,10|1,90")),
                    ("precision", Cell::Long(10)),
                    ("dataset", text("")),
                ],
            ),
            row(
                &store.model("endpoint_relation_server_side"),
                "202009151059_e",
                202_009_151_059,
                &[("entity_id", text("e")), ("component_id", Cell::Long(7))],
            ),
            row(
                &store.model("service_traffic"),
                "YQ==.1",
                202_009_151_059,
                &[
                    ("name", text("a\0b 'quoted' 订")),
                    ("node_type", Cell::Long(0)),
                ],
            ),
            row(
                &store.model("segment"),
                "s1",
                20_200_915_105_930,
                &[
                    ("segment_id", text("s1")),
                    ("data_binary", Cell::Bytes(Bytes::from_static(b"\0\xff"))),
                    ("version", Cell::Long(3)),
                ],
            ),
            row(
                &store.model("segment"),
                "s2",
                20_200_915_105_930,
                &[
                    ("segment_id", text("s2")),
                    ("data_binary", Cell::Bytes(Bytes::new())),
                ],
            ),
            row(
                &store.model("ui_template"),
                "APM",
                0,
                &[("name", text("APM")), ("configuration", text("{}"))],
            ),
        ];
        store.write(&rows);
        let mut keys: Vec<RowKey> = rows
            .iter()
            .map(|r| RowKey {
                model: Arc::clone(&r.model),
                id: r.id.clone(),
                time_bucket: Some(r.time_bucket),
            })
            .collect();
        for is_dated in [true, false] {
            let loaded = load(&store.pool, &keys).unwrap();
            for (want, got) in rows.iter().zip(loaded) {
                let got = got.unwrap_or_else(|| panic!("{} not found, dated {is_dated}", want.id));
                assert_eq!(got.cells, want.cells, "{}", want.id);
                assert_eq!(
                    (got.id, got.time_bucket),
                    (want.id.clone(), want.time_bucket)
                );
            }
            keys.iter_mut().for_each(|k| k.time_bucket = None);
        }
    }

    #[test]
    fn the_newest_day_wins_and_a_later_row_replaces() {
        let store = Store::new();
        let ping = |bucket, n| {
            let cells = [
                ("service_id", Cell::text("s")),
                ("last_ping", Cell::Long(n)),
            ];
            row(&store.model("instance_traffic"), "i", bucket, &cells)
        };
        store.write(&[ping(202_009_150_000, 1), ping(202_009_140_000, 2)]);
        store.write(&[ping(202_009_150_001, 3), ping(202_009_150_002, 4)]);
        for (bucket, want) in [
            (None, Some(4)),
            (Some(202_009_142_359), Some(2)),
            (Some(202_009_130_000), None),
            (Some(0), None),
        ] {
            let found = store.load(&store.model("instance_traffic"), &["i"], bucket);
            let ping = found[0]
                .as_ref()
                .map(|r| r.cell("last_ping").as_long().unwrap());
            assert_eq!(ping, want, "{bucket:?}");
        }
    }

    #[test]
    fn unknown_ids_tables_and_days_are_not_found() {
        let store = Store::new();
        store.write(&[row(
            &store.model("service_traffic"),
            "YQ==.1",
            202_009_151_059,
            &[],
        )]);
        for (model, id, bucket) in [
            ("service_traffic", "Yg==.1", None),
            ("service_cpm", "202009151059_a", Some(202_009_151_059)),
            ("service_cpm", "nonsense", None),
            ("segment", "s", None),
            ("segment", "s", Some(20_990_101_000_000)),
            ("ui_template", "APM", None),
        ] {
            let found = store.load(&store.model(model), &[id], bucket);
            assert!(found[0].is_none(), "{model} {id}");
        }
        assert!(load(&store.pool, &[]).unwrap().is_empty());
    }
}
