//! Which instances of two services call each other (query spec 2.7, correction 5).

use std::collections::HashMap;

use serde::Serialize;

use super::call::{Call, Calls};
use super::duration::Duration;
use super::topology::{Stream, side};
use crate::model::id;
use crate::model::scope::Scope;
use crate::query::{Components, Cuts, QueryContext, QueryError};
use crate::storage::{Backend, Relation, RelationFilter};

/// A graph of instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServiceInstanceTopology {
    pub nodes: Vec<MemberNode>,
    pub calls: Vec<Call>,
}

/// An instance or endpoint with its service. The type is `""` where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberNode {
    pub id: String,
    pub name: String,
    pub service_id: String,
    pub service_name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub is_real: bool,
}

impl MemberNode {
    /// The node of an instance or endpoint id.
    pub(super) fn parse(id: String) -> Result<MemberNode, id::IdError> {
        let (service_id, name) = id::parse_instance_id(&id)?;
        let (service_name, is_real) = id::parse_service_id(&service_id)?;
        Ok(MemberNode {
            id,
            name,
            service_id,
            service_name,
            ty: String::new(),
            is_real,
        })
    }
}

/// Nodes in the order of their first mention.
#[derive(Default)]
pub(super) struct MemberNodes {
    nodes: Vec<MemberNode>,
    by_id: HashMap<String, usize>,
}

impl MemberNodes {
    pub(super) fn add(&mut self, node: MemberNode) -> &mut MemberNode {
        let next = self.nodes.len();
        let at = *self.by_id.entry(node.id.clone()).or_insert(next);
        if at == next {
            self.nodes.push(node);
        }
        &mut self.nodes[at]
    }

    pub(super) fn into_vec(self) -> Vec<MemberNode> {
        self.nodes
    }
}

/// Calls between the instances of two services, in both directions.
pub async fn between<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    client_service_id: String,
    server_service_id: String,
    duration: &Duration,
) -> Result<ServiceInstanceTopology, QueryError> {
    let range = duration.range()?;
    let filter = RelationFilter::BetweenServices {
        client: client_service_id,
        server: server_service_id,
    };
    let scope = Scope::ServiceInstanceRelation;
    let (client, server) = futures_util::try_join!(
        side(cx, cuts, Stream::client(scope), range, &filter),
        side(cx, cuts, Stream::server(scope), range, &filter)
    )?;
    Ok(build(&client, &server, &cx.components))
}

fn ends(row: &Relation) -> Option<(MemberNode, MemberNode)> {
    let parse = || {
        let (source, dest) = id::parse_relation_id(&row.entity_id)?;
        Ok::<_, id::IdError>((MemberNode::parse(source)?, MemberNode::parse(dest)?))
    };
    parse()
        .inspect_err(|error| tracing::debug!(%error, "relation left out of the topology"))
        .ok()
}

fn build(
    client: &[Relation],
    server: &[Relation],
    components: &Components,
) -> ServiceInstanceTopology {
    let mut nodes = MemberNodes::default();
    let mut calls = Calls::default();
    for row in client {
        let Some((source, dest)) = ends(row) else {
            continue;
        };
        let component = components.name(row.component_id);
        calls.seen_by_client(row.entity_id.clone(), (&source.id, &dest.id), component);
        nodes.add(source);
        let target = nodes.add(dest);
        if !target.is_real && target.ty.is_empty() {
            target.ty = components.server(row.component_id).to_owned();
        }
    }
    for row in server {
        let Some((source, dest)) = ends(row) else {
            continue;
        };
        let component = components.name(row.component_id);
        calls.seen_by_server(
            row.entity_id.clone(),
            (&source.id, &dest.id),
            Some(component),
        );
        nodes.add(source);
        nodes.add(dest).ty = components.server(row.component_id).to_owned();
    }
    ServiceInstanceTopology {
        nodes: nodes.into_vec(),
        calls: calls.into_vec(),
    }
}
