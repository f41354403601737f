//! Attributes of sources that OAL scripts can name: which scope has which, and of what type (8.1.0 spec, D.1).

use super::entity::EntityField;
use super::scope::Scope;

/// Type of an attribute, which decides what literals it can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttrType {
    Text,
    Long,
    Double,
    Bool,
    RequestType,
    DetectPoint,
    GcPhrase,
    MemoryPool,
}

/// A readable attribute of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attr {
    /// A name or id that belongs to the entity.
    Entity(EntityField),
    Latency,
    Status,
    ResponseCode,
    Type,
    DetectPoint,
    ComponentId,
    DatabaseTypeId,
    UsePercent,
    HeapStatus,
    PoolType,
    Init,
    Max,
    Used,
    Committed,
    Phrase,
    Time,
    Count,
    LiveCount,
    DaemonCount,
    PeakCount,
    Gen0CollectCount,
    Gen1CollectCount,
    Gen2CollectCount,
    HeapMemory,
    AvailableCompletionPortThreads,
    AvailableWorkerThreads,
    MaxCompletionPortThreads,
    MaxWorkerThreads,
    Value,
}

impl Attr {
    /// Type of the attribute.
    pub fn ty(self) -> AttrType {
        match self {
            Attr::Entity(_) => AttrType::Text,
            Attr::UsePercent | Attr::Value => AttrType::Double,
            Attr::Status | Attr::HeapStatus => AttrType::Bool,
            Attr::Type => AttrType::RequestType,
            Attr::DetectPoint => AttrType::DetectPoint,
            Attr::Phrase => AttrType::GcPhrase,
            Attr::PoolType => AttrType::MemoryPool,
            _ => AttrType::Long,
        }
    }

    /// The attributes of a scope with their names in scripts.
    pub fn of(scope: Scope) -> &'static [(&'static str, Attr)] {
        use Attr::Entity as E;
        use EntityField as F;
        const L: (&str, Attr) = ("latency", Attr::Latency);
        const S: (&str, Attr) = ("status", Attr::Status);
        const R: (&str, Attr) = ("responseCode", Attr::ResponseCode);
        const T: (&str, Attr) = ("type", Attr::Type);
        const NAME: (&str, Attr) = ("name", E(F::Name));
        const SERVICE: (&str, Attr) = ("serviceName", E(F::ServiceName));
        const SERVICE_ID: (&str, Attr) = ("serviceId", E(F::ServiceId));
        const INSTANCE: (&str, Attr) = ("serviceInstanceName", E(F::InstanceName));
        const ENDPOINT: (&str, Attr) = ("endpointName", E(F::EndpointName));
        const POINT: (&str, Attr) = ("detectPoint", Attr::DetectPoint);
        const COMPONENT: (&str, Attr) = ("componentId", Attr::ComponentId);
        match scope {
            Scope::ServiceMeter | Scope::ServiceInstanceMeter | Scope::EndpointMeter => &[],
            Scope::All => &[NAME, SERVICE, INSTANCE, ENDPOINT, L, S, R, T],
            Scope::Service => &[NAME, INSTANCE, ENDPOINT, L, S, R, T],
            Scope::ServiceInstance => &[NAME, SERVICE, SERVICE_ID, ENDPOINT, L, S, R, T],
            Scope::Endpoint => &[NAME, SERVICE, SERVICE_ID, INSTANCE, L, S, R, T],
            Scope::ServiceRelation => &[
                ("sourceServiceId", E(F::SourceServiceId)),
                ("sourceServiceName", E(F::SourceServiceName)),
                ("sourceServiceInstanceName", E(F::SourceInstanceName)),
                ("destServiceId", E(F::DestServiceId)),
                ("destServiceName", E(F::DestServiceName)),
                ("destServiceInstanceName", E(F::DestInstanceName)),
                ("endpoint", E(F::EndpointName)),
                POINT,
                COMPONENT,
                L,
                S,
                R,
                T,
            ],
            Scope::ServiceInstanceRelation => &[
                ("sourceServiceId", E(F::SourceServiceId)),
                ("sourceServiceName", E(F::SourceServiceName)),
                ("sourceServiceInstanceId", E(F::SourceInstanceId)),
                ("sourceServiceInstanceName", E(F::SourceInstanceName)),
                ("destServiceId", E(F::DestServiceId)),
                ("destServiceName", E(F::DestServiceName)),
                ("destServiceInstanceId", E(F::DestInstanceId)),
                ("destServiceInstanceName", E(F::DestInstanceName)),
                ("endpoint", E(F::EndpointName)),
                POINT,
                COMPONENT,
                L,
                S,
                R,
                T,
            ],
            Scope::EndpointRelation => &[
                ("endpoint", E(F::SourceEndpointName)),
                SERVICE_ID,
                ("serviceName", E(F::SourceServiceName)),
                ("serviceInstanceName", E(F::SourceInstanceName)),
                ("childEndpoint", E(F::ChildEndpointName)),
                ("childServiceId", E(F::ChildServiceId)),
                ("childServiceName", E(F::ChildServiceName)),
                ("childServiceInstanceName", E(F::DestInstanceName)),
                ("rpcLatency", Attr::Latency),
                POINT,
                COMPONENT,
                S,
                R,
                T,
            ],
            Scope::DatabaseAccess => &[NAME, ("databaseTypeId", Attr::DatabaseTypeId), L, S],
            Scope::ServiceInstanceJvmCpu | Scope::ServiceInstanceClrCpu => {
                &[NAME, SERVICE, SERVICE_ID, ("usePercent", Attr::UsePercent)]
            }
            Scope::ServiceInstanceJvmMemory => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                ("heapStatus", Attr::HeapStatus),
                ("init", Attr::Init),
                ("max", Attr::Max),
                ("used", Attr::Used),
                ("committed", Attr::Committed),
            ],
            Scope::ServiceInstanceJvmMemoryPool => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                ("poolType", Attr::PoolType),
                ("init", Attr::Init),
                ("max", Attr::Max),
                ("used", Attr::Used),
                ("committed", Attr::Committed),
            ],
            Scope::ServiceInstanceJvmGc => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                ("phrase", Attr::Phrase),
                ("time", Attr::Time),
                ("count", Attr::Count),
            ],
            Scope::ServiceInstanceJvmThread => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                ("liveCount", Attr::LiveCount),
                ("daemonCount", Attr::DaemonCount),
                ("peakCount", Attr::PeakCount),
            ],
            Scope::ServiceInstanceClrGc => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                ("gen0CollectCount", Attr::Gen0CollectCount),
                ("gen1CollectCount", Attr::Gen1CollectCount),
                ("gen2CollectCount", Attr::Gen2CollectCount),
                ("heapMemory", Attr::HeapMemory),
            ],
            Scope::ServiceInstanceClrThread => &[
                NAME,
                SERVICE,
                SERVICE_ID,
                (
                    "availableCompletionPortThreads",
                    Attr::AvailableCompletionPortThreads,
                ),
                ("availableWorkerThreads", Attr::AvailableWorkerThreads),
                ("maxCompletionPortThreads", Attr::MaxCompletionPortThreads),
                ("maxWorkerThreads", Attr::MaxWorkerThreads),
            ],
            Scope::EnvoyInstanceMetric => &[
                NAME,
                SERVICE_ID,
                ("metricName", E(F::MetricName)),
                ("value", Attr::Value),
            ],
        }
    }

    /// The attribute of a scope by its name in scripts.
    pub fn find(scope: Scope, name: &str) -> Option<Attr> {
        Attr::of(scope)
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, a)| *a)
    }
}
