//! The rules of A.9: who called whom, by the role of the proxy and its addresses.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use oap_proto::envoy::stream_access_logs_message::HttpEntries;
use oap_proto::envoy::{
    HttpRequestProperties, HttpResponseProperties, Identifier, Node, ResponseCode, SocketAddress,
};

use super::*;
use crate::analyzer::pods::PodMap;
use crate::analyzer::{AnalyzerSettings, Fact};
use crate::model::message::Message;
use crate::model::schema::Schema;
use crate::model::scope::Scope;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;
use crate::util::clock::Clock;

/// 2020-09-15 10:59:31 UTC.
const AT_MS: i64 = 1_600_167_571_000;
const WEB: &str = "10.0.0.1";
const SHOP: &str = "10.0.0.2";
const GATE: &str = "10.0.0.3";
const ELSEWHERE: &str = "192.0.2.7";

fn pods() -> HashMap<String, Pod> {
    let named = [(WEB, "web"), (SHOP, "shop"), (GATE, "gate")];
    let named = named.map(|(ip, name)| {
        let pod = Pod {
            service: format!("{name}.default"),
            instance: format!("{name}-1.default"),
        };
        (ip.to_owned(), pod)
    });
    named.into()
}

fn address(ip: &str) -> Option<Address> {
    Some(Address {
        socket_address: Some(SocketAddress { address: ip.into() }),
    })
}

fn span(ms: i32) -> Option<Span> {
    Some(Span {
        seconds: (ms / 1000).into(),
        nanos: ms % 1000 * 1_000_000 + 999_999,
    })
}

/// `GET http://…/order` from one address to another, answered 200 after 1,250 ms.
fn entry(cluster: &str, caller: &str, local: &str, callee: &str) -> HttpAccessLogEntry {
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            downstream_remote_address: address(caller),
            downstream_local_address: address(local),
            start_time: Some(Instant {
                seconds: AT_MS / 1000,
                nanos: 7_500_000,
            }),
            time_to_first_upstream_tx_byte: span(20),
            time_to_last_upstream_rx_byte: span(1220),
            time_to_last_downstream_tx_byte: span(1250),
            upstream_remote_address: address(callee),
            upstream_cluster: cluster.into(),
        }),
        request: Some(HttpRequestProperties {
            scheme: "http".into(),
            path: "/order".into(),
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(ResponseCode { value: 200 }),
        }),
    }
}

/// A call in short: `caller/instance > callee/instance from which side, start after AT_MS, latency`.
fn told(role: Role, entry: &HttpAccessLogEntry) -> Vec<String> {
    let pods = pods();
    let calls = calls(role, entry, &pods);
    let calls = calls.iter().flatten().map(|call| {
        format!(
            "{}/{} > {}/{} {:?} +{} {}",
            call.source_service,
            call.source_instance,
            call.dest_service,
            call.dest_instance,
            call.detect_point,
            call.start_ms - AT_MS,
            call.latency
        )
    });
    calls.collect()
}

#[test]
fn who_called_whom_follows_from_role_cluster_and_addresses() {
    const SERVED: &str = "web.default/web-1.default > shop.default/shop-1.default Server +7 1250";
    const MADE: &str = "web.default/web-1.default > shop.default/shop-1.default Client +7 1250";
    for (role, cluster, [caller, local, callee], want) in [
        (
            Role::Sidecar,
            "inbound|80|http|shop",
            [WEB, SHOP, SHOP],
            &[SERVED][..],
        ),
        (
            Role::Sidecar,
            "inbound|80|http|shop",
            [ELSEWHERE, SHOP, SHOP],
            &["/ > shop.default/shop-1.default Server +7 1250"],
        ),
        (
            Role::Sidecar,
            "inbound|",
            [WEB, ELSEWHERE, SHOP],
            &["web.default/web-1.default > UNKNOWN/UNKNOWN Server +7 1250"],
        ),
        (
            Role::Sidecar,
            "outbound|80||shop",
            [WEB, ELSEWHERE, SHOP],
            &[MADE],
        ),
        (
            Role::Sidecar,
            "outbound|80||shop",
            [ELSEWHERE, WEB, SHOP],
            &["UNKNOWN/UNKNOWN > shop.default/shop-1.default Client +7 1250"],
        ),
        (
            Role::Sidecar,
            "outbound|443||example.org",
            [WEB, ELSEWHERE, ELSEWHERE],
            &["web.default/web-1.default > UNKNOWN/UNKNOWN Client +7 1250"],
        ),
        (Role::Sidecar, "PassthroughCluster", [WEB, SHOP, SHOP], &[]),
        (Role::Sidecar, "inbound", [WEB, SHOP, SHOP], &[]),
        (Role::Sidecar, "", [WEB, SHOP, SHOP], &[]),
        (
            Role::Router,
            "outbound|80||shop",
            [ELSEWHERE, GATE, SHOP],
            &[
                "UNKNOWN/UNKNOWN > gate.default/gate-1.default Server +7 1250",
                "gate.default/gate-1.default > shop.default/shop-1.default Client +27 1200",
            ],
        ),
        (
            Role::Router,
            "",
            [WEB, GATE, ELSEWHERE],
            &[
                "web.default/web-1.default > gate.default/gate-1.default Server +7 1250",
                "gate.default/gate-1.default > UNKNOWN/UNKNOWN Client +27 1200",
            ],
        ),
    ] {
        let entry = entry(cluster, caller, local, callee);
        assert_eq!(told(role, &entry), want, "{role:?} {cluster} {caller}");
    }
}

#[test]
fn an_entry_that_says_nothing_is_no_call() {
    let entry = HttpAccessLogEntry::default();
    assert!(told(Role::Sidecar, &entry).is_empty() && told(Role::Router, &entry).is_empty());
}

#[test]
fn an_address_that_is_none_is_unknown() {
    let pods = pods();
    assert_eq!(pod_at(&pods, &None), UNKNOWN);
    assert_eq!(pod_at(&pods, &Some(Address::default())), UNKNOWN);
}

#[test]
fn the_role_is_in_the_id_of_the_node() {
    for (id, want) in [
        (
            "router~10.0.0.3~gate-1.default~default.svc",
            Some(Role::Router),
        ),
        (
            "sidecar~10.0.0.2~shop-1.default~default.svc",
            Some(Role::Sidecar),
        ),
        ("sidecar", None),
        ("ingress~10.0.0.2", None),
        ("", None),
    ] {
        assert_eq!(Role::of(id), want, "{id}");
    }
}

#[test]
fn protocol_code_and_endpoint_are_those_of_the_request() {
    let pods = pods();
    let of = |change: &dyn Fn(&mut HttpAccessLogEntry)| {
        let mut entry = entry("inbound|", WEB, SHOP, SHOP);
        change(&mut entry);
        let [Some(call), None] = calls(Role::Sidecar, &entry, &pods) else {
            panic!("{entry:?}");
        };
        let endpoint = call.endpoint.to_owned();
        (call.protocol, call.response_code, call.status, endpoint)
    };
    use MeshProtocol::{Grpc, Http};
    let request = |scheme: &str| {
        let properties = HttpRequestProperties {
            scheme: scheme.into(),
            path: "/order".into(),
        };
        of(&|entry| entry.request = Some(properties.clone())).0
    };
    assert_eq!(request("http"), Http);
    assert_eq!(request("https"), Http);
    assert_eq!(request("grpc"), Grpc);
    assert_eq!(request("HTTP"), Grpc);
    assert_eq!(request(""), Grpc);
    for (code, status) in [
        (199, false),
        (200, true),
        (399, true),
        (400, false),
        (0, false),
        (u32::MAX, false),
    ] {
        let answered = HttpResponseProperties {
            response_code: Some(ResponseCode { value: code }),
        };
        let (_, seen, ok, _) = of(&|entry| entry.response = Some(answered));
        assert_eq!((seen, ok), (code.cast_signed(), status), "{code}");
    }
    let nothing = of(&|entry| {
        entry.request = None;
        entry.response = None;
    });
    assert_eq!(nothing, (Grpc, 0, false, String::new()));
}

#[test]
fn milliseconds_are_rounded_down_and_wrap_as_the_original_does() {
    assert_eq!(ms(0, -1), -1);
    assert_eq!(ms(1, 999_999_999), 1999);
    assert_eq!(ms(i64::MAX, 1), i64::MAX);
    assert_eq!(ms(i64::MIN, i32::MIN), i64::MIN);
    assert_eq!(wrapped(i64::from(i32::MAX) + 1), i32::MIN);
}

fn analyzer(pods: Option<HashMap<String, Pod>>) -> Analyzer {
    let map = pods.map(|pods| {
        let map = PodMap::default();
        map.replace(pods);
        Arc::new(map)
    });
    let settings = AnalyzerSettings {
        max_age_ms: 86_400_000,
        access_log_pods: map,
        ..AnalyzerSettings::default()
    };
    Analyzer::new(
        Arc::new(settings),
        &Schema::build(&[], &[], &[], false),
        Zone::utc(),
        Clock::Fixed(Arc::new(AtomicI64::new(AT_MS))),
        Arc::new(AddressBook::new(1)),
    )
}

fn message(node_id: &str, log_entry: Vec<HttpAccessLogEntry>) -> Message {
    let node = Node {
        id: node_id.into(),
        cluster: "shop".into(),
    };
    let identifier = Identifier { node: Some(node) };
    let body = StreamAccessLogsMessage {
        identifier: None,
        http_logs: Some(HttpEntries { log_entry }),
    };
    Message::EnvoyAccessLogs {
        identifier: identifier.encode_to_vec().into(),
        body: body.encode_to_vec().into(),
    }
}

#[test]
fn a_served_call_becomes_service_instance_endpoint_and_relations() {
    let mut facts = Facts::new(1);
    let entries = vec![entry("inbound|", WEB, SHOP, SHOP)];
    let logs = message("sidecar~1", entries);
    analyzer(Some(pods())).analyze(&logs, &mut facts).unwrap();
    let facts: Vec<Fact> = facts.take_shards().flatten().collect();
    let scopes = facts.iter().map(|fact| match fact {
        Fact::Source(source) => source.entity.scope,
        other => panic!("{other:?}"),
    });
    let want = [
        Scope::All,
        Scope::Service,
        Scope::ServiceInstance,
        Scope::Endpoint,
        Scope::ServiceRelation,
        Scope::ServiceInstanceRelation,
    ];
    assert_eq!(scopes.collect::<Vec<_>>(), want);
}

#[test]
fn nothing_is_analysed_without_analysis_role_or_pods() {
    let logged = || vec![entry("inbound|", WEB, SHOP, SHOP)];
    for (what, pods, logs, want) in [
        (
            "analysis is off",
            None,
            message("sidecar~1", logged()),
            Ok(()),
        ),
        (
            "no role",
            Some(pods()),
            message("other~1", logged()),
            Ok(()),
        ),
        (
            "no entries",
            Some(HashMap::new()),
            message("sidecar~1", vec![]),
            Ok(()),
        ),
        (
            "no pods",
            Some(HashMap::new()),
            message("router~1", logged()),
            Err(Reject::NoPods),
        ),
    ] {
        let mut facts = Facts::new(1);
        let outcome = analyzer(pods).analyze(&logs, &mut facts);
        assert_eq!(outcome, want, "{what}");
        assert_eq!(facts.take_shards().flatten().count(), 0, "{what}");
    }
}

#[test]
fn a_request_that_makes_no_sense_does_not_harm_the_others() {
    let mut too_old = entry("inbound|", WEB, SHOP, SHOP);
    too_old.common_properties.as_mut().unwrap().start_time = None;
    let mut long = entry("inbound|", WEB, SHOP, SHOP);
    long.request.as_mut().unwrap().path = "/".repeat(20_000);
    let entries = vec![too_old, entry("inbound|", WEB, SHOP, SHOP), long];
    let mut facts = Facts::new(1);
    let outcome = analyzer(Some(pods())).analyze(&message("sidecar~1", entries), &mut facts);
    assert_eq!(outcome, Ok(()));
    let rejected = [Reject::TimeOutOfRange, Reject::NameTooLong];
    assert_eq!(facts.rejected, rejected);
    assert_eq!(facts.take_shards().flatten().count(), 6);
}
