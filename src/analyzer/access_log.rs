//! Requests that Envoy proxies logged, as calls in a service mesh (8.1.0 spec, A.9; trap 24).

use std::collections::HashMap;

use bytes::Bytes;
use oap_proto::envoy::{
    AccessLogCommon, Address, HttpAccessLogEntry, Instant, Span, StreamAccessLogsMessage,
};
use prost::Message as _;

use super::envoy::node;
use super::mesh::{MeshMetric, MeshProtocol};
use super::pods::Pod;
use super::{Analyzer, Facts, Reject};
use crate::model::scope::DetectPoint;

/// What a proxy is for, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// At the border of the mesh.
    Router,
    /// Beside a service.
    Sidecar,
}

impl Role {
    fn of(node_id: &str) -> Option<Role> {
        match node_id {
            id if id.starts_with("router~") => Some(Role::Router),
            id if id.starts_with("sidecar~") => Some(Role::Sidecar),
            _ => None,
        }
    }
}

/// One end of a call.
type End<'a> = (&'a str, &'a str);

/// What an address is called that belongs to no pod.
const UNKNOWN: End<'static> = ("UNKNOWN", "UNKNOWN");
/// Nobody, so that the call makes no relation.
const NOBODY: End<'static> = ("", "");

impl Analyzer {
    /// Analyses the requests of one message. One that makes no sense does not harm the others.
    pub(super) fn access_logs(
        &mut self,
        identifier: &Bytes,
        body: &Bytes,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let Some(pods) = &self.settings.access_log_pods else {
            return Ok(());
        };
        let pods = pods.current();
        let role = Role::of(&node(identifier)?.id);
        let message =
            StreamAccessLogsMessage::decode(body.clone()).map_err(|_| Reject::Undecodable)?;
        let entries = message.http_logs.unwrap_or_default().log_entry;
        let (Some(role), false) = (role, entries.is_empty()) else {
            return Ok(());
        };
        if pods.is_empty() {
            return Err(Reject::NoPods);
        }
        for entry in &entries {
            for call in calls(role, entry, &pods).iter().flatten() {
                if let Err(reject) = self.mesh_metric(call, facts) {
                    facts.rejected.push(reject);
                }
            }
        }
        Ok(())
    }
}

/// The calls that a logged request stands for: a sidecar sees one side of one call, a router serves one and makes another.
fn calls<'a>(
    role: Role,
    entry: &'a HttpAccessLogEntry,
    pods: &'a HashMap<String, Pod>,
) -> [Option<MeshMetric<'a>>; 2] {
    let Some(common) = &entry.common_properties else {
        return [None, None];
    };
    let pod_at = |address: &Option<Address>| pod_at(pods, address);
    let caller = pod_at(&common.downstream_remote_address);
    let local = pod_at(&common.downstream_local_address);
    let callee = pod_at(&common.upstream_remote_address);
    let served = |source, dest| call(entry, common, source, dest, DetectPoint::Server);
    let made = |source, dest| call(entry, common, source, dest, DetectPoint::Client);
    match role {
        Role::Router => {
            let begin = span_ms(common.time_to_first_upstream_tx_byte);
            let end = span_ms(common.time_to_last_upstream_rx_byte);
            let inside = made(local, callee);
            let inside = MeshMetric {
                start_ms: inside.start_ms.saturating_add(begin),
                latency: wrapped(end.saturating_sub(begin)),
                ..inside
            };
            [Some(served(caller, local)), Some(inside)]
        }
        Role::Sidecar if common.upstream_cluster.starts_with("inbound|") => {
            let caller = if caller == UNKNOWN { NOBODY } else { caller };
            [Some(served(caller, local)), None]
        }
        Role::Sidecar if common.upstream_cluster.starts_with("outbound|") => {
            [Some(made(caller, callee)), None]
        }
        Role::Sidecar => [None, None],
    }
}

/// A call that took as long as the whole request.
fn call<'a>(
    entry: &'a HttpAccessLogEntry,
    common: &AccessLogCommon,
    (source_service, source_instance): End<'a>,
    (dest_service, dest_instance): End<'a>,
    detect_point: DetectPoint,
) -> MeshMetric<'a> {
    let request = entry.request.as_ref();
    let scheme = request.map_or("", |r| &r.scheme);
    let response = entry.response.and_then(|r| r.response_code);
    let response_code = response.map_or(0, |code| code.value).cast_signed();
    MeshMetric {
        start_ms: start_ms(common.start_time),
        source_service,
        source_instance,
        dest_service,
        dest_instance,
        endpoint: request.map_or("", |r| &r.path),
        latency: wrapped(span_ms(common.time_to_last_downstream_tx_byte)),
        response_code,
        status: (200..400).contains(&response_code),
        protocol: match scheme {
            "http" | "https" => MeshProtocol::Http,
            _ => MeshProtocol::Grpc,
        },
        detect_point,
    }
}

fn pod_at<'a>(pods: &'a HashMap<String, Pod>, address: &Option<Address>) -> End<'a> {
    let socket = address.as_ref().and_then(|a| a.socket_address.as_ref());
    let pod = socket.and_then(|socket| pods.get(&socket.address));
    pod.map_or(UNKNOWN, |pod| (&pod.service, &pod.instance))
}

/// Epoch milliseconds; an absent instant is 1970.
fn start_ms(at: Option<Instant>) -> i64 {
    at.map_or(0, |at| ms(at.seconds, at.nanos))
}

fn span_ms(span: Option<Span>) -> i64 {
    span.map_or(0, |span| ms(span.seconds, span.nanos))
}

fn ms(seconds: i64, nanos: i32) -> i64 {
    let of_nanos = i64::from(nanos.div_euclid(1_000_000));
    seconds.saturating_mul(1000).saturating_add(of_nanos)
}

/// As the original narrows a number of milliseconds.
fn wrapped(ms: i64) -> i32 {
    ms as i32
}

#[cfg(test)]
mod tests;
