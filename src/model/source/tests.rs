//! Every attribute that a script can name must be there in a source of its scope, with its type.

use super::*;
use crate::model::attr::AttrType;
use crate::model::scope::{NodeType, Scope};

fn values(scope: Scope) -> Values {
    match scope {
        Scope::ServiceInstanceJvmCpu | Scope::ServiceInstanceClrCpu => {
            Values::Cpu { use_percent: 0.5 }
        }
        Scope::ServiceInstanceJvmMemory | Scope::ServiceInstanceJvmMemoryPool => {
            Values::JvmMemory {
                part: match scope {
                    Scope::ServiceInstanceJvmMemory => MemoryPart::Heap,
                    _ => MemoryPart::Pool(MemoryPool::OldGen),
                },
                init: 1,
                max: 2,
                used: 3,
                committed: 4,
            }
        }
        Scope::ServiceInstanceJvmGc => Values::JvmGc {
            phrase: GcPhrase::Old,
            time: 1,
            count: 2,
        },
        Scope::ServiceInstanceJvmThread => Values::JvmThread {
            live: 1,
            daemon: 2,
            peak: 3,
        },
        Scope::ServiceInstanceClrGc => Values::ClrGc {
            gen0: 1,
            gen1: 2,
            gen2: 3,
            heap_memory: 4,
        },
        Scope::ServiceInstanceClrThread => Values::ClrThread {
            available_completion_port: 1,
            available_worker: 2,
            max_completion_port: 3,
            max_worker: 4,
        },
        Scope::EnvoyInstanceMetric => Values::Envoy { value: 0.5 },
        _ => Values::Request(Request {
            latency: 1,
            status: true,
            response_code: 2,
            ty: RequestType::Grpc,
            detect_point: DetectPoint::Proxy,
            component_id: 3,
        }),
    }
}

fn source(scope: Scope) -> Source {
    let text = |s: &str| Arc::<str>::from(s);
    Source {
        entity: Arc::new(Entity::new(
            scope,
            NodeType::Normal,
            "id",
            vec![(EntityField::Name, text("name"))],
        )),
        names: Names::Request(Arc::new(RequestNames {
            service: text("service"),
            instance: text("instance"),
            endpoint: text("endpoint"),
        })),
        minute: 202_009_151_059,
        values: values(scope),
    }
}

#[test]
fn every_attribute_of_every_scope_can_be_read() {
    for (name, scope) in Scope::SOURCES {
        let source = source(*scope);
        let mut numbers = vec![];
        for (attr_name, attr) in Attr::of(*scope) {
            let value = source.attr(*attr);
            let ty = match value {
                Some(AttrValue::Text(_)) => Some(AttrType::Text),
                Some(AttrValue::Long(n)) => {
                    numbers.push(n);
                    Some(AttrType::Long)
                }
                Some(AttrValue::Double(_)) => Some(AttrType::Double),
                Some(AttrValue::Bool(_)) => Some(AttrType::Bool),
                Some(AttrValue::RequestType(_)) => Some(AttrType::RequestType),
                Some(AttrValue::DetectPoint(_)) => Some(AttrType::DetectPoint),
                Some(AttrValue::GcPhrase(_)) => Some(AttrType::GcPhrase),
                Some(AttrValue::MemoryPool(_)) => Some(AttrType::MemoryPool),
                None => None,
            };
            assert_eq!(ty, Some(attr.ty()), "{name}.{attr_name}");
            assert_eq!(Attr::find(*scope, attr_name), Some(*attr));
        }
        // Each has its own number: none is read in place of another.
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{name}");
    }
}

#[test]
fn names_of_the_request_complete_those_of_the_entity() {
    let source = source(Scope::All);
    for (name, want) in [
        ("name", "name"),
        ("serviceName", "service"),
        ("serviceInstanceName", "instance"),
        ("endpointName", "endpoint"),
    ] {
        let attr = Attr::find(Scope::All, name).unwrap();
        assert_eq!(source.attr(attr), Some(AttrValue::Text(want)), "{name}");
    }
}

#[test]
fn names_of_the_call_complete_those_of_a_relation() {
    let text = |s: &str| Arc::<str>::from(s);
    let names = Names::Call(Arc::new(CallNames {
        source_instance: text("from"),
        dest_instance: text("to"),
        dest_endpoint: text("/called"),
    }));
    for (scope, name, want) in [
        (Scope::ServiceRelation, "sourceServiceInstanceName", "from"),
        (Scope::ServiceRelation, "destServiceInstanceName", "to"),
        (Scope::ServiceRelation, "endpoint", "/called"),
        (Scope::ServiceInstanceRelation, "endpoint", "/called"),
        (Scope::EndpointRelation, "serviceInstanceName", "from"),
        (Scope::EndpointRelation, "childServiceInstanceName", "to"),
    ] {
        let source = Source {
            names: names.clone(),
            ..source(scope)
        };
        let attr = Attr::find(scope, name).unwrap();
        assert_eq!(source.attr(attr), Some(AttrValue::Text(want)), "{name}");
    }
}
