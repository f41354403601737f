//! Calls that a service mesh saw (8.1.0 spec, A.6): reported by probes, or told by what else knows of such calls.

use bytes::Bytes;
use oap_proto::agent as proto;
use prost::Message as _;

use super::entities::End;
use super::naming::cut;
use super::request::push_served;
use super::trace::check_name;
use super::{Analyzer, Facts, Reject};
use crate::model::scope::{DetectPoint, NodeType, RequestType};
use crate::model::source::Request;

/// What a call spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshProtocol {
    Http,
    Grpc,
    Other,
}

impl MeshProtocol {
    fn component_id(self) -> i32 {
        match self {
            MeshProtocol::Http => 49,
            MeshProtocol::Grpc => 23,
            MeshProtocol::Other => 50,
        }
    }

    fn request_type(self) -> RequestType {
        match self {
            MeshProtocol::Http => RequestType::Http,
            MeshProtocol::Grpc => RequestType::Grpc,
            MeshProtocol::Other => RequestType::Rpc,
        }
    }
}

/// One call, seen from one side. Names are as they came, of any length.
#[derive(Debug, Clone, Copy)]
pub struct MeshMetric<'a> {
    /// Epoch milliseconds.
    pub start_ms: i64,
    /// Empty if nobody knows who called.
    pub source_service: &'a str,
    pub source_instance: &'a str,
    pub dest_service: &'a str,
    pub dest_instance: &'a str,
    pub endpoint: &'a str,
    /// Milliseconds.
    pub latency: i32,
    pub response_code: i32,
    /// Whether the call succeeded.
    pub status: bool,
    pub protocol: MeshProtocol,
    pub detect_point: DetectPoint,
}

impl Analyzer {
    /// Analyses one encoded `ServiceMeshMetric`.
    pub(super) fn mesh(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let message =
            proto::ServiceMeshMetric::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let metric = MeshMetric {
            start_ms: message.start_time,
            source_service: &message.source_service_name,
            source_instance: &message.source_service_instance,
            dest_service: &message.dest_service_name,
            dest_instance: &message.dest_service_instance,
            endpoint: &message.endpoint,
            latency: message.latency,
            response_code: message.response_code,
            status: message.status,
            protocol: match proto::Protocol::try_from(message.protocol) {
                Ok(proto::Protocol::Http) => MeshProtocol::Http,
                Ok(proto::Protocol::GRpc) => MeshProtocol::Grpc,
                Err(_) => MeshProtocol::Other,
            },
            detect_point: match proto::DetectPoint::try_from(message.detect_point) {
                Ok(proto::DetectPoint::Client) => DetectPoint::Client,
                Ok(proto::DetectPoint::Server) => DetectPoint::Server,
                Ok(proto::DetectPoint::Proxy) => DetectPoint::Proxy,
                Err(_) => DetectPoint::Unrecognized,
            },
        };
        self.mesh_metric(&metric, facts)
    }

    /// Adds what one call means; on rejection nothing of it is added.
    ///
    /// A server tells about its service, instance and endpoint, whoever knows the caller about the relation. Relations
    /// that a proxy saw are sources as well, but no metric of the default scripts takes them.
    pub(super) fn mesh_metric(
        &mut self,
        metric: &MeshMetric<'_>,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let names = [
            metric.source_service,
            metric.source_instance,
            metric.dest_service,
            metric.dest_instance,
            metric.endpoint,
        ];
        names.into_iter().try_for_each(check_name)?;
        if metric.dest_service.is_empty() {
            return Err(Reject::MissingId);
        }
        let minute = self.second(metric.start_ms)? / 100;
        let limits = self.settings.names;
        let end = |service, instance| End {
            service: cut(service, limits.service),
            node_type: NodeType::Normal,
            instance: cut(instance, limits.instance),
            endpoint: "",
            endpoint_owner: None,
        };
        let dest = end(metric.dest_service, metric.dest_instance);
        let endpoint = cut(metric.endpoint, limits.endpoint);
        let group = self.endpoints.group(dest.service, endpoint);
        let endpoint = group.as_deref().unwrap_or(endpoint);
        let request = Request {
            latency: metric.latency,
            status: metric.status,
            response_code: metric.response_code,
            ty: metric.protocol.request_type(),
            detect_point: metric.detect_point,
            component_id: metric.protocol.component_id(),
        };
        if metric.detect_point == DetectPoint::Server {
            let served = self.entities.request(dest.service, dest.instance, endpoint);
            push_served(&served, minute, request, facts);
        }
        if !metric.source_service.is_empty() {
            let source = end(metric.source_service, metric.source_instance);
            // Scripts may ask what was called; without an endpoint of the caller there is no relation of endpoints.
            let dest = End { endpoint, ..dest };
            self.push_relation(source, dest, minute, request, facts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
