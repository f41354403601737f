//! Lists of services, instances, endpoints and address aliases over all days, each id once, the newest day's row first.

use std::collections::HashSet;

use rusqlite::{Params, Row};

use super::file::Family;
use super::pool::ReadPool;
use super::table::{self, sql_bucket};
use super::text::{TextFilter, passes};
use crate::storage::{
    AddressAlias, EndpointTraffic, InstanceTraffic, Page, ServiceFilter, ServiceTraffic,
    StorageError,
};

pub(super) fn services(
    pool: &ReadPool,
    filter: &ServiceFilter,
    limit: usize,
) -> Result<Page<ServiceTraffic>, StorageError> {
    let mut keyword = TextFilter::any_word(filter.keyword.as_deref());
    let columns = &["name", "node_type"];
    let condition = "node_type = ?1 AND (?2 IS NULL OR name = ?2)";
    let params = (filter.node_type, &filter.name);
    list(
        pool,
        "service_traffic",
        columns,
        condition,
        params,
        limit,
        |row| {
            let service = ServiceTraffic {
                name: text(row, 1)?,
                node_type: number(row, 2)?,
            };
            Ok(passes(&mut keyword, Some(&service.name)).then_some(service))
        },
    )
}

pub(super) fn instances(
    pool: &ReadPool,
    service_id: &str,
    alive_since: u64,
    limit: usize,
) -> Result<Page<InstanceTraffic>, StorageError> {
    let columns = &["service_id", "name", "properties", "last_ping"];
    let condition = "service_id = ?1 AND last_ping >= ?2";
    let params = (service_id, sql_bucket(alive_since));
    list(
        pool,
        "instance_traffic",
        columns,
        condition,
        params,
        limit,
        |row| {
            Ok(Some(InstanceTraffic {
                service_id: text(row, 1)?,
                name: text(row, 2)?,
                properties: text(row, 3)?,
            }))
        },
    )
}

pub(super) fn endpoints(
    pool: &ReadPool,
    service_id: &str,
    keyword: &str,
    limit: usize,
) -> Result<Vec<EndpointTraffic>, StorageError> {
    let mut keyword = TextFilter::any_word(Some(keyword));
    let columns = &["service_id", "name"];
    let found = list(
        pool,
        "endpoint_traffic",
        columns,
        "service_id = ?1",
        [service_id],
        limit,
        |row| {
            let endpoint = EndpointTraffic {
                service_id: text(row, 1)?,
                name: text(row, 2)?,
            };
            Ok(passes(&mut keyword, Some(&endpoint.name)).then_some(endpoint))
        },
    )?;
    Ok(found.items)
}

pub(super) fn address_aliases(
    pool: &ReadPool,
    since: u64,
    limit: usize,
) -> Result<Vec<AddressAlias>, StorageError> {
    let columns = &[
        "address",
        "represent_service_id",
        "represent_service_instance_id",
        "last_update_time_bucket",
    ];
    let condition = "last_update_time_bucket >= ?1";
    let found = list(
        pool,
        "network_address_alias",
        columns,
        condition,
        [sql_bucket(since)],
        limit,
        |row| {
            Ok(Some(AddressAlias {
                address: text(row, 1)?,
                service_id: text(row, 2)?,
                instance_id: text(row, 3)?,
                last_update: u64::try_from(number(row, 4)?).unwrap_or(0),
            }))
        },
    )?;
    Ok(found.items)
}

/// The first rows of a traffic table that meet a condition, in the order they were stored, and how many there are; `read` gets the
/// id and the columns.
fn list<T>(
    pool: &ReadPool,
    model: &str,
    columns: &[&str],
    condition: &str,
    params: impl Params + Clone,
    limit: usize,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> Result<Page<T>, StorageError> {
    let sql = format!(
        "SELECT id, {} FROM {model} WHERE {condition} ORDER BY rowid",
        columns.join(", ")
    );
    let mut seen: HashSet<String> = HashSet::new();
    let mut found = Vec::new();
    for file in pool.files.days(Family::Metrics, None).into_iter().rev() {
        pool.query(file, |conn| {
            if !table::has(conn, model, columns)? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&sql)?;
            let mut rows = statement.query(params.clone())?;
            while let Some(row) = rows.next()? {
                if let Some(item) = read(row)?
                    && seen.insert(text(row, 0)?)
                    && found.len() < limit
                {
                    found.push(item);
                }
            }
            Ok(())
        })?;
    }
    Ok(Page::of(found, seen.len()))
}

/// A text, empty where there is none.
pub(super) fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<String> {
    Ok(optional_text(row, at)?.unwrap_or_default())
}

/// A text if there is one.
pub(super) fn optional_text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    row.get(at)
}

/// A whole number, 0 where there is none.
pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<i64> {
    Ok(row.get::<_, Option<i64>>(at)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Store, row};
    use super::*;
    use crate::model::row::Cell;

    const OLD: u64 = 202_009_140_000;
    const NEW: u64 = 202_009_150_000;

    #[test]
    fn services_by_type_name_and_keyword() {
        let store = Store::new();
        let service = |name: &str, node_type, bucket| {
            let cells = [
                ("name", Cell::text(name)),
                ("node_type", Cell::Long(node_type)),
            ];
            row(&store.model("service_traffic"), name, bucket, &cells)
        };
        store.write(&[
            service("order-service", 0, OLD),
            service("user-service", 0, OLD),
            service("mysql", 1, OLD),
            service("order-service", 0, NEW),
            service("web", 0, NEW),
        ]);
        let cases: [(_, _, _, _, &[&str]); 8] = [
            (0, None, None, 9, &["order-service", "web", "user-service"]),
            (0, None, None, 2, &["order-service", "web"]),
            (1, None, None, 9, &["mysql"]),
            (6, None, None, 9, &[]),
            (0, Some("web"), None, 9, &["web"]),
            (
                0,
                None,
                Some("SERVICE web"),
                9,
                &["order-service", "web", "user-service"],
            ),
            (0, None, Some("serv"), 9, &[]),
            (0, None, Some(""), 1, &["order-service"]),
        ];
        for (node_type, name, keyword, limit, want) in cases {
            let filter = ServiceFilter {
                node_type,
                name: name.map(str::to_owned),
                keyword: keyword.map(str::to_owned),
            };
            let got = services(&store.pool, &filter, limit).unwrap();
            let names: Vec<_> = got.items.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names, want, "{filter:?}");
            let all = services(&store.pool, &filter, 9).unwrap();
            assert_eq!(got.total, all.items.len() as i64, "{filter:?}");
        }
    }

    #[test]
    fn instances_endpoints_and_aliases() {
        let store = Store::new();
        let cell = |text: &str| Cell::text(text);
        let instance = |id: &str, service: &str, ping, bucket| {
            let cells = [
                ("service_id", cell(service)),
                ("name", cell(id)),
                ("last_ping", Cell::Long(ping)),
                ("properties", cell("{}")),
            ];
            row(&store.model("instance_traffic"), id, bucket, &cells)
        };
        let endpoint = |id: &str, service: &str, name: &str, bucket| {
            let cells = [("service_id", cell(service)), ("name", cell(name))];
            row(&store.model("endpoint_traffic"), id, bucket, &cells)
        };
        let alias = |id: &str, at, bucket| {
            let cells = [
                ("address", cell(id)),
                ("represent_service_id", cell("s")),
                ("represent_service_instance_id", cell("i")),
                ("last_update_time_bucket", Cell::Long(at)),
            ];
            row(&store.model("network_address_alias"), id, bucket, &cells)
        };
        store.write(&[
            instance("i1", "s", 202_009_150_005, OLD),
            instance("i2", "s", 202_009_140_000, OLD),
            instance("i3", "t", 202_009_150_005, NEW),
            endpoint("e1", "s", "/api/users", OLD),
            endpoint("e2", "s", "/api/orders", NEW),
            endpoint("e3", "t", "/api/users", NEW),
            alias("10.0.0.1:80", 202_009_150_005, OLD),
            alias("10.0.0.2:80", 202_009_140_000, OLD),
        ]);
        let names = |service: &str, since, limit| -> Vec<String> {
            let found = instances(&store.pool, service, since, limit).unwrap();
            found.items.into_iter().map(|i| i.name).collect()
        };
        assert_eq!(names("s", 0, 9), ["i1", "i2"]);
        assert_eq!(names("s", NEW, 9), ["i1"]);
        assert_eq!(names("s", 0, 1), ["i1"]);
        assert!(names("u", 0, 9).is_empty());

        let names = |keyword: &str, limit| -> Vec<String> {
            let found = endpoints(&store.pool, "s", keyword, limit).unwrap();
            found.into_iter().map(|e| e.name).collect()
        };
        assert_eq!(names("", 9), ["/api/orders", "/api/users"]);
        assert_eq!(names("", 1), ["/api/orders"]);
        assert_eq!(names("users", 9), ["/api/users"]);
        assert!(names("the", 9).is_empty());

        let found = address_aliases(&store.pool, NEW, 9).unwrap();
        let want = AddressAlias {
            address: "10.0.0.1:80".to_owned(),
            service_id: "s".to_owned(),
            instance_id: "i".to_owned(),
            last_update: 202_009_150_005,
        };
        assert_eq!(found, [want]);
        assert_eq!(address_aliases(&store.pool, 0, 9).unwrap().len(), 2);
        assert!(
            address_aliases(&store.pool, u64::MAX, 9)
                .unwrap()
                .is_empty()
        );
    }
}
