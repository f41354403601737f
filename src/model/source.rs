//! A source: one scoped fact about an entity in a minute. The analyzer emits them, aggregation consumes them.

use std::sync::Arc;

use super::attr::Attr;
use super::entity::{Entity, EntityField};
use super::scope::{DetectPoint, RequestType};

/// Values of a request-shaped source; a scope reads those it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// Milliseconds; may be negative or wrapped, as agents send it.
    pub latency: i32,
    pub status: bool,
    pub response_code: i32,
    pub ty: RequestType,
    pub detect_point: DetectPoint,
    pub component_id: i32,
}

/// Generation that a garbage collection cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcPhrase {
    New,
    Old,
    /// Of a later protocol; no script can name it.
    Unrecognized,
}

/// What a memory pool of a JVM is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPool {
    CodeCache,
    NewGen,
    OldGen,
    Survivor,
    PermGen,
    Metaspace,
    /// Of a later protocol; no script can name it.
    Unrecognized,
}

/// What part of the memory of a JVM was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPart {
    Heap,
    NonHeap,
    Pool(MemoryPool),
}

/// The measured part of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    Request(Request),
    /// Percent, of the JVM or the CLR.
    Cpu {
        use_percent: f64,
    },
    /// Bytes.
    JvmMemory {
        part: MemoryPart,
        init: i64,
        max: i64,
        used: i64,
        committed: i64,
    },
    JvmGc {
        phrase: GcPhrase,
        /// Milliseconds.
        time: i64,
        count: i64,
    },
    JvmThread {
        live: i64,
        daemon: i64,
        peak: i64,
    },
    ClrGc {
        gen0: i64,
        gen1: i64,
        gen2: i64,
        /// Bytes.
        heap_memory: i64,
    },
    ClrThread {
        available_completion_port: i64,
        available_worker: i64,
        max_completion_port: i64,
        max_worker: i64,
    },
    Envoy {
        value: f64,
    },
}

/// Who served a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestNames {
    pub service: Arc<str>,
    pub instance: Arc<str>,
    pub endpoint: Arc<str>,
}

/// Who took part in a call; names that are not known are empty.
#[derive(Debug, PartialEq, Eq)]
pub struct CallNames {
    pub source_instance: Arc<str>,
    pub dest_instance: Arc<str>,
    pub dest_endpoint: Arc<str>,
}

/// Names of the request behind a source; scripts may filter by those that are not part of the entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    None,
    /// Of All, Service, ServiceInstance and Endpoint.
    Request(Arc<RequestNames>),
    /// Of relations.
    Call(Arc<CallNames>),
}

/// One fact.
#[derive(Debug, Clone)]
pub struct Source {
    pub entity: Arc<Entity>,
    pub names: Names,
    /// Minute bucket.
    pub minute: u64,
    pub values: Values,
}

/// Value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttrValue<'a> {
    Text(&'a str),
    Long(i64),
    Double(f64),
    Bool(bool),
    RequestType(RequestType),
    DetectPoint(DetectPoint),
    GcPhrase(GcPhrase),
    MemoryPool(MemoryPool),
}

impl Source {
    /// Reads an attribute; `None` if a source of this scope does not have it.
    pub fn attr(&self, attr: Attr) -> Option<AttrValue<'_>> {
        use AttrValue::{Bool, Double, Long};
        Some(match (attr, &self.values) {
            (Attr::Entity(field), _) => AttrValue::Text(self.text(field)),
            (Attr::Latency, Values::Request(r)) => Long(r.latency.into()),
            (Attr::Status, Values::Request(r)) => Bool(r.status),
            (Attr::ResponseCode, Values::Request(r)) => Long(r.response_code.into()),
            (Attr::Type, Values::Request(r)) => AttrValue::RequestType(r.ty),
            (Attr::DetectPoint, Values::Request(r)) => AttrValue::DetectPoint(r.detect_point),
            (Attr::ComponentId | Attr::DatabaseTypeId, Values::Request(r)) => {
                Long(r.component_id.into())
            }
            (Attr::UsePercent, Values::Cpu { use_percent }) => Double(*use_percent),
            (Attr::HeapStatus, Values::JvmMemory { part, .. }) => Bool(*part == MemoryPart::Heap),
            (
                Attr::PoolType,
                Values::JvmMemory {
                    part: MemoryPart::Pool(pool),
                    ..
                },
            ) => AttrValue::MemoryPool(*pool),
            (Attr::Init, Values::JvmMemory { init, .. }) => Long(*init),
            (Attr::Max, Values::JvmMemory { max, .. }) => Long(*max),
            (Attr::Used, Values::JvmMemory { used, .. }) => Long(*used),
            (Attr::Committed, Values::JvmMemory { committed, .. }) => Long(*committed),
            (Attr::Phrase, Values::JvmGc { phrase, .. }) => AttrValue::GcPhrase(*phrase),
            (Attr::Time, Values::JvmGc { time, .. }) => Long(*time),
            (Attr::Count, Values::JvmGc { count, .. }) => Long(*count),
            (Attr::LiveCount, Values::JvmThread { live, .. }) => Long(*live),
            (Attr::DaemonCount, Values::JvmThread { daemon, .. }) => Long(*daemon),
            (Attr::PeakCount, Values::JvmThread { peak, .. }) => Long(*peak),
            (Attr::Gen0CollectCount, Values::ClrGc { gen0, .. }) => Long(*gen0),
            (Attr::Gen1CollectCount, Values::ClrGc { gen1, .. }) => Long(*gen1),
            (Attr::Gen2CollectCount, Values::ClrGc { gen2, .. }) => Long(*gen2),
            (Attr::HeapMemory, Values::ClrGc { heap_memory, .. }) => Long(*heap_memory),
            (Attr::Value, Values::Envoy { value }) => Double(*value),
            (attr, Values::ClrThread { .. }) => return self.clr_thread(attr),
            _ => return None,
        })
    }

    fn text(&self, field: EntityField) -> &str {
        if let Some(value) = self.entity.shared_field(field) {
            return value;
        }
        use EntityField as F;
        match (field, &self.names) {
            (F::ServiceName, Names::Request(names)) => &names.service,
            (F::InstanceName, Names::Request(names)) => &names.instance,
            (F::EndpointName, Names::Request(names)) => &names.endpoint,
            (F::SourceInstanceName, Names::Call(names)) => &names.source_instance,
            (F::DestInstanceName, Names::Call(names)) => &names.dest_instance,
            (F::EndpointName, Names::Call(names)) => &names.dest_endpoint,
            _ => "",
        }
    }

    fn clr_thread(&self, attr: Attr) -> Option<AttrValue<'_>> {
        let Values::ClrThread {
            available_completion_port,
            available_worker,
            max_completion_port,
            max_worker,
        } = self.values
        else {
            return None;
        };
        Some(AttrValue::Long(match attr {
            Attr::AvailableCompletionPortThreads => available_completion_port,
            Attr::AvailableWorkerThreads => available_worker,
            Attr::MaxCompletionPortThreads => max_completion_port,
            Attr::MaxWorkerThreads => max_worker,
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests;
