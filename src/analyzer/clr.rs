//! .NET runtime metrics (8.1.0 spec, A.5). They create no instance or service. Names are not cut here and display names are
//! mixed up, as the original stores them; but thread metrics belong to their instance, not to its raw name.

use bytes::Bytes;
use oap_proto::agent::ClrMetricCollection;
use prost::Message as _;

use super::jvm::push;
use super::{Analyzer, Facts, Reject};
use crate::model::entity::{Entity, EntityField as F};
use crate::model::scope::{NodeType, Scope};
use crate::model::source::Values;

const CLR: u8 = 2;

impl Analyzer {
    pub(super) fn clr_metrics(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let message =
            ClrMetricCollection::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let (service, instance) = (&*message.service, &*message.service_instance);
        if service.is_empty() || instance.is_empty() {
            return Err(Reject::MissingId);
        }
        if service.len() > super::trace::MAX_ID_BYTES || instance.len() > super::trace::MAX_ID_BYTES
        {
            return Err(Reject::IdTooLong);
        }
        let minutes = self.minutes(message.metrics.iter().map(|m| m.time))?;
        let entities = self
            .entities
            .runtime(CLR, service, instance, |service_id, instance_id| {
                let entity = |scope, id: &str, name: &str, service_name: &str| {
                    let fields = vec![
                        (F::ServiceId, service_id.into()),
                        (F::Name, name.into()),
                        (F::ServiceName, service_name.into()),
                    ];
                    Entity::new(scope, NodeType::Normal, id, fields)
                };
                vec![
                    entity(Scope::ServiceInstanceClrCpu, instance_id, "", service),
                    entity(Scope::ServiceInstanceClrGc, instance_id, instance, service),
                    entity(
                        Scope::ServiceInstanceClrThread,
                        instance_id,
                        service,
                        instance,
                    ),
                ]
            });
        for (metric, minute) in message.metrics.iter().zip(minutes) {
            let use_percent = metric.cpu.map_or(0.0, |cpu| cpu.usage_percent);
            let gc = metric.gc.unwrap_or_default();
            let thread = metric.thread.unwrap_or_default();
            let mut emit = |scope, values| push(&entities, scope, minute, values, facts);
            if use_percent.is_finite() {
                emit(Scope::ServiceInstanceClrCpu, Values::Cpu { use_percent });
            }
            emit(
                Scope::ServiceInstanceClrGc,
                Values::ClrGc {
                    gen0: gc.gen0_collect_count,
                    gen1: gc.gen1_collect_count,
                    gen2: gc.gen2_collect_count,
                    heap_memory: gc.heap_memory,
                },
            );
            emit(
                Scope::ServiceInstanceClrThread,
                Values::ClrThread {
                    available_completion_port: thread.available_completion_port_threads.into(),
                    available_worker: thread.available_worker_threads.into(),
                    max_completion_port: thread.max_completion_port_threads.into(),
                    max_worker: thread.max_worker_threads.into(),
                },
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
