//! Which endpoints call an endpoint and which it calls (query spec 2.7, corrections 5 and 15).

use serde::Serialize;

use super::call::{Call, Calls};
use super::duration::Duration;
use super::instance_topology::{MemberNode, MemberNodes};
use super::topology::{Node, Stream, Topology, side};
use crate::model::id;
use crate::model::scope::Scope;
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::{Backend, RelationFilter};

/// A graph of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointTopology {
    pub nodes: Vec<MemberNode>,
    pub calls: Vec<Call>,
}

/// Neighbours of an endpoint. An id that is none simply has no neighbours.
pub async fn dependencies<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    endpoint_id: String,
    duration: &Duration,
) -> Result<EndpointTopology, QueryError> {
    let range = duration.range()?;
    let filter = RelationFilter::Endpoint(endpoint_id);
    let rows = side(
        cx,
        cuts,
        Stream::server(Scope::EndpointRelation),
        range,
        &filter,
    )
    .await?;
    let mut nodes = MemberNodes::default();
    let mut calls = Calls::default();
    for row in rows {
        match ends(&row.entity_id) {
            Ok((source, dest)) => {
                calls.seen_by_server(row.entity_id, (&source.id, &dest.id), None);
                nodes.add(source);
                nodes.add(dest);
            }
            Err(error) => tracing::debug!(%error, "relation left out of the topology"),
        }
    }
    Ok(EndpointTopology {
        nodes: nodes.into_vec(),
        calls: calls.into_vec(),
    })
}

fn ends(relation_id: &str) -> Result<(MemberNode, MemberNode), id::IdError> {
    let relation = id::parse_endpoint_relation_id(relation_id)?;
    let end = |service: &str, endpoint: &str| MemberNode::parse(id::endpoint_id(service, endpoint));
    Ok((
        end(&relation.source_service_id, &relation.source_endpoint)?,
        end(&relation.dest_service_id, &relation.dest_endpoint)?,
    ))
}

/// [`dependencies`] in the older form, in which every node is real.
pub async fn topology<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    endpoint_id: String,
    duration: &Duration,
) -> Result<Topology, QueryError> {
    let found = dependencies(cx, cuts, endpoint_id, duration).await?;
    let node = |node: MemberNode| Node {
        id: node.id,
        name: node.name,
        ty: Some(node.ty),
        is_real: true,
    };
    Ok(Topology {
        nodes: found.nodes.into_iter().map(node).collect(),
        calls: found.calls,
    })
}
