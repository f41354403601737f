//! What a segment means, sentence by sentence of the 8.1.0 spec, B: each fact as a line, ids decoded.

use std::sync::Arc;

use base64::Engine as _;
use oap_proto::agent::{
    KeyStringValuePair, RefType, SegmentObject, SegmentReference, SpanLayer, SpanObject,
};
use prost::Message as _;

use super::*;
use crate::analyzer::AnalyzerSettings;
use crate::analyzer::gateways::Gateways;
use crate::analyzer::grouping::EndpointGrouping;
use crate::config::{ConfigFile, SlowThresholds};
use crate::model::fact::{AddressAlias, Fact};
use crate::model::message::Message;
use crate::model::row::Row;
use crate::model::schema::Schema;
use crate::model::scope::Scope;
use crate::model::source::Values;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;
use crate::util::clock::Clock;

mod records;
mod spans;

/// 2020-09-15 10:59:30 UTC.
const AT: i64 = 1_600_167_570_000;

fn settings() -> AnalyzerSettings {
    let rules =
        "grouping: [{service-name: shop, rules: [{endpoint-name: '/{id}', regex: '/\\d+'}]}]";
    let gateways = "gateways: [{name: edge, instances: [{host: edge}]}]";
    AnalyzerSettings {
        slow_statements: SlowThresholds {
            by_type: vec![("mongodb".to_owned(), 100)],
            default: 200,
        },
        grouping: Arc::new(
            EndpointGrouping::parse(&ConfigFile::built_in("grouping", rules))
                .unwrap()
                .0,
        ),
        gateways: Gateways::parse(&ConfigFile::built_in("gateways", gateways))
            .unwrap()
            .0,
        ..AnalyzerSettings::default()
    }
}

fn analyzer(settings: AnalyzerSettings, addresses: AddressBook) -> Analyzer {
    Analyzer::new(
        Arc::new(settings),
        &Schema::build(&[], &[], &[], false),
        Zone::utc(),
        Clock::Fixed(Arc::new(AT.into())),
        Arc::new(addresses),
    )
}

fn span(ty: SpanType, name: &str) -> SpanObject {
    SpanObject {
        parent_span_id: -1,
        start_time: AT,
        end_time: AT + 42,
        operation_name: name.to_owned(),
        span_type: ty.into(),
        component_id: 1,
        ..SpanObject::default()
    }
}

fn exit(peer: &str, layer: SpanLayer) -> SpanObject {
    SpanObject {
        peer: peer.to_owned(),
        span_layer: layer.into(),
        ..span(SpanType::Exit, "call")
    }
}

fn reference(ty: RefType) -> SegmentReference {
    SegmentReference {
        ref_type: ty.into(),
        parent_service: "web".to_owned(),
        parent_service_instance: "web-1".to_owned(),
        parent_endpoint: "/home".to_owned(),
        network_address_used_at_peer: "shop:80".to_owned(),
        ..SegmentReference::default()
    }
}

fn tag(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn segment(spans: Vec<SpanObject>) -> SegmentObject {
    SegmentObject {
        trace_id: "trace".to_owned(),
        trace_segment_id: "segment".to_owned(),
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        spans,
        ..SegmentObject::default()
    }
}

/// The lines of all facts in their order, and the records.
fn analyze(analyzer: &mut Analyzer, segment: &SegmentObject) -> (Vec<String>, Vec<Row>) {
    let mut facts = Facts::new(1);
    let message = Message::Segment(segment.encode_to_vec().into());
    analyzer.analyze(&message, &mut facts).unwrap();
    let lines = facts.take_shards().flatten().map(|fact| line(&fact));
    let lines = lines.collect();
    (lines, facts.records)
}

fn of(spans: Vec<SpanObject>) -> Vec<String> {
    analyze(
        &mut analyzer(settings(), AddressBook::new(10)),
        &segment(spans),
    )
    .0
}

fn records(spans: Vec<SpanObject>) -> Vec<Row> {
    let mut analyzer = analyzer(settings(), AddressBook::new(10));
    analyze(&mut analyzer, &segment(spans)).1
}

/// Only the lines of one scope.
fn of_scope(scope: Scope, lines: Vec<String>) -> Vec<String> {
    let start = format!("{scope:?} ");
    let rest = |line: String| line.strip_prefix(&start).map(str::to_owned);
    lines.into_iter().filter_map(rest).collect()
}

/// Names instead of Base64, separators kept.
fn decoded(id: &str) -> String {
    let part = |part: &str| {
        let (name, kind) = part.split_once('.').unwrap_or((part, ""));
        let name = base64::engine::general_purpose::STANDARD.decode(name);
        let name = String::from_utf8(name.unwrap()).unwrap();
        match kind {
            "" => name,
            kind => format!("{name}.{kind}"),
        }
    };
    let pairs = id
        .split('-')
        .map(|side| side.split('_').map(part).collect::<Vec<_>>().join("_"));
    pairs.collect::<Vec<_>>().join(" > ")
}

fn line(fact: &Fact) -> String {
    match fact {
        Fact::Source(source) => {
            let Values::Request(r) = &source.values else {
                panic!("{fact:?}");
            };
            format!(
                "{:?} {} {} {}ms {} {} {:?} {:?} {}",
                source.entity.scope,
                decoded(&source.entity.id),
                source.minute,
                r.latency,
                r.status,
                r.response_code,
                r.ty,
                r.detect_point,
                r.component_id
            )
        }
        Fact::Service { entity, minute } => {
            let (id, ty) = (decoded(&entity.id), entity.node_type);
            format!("service {id} {ty:?} {minute}")
        }
        Fact::Instance { .. } | Fact::Endpoint { .. } | Fact::Meter(_) => panic!("{fact:?}"),
        Fact::Address { alias, minute } => {
            let (service, instance) = (decoded(&alias.service_id), decoded(&alias.instance_id));
            let AddressAlias {
                address,
                last_update,
                ..
            } = &**alias;
            format!("address {address} {service} {instance} {minute} {last_update}")
        }
    }
}
