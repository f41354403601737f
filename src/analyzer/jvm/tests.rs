//! The table of A.4: what a report about a JVM becomes.

use std::sync::Arc;

use oap_proto::agent::{Cpu, Gc, Memory, MemoryPool as ProtoPool, Thread};

use super::*;
use crate::analyzer::AnalyzerSettings;
use crate::model::message::Message;
use crate::model::schema::Schema;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;
use crate::util::clock::Clock;

/// 2020-09-15 10:59:30 UTC.
const AT_MS: i64 = 1_600_167_570_000;

pub(in crate::analyzer) fn sources_of(message: Message) -> Vec<Source> {
    let mut analyzer = Analyzer::new(
        Arc::new(AnalyzerSettings::default()),
        &Schema::build(&[], &[], &[], false),
        Zone::utc(),
        Clock::Fixed(Arc::new(AT_MS.into())),
        Arc::new(AddressBook::new(1)),
    );
    let mut facts = Facts::new(1);
    analyzer.analyze(&message, &mut facts).unwrap();
    let facts = facts.take_shards().flatten().map(|fact| match fact {
        Fact::Source(source) => source,
        // No service, no instance.
        other => panic!("{other:?}"),
    });
    facts.collect()
}

fn report(metrics: Vec<JvmMetric>) -> Vec<Source> {
    let message = JvmMetricCollection {
        metrics,
        service: "s".repeat(80),
        service_instance: "i".repeat(80),
    };
    sources_of(Message::JvmMetrics(message.encode_to_vec().into()))
}

#[test]
fn each_part_of_a_report_is_a_source() {
    let memory = |is_heap, used| Memory {
        is_heap,
        init: 1,
        max: 2,
        used,
        committed: 4,
    };
    let gc = |phrase, count| Gc {
        phrase,
        count,
        time: 9,
    };
    let sources = report(vec![
        JvmMetric {
            time: AT_MS,
            cpu: Some(Cpu { usage_percent: 1.5 }),
            memory: vec![memory(true, 3), memory(false, 5)],
            memory_pool: vec![ProtoPool {
                r#type: PoolType::OldgenUsage.into(),
                used: 6,
                ..ProtoPool::default()
            }],
            gc: vec![gc(0, 1), gc(1, 2), gc(7, 3)],
            thread: Some(Thread {
                live_count: 1,
                daemon_count: 2,
                peak_count: 3,
            }),
        },
        // What is absent counts as zero.
        JvmMetric {
            time: AT_MS - 60_000,
            ..JvmMetric::default()
        },
    ]);
    let jvm_memory = |part, used| Values::JvmMemory {
        part,
        init: 1,
        max: 2,
        used,
        committed: 4,
    };
    let jvm_gc = |phrase, count| Values::JvmGc {
        phrase,
        time: 9,
        count,
    };
    let (now, before) = (202_009_151_059, 202_009_151_058);
    let got: Vec<(Scope, u64, Values)> = sources
        .iter()
        .map(|s| (s.entity.scope, s.minute, s.values))
        .collect();
    assert_eq!(
        got,
        [
            (
                Scope::ServiceInstanceJvmCpu,
                now,
                Values::Cpu { use_percent: 1.5 }
            ),
            (
                Scope::ServiceInstanceJvmMemory,
                now,
                jvm_memory(MemoryPart::Heap, 3)
            ),
            (
                Scope::ServiceInstanceJvmMemory,
                now,
                jvm_memory(MemoryPart::NonHeap, 5)
            ),
            (
                Scope::ServiceInstanceJvmMemoryPool,
                now,
                Values::JvmMemory {
                    part: MemoryPart::Pool(MemoryPool::OldGen),
                    init: 0,
                    max: 0,
                    used: 6,
                    committed: 0
                }
            ),
            (Scope::ServiceInstanceJvmGc, now, jvm_gc(GcPhrase::New, 1)),
            (Scope::ServiceInstanceJvmGc, now, jvm_gc(GcPhrase::Old, 2)),
            (
                Scope::ServiceInstanceJvmGc,
                now,
                jvm_gc(GcPhrase::Unrecognized, 3)
            ),
            (
                Scope::ServiceInstanceJvmThread,
                now,
                Values::JvmThread {
                    live: 1,
                    daemon: 2,
                    peak: 3
                }
            ),
            (
                Scope::ServiceInstanceJvmCpu,
                before,
                Values::Cpu { use_percent: 0.0 }
            ),
            (
                Scope::ServiceInstanceJvmThread,
                before,
                Values::JvmThread {
                    live: 0,
                    daemon: 0,
                    peak: 0
                }
            ),
        ]
    );
}

#[test]
fn the_instance_has_cut_names_that_are_swapped_for_display() {
    let sources = report(vec![JvmMetric {
        time: AT_MS,
        ..JvmMetric::default()
    }]);
    let (service, instance) = ("s".repeat(70), "i".repeat(70));
    let service_id = crate::model::id::service_id(&service, true);
    for source in sources {
        let entity = &source.entity;
        assert_eq!(
            *entity.id,
            crate::model::id::instance_id(&service_id, &instance)
        );
        assert_eq!(entity.field(F::ServiceId), service_id);
        assert_eq!(entity.field(F::Name), service);
        assert_eq!(entity.field(F::ServiceName), instance);
    }
}
