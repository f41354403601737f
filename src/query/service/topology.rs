//! Which services call which (query spec 2.7).
//!
//! A caller knows only an address, the called side knows only itself: nodes and edges are put together from the
//! reports of both sides, and addresses that are known to belong to a service are replaced by it.

use std::collections::HashMap;

use serde::Serialize;

use super::call::{Call, Calls};
use super::duration::Duration;
use crate::model::id::{self, USER, relation_id, service_id};
use crate::model::schema::Model;
use crate::model::scope::Scope;
use crate::query::{AliasLookup, Components, Cuts, QueryContext, QueryError};
use crate::storage::{Backend, BucketRange, Relation, RelationFilter};

/// Type of the node that stands for the outside caller.
const USER_TYPE: &str = "USER";

/// A graph of services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    pub nodes: Vec<Node>,
    pub calls: Vec<Call>,
}

/// A service, or what is taken for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Option<String>,
    pub is_real: bool,
}

/// Every service.
pub async fn global<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    duration: &Duration,
) -> Result<Topology, QueryError> {
    let range = duration.range()?;
    let (client, server) = both_sides(cx, cuts, range, &RelationFilter::All).await?;
    Ok(build(&client, &server, &cx.components, cx.aliases.as_ref()))
}

/// Some services and their neighbours.
pub async fn of_services<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    service_ids: Vec<String>,
    duration: &Duration,
) -> Result<Topology, QueryError> {
    if service_ids.is_empty() {
        return Err(QueryError::argument("serviceIds", "must not be empty"));
    }
    let range = duration.range()?;
    let filter = RelationFilter::Services(service_ids.clone());
    let (client, server) = both_sides(cx, cuts, range, &filter).await?;
    let mut topology = build(&client, &server, &cx.components, cx.aliases.as_ref());

    // What a calling neighbour is, its own callers know; their rows are not among those of the services asked for.
    let mut callers: Vec<String> = client
        .iter()
        .filter_map(|row| id::parse_relation_id(&row.entity_id).ok())
        .map(|(source, _)| source)
        .filter(|source| !service_ids.contains(source))
        .collect();
    callers.sort_unstable();
    callers.dedup();
    if !callers.is_empty() {
        let filter = RelationFilter::Services(callers);
        let rows = side(
            cx,
            cuts,
            Stream::server(Scope::ServiceRelation),
            range,
            &filter,
        )
        .await?;
        fill_types(&mut topology.nodes, &rows, &cx.components);
    }
    Ok(topology)
}

fn fill_types(nodes: &mut [Node], server: &[Relation], components: &Components) {
    for node in nodes.iter_mut().filter(|n| n.ty.is_none()) {
        let row = server.iter().find(|row| {
            id::parse_relation_id(&row.entity_id).is_ok_and(|(_, dest)| dest == node.id)
        });
        node.ty = row.map(|row| components.name(row.component_id).to_owned());
    }
}

async fn both_sides<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    range: BucketRange,
    filter: &RelationFilter,
) -> Result<(Vec<Relation>, Vec<Relation>), QueryError> {
    let scope = Scope::ServiceRelation;
    let client = side(cx, cuts, Stream::client(scope), range, filter);
    let server = side(cx, cuts, Stream::server(scope), range, filter);
    futures_util::try_join!(client, server)
}

/// Relations of a scope as one of the two sides reports them.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    scope: Scope,
    is_server_side: bool,
}

impl Stream {
    pub(super) fn client(scope: Scope) -> Stream {
        Stream {
            scope,
            is_server_side: false,
        }
    }

    pub(super) fn server(scope: Scope) -> Stream {
        Stream {
            scope,
            is_server_side: true,
        }
    }
}

/// Rows of one relation stream; none if the stream is switched off.
pub(super) async fn side<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    stream: Stream,
    range: BucketRange,
    filter: &RelationFilter,
) -> Result<Vec<Relation>, QueryError> {
    let mut streams = cx.schema.relations().iter();
    let Stream {
        scope,
        is_server_side,
    } = stream;
    let stream = streams.find(|r| r.scope == scope && r.is_server_side == is_server_side);
    let Some(model) = stream.map(|s| &s.model) else {
        return Ok(vec![]);
    };
    let model: &Model = model;
    let found = cx.storage.relations(model, range, filter).await?;
    cx.note_if_cut(cuts, "topology", found.items.len(), found.total);
    Ok(found.items)
}

/// One end of an edge.
struct End {
    id: String,
    name: String,
    is_real: bool,
}

impl End {
    fn parse(id: String) -> Result<End, id::IdError> {
        let (name, is_real) = id::parse_service_id(&id)?;
        Ok(End { id, name, is_real })
    }
}

/// Both ends of a row; a row that cannot be read is left out, so that it does not cost the whole picture.
fn ends(row: &Relation) -> Option<(End, End)> {
    let parse = || {
        let (source, dest) = id::parse_relation_id(&row.entity_id)?;
        Ok::<_, id::IdError>((End::parse(source)?, End::parse(dest)?))
    };
    parse()
        .inspect_err(|error| tracing::debug!(%error, "relation left out of the topology"))
        .ok()
}

#[derive(Default)]
struct Nodes {
    nodes: Vec<Node>,
    by_id: HashMap<String, usize>,
}

impl Nodes {
    fn of(&mut self, end: &End) -> &mut Node {
        let next = self.nodes.len();
        let at = *self.by_id.entry(end.id.clone()).or_insert(next);
        if at == next {
            self.nodes.push(Node {
                id: end.id.clone(),
                name: end.name.clone(),
                ty: None,
                is_real: end.is_real,
            });
        }
        &mut self.nodes[at]
    }
}

fn build(
    client: &[Relation],
    server: &[Relation],
    components: &Components,
    aliases: &dyn AliasLookup,
) -> Topology {
    let mut nodes = Nodes::default();
    let mut calls = Calls::default();
    for row in client {
        let Some((source, mut dest)) = ends(row) else {
            continue;
        };
        if !dest.is_real
            && let Some(service) = service_behind(&dest.name, aliases)
        {
            dest = service;
        }
        let target = nodes.of(&dest);
        if !target.is_real && target.ty.is_none() {
            target.ty = Some(components.server(row.component_id).to_owned());
        }
        nodes.of(&source);
        let id = relation_id(&source.id, &dest.id);
        let component = components.name(row.component_id);
        calls.seen_by_client(id, (&source.id, &dest.id), component);
    }
    for row in server {
        let Some((source, dest)) = ends(row) else {
            continue;
        };
        let caller = nodes.of(&source);
        if source.id == service_id(USER, false) {
            caller.ty = Some(USER_TYPE.to_owned());
        } else if !source.is_real {
            caller.ty = Some(components.server(row.component_id).to_owned());
        }
        let component = components.name(row.component_id);
        nodes.of(&dest).ty = Some(component.to_owned());
        let id = relation_id(&source.id, &dest.id);
        calls.seen_by_server(id, (&source.id, &dest.id), Some(component));
    }
    Topology {
        nodes: nodes.nodes,
        calls: calls.into_vec(),
    }
}

fn service_behind(address: &str, aliases: &dyn AliasLookup) -> Option<End> {
    End::parse(aliases.service_of(address)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::call::DetectPoint;
    use super::*;
    use crate::config::ConfigFile;

    struct Aliases;

    impl AliasLookup for Aliases {
        fn service_of(&self, address: &str) -> Option<String> {
            (address == "10.0.0.2:80").then(|| service_id("b", true))
        }
    }

    fn components() -> Components {
        let text = "Tomcat: {id: 1}\nHttpClient: {id: 2}\nJedis: {id: 3}\nComponent-Server-Mappings: {Jedis: Redis}";
        Components::parse(&ConfigFile::built_in("components", text))
            .unwrap()
            .0
    }

    fn row(source: (&str, bool), dest: (&str, bool), component_id: i64) -> Relation {
        let source = service_id(source.0, source.1);
        Relation {
            entity_id: relation_id(&source, &service_id(dest.0, dest.1)),
            component_id,
        }
    }

    #[test]
    fn both_sides_of_a_call_become_one_edge() {
        let client = [
            row(("a", true), ("10.0.0.2:80", false), 2),
            row(("a", true), ("10.0.0.9:6379", false), 3),
            Relation {
                entity_id: "unreadable".into(),
                component_id: 1,
            },
        ];
        let server = [
            row(("User", false), ("a", true), 1),
            row(("a", true), ("b", true), 1),
        ];
        let topology = build(&client, &server, &components(), &Aliases);
        let nodes: Vec<_> = topology
            .nodes
            .iter()
            .map(|n| (&*n.name, n.ty.as_deref(), n.is_real))
            .collect();
        let want = [
            ("b", Some("Tomcat"), true),
            ("a", Some("Tomcat"), true),
            ("10.0.0.9:6379", Some("Redis"), false),
            ("User", Some("USER"), false),
        ];
        assert_eq!(nodes, want);
        let edge = &topology.calls[0];
        assert_eq!(edge.id, "YQ==.1-Yg==.1");
        assert_eq!(
            edge.detect_points,
            [DetectPoint::Client, DetectPoint::Server]
        );
        assert_eq!(edge.source_components, ["HttpClient"]);
        assert_eq!(edge.target_components, ["Tomcat"]);
        assert_eq!(topology.calls.len(), 3);
    }

    #[test]
    fn a_service_seen_only_as_caller_has_no_type_until_its_callers_are_asked() {
        let client = [row(("a", true), ("x", true), 2)];
        let mut topology = build(&client, &[], &components(), &Aliases);
        assert!(topology.nodes.iter().all(|n| n.ty.is_none()));
        fill_types(
            &mut topology.nodes,
            &[row(("User", false), ("a", true), 1)],
            &components(),
        );
        let types: Vec<_> = topology.nodes.iter().map(|n| n.ty.as_deref()).collect();
        assert_eq!(types, [None, Some("Tomcat")]);
    }
}
