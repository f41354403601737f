//! The table of A.6: what becomes of a call by who saw it, what it spoke and which names are there.

use std::sync::Arc;

use super::*;
use crate::analyzer::AnalyzerSettings;
use crate::analyzer::testing::{self, MINUTE, NOW_MS, analyzer, relations, served, sources};
use crate::model::id;
use crate::model::message::Message;
use crate::model::scope::Scope;
use crate::model::source::Values;

fn metric(protocol: MeshProtocol, detect_point: DetectPoint) -> MeshMetric<'static> {
    MeshMetric {
        start_ms: NOW_MS,
        source_service: "web",
        source_instance: "web-1",
        dest_service: "shop",
        dest_instance: "shop-1",
        endpoint: "/order",
        latency: 30,
        response_code: 503,
        status: true,
        protocol,
        detect_point,
    }
}

/// Scopes and ids of what a call is about.
fn about(metric: &MeshMetric<'_>) -> Vec<(Scope, String)> {
    let mut facts = Facts::new(1);
    analyzer().mesh_metric(metric, &mut facts).unwrap();
    testing::about(&sources(&mut facts))
}

#[test]
fn a_server_tells_about_itself_and_everybody_about_the_relation() {
    let relations = relations(("web", "web-1"), ("shop", "shop-1"));
    let of_server = [served("shop", "shop-1", "/order"), relations.clone()].concat();
    for (point, want) in [
        (DetectPoint::Server, &of_server),
        (DetectPoint::Client, &relations),
        (DetectPoint::Proxy, &relations),
        (DetectPoint::Unrecognized, &relations),
    ] {
        assert_eq!(
            about(&metric(MeshProtocol::Http, point)),
            *want,
            "{point:?}"
        );
    }
}

#[test]
fn the_protocol_decides_component_and_request_type() {
    for (protocol, component_id, ty) in [
        (MeshProtocol::Http, 49, RequestType::Http),
        (MeshProtocol::Grpc, 23, RequestType::Grpc),
        (MeshProtocol::Other, 50, RequestType::Rpc),
    ] {
        for point in [DetectPoint::Server, DetectPoint::Client] {
            let mut facts = Facts::new(1);
            let metric = metric(protocol, point);
            analyzer().mesh_metric(&metric, &mut facts).unwrap();
            for source in sources(&mut facts) {
                assert_eq!(source.minute, MINUTE);
                let want = Request {
                    latency: 30,
                    status: true,
                    response_code: 503,
                    ty,
                    detect_point: point,
                    component_id,
                };
                assert_eq!(source.values, Values::Request(want), "{protocol:?}");
            }
        }
    }
}

#[test]
fn relations_say_which_endpoint_was_called() {
    use crate::model::attr::Attr;
    use crate::model::source::AttrValue;
    for point in [DetectPoint::Server, DetectPoint::Client] {
        let mut facts = Facts::new(1);
        let metric = metric(MeshProtocol::Http, point);
        analyzer().mesh_metric(&metric, &mut facts).unwrap();
        let attr = Attr::find(Scope::ServiceRelation, "endpoint").unwrap();
        let relations = sources(&mut facts);
        let relations = relations.iter().filter(|s| {
            matches!(
                s.entity.scope,
                Scope::ServiceRelation | Scope::ServiceInstanceRelation
            )
        });
        let endpoints: Vec<_> = relations.map(|s| s.attr(attr)).collect();
        assert_eq!(endpoints, [Some(AttrValue::Text("/order")); 2], "{point:?}");
    }
}

#[test]
fn names_that_are_not_there() {
    let call = metric(MeshProtocol::Http, DetectPoint::Server);
    let of_server = served("shop", "shop-1", "/order");
    let relations = relations(("web", "web-1"), ("shop", "shop-1"));
    let of_services = &relations[..1];
    for (what, metric, want) in [
        (
            "caller",
            MeshMetric {
                source_service: "",
                ..call
            },
            of_server.clone(),
        ),
        (
            "instance of the caller",
            MeshMetric {
                source_instance: "",
                ..call
            },
            [&of_server, of_services].concat(),
        ),
        (
            "instance",
            MeshMetric {
                dest_instance: "",
                ..call
            },
            [&served("shop", "", "/order"), of_services].concat(),
        ),
        (
            "endpoint",
            MeshMetric {
                endpoint: "",
                ..call
            },
            [served("shop", "shop-1", ""), relations.clone()].concat(),
        ),
    ] {
        assert_eq!(about(&metric), want, "{what}");
    }
}

#[test]
fn names_are_cut() {
    let long = "n".repeat(200);
    let call = MeshMetric {
        source_service: &long,
        source_instance: &long,
        dest_service: &long,
        dest_instance: &long,
        endpoint: &long,
        ..metric(MeshProtocol::Http, DetectPoint::Server)
    };
    let name = "n".repeat(70);
    let relations = relations((&name, &name), (&name, &name));
    let want = [served(&name, &name, &"n".repeat(150)), relations].concat();
    assert_eq!(about(&call), want);
}

#[test]
fn a_rejected_call_leaves_nothing() {
    let call = metric(MeshProtocol::Http, DetectPoint::Server);
    let huge = "n".repeat(1 << 20);
    let old = AnalyzerSettings::default().max_age_ms;
    for (metric, want) in [
        (
            MeshMetric {
                dest_service: "",
                ..call
            },
            Reject::MissingId,
        ),
        (
            MeshMetric {
                source_instance: &huge,
                ..call
            },
            Reject::NameTooLong,
        ),
        (
            MeshMetric {
                start_ms: NOW_MS + 2 * 86_400_000,
                ..call
            },
            Reject::TimeOutOfRange,
        ),
        (
            MeshMetric {
                start_ms: NOW_MS.saturating_sub(old).saturating_sub(1),
                ..call
            },
            Reject::TimeOutOfRange,
        ),
    ] {
        let mut facts = Facts::new(1);
        assert_eq!(analyzer().mesh_metric(&metric, &mut facts), Err(want));
        assert!(sources(&mut facts).is_empty(), "{want:?}");
    }
}

#[test]
fn every_field_of_a_report_is_read() {
    for (number, protocol) in [
        (0, RequestType::Http),
        (1, RequestType::Grpc),
        (7, RequestType::Rpc),
    ] {
        for (point, detect_point) in [
            (0, DetectPoint::Client),
            (1, DetectPoint::Server),
            (2, DetectPoint::Proxy),
            (7, DetectPoint::Unrecognized),
        ] {
            let report = proto::ServiceMeshMetric {
                start_time: NOW_MS,
                end_time: NOW_MS + 30,
                source_service_name: "web".into(),
                source_service_instance: "web-1".into(),
                dest_service_name: "shop".into(),
                dest_service_instance: "shop-1".into(),
                endpoint: "/order".into(),
                latency: 30,
                response_code: 200,
                status: true,
                protocol: number,
                detect_point: point,
            };
            let mut facts = Facts::new(1);
            let message = Message::Mesh(report.encode_to_vec().into());
            analyzer().analyze(&message, &mut facts).unwrap();
            let sources = sources(&mut facts);
            let is_server = detect_point == DetectPoint::Server;
            assert_eq!(sources.len(), if is_server { 6 } else { 2 });
            for source in sources {
                let Values::Request(request) = source.values else {
                    panic!("{source:?}");
                };
                assert_eq!(request.ty, protocol);
                assert_eq!(request.detect_point, detect_point);
                assert_eq!((request.latency, request.response_code), (30, 200));
                assert!(request.status);
            }
        }
    }
}

#[test]
fn bytes_that_are_no_report_are_rejected() {
    let mut facts = Facts::new(1);
    let message = Message::Mesh(Bytes::from_static(b"\x1a\x05no"));
    let outcome = analyzer().analyze(&message, &mut facts);
    assert_eq!(outcome, Err(Reject::Undecodable));
}

#[test]
fn endpoints_are_grouped_by_the_rules_of_the_called_service() {
    use crate::analyzer::grouping::EndpointGrouping;
    use crate::config::ConfigFile;
    let rules =
        "grouping: [{service-name: shop, rules: [{endpoint-name: '/{id}', regex: '/\\d+'}]}]";
    let file = ConfigFile::built_in("endpoint-name-grouping.yml", rules);
    let mut analyzer = analyzer();
    let grouping = Arc::new(EndpointGrouping::parse(&file).unwrap().0);
    analyzer.endpoints = crate::analyzer::naming::EndpointNames::new(grouping);
    for (service, endpoint) in [("shop", "/{id}"), ("stock", "/7")] {
        let mut metric = metric(MeshProtocol::Http, DetectPoint::Server);
        (metric.dest_service, metric.endpoint) = (service, "/7");
        let mut facts = Facts::new(1);
        analyzer.mesh_metric(&metric, &mut facts).unwrap();
        let sources = sources(&mut facts);
        let want = id::endpoint_id(&id::service_id(service, true), endpoint);
        assert!(sources.iter().any(|s| *s.entity.id == *want), "{service}");
    }
}
