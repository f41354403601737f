//! Filters of every type and operator, casts, and thresholds (8.1.0 spec, D.2, D.4).

use super::*;
use crate::model::entity::{Entity, EntityField};
use crate::model::metrics::Apdex;
use crate::model::scope::{NodeType, RequestType};
use crate::model::source::{
    GcPhrase, MemoryPart, MemoryPool, Names, Request, RequestNames, Values,
};

fn source(scope: Scope, values: Values) -> Source {
    let name = [(EntityField::Name, "shop".into())];
    Source {
        entity: Arc::new(Entity::new(scope, NodeType::Normal, "id", name)),
        names: Names::Request(Arc::new(RequestNames {
            service: "shop".into(),
            instance: "shop-1".into(),
            endpoint: "/a".into(),
        })),
        minute: 202_009_151_059,
        values,
    }
}

fn request(latency: i32) -> Source {
    let request = Request {
        latency,
        status: true,
        response_code: 404,
        ty: RequestType::Http,
        detect_point: DetectPoint::Client,
        component_id: 1,
    };
    source(Scope::Service, Values::Request(request))
}

fn memory(part: MemoryPart, used: i64) -> Values {
    Values::JvmMemory {
        part,
        init: 0,
        max: 0,
        used,
        committed: 0,
    }
}

fn definition(filters: Vec<Filter>, function: Function, entrance: Entrance) -> MetricDefinition {
    MetricDefinition {
        name: "m".to_owned(),
        scope: Scope::Service,
        filters,
        function,
        entrance,
    }
}

/// What one source makes of a metric.
fn applied(metric: MetricDefinition, source: &Source) -> Option<Value> {
    let metric = MetricDefinition {
        scope: source.entity.scope,
        ..metric
    };
    let metrics = [metric];
    let schema = Schema::build(&metrics, &[], &[], false);
    let thresholds = [("shop", 100), ("slow", -1), ("default", 300)];
    let thresholds = thresholds.map(|(name, ms)| (name.to_owned(), ms));
    let plan = Plan::build(&metrics, &[], &schema, ApdexThresholds::new(thresholds));
    let mut values: Vec<Option<Value>> = plan
        .items(source.entity.scope)
        .iter()
        .map(|_| None)
        .collect();
    plan.apply(source, &plan.thresholds(), &mut values);
    values.remove(0)
}

fn passes(filters: Vec<Filter>, source: &Source) -> bool {
    applied(definition(filters, Function::Count, Entrance::One), source).is_some()
}

#[test]
fn numbers_are_compared_by_every_operator() {
    use CompareOp::{Equal, Greater, GreaterEqual, Less, LessEqual};
    let jvm = |use_percent| source(Scope::ServiceInstanceJvmCpu, Values::Cpu { use_percent });
    for (op, below, same, above) in [
        (Equal, false, true, false),
        (Greater, false, false, true),
        (Less, true, false, false),
        (GreaterEqual, false, true, true),
        (LessEqual, true, true, false),
    ] {
        let long = |value| Filter {
            attr: Attr::Latency,
            op,
            literal: Literal::Long(value),
        };
        let double = |value| Filter {
            attr: Attr::UsePercent,
            op,
            literal: Literal::Double(value),
        };
        for (latency, want) in [(-6, below), (-5, same), (-4, above)] {
            assert_eq!(passes(vec![long(-5)], &request(latency)), want, "{op:?}");
        }
        for (percent, want) in [(0.4, below), (0.5, same), (0.6, above)] {
            assert_eq!(passes(vec![double(0.5)], &jvm(percent)), want, "{op:?}");
        }
        assert!(!passes(vec![double(0.5)], &jvm(f64::NAN)), "{op:?}");
    }
}

#[test]
fn texts_flags_and_enumerations_are_compared_whole() {
    let gc = source(
        Scope::ServiceInstanceJvmGc,
        Values::JvmGc {
            phrase: GcPhrase::Unrecognized,
            time: 1,
            count: 1,
        },
    );
    let old_gen = MemoryPart::Pool(MemoryPool::OldGen);
    let pool = source(Scope::ServiceInstanceJvmMemoryPool, memory(old_gen, 1));
    let is_pool = Literal::MemoryPool;
    let request = request(5);
    let name = |field| Attr::Entity(field);
    for (source, attr, literal, want) in [
        (
            &request,
            name(EntityField::Name),
            Literal::Text("shop".into()),
            true,
        ),
        (
            &request,
            name(EntityField::Name),
            Literal::Text("Shop".into()),
            false,
        ),
        (
            &request,
            name(EntityField::EndpointName),
            Literal::Text("/a".into()),
            true,
        ),
        (
            &request,
            name(EntityField::InstanceName),
            Literal::Text("".into()),
            false,
        ),
        (&request, Attr::Status, Literal::Bool(true), true),
        (&request, Attr::Status, Literal::Bool(false), false),
        (
            &request,
            Attr::Type,
            Literal::RequestType(RequestType::Http),
            true,
        ),
        (
            &request,
            Attr::Type,
            Literal::RequestType(RequestType::Rpc),
            false,
        ),
        (
            &request,
            Attr::DetectPoint,
            Literal::DetectPoint(DetectPoint::Client),
            true,
        ),
        (
            &request,
            Attr::DetectPoint,
            Literal::DetectPoint(DetectPoint::Server),
            false,
        ),
        (&gc, Attr::Phrase, Literal::GcPhrase(GcPhrase::New), false),
        (&gc, Attr::Phrase, Literal::GcPhrase(GcPhrase::Old), false),
        (&pool, Attr::PoolType, is_pool(MemoryPool::OldGen), true),
        (&pool, Attr::PoolType, is_pool(MemoryPool::NewGen), false),
    ] {
        let filter = Filter {
            attr,
            op: CompareOp::Equal,
            literal,
        };
        assert_eq!(passes(vec![filter.clone()], source), want, "{filter:?}");
        // Several are ANDed.
        let never = Filter {
            attr: Attr::Latency,
            op: CompareOp::Less,
            literal: Literal::Long(0),
        };
        assert!(!passes(vec![filter, never], source));
    }
}

#[test]
fn values_are_cast_to_what_the_function_takes() {
    let memory = source(
        Scope::ServiceInstanceJvmMemory,
        memory(MemoryPart::Heap, (1 << 32) + 25),
    );
    let envoy = source(Scope::EnvoyInstanceMetric, Values::Envoy { value: 3e10 });
    let counts = |key| {
        let mut table = crate::model::table::Table::new();
        table.add(key, 1);
        Value::Table(table)
    };
    let percentile = Function::Percentile { precision: 10 };
    for (source, function, entrance, want) in [
        (&memory, percentile, Entrance::Int(Attr::Used), counts(2)),
        (
            &envoy,
            percentile,
            Entrance::Int(Attr::Value),
            counts(i32::MAX / 10),
        ),
        (
            &memory,
            Function::Sum,
            Entrance::Long(Attr::Used),
            Value::Long((1 << 32) + 25),
        ),
        (
            &envoy,
            Function::Max,
            Entrance::Long(Attr::Value),
            Value::Long(30_000_000_000),
        ),
        (
            &memory,
            Function::MaxDouble,
            Entrance::Double(Attr::Used),
            Value::Double(4_294_967_321.0),
        ),
    ] {
        let got = applied(definition(vec![], function, entrance), source);
        assert_eq!(got, Some(want), "{function:?}");
    }
}

#[test]
fn the_threshold_is_that_of_the_service_or_the_default() {
    let thresholds = |entries: &[(&str, i64)]| {
        ApdexThresholds::new(entries.iter().map(|(name, ms)| ((*name).to_owned(), *ms)))
    };
    let some = thresholds(&[("shop", 100), ("slow", -1), ("zero", 0), ("default", 300)]);
    for (service, want) in [("shop", 100), ("slow", 300), ("zero", 0), ("other", 300)] {
        assert_eq!(some.of(service), want, "{service}");
    }
    assert_eq!(thresholds(&[]).of("shop"), 500);
    assert_eq!(thresholds(&[("default", -5)]).of("shop"), 500);
    let apdex = Entrance::Apdex {
        service: Attr::Entity(EntityField::Name),
        latency: Attr::Latency,
        status: Attr::Status,
    };
    // 100 ms satisfy no more, 400 ms are not tolerated any more.
    for (latency, satisfied, tolerated) in [(99, 1, 0), (100, 0, 1), (399, 0, 1), (400, 0, 0)] {
        let want = Value::Apdex(Box::new(Apdex {
            total: 1,
            satisfied,
            tolerated,
        }));
        let metric = definition(vec![], Function::Apdex, apdex.clone());
        assert_eq!(applied(metric, &request(latency)), Some(want), "{latency}");
    }
}
