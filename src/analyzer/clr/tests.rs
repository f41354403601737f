//! The table of A.5: what a report about a CLR becomes, and under which names.

use oap_proto::agent::{ClrGc, ClrMetric, ClrThread, Cpu};

use super::super::jvm::tests::sources_of;
use super::*;
use crate::model::id;
use crate::model::message::Message;

#[test]
fn a_report_is_about_the_uncut_instance() {
    let (service, instance) = ("s".repeat(80), "i".repeat(80));
    let message = ClrMetricCollection {
        metrics: vec![ClrMetric {
            time: 1_600_167_570_000,
            cpu: Some(Cpu { usage_percent: 1.5 }),
            gc: Some(ClrGc {
                gen0_collect_count: 1,
                gen1_collect_count: 2,
                gen2_collect_count: 3,
                heap_memory: 4,
            }),
            thread: Some(ClrThread {
                available_completion_port_threads: 5,
                available_worker_threads: 6,
                max_completion_port_threads: 7,
                max_worker_threads: 8,
            }),
        }],
        service: service.clone(),
        service_instance: instance.clone(),
    };
    let sources = sources_of(Message::ClrMetrics(message.encode_to_vec().into()));
    let service_id = id::service_id(&service, true);
    let instance_id = id::instance_id(&service_id, &instance);
    let expected = [
        (
            Scope::ServiceInstanceClrCpu,
            ("", service.as_str()),
            Values::Cpu { use_percent: 1.5 },
        ),
        (
            Scope::ServiceInstanceClrGc,
            (instance.as_str(), service.as_str()),
            Values::ClrGc {
                gen0: 1,
                gen1: 2,
                gen2: 3,
                heap_memory: 4,
            },
        ),
        (
            Scope::ServiceInstanceClrThread,
            (service.as_str(), instance.as_str()),
            Values::ClrThread {
                available_completion_port: 5,
                available_worker: 6,
                max_completion_port: 7,
                max_worker: 8,
            },
        ),
    ];
    assert_eq!(sources.len(), expected.len());
    for (source, (scope, names, values)) in sources.iter().zip(expected) {
        let entity = &source.entity;
        assert_eq!((entity.scope, source.minute), (scope, 202_009_151_059));
        assert_eq!(source.values, values);
        assert_eq!(*entity.id, instance_id, "{scope:?}");
        assert_eq!(entity.field(F::ServiceId), service_id);
        let display = (entity.field(F::Name), entity.field(F::ServiceName));
        assert_eq!(display, names, "{scope:?}");
    }
}
