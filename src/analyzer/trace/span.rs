//! Entry, exit and local spans: who called whom, how long it took, whether it worked (8.1.0 spec, B.2–B.4, B.7).

use oap_proto::agent::{RefType, SpanLayer};

use super::segment::{Reference, Segment, Span};
use crate::analyzer::entities::End;
use crate::analyzer::naming::cut;
use crate::analyzer::request::{push_served, push_source};
use crate::analyzer::{Analyzer, Fact, Facts};
use crate::model::id::USER;
use crate::model::scope::{DetectPoint, NodeType, RequestType};
use crate::model::source::{Names, Request};

/// Component of a proxy whose peers are not where the request ends (8.1.0 spec, B.4).
const NGINX: i32 = 6000;

impl Analyzer {
    pub(super) fn entry_span(
        &mut self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        minute: u64,
        facts: &mut Facts,
    ) {
        if span.skip_analysis {
            return;
        }
        let names = self.settings.names;
        let service = cut(segment.service, names.service);
        // The original limits the instance of a served request like a service.
        let instance = cut(segment.service_instance, names.service);
        let endpoint = cut(span.operation_name, names.endpoint);
        // With references the original asks for the group before it knows the service, so there is none.
        let group = match span.refs.is_empty() {
            true => self.endpoints.group(service, endpoint),
            false => None,
        };
        let endpoint = group.as_deref().unwrap_or(endpoint);
        let served = self.entities.request(service, instance, endpoint);
        let request = request(span, DetectPoint::Server);
        let dest = End {
            service,
            node_type: NodeType::Normal,
            instance,
            endpoint,
            endpoint_owner: None,
        };
        if span.refs.is_empty() {
            let user = End {
                service: USER,
                node_type: NodeType::User,
                instance: USER,
                endpoint: USER,
                endpoint_owner: None,
            };
            push_served(&served, minute, request, facts);
            self.push_relation(user, dest, minute, request, facts);
        }
        for reference in &span.refs {
            push_served(&served, minute, request, facts);
            let source = self.caller(span, reference);
            self.push_relation(source, dest, minute, request, facts);
        }
        self.logic_endpoint(segment, span, minute, facts);
        self.address_aliases(segment, span, minute, facts);
    }

    fn caller<'a>(&self, span: &Span<'_>, reference: &Reference<'a>) -> End<'a> {
        let names = self.settings.names;
        let endpoint = if reference.parent_endpoint.is_empty() {
            USER
        } else {
            cut(reference.parent_endpoint, names.endpoint)
        };
        let parent = cut(reference.parent_service, names.service);
        let address = reference.network_address_used_at_peer;
        if span.span_layer() == SpanLayer::Mq || self.settings.gateways.contains(address) {
            return End {
                service: cut(address, names.service),
                node_type: node_type_of(span),
                instance: cut(address, names.instance),
                endpoint,
                endpoint_owner: Some(parent),
            };
        }
        End {
            service: parent,
            node_type: NodeType::Normal,
            instance: cut(reference.parent_service_instance, names.instance),
            endpoint,
            endpoint_owner: None,
        }
    }

    fn address_aliases(
        &mut self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        minute: u64,
        facts: &mut Facts,
    ) {
        if span.span_layer() == SpanLayer::Mq {
            return;
        }
        let names = self.settings.names;
        for reference in &span.refs {
            let address = cut(reference.network_address_used_at_peer, names.service);
            let is_gateway = self.settings.gateways.contains(address);
            let is_remote = reference.ref_type == RefType::CrossProcess as i32;
            if !is_remote || address.is_empty() || is_gateway {
                continue;
            }
            let alias = self.entities.alias(
                address,
                cut(segment.service, names.service),
                cut(segment.service_instance, names.instance),
                minute,
            );
            facts.push(Fact::Address { alias, minute });
        }
    }

    pub(super) fn exit_span(
        &mut self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        second: u64,
        facts: &mut Facts,
    ) {
        if span.skip_analysis || span.peer.is_empty() {
            return;
        }
        let minute = second / 100;
        let names = self.settings.names;
        let source = End {
            service: cut(segment.service, names.service),
            node_type: NodeType::Normal,
            instance: cut(segment.service_instance, names.instance),
            endpoint: "",
            endpoint_owner: None,
        };
        let resident = self.addresses.find(span.peer);
        let peer = cut(span.peer, names.service);
        let dest = match resident.as_deref() {
            None => End {
                service: peer,
                node_type: node_type_of(span),
                instance: peer,
                ..source
            },
            Some(resident) => End {
                service: cut(&resident.service, names.service),
                node_type: NodeType::Normal,
                instance: if span.component_id == NGINX {
                    ""
                } else {
                    cut(&resident.instance, names.service)
                },
                ..source
            },
        };
        let request = request(span, DetectPoint::Client);
        self.push_relation(source, dest, minute, request, facts);
        if request.ty == RequestType::Database {
            let entity = self.entities.service(dest.service, dest.node_type);
            facts.push(Fact::Service { entity, minute });
            let entity = self.entities.database_access(dest.service);
            push_source(&entity, Names::None, minute, request, facts);
            self.slow_statement(segment, span, second, facts);
        }
    }
}

/// Milliseconds as the original's 32-bit cast gives them.
pub(super) fn latency(span: &Span<'_>) -> i32 {
    span.end_time.wrapping_sub(span.start_time) as i32
}

fn request(span: &Span<'_>, detect_point: DetectPoint) -> Request {
    let response_code = span
        .tags
        .iter()
        .rev()
        .filter(|tag| tag.key == "status_code")
        .find_map(|tag| tag.value.parse().ok())
        .unwrap_or(0);
    Request {
        latency: latency(span),
        status: !span.is_error,
        response_code,
        ty: match span.span_layer() {
            SpanLayer::Http => RequestType::Http,
            SpanLayer::Database => RequestType::Database,
            _ => RequestType::Rpc,
        },
        detect_point,
        component_id: span.component_id,
    }
}

/// What an unknown peer is taken for. The layer `Unknown` counts as a real service, as in the original.
fn node_type_of(span: &Span<'_>) -> NodeType {
    match SpanLayer::try_from(span.span_layer) {
        Ok(SpanLayer::Unknown) => NodeType::Normal,
        Ok(SpanLayer::Database) => NodeType::Database,
        Ok(SpanLayer::RpcFramework) => NodeType::RpcFramework,
        Ok(SpanLayer::Http) => NodeType::Http,
        Ok(SpanLayer::Mq) => NodeType::Mq,
        Ok(SpanLayer::Cache) => NodeType::Cache,
        // Of a later protocol.
        Err(_) => NodeType::Unrecognized,
    }
}
