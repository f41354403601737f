//! What receivers hand on.

use bytes::Bytes;

/// Names of kinds that are known before there is a message.
pub mod kind {
    pub const SEGMENT: &str = "segment";
    pub const INSTANCE_PROPERTIES: &str = "instance_properties";
    pub const KEEP_ALIVE: &str = "keep_alive";
    pub const MESH: &str = "mesh";
    pub const MIXER: &str = "mixer";
    pub const PROFILE_SNAPSHOT: &str = "profile_snapshot";
    pub const METERS: &str = "meters";
    pub const ENVOY_METRICS: &str = "envoy_metrics";
    pub const ENVOY_ACCESS_LOGS: &str = "envoy_access_logs";
}

/// What an agent said, still encoded as its protobuf message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `SegmentObject`
    Segment(Bytes),
    /// `JVMMetricCollection`
    JvmMetrics(Bytes),
    /// `CLRMetricCollection`
    ClrMetrics(Bytes),
    /// `InstanceProperties`
    InstanceProperties(Bytes),
    /// `InstancePingPkg`
    KeepAlive(Bytes),
    /// `ServiceMeshMetric`
    Mesh(Bytes),
    /// `HandleMetricRequest` of Istio's Mixer
    Mixer(Bytes),
    /// `ThreadSnapshot`
    ProfileSnapshot(Bytes),
    /// `ProfileTaskFinishReport` of an agent that was told of the task.
    ProfileTaskNotified(Bytes),
    /// `ProfileTaskFinishReport` of an agent that is done.
    ProfileTaskFinished(Bytes),
    /// `MeterPart`: all that one stream brought, or a part of it.
    Meters(Bytes),
    /// Envoy's `StreamMetricsMessage` and the `Identifier` of its stream, which only the first one carries.
    EnvoyMetrics { identifier: Bytes, body: Bytes },
    /// Envoy's `StreamAccessLogsMessage` and the `Identifier` of its stream, which only the first one carries.
    EnvoyAccessLogs { identifier: Bytes, body: Bytes },
    /// [`Scrape`]
    Prometheus(Bytes),
}

/// Pages that were fetched together: samples of all of them may make one value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scrape {
    /// Name of the rule file.
    #[prost(string, tag = "1")]
    pub file: String,
    /// When fetching began, epoch milliseconds.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub pages: Vec<Page>,
}

/// What a Prometheus target answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Page {
    /// `host:port`
    #[prost(string, tag = "1")]
    pub target: String,
    /// In the text format 0.0.4.
    #[prost(bytes = "bytes", tag = "2")]
    pub text: Bytes,
}

impl Message {
    /// Name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Segment(_) => kind::SEGMENT,
            Message::JvmMetrics(_) => "jvm",
            Message::ClrMetrics(_) => "clr",
            Message::InstanceProperties(_) => kind::INSTANCE_PROPERTIES,
            Message::KeepAlive(_) => kind::KEEP_ALIVE,
            Message::Mesh(_) => kind::MESH,
            Message::Mixer(_) => kind::MIXER,
            Message::ProfileSnapshot(_) => kind::PROFILE_SNAPSHOT,
            Message::ProfileTaskNotified(_) => "profile_task_notified",
            Message::ProfileTaskFinished(_) => "profile_task_finished",
            Message::Meters(_) => kind::METERS,
            Message::EnvoyMetrics { .. } => kind::ENVOY_METRICS,
            Message::EnvoyAccessLogs { .. } => kind::ENVOY_ACCESS_LOGS,
            Message::Prometheus(_) => "prometheus",
        }
    }

    /// The encoded message.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Message::Segment(b)
            | Message::JvmMetrics(b)
            | Message::ClrMetrics(b)
            | Message::InstanceProperties(b)
            | Message::KeepAlive(b)
            | Message::Mesh(b)
            | Message::Mixer(b)
            | Message::ProfileSnapshot(b)
            | Message::ProfileTaskNotified(b)
            | Message::ProfileTaskFinished(b)
            | Message::Meters(b)
            | Message::EnvoyMetrics { body: b, .. }
            | Message::EnvoyAccessLogs { body: b, .. }
            | Message::Prometheus(b) => b,
        }
    }
}
