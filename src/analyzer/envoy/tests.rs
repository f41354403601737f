//! The rules of A.8: who reports, which metrics count, and when an instance is alive.

use std::sync::atomic::AtomicI64;

use oap_proto::envoy::{Gauge, Identifier};

use super::*;
use crate::analyzer::AnalyzerSettings;
use crate::model::attr::Attr;
use crate::model::id;
use crate::model::message::Message;
use crate::model::schema::Schema;
use crate::model::source::AttrValue;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;
use crate::util::clock::Clock;

/// 2020-09-15 10:59:31 UTC.
const AT_MS: i64 = 1_600_167_571_000;
const MINUTE: u64 = 2020_0915_1059;

fn identifier(node_id: &str, cluster: &str) -> Bytes {
    let node = Node {
        id: node_id.into(),
        cluster: cluster.into(),
    };
    let identifier = Identifier { node: Some(node) };
    identifier.encode_to_vec().into()
}

fn family(name: &str, ty: Type, metrics: &[(f64, i64)]) -> MetricFamily {
    let metric = |(value, timestamp_ms): &(f64, i64)| Metric {
        gauge: Some(Gauge { value: *value }),
        timestamp_ms: *timestamp_ms,
    };
    MetricFamily {
        name: name.into(),
        r#type: ty.into(),
        metric: metrics.iter().map(metric).collect(),
    }
}

fn analyze(identifier: Bytes, families: Vec<MetricFamily>) -> Result<Vec<Fact>, Reject> {
    let message = StreamMetricsMessage {
        identifier: None,
        envoy_metrics: families,
    };
    let message = Message::EnvoyMetrics {
        identifier,
        body: message.encode_to_vec().into(),
    };
    let mut analyzer = Analyzer::new(
        Arc::new(AnalyzerSettings {
            max_age_ms: 30 * 86_400_000,
            ..AnalyzerSettings::default()
        }),
        &Schema::build(&[], &[], &[], false),
        Zone::utc(),
        Clock::Fixed(Arc::new(AtomicI64::new(AT_MS))),
        Arc::new(AddressBook::new(1)),
    );
    let mut facts = Facts::new(1);
    let outcome = analyzer.analyze(&message, &mut facts);
    let facts: Vec<Fact> = facts.take_shards().flatten().collect();
    assert!(outcome.is_ok() || facts.is_empty(), "{outcome:?} {facts:?}");
    outcome.map(|()| facts)
}

/// A fact in short: `metric = value @ minute`, or `alive @ minute`.
fn told(fact: &Fact) -> String {
    match fact {
        Fact::Source(source) => {
            assert_eq!(source.entity.scope, Scope::EnvoyInstanceMetric);
            let name = source.attr(Attr::Entity(F::MetricName));
            let (Some(AttrValue::Text(name)), Some(AttrValue::Double(value))) =
                (name, source.attr(Attr::Value))
            else {
                panic!("{source:?}");
            };
            format!("{name} = {value} @ {}", source.minute)
        }
        Fact::Instance {
            minute,
            last_ping,
            properties,
            ..
        } => {
            assert_eq!((last_ping, properties), (minute, &None));
            format!("alive @ {minute}")
        }
        other => panic!("{other:?}"),
    }
}

fn all_told(families: Vec<MetricFamily>) -> Vec<String> {
    let facts = analyze(identifier("proxy-1", "shop"), families).unwrap();
    facts.iter().map(told).collect()
}

#[test]
fn node_and_cluster_name_instance_and_service_each_in_place_of_the_other() {
    let gauge = || vec![family("server.live", Type::Gauge, &[(1.0, AT_MS)])];
    for (node_id, cluster, service, instance) in [
        ("proxy-1", "shop", "shop", "proxy-1"),
        ("proxy-1", "", "proxy-1", "proxy-1"),
        ("", "shop", "shop", "shop"),
    ] {
        let facts = analyze(identifier(node_id, cluster), gauge()).unwrap();
        let service_id = id::service_id(service, true);
        let instance_id = id::instance_id(&service_id, instance);
        let [Fact::Source(source), Fact::Instance { entity, .. }] = &facts[..] else {
            panic!("{facts:?}");
        };
        for entity in [&source.entity, entity] {
            assert_eq!(*entity.id, *instance_id);
            assert_eq!(entity.field(F::ServiceId), service_id);
            assert_eq!(entity.field(F::Name), instance);
        }
    }
}

#[test]
fn who_cannot_be_told_is_rejected() {
    let gauge = || vec![family("server.live", Type::Gauge, &[(1.0, AT_MS)])];
    let long = "n".repeat(MAX_ID_BYTES + 1);
    for (identifier, want) in [
        (Bytes::new(), Reject::MissingId),
        (identifier("", ""), Reject::MissingId),
        (identifier(&long, "shop"), Reject::IdTooLong),
        (identifier("proxy-1", &long), Reject::IdTooLong),
        (Bytes::from_static(&[0x0a, 9]), Reject::Undecodable),
    ] {
        assert_eq!(analyze(identifier, gauge()).unwrap_err(), want);
    }
}

#[test]
fn names_are_not_cut() {
    let long = "n".repeat(300);
    let families = vec![family("server.live", Type::Gauge, &[(1.0, AT_MS)])];
    let facts = analyze(identifier(&long, &long), families).unwrap();
    let Fact::Source(source) = &facts[0] else {
        panic!("{facts:?}");
    };
    assert_eq!(source.entity.field(F::Name), long);
}

#[test]
fn only_gauges_count() {
    let families = [Type::Counter, Type::Summary, Type::Untyped, Type::Histogram]
        .map(|ty| family("cluster.requests", ty, &[(1.0, AT_MS)]));
    assert!(all_told(families.into()).is_empty());
}

#[test]
fn an_instance_is_alive_once_a_message_as_of_the_last_metric_of_the_first_gauge() {
    let before = AT_MS - 120_000;
    let told = all_told(vec![
        family("cluster.requests", Type::Counter, &[(9.0, AT_MS)]),
        family("empty", Type::Gauge, &[]),
        family("a", Type::Gauge, &[(1.0, AT_MS), (2.0, before)]),
        family("b", Type::Gauge, &[(3.5, AT_MS)]),
    ]);
    let want = [
        format!("a = 1 @ {MINUTE}"),
        format!("a = 2 @ {}", MINUTE - 2),
        format!("alive @ {}", MINUTE - 2),
        format!("b = 3.5 @ {MINUTE}"),
    ];
    assert_eq!(told, want);
    assert!(all_told(vec![]).is_empty());
}

#[test]
fn nanoseconds_are_recognised() {
    let told = all_told(vec![family(
        "a",
        Type::Gauge,
        &[(1.0, AT_MS * 1_000_000 + 999_999)],
    )]);
    assert_eq!(told[0], format!("a = 1 @ {MINUTE}"));
}

#[test]
fn a_metric_without_a_gauge_is_zero() {
    let mut nothing = family("a", Type::Gauge, &[(1.0, AT_MS)]);
    nothing.metric[0].gauge = None;
    assert_eq!(all_told(vec![nothing])[0], format!("a = 0 @ {MINUTE}"));
}

#[test]
fn a_gauge_that_is_no_number_says_only_that_the_instance_is_alive() {
    let values = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 2.0].map(|value| (value, AT_MS));
    let told = all_told(vec![family("a", Type::Gauge, &values)]);
    assert_eq!(
        told,
        [format!("a = 2 @ {MINUTE}"), format!("alive @ {MINUTE}")]
    );
    let told = all_told(vec![family("a", Type::Gauge, &values[..1])]);
    assert_eq!(told, [format!("alive @ {MINUTE}")]);
}

#[test]
fn one_impossible_time_or_name_rejects_the_message() {
    let good = || family("a", Type::Gauge, &[(1.0, AT_MS)]);
    for (bad, want) in [
        (
            family("b", Type::Gauge, &[(1.0, 0)]),
            Reject::TimeOutOfRange,
        ),
        (
            family("b", Type::Gauge, &[(1.0, MAX_MS)]),
            Reject::TimeOutOfRange,
        ),
        (
            family("b", Type::Gauge, &[(1.0, i64::MIN)]),
            Reject::TimeOutOfRange,
        ),
        (
            family(&"n".repeat(20_000), Type::Gauge, &[(1.0, AT_MS)]),
            Reject::NameTooLong,
        ),
    ] {
        let outcome = analyze(identifier("proxy-1", "shop"), vec![good(), bad]);
        assert_eq!(outcome.unwrap_err(), want);
    }
}
