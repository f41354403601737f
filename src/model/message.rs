//! What receivers hand on.

use bytes::Bytes;

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
}

impl Message {
    /// Name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Segment(_) => "segment",
            Message::JvmMetrics(_) => "jvm_metrics",
            Message::ClrMetrics(_) => "clr_metrics",
            Message::InstanceProperties(_) => "instance_properties",
            Message::KeepAlive(_) => "keep_alive",
        }
    }

    /// The encoded message.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Message::Segment(b)
            | Message::JvmMetrics(b)
            | Message::ClrMetrics(b)
            | Message::InstanceProperties(b)
            | Message::KeepAlive(b) => b,
        }
    }
}
