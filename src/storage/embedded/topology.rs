//! Edges of the topologies: relation rows grouped by entity and component.

use hashbrown::HashMap;
use rusqlite::types::Value;

use super::file::Family;
use super::pool::ReadPool;
use super::table::{self, quoted, sql_bucket};
use crate::model::schema::Model;
use crate::storage::{BucketRange, Page, Relation, RelationFilter, StorageError};

/// Edges that a topology shows at most.
const EDGES: usize = 1000;
const COMPONENT: &str = "component_id";

/// Rows of an edge by component.
type Counts = Vec<(i64, u64)>;

pub(super) fn relations(
    pool: &ReadPool,
    model: &Model,
    range: BucketRange,
    filter: &RelationFilter,
) -> Result<Page<Relation>, StorageError> {
    let Condition {
        columns,
        sql,
        values,
    } = condition(filter)?;
    let sql = format!(
        "SELECT entity_id, {COMPONENT} FROM {} WHERE time_bucket BETWEEN ? AND ?{sql}",
        quoted(&model.name)
    );
    let needed = [columns, &["entity_id", COMPONENT]].concat();
    let bounds = [range.start, range.end].map(|b| Value::Integer(sql_bucket(b)));
    let mut edges: HashMap<Box<str>, Counts, foldhash::fast::RandomState> = HashMap::default();
    for file in pool.files.days(Family::Metrics, Some(range)) {
        pool.query(file, |conn| {
            if !table::has(conn, &model.name, &needed)? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&sql)?;
            let params = rusqlite::params_from_iter(bounds.iter().chain(&values));
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                let counts = edges.entry_ref(row.get_ref(0)?.as_str()?).or_default();
                let component = row.get::<_, Option<i64>>(1)?.unwrap_or(0);
                match counts.iter_mut().find(|(id, _)| *id == component) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((component, 1)),
                }
            }
            Ok(())
        })?;
    }
    let mut edges: Vec<_> = edges
        .into_iter()
        .map(|(entity, counts)| (counts.iter().map(|(_, n)| n).sum::<u64>(), entity, counts))
        .collect();
    edges.sort_unstable_by(|(a, a_id, _), (b, b_id, _)| b.cmp(a).then_with(|| a_id.cmp(b_id)));
    let total = edges.len();
    edges.truncate(EDGES);
    let relation = |(_, entity, counts): (u64, Box<str>, Counts)| Relation {
        entity_id: entity.into_string(),
        component_id: most_frequent(&counts),
    };
    Ok(Page::of(edges.into_iter().map(relation).collect(), total))
}

/// The smaller one of equally frequent components.
fn most_frequent(counts: &Counts) -> i64 {
    let best = counts
        .iter()
        .min_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
    best.map_or(0, |(id, _)| *id)
}

struct Condition {
    columns: &'static [&'static str],
    /// Continues a WHERE clause.
    sql: String,
    values: Vec<Value>,
}

fn condition(filter: &RelationFilter) -> Result<Condition, StorageError> {
    let text = |t: &String| Value::Text(t.clone());
    Ok(match filter {
        RelationFilter::All => Condition {
            columns: &[],
            sql: String::new(),
            values: vec![],
        },
        RelationFilter::Services(ids) if ids.is_empty() => {
            return Err(StorageError::InvalidQuery("the list of services is empty".to_owned()));
        }
        RelationFilter::Services(ids) => {
            // One parameter for all ids: their number is the asker's choice, that of parameters is not.
            let list = serde_json::to_string(ids)
                .map_err(|e| StorageError::InvalidQuery(e.to_string()))?;
            let is_one = "IN (SELECT value FROM json_each(?))";
            Condition {
                columns: &["source_service_id", "dest_service_id"],
                sql: format!(" AND (source_service_id {is_one} OR dest_service_id {is_one})"),
                values: vec![Value::Text(list.clone()), Value::Text(list)],
            }
        }
        RelationFilter::BetweenServices { client, server } => Condition {
            columns: &["source_service_id", "dest_service_id"],
            sql: " AND ((source_service_id = ? AND dest_service_id = ?) OR (source_service_id = ? AND dest_service_id = ?))"
                .to_owned(),
            values: [client, server, server, client].map(text).to_vec(),
        },
        RelationFilter::Endpoint(id) => Condition {
            columns: &["source_endpoint", "dest_endpoint"],
            sql: " AND (source_endpoint = ? OR dest_endpoint = ?)".to_owned(),
            values: [id, id].map(text).to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Store, row};
    use super::*;
    use crate::model::row::{Cell, Row};

    fn edge(
        store: &Store,
        model: &str,
        source: &str,
        dest: &str,
        bucket: u64,
        component: i64,
    ) -> Row {
        let entity = format!("{source}-{dest}");
        let ends = match model {
            "endpoint_relation_server_side" => ["source_endpoint", "dest_endpoint"],
            _ => ["source_service_id", "dest_service_id"],
        };
        let cells = [
            ("entity_id", Cell::text(entity.as_str())),
            (ends[0], Cell::text(source)),
            (ends[1], Cell::text(dest)),
            (COMPONENT, Cell::Long(component)),
        ];
        row(
            &store.model(model),
            &format!("{bucket}_{entity}"),
            bucket,
            &cells,
        )
    }

    #[test]
    fn edges_by_frequency_with_their_most_frequent_component() {
        let store = Store::new();
        let call = |source, dest, bucket, component| {
            edge(
                &store,
                "service_relation_client_side",
                source,
                dest,
                bucket,
                component,
            )
        };
        store.write(&[
            call("a", "b", 202_009_142_359, 5),
            call("a", "b", 202_009_150_000, 7),
            call("a", "b", 202_009_150_001, 7),
            call("b", "a", 202_009_150_000, 9),
            call("b", "a", 202_009_150_001, 3),
            call("b", "c", 202_009_150_000, 1),
            call("b", "c", 2_020_091_500, 2),
            call("c", "d", 202_009_150_000, 0),
        ]);
        store.write(&[
            edge(
                &store,
                "endpoint_relation_server_side",
                "e",
                "f",
                202_009_150_000,
                4,
            ),
            edge(
                &store,
                "endpoint_relation_server_side",
                "f",
                "g",
                202_009_150_000,
                4,
            ),
        ]);
        let services =
            |ids: &[&str]| RelationFilter::Services(ids.iter().map(|s| (*s).to_owned()).collect());
        let between = |client: &str, server: &str| RelationFilter::BetweenServices {
            client: client.to_owned(),
            server: server.to_owned(),
        };
        let minutes = (202_009_142_300, 202_009_150_001);
        let (service, endpoint) = (
            "service_relation_client_side",
            "endpoint_relation_server_side",
        );
        let cases: [(_, _, _, &[(&str, i64)]); 9] = [
            (
                service,
                minutes,
                RelationFilter::All,
                &[("a-b", 7), ("b-a", 3), ("b-c", 1), ("c-d", 0)],
            ),
            (
                service,
                (2_020_091_500, 2_020_091_523),
                RelationFilter::All,
                &[("b-c", 2)],
            ),
            (
                service,
                minutes,
                services(&["c"]),
                &[("b-c", 1), ("c-d", 0)],
            ),
            (
                service,
                minutes,
                services(&["a", "d", "\"x"]),
                &[("a-b", 7), ("b-a", 3), ("c-d", 0)],
            ),
            (
                service,
                minutes,
                between("a", "b"),
                &[("a-b", 7), ("b-a", 3)],
            ),
            (service, minutes, between("c", "b"), &[("b-c", 1)]),
            (
                service,
                minutes,
                RelationFilter::Endpoint("e".to_owned()),
                &[],
            ),
            (
                endpoint,
                minutes,
                RelationFilter::Endpoint("f".to_owned()),
                &[("e-f", 4), ("f-g", 4)],
            ),
            (endpoint, minutes, services(&["e"]), &[]),
        ];
        for (model, (start, end), filter, want) in cases {
            let range = BucketRange { start, end };
            let got = relations(&store.pool, &store.model(model), range, &filter).unwrap();
            let got: Vec<_> = got
                .items
                .iter()
                .map(|r| (r.entity_id.as_str(), r.component_id))
                .collect();
            assert_eq!(got, want, "{model} {filter:?}");
        }
        let range = BucketRange { start: 1, end: 2 };
        let error = relations(&store.pool, &store.model(service), range, &services(&[]));
        assert!(matches!(error, Err(StorageError::InvalidQuery(_))));
    }

    #[test]
    fn at_most_a_thousand_edges() {
        let store = Store::new();
        let rows: Vec<Row> = (0..1200)
            .map(|n| {
                edge(
                    &store,
                    "service_relation_client_side",
                    "a",
                    &format!("{n:04}"),
                    202_009_150_000,
                    n,
                )
            })
            .collect();
        store.write(&rows);
        let range = BucketRange {
            start: 202_009_150_000,
            end: 202_009_150_000,
        };
        let model = store.model("service_relation_client_side");
        let got = relations(&store.pool, &model, range, &RelationFilter::All).unwrap();
        assert_eq!((got.items.len(), got.total), (EDGES, 1200));
        assert_eq!(got.items.last().map(|r| r.component_id), Some(999));
    }
}
