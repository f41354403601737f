//! JVM metrics (8.1.0 spec, A.4). They create no instance or service.

use bytes::Bytes;
use oap_proto::agent::{GcPhrase as ProtoPhrase, JvmMetric, JvmMetricCollection, PoolType};
use prost::Message as _;

use super::entities::InstanceEntities;
use super::naming::cut;
use super::trace::check_name;
use super::{Analyzer, Fact, Facts, Reject};
use crate::model::entity::{Entity, EntityField as F};
use crate::model::scope::{NodeType, Scope};
use crate::model::source::{GcPhrase, MemoryPart, MemoryPool, Names, Source, Values};

const JVM: u8 = 1;
const SCOPES: [Scope; 5] = [
    Scope::ServiceInstanceJvmCpu,
    Scope::ServiceInstanceJvmMemory,
    Scope::ServiceInstanceJvmMemoryPool,
    Scope::ServiceInstanceJvmGc,
    Scope::ServiceInstanceJvmThread,
];

impl Analyzer {
    pub(super) fn jvm_metrics(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let message =
            JvmMetricCollection::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        check_name(&message.service)?;
        check_name(&message.service_instance)?;
        let service = cut(&message.service, self.settings.names.service);
        let instance = cut(&message.service_instance, self.settings.names.instance);
        if service.is_empty() || instance.is_empty() {
            return Err(Reject::MissingId);
        }
        let minutes = self.minutes(message.metrics.iter().map(|m| m.time))?;
        let entities = self
            .entities
            .runtime(JVM, service, instance, |service_id, instance_id| {
                // The original swaps the two names here; visible only with the extra columns.
                SCOPES
                    .map(|scope| {
                        Entity::new(
                            scope,
                            NodeType::Normal,
                            instance_id,
                            vec![
                                (F::ServiceId, service_id.into()),
                                (F::Name, service.into()),
                                (F::ServiceName, instance.into()),
                            ],
                        )
                    })
                    .into()
            });
        for (metric, minute) in message.metrics.iter().zip(minutes) {
            sources(metric, &mut |scope, values| {
                push(&entities, scope, minute, values, facts);
            });
        }
        Ok(())
    }
}

impl Analyzer {
    /// Minute buckets of the times of a report, or none at all.
    pub(super) fn minutes(&self, times: impl Iterator<Item = i64>) -> Result<Vec<u64>, Reject> {
        times.map(|time| Ok(self.second(time)? / 100)).collect()
    }
}

pub(super) fn push(
    entities: &InstanceEntities,
    scope: Scope,
    minute: u64,
    values: Values,
    facts: &mut Facts,
) {
    if let Some(entity) = entities.of(scope) {
        facts.push(Fact::Source(Source {
            entity: entity.clone(),
            names: Names::None,
            minute,
            values,
        }));
    }
}

/// A measure that is no number would make the average of its whole day one, so it is left out.
fn sources(metric: &JvmMetric, emit: &mut impl FnMut(Scope, Values)) {
    let use_percent = metric.cpu.map_or(0.0, |cpu| cpu.usage_percent);
    if use_percent.is_finite() {
        emit(Scope::ServiceInstanceJvmCpu, Values::Cpu { use_percent });
    }
    for memory in &metric.memory {
        emit(
            Scope::ServiceInstanceJvmMemory,
            Values::JvmMemory {
                part: match memory.is_heap {
                    true => MemoryPart::Heap,
                    false => MemoryPart::NonHeap,
                },
                init: memory.init,
                max: memory.max,
                used: memory.used,
                committed: memory.committed,
            },
        );
    }
    for pool in &metric.memory_pool {
        emit(
            Scope::ServiceInstanceJvmMemoryPool,
            Values::JvmMemory {
                part: MemoryPart::Pool(memory_pool(pool.r#type)),
                init: pool.init,
                max: pool.max,
                used: pool.used,
                committed: pool.committed,
            },
        );
    }
    for gc in &metric.gc {
        let phrase = match ProtoPhrase::try_from(gc.phrase) {
            Ok(ProtoPhrase::New) => GcPhrase::New,
            Ok(ProtoPhrase::Old) => GcPhrase::Old,
            Err(_) => GcPhrase::Unrecognized,
        };
        emit(
            Scope::ServiceInstanceJvmGc,
            Values::JvmGc {
                phrase,
                time: gc.time,
                count: gc.count,
            },
        );
    }
    let thread = metric.thread.unwrap_or_default();
    emit(
        Scope::ServiceInstanceJvmThread,
        Values::JvmThread {
            live: thread.live_count,
            daemon: thread.daemon_count,
            peak: thread.peak_count,
        },
    );
}

/// The pool by its number in reports.
fn memory_pool(number: i32) -> MemoryPool {
    match PoolType::try_from(number) {
        Ok(PoolType::CodeCacheUsage) => MemoryPool::CodeCache,
        Ok(PoolType::NewgenUsage) => MemoryPool::NewGen,
        Ok(PoolType::OldgenUsage) => MemoryPool::OldGen,
        Ok(PoolType::SurvivorUsage) => MemoryPool::Survivor,
        Ok(PoolType::PermgenUsage) => MemoryPool::PermGen,
        Ok(PoolType::MetaspaceUsage) => MemoryPool::Metaspace,
        Err(_) => MemoryPool::Unrecognized,
    }
}

#[cfg(test)]
pub(super) mod tests;
