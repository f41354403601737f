//! Edges of the topology.

use anyhow::{Result, ensure};
use oap::model::id;
use oap::model::row::{Cell, Row};
use oap::storage::{Backend, BucketRange, Relation, RelationFilter};

use super::{DAY, MINUTE, Store, text};

/// (client, server, minutes with their component)
type Edge<'a> = (&'a str, &'a str, &'a [(u64, i64)]);

fn rows<B: Backend>(
    store: &Store<B>,
    model: &str,
    edges: &[Edge<'_>],
    columns: impl Fn(&str, &str) -> Vec<(&'static str, Cell)>,
) -> Result<Vec<Row>> {
    let mut rows = vec![];
    for (client, server, minutes) in edges {
        for (bucket, component) in *minutes {
            let entity = id::relation_id(client, server);
            let mut cells = columns(client, server);
            cells.push(("entity_id", text(&entity)));
            cells.push(("component_id", Cell::Long(*component)));
            let id = id::metrics_id(*bucket, &entity);
            rows.push(store.row(model, &id, *bucket, &cells)?);
        }
    }
    Ok(rows)
}

async fn edges<B: Backend>(
    store: &Store<B>,
    model: &str,
    start: u64,
    end: u64,
    filter: &RelationFilter,
) -> Result<Vec<Relation>> {
    let range = BucketRange { start, end };
    let model = store.model(model)?;
    let found = store.backend.relations(model, range, filter).await?;
    ensure!(found.items.len() as i64 == found.total, "{found:?}");
    Ok(found.items)
}

fn ids(relations: &[Relation]) -> Vec<&str> {
    let mut ids: Vec<&str> = relations.iter().map(|r| r.entity_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

pub async fn edges_have_their_most_frequent_component<B: Backend>(store: &Store<B>) -> Result<()> {
    let model = "service_relation_server_side";
    let all = rows(
        store,
        model,
        &[
            ("u", "a", &[(MINUTE, 1), (MINUTE + 1, 2), (MINUTE + 2, 2)]),
            ("a", "b", &[(MINUTE, 9), (MINUTE + 1, 3)]),
            ("b", "c", &[(MINUTE + 2, 5), (DAY, 7)]),
        ],
        |client, server| {
            vec![
                ("source_service_id", text(client)),
                ("dest_service_id", text(server)),
            ]
        },
    )?;
    store.write(&all).await?;
    let services =
        |names: &[&str]| RelationFilter::Services(names.iter().map(|n| (*n).to_owned()).collect());
    let minutes = (MINUTE, MINUTE + 5);
    for (name, (start, end), filter, expected) in [
        // Most frequent first, equal components by number.
        (
            "all",
            minutes,
            RelationFilter::All,
            vec![("u-a", 2), ("a-b", 3), ("b-c", 5)],
        ),
        (
            "one service",
            minutes,
            services(&["b"]),
            vec![("a-b", 3), ("b-c", 5)],
        ),
        (
            "two services",
            minutes,
            services(&["u", "c"]),
            vec![("u-a", 2), ("b-c", 5)],
        ),
        ("nobody", minutes, services(&["x"]), vec![]),
        (
            "first minute",
            (MINUTE, MINUTE),
            services(&["a"]),
            vec![("a-b", 9), ("u-a", 1)],
        ),
        ("day", (DAY, DAY), RelationFilter::All, vec![("b-c", 7)]),
        (
            "later",
            (MINUTE + 3, MINUTE + 9),
            RelationFilter::All,
            vec![],
        ),
    ] {
        let found = edges(store, model, start, end, &filter).await?;
        let seen: Vec<(&str, i64)> = found
            .iter()
            .map(|r| (r.entity_id.as_str(), r.component_id))
            .collect();
        ensure!(seen == expected, "{name}: {seen:?}");
    }
    Ok(())
}

pub async fn edges_beyond_the_limit_are_counted<B: Backend>(store: &Store<B>) -> Result<()> {
    let model = "service_relation_server_side";
    let names: Vec<String> = (0..1100).map(|n| format!("s{n}")).collect();
    let edges: Vec<Edge<'_>> = names
        .iter()
        .map(|name| ("u", name.as_str(), &[(MINUTE, 1)][..]))
        .collect();
    let all = rows(store, model, &edges, |client, server| {
        vec![
            ("source_service_id", text(client)),
            ("dest_service_id", text(server)),
        ]
    })?;
    store.write(&all).await?;
    let range = BucketRange {
        start: MINUTE,
        end: MINUTE,
    };
    let model = store.model(model)?;
    let filter = RelationFilter::All;
    let found = store.backend.relations(model, range, &filter).await?;
    let (shown, total) = (found.items.len(), found.total);
    ensure!((shown, total) == (1000, 1100), "{shown} of {total}");
    Ok(())
}

pub async fn instance_edges_are_found_between_two_services<B: Backend>(
    store: &Store<B>,
) -> Result<()> {
    let model = "service_instance_relation_client_side";
    let service_of = |instance: &str| text(instance.split('_').next().unwrap_or_default());
    let all = rows(
        store,
        model,
        &[
            ("a_1", "b_1", &[(MINUTE, 1)]),
            ("a_2", "b_1", &[(MINUTE, 1)]),
            ("b_1", "a_1", &[(MINUTE, 1)]),
            ("a_1", "c_1", &[(MINUTE, 1)]),
            ("a_1", "a_2", &[(MINUTE, 1)]),
        ],
        |client, server| {
            vec![
                ("source_service_id", service_of(client)),
                ("source_service_instance_id", text(client)),
                ("dest_service_id", service_of(server)),
                ("dest_service_instance_id", text(server)),
            ]
        },
    )?;
    store.write(&all).await?;
    for (client, server) in [("a", "b"), ("b", "a")] {
        let filter = RelationFilter::BetweenServices {
            client: client.to_owned(),
            server: server.to_owned(),
        };
        let found = edges(store, model, MINUTE, MINUTE, &filter).await?;
        ensure!(
            ids(&found) == ["a_1-b_1", "a_2-b_1", "b_1-a_1"],
            "{found:?}"
        );
    }
    Ok(())
}

pub async fn endpoint_edges_are_found_by_either_end<B: Backend>(store: &Store<B>) -> Result<()> {
    let model = "endpoint_relation_server_side";
    let all = rows(
        store,
        model,
        &[
            ("/x", "/y", &[(MINUTE, 1), (MINUTE + 1, 1)]),
            ("/y", "/z", &[(MINUTE, 1)]),
            ("/w", "/x", &[(MINUTE, 1)]),
        ],
        |client, server| {
            vec![
                ("source_endpoint", text(client)),
                ("dest_endpoint", text(server)),
            ]
        },
    )?;
    store.write(&all).await?;
    for (endpoint, expected) in [
        ("/y", vec!["/x-/y", "/y-/z"]),
        ("/z", vec!["/y-/z"]),
        ("/none", vec![]),
    ] {
        let filter = RelationFilter::Endpoint(endpoint.to_owned());
        let found = edges(store, model, MINUTE, MINUTE + 1, &filter).await?;
        ensure!(ids(&found) == expected, "{endpoint}: {found:?}");
    }
    Ok(())
}
