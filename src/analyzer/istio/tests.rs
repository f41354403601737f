//! The table of A.7: what an instance becomes by its dimensions, and that one without them harms no other.

use oap_proto::istio::{InstanceMsg, TimeStamp};

use super::*;
use crate::analyzer::testing::{MINUTE, NOW_MS, about, analyzer, relations, served, sources};
use crate::model::message::Message;
use crate::model::scope::RequestType;
use crate::model::source::{Request, Source, Values};

const REQUIRED: [&str; 12] = [
    "requestMethod",
    "requestPath",
    "requestScheme",
    "responseCode",
    "reporter",
    "apiProtocol",
    "requestTime",
    "responseTime",
    "sourceService",
    "sourceUID",
    "destinationService",
    "destinationUID",
];

fn text(text: &str) -> value::Value {
    value::Value::StringValue(text.to_owned())
}

fn integer(integer: i64) -> value::Value {
    value::Value::Int64Value(integer)
}

fn time(seconds: i64, nanos: i32) -> value::Value {
    value::Value::TimestampValue(TimeStamp {
        value: Some(Instant { seconds, nanos }),
    })
}

/// An HTTP request to `shop` that took 30 ms, with other dimensions in place of some.
fn instance(others: &[(&str, value::Value)]) -> InstanceMsg {
    let start = NOW_MS / 1000;
    let dimensions = [
        ("requestMethod", text("GET")),
        ("requestPath", text("/order")),
        ("requestScheme", text("http")),
        ("responseCode", integer(200)),
        ("reporter", text("destination")),
        ("apiProtocol", text("")),
        ("requestTime", time(start, 999_999)),
        ("responseTime", time(start, 30_999_999)),
        ("sourceService", text("web")),
        ("sourceUID", text("web-1")),
        ("destinationService", text("shop")),
        ("destinationUID", text("shop-1")),
    ];
    let dimensions = dimensions.iter().chain(others);
    let dimensions = dimensions.map(|(name, value)| {
        let value = Some(value.clone());
        (name.to_string(), Value { value })
    });
    InstanceMsg {
        dimensions: dimensions.collect(),
    }
}

/// The sources of a call, and why some of its instances have none.
fn analysed(instances: Vec<InstanceMsg>) -> (Vec<Source>, Vec<Reject>) {
    let mut facts = Facts::new(1);
    let call = HandleMetricRequest { instances };
    let message = Message::Mixer(call.encode_to_vec().into());
    analyzer().analyze(&message, &mut facts).unwrap();
    (sources(&mut facts), facts.rejected)
}

fn served_by_shop(endpoint: &str) -> Vec<(crate::model::scope::Scope, String)> {
    let relations = relations(("web", "web-1"), ("shop", "shop-1"));
    [served("shop", "shop-1", endpoint), relations].concat()
}

#[test]
fn the_protocol_decides_endpoint_status_and_component() {
    let ok = integer(200);
    for (scheme, api_protocol, code, endpoint, ty, status) in [
        (
            "http",
            "",
            ok.clone(),
            "http/GET//order",
            RequestType::Http,
            true,
        ),
        (
            "https",
            "",
            integer(399),
            "https/GET//order",
            RequestType::Http,
            true,
        ),
        (
            "",
            "http",
            integer(400),
            "/GET//order",
            RequestType::Http,
            false,
        ),
        (
            "h2",
            "https",
            integer(199),
            "h2/GET//order",
            RequestType::Http,
            false,
        ),
        ("", "", integer(503), "//order", RequestType::Grpc, true),
        (
            "h2",
            "grpc",
            integer(503),
            "grpc//order",
            RequestType::Grpc,
            true,
        ),
        ("HTTP", "Http", ok, "Http//order", RequestType::Grpc, true),
    ] {
        let value::Value::Int64Value(response_code) = code else {
            panic!("{code:?}");
        };
        let instance = instance(&[
            ("requestScheme", text(scheme)),
            ("apiProtocol", text(api_protocol)),
            ("responseCode", code),
        ]);
        let (sources, rejected) = analysed(vec![instance]);
        assert_eq!(rejected, []);
        assert_eq!(about(&sources), served_by_shop(endpoint));
        let request = Request {
            latency: 30,
            status,
            response_code: response_code as i32,
            ty,
            detect_point: DetectPoint::Server,
            component_id: if ty == RequestType::Http { 49 } else { 23 },
        };
        for source in sources {
            assert_eq!(source.minute, MINUTE);
            assert_eq!(source.values, Values::Request(request), "{endpoint}");
        }
    }
}

#[test]
fn the_reporter_decides_who_saw_it() {
    let all = served_by_shop("http/GET//order");
    for (reporter, point, want) in [
        ("source", DetectPoint::Client, &all[4..]),
        ("destination", DetectPoint::Server, &all),
        ("", DetectPoint::Server, &all),
    ] {
        let (sources, _) = analysed(vec![instance(&[("reporter", text(reporter))])]);
        assert_eq!(about(&sources), *want, "{reporter}");
        for source in sources {
            let Values::Request(request) = source.values else {
                panic!("{source:?}");
            };
            assert_eq!(request.detect_point, point);
        }
    }
}

#[test]
fn a_namespace_belongs_to_the_name_if_it_is_told() {
    for (others, source, dest) in [
        (vec![], "web", "shop"),
        (vec![("sourceNamespace", text("a"))], "web.a", "shop"),
        (vec![("destinationNamespace", text("b"))], "web", "shop.b"),
        (
            vec![
                ("sourceNamespace", text("")),
                ("destinationNamespace", integer(1)),
            ],
            "web.",
            "shop.",
        ),
    ] {
        let (sources, rejected) = analysed(vec![instance(&others)]);
        assert_eq!(rejected, []);
        let relations = relations((source, "web-1"), (dest, "shop-1"));
        let served = served(dest, "shop-1", "http/GET//order");
        assert_eq!(about(&sources), [served, relations].concat());
    }
    let (sources, _) = analysed(vec![instance(&[("sourceService", text(""))])]);
    let nobody_called = served("shop", "shop-1", "http/GET//order");
    assert_eq!(about(&sources), nobody_called);
}

#[test]
fn an_instance_without_a_dimension_does_not_take_the_others_with_it() {
    for missing in REQUIRED {
        let mut incomplete = instance(&[]);
        assert!(incomplete.dimensions.remove(missing).is_some(), "{missing}");
        let (sources, rejected) = analysed(vec![instance(&[]), incomplete, instance(&[])]);
        assert_eq!(rejected, [Reject::MissingDimension], "{missing}");
        let good = served_by_shop("http/GET//order");
        assert_eq!(about(&sources), [good.clone(), good].concat(), "{missing}");
    }
}

#[test]
fn values_that_make_no_sense_are_rejected() {
    let start = NOW_MS / 1000;
    for (name, value, want) in [
        ("requestTime", text("now"), Reject::TimeOutOfRange),
        (
            "requestTime",
            time(i64::MAX, i32::MAX),
            Reject::TimeOutOfRange,
        ),
        (
            "requestTime",
            time(i64::MIN, i32::MIN),
            Reject::TimeOutOfRange,
        ),
        (
            "requestTime",
            time(start + 200_000, 0),
            Reject::TimeOutOfRange,
        ),
        (
            "responseTime",
            time(start + 3_000_000, 0),
            Reject::TimeOutOfRange,
        ),
        ("responseCode", integer(i64::MAX), Reject::Undecodable),
        ("destinationService", integer(1), Reject::MissingId),
        (
            "requestPath",
            text(&"x".repeat(1 << 20)),
            Reject::NameTooLong,
        ),
    ] {
        let (sources, rejected) = analysed(vec![instance(&[(name, value)])]);
        assert_eq!((sources.len(), rejected), (0, vec![want]), "{name}");
    }
}

#[test]
fn a_call_that_says_too_much_or_nothing_is_refused_whole() {
    // 100 KB that would be 50,001 instances, and bytes that are none.
    let crowded = [0x0a, 0x00].repeat(50_001);
    for (bytes, want) in [
        (crowded, Reject::TooLarge),
        (b"\x0a\x05no".to_vec(), Reject::Undecodable),
        (b"\x0a\x02\xff\xff".to_vec(), Reject::Undecodable),
    ] {
        let mut facts = Facts::new(1);
        let message = Message::Mixer(bytes.into());
        assert_eq!(analyzer().analyze(&message, &mut facts), Err(want));
        assert!(sources(&mut facts).is_empty() && facts.rejected.is_empty());
    }
}
