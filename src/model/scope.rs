//! Scopes, node types and the other small enums, with their stored numbers (8.1.0 spec, C.1, D.1).

/// The kind of entity a source is about. The discriminant is the stored scope id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scope {
    All = 0,
    Service = 1,
    ServiceInstance = 2,
    Endpoint = 3,
    ServiceRelation = 4,
    ServiceInstanceRelation = 5,
    EndpointRelation = 6,
    ServiceInstanceJvmCpu = 8,
    ServiceInstanceJvmMemory = 9,
    ServiceInstanceJvmMemoryPool = 10,
    ServiceInstanceJvmGc = 11,
    DatabaseAccess = 17,
    ServiceInstanceClrCpu = 19,
    ServiceInstanceClrGc = 20,
    ServiceInstanceClrThread = 21,
    EnvoyInstanceMetric = 22,
    ServiceInstanceJvmThread = 33,
    /// A service as what meters measure; this and the next two are not stored.
    ServiceMeter = 64,
    ServiceInstanceMeter = 65,
    EndpointMeter = 66,
}

impl Scope {
    /// Every scope that OAL scripts can read from, with its name in scripts.
    pub const SOURCES: &'static [(&'static str, Scope)] = &[
        ("All", Scope::All),
        ("Service", Scope::Service),
        ("ServiceInstance", Scope::ServiceInstance),
        ("Endpoint", Scope::Endpoint),
        ("ServiceRelation", Scope::ServiceRelation),
        ("ServiceInstanceRelation", Scope::ServiceInstanceRelation),
        ("EndpointRelation", Scope::EndpointRelation),
        ("ServiceInstanceJVMCPU", Scope::ServiceInstanceJvmCpu),
        ("ServiceInstanceJVMMemory", Scope::ServiceInstanceJvmMemory),
        (
            "ServiceInstanceJVMMemoryPool",
            Scope::ServiceInstanceJvmMemoryPool,
        ),
        ("ServiceInstanceJVMGC", Scope::ServiceInstanceJvmGc),
        ("ServiceInstanceJVMThread", Scope::ServiceInstanceJvmThread),
        ("DatabaseAccess", Scope::DatabaseAccess),
        ("ServiceInstanceCLRCPU", Scope::ServiceInstanceClrCpu),
        ("ServiceInstanceCLRGC", Scope::ServiceInstanceClrGc),
        ("ServiceInstanceCLRThread", Scope::ServiceInstanceClrThread),
        ("EnvoyInstanceMetric", Scope::EnvoyInstanceMetric),
    ];

    /// The scope of an OAL source name, `None` if there is no such source.
    pub fn from_source_name(name: &str) -> Option<Scope> {
        Self::SOURCES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, s)| *s)
    }

    /// Position in [`Scope::SOURCES`]: a dense index for per-scope tables.
    pub fn index(self) -> usize {
        Self::SOURCES
            .iter()
            .position(|(_, s)| *s == self)
            .unwrap_or(0)
    }
}

/// What kind of thing a service is. Only `Normal` is real; the number is stored in `service_traffic.node_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NodeType {
    Normal = 0,
    Database = 1,
    RpcFramework = 2,
    Http = 3,
    Mq = 4,
    Cache = 5,
    Browser = 6,
    User = 10,
    Unrecognized = 11,
}

impl NodeType {
    /// Whether ids of this type carry the suffix `.1`.
    pub fn is_normal(self) -> bool {
        self == NodeType::Normal
    }
}

/// Which side of a call reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DetectPoint {
    Server = 0,
    Client = 1,
    Proxy = 2,
    Unrecognized = 3,
}

/// Protocol family of a request as OAL sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestType {
    Database,
    Http,
    Rpc,
    Grpc,
    Logic,
}
