//! Resolvers of `topology.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::service::duration::Duration;
use crate::query::service::{endpoint_topology, instance_topology, topology};
use crate::query::{Cuts, QueryContext};
use crate::storage::Backend;

#[derive(Deserialize)]
struct Global {
    duration: Duration,
}

pub(super) async fn global<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let Global { duration } = a.read()?;
    answer(topology::global(cx, cuts, &duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    service_id: String,
    duration: Duration,
}

pub(super) async fn service<S: Backend>(cx: &QueryContext<S>, cuts: &Cuts, a: Arguments) -> Answer {
    let Service {
        service_id,
        duration,
    } = a.read()?;
    answer(topology::of_services(cx, cuts, vec![service_id], &duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Services {
    service_ids: Vec<String>,
    duration: Duration,
}

pub(super) async fn services<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let Services {
        service_ids,
        duration,
    } = a.read()?;
    answer(topology::of_services(cx, cuts, service_ids, &duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instances {
    client_service_id: String,
    server_service_id: String,
    duration: Duration,
}

pub(super) async fn instances<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let a: Instances = a.read()?;
    let (client, server) = (a.client_service_id, a.server_service_id);
    answer(instance_topology::between(cx, cuts, client, server, &a.duration).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    endpoint_id: String,
    duration: Duration,
}

pub(super) async fn endpoint<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let Endpoint {
        endpoint_id,
        duration,
    } = a.read()?;
    answer(endpoint_topology::topology(cx, cuts, endpoint_id, &duration).await?)
}

pub(super) async fn dependencies<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    a: Arguments,
) -> Answer {
    let Endpoint {
        endpoint_id,
        duration,
    } = a.read()?;
    answer(endpoint_topology::dependencies(cx, cuts, endpoint_id, &duration).await?)
}
