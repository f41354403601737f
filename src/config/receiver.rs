//! Settings of the receivers and of the ports they share (8.1.0 spec, A, A.1, K).

use std::time::Duration;

use super::{Secret, TlsSettings};

/// `receiver-sharing-server.default`.
#[derive(Debug, Clone)]
pub struct SharingSettings {
    pub host: String,
    /// 0: receivers share the HTTP port of core.
    pub port: u16,
    pub context_path: String,
    pub jetty_idle_time_out: Duration,
    pub grpc_host: String,
    /// 0: receivers share the gRPC port of core.
    pub grpc_port: u16,
    /// For the port of its own.
    pub grpc_ssl: Option<TlsSettings>,
    /// Bytes; `None` is the server's own bound.
    pub max_message_size: Option<usize>,
    /// `None` is the server's own bound.
    pub max_concurrent_calls_per_connection: Option<u32>,
    /// Token that every gRPC call of an agent must carry; empty for none.
    pub authentication: Secret,
}

/// Which receivers are selected.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// `receiver-register`
    pub register: bool,
    /// `receiver-trace`
    pub trace: bool,
    /// `receiver-jvm`
    pub jvm: bool,
    /// `receiver-clr`
    pub clr: bool,
    /// `receiver-profile`
    pub profile: bool,
    /// `receiver-meter`
    pub meter: bool,
    /// `service-mesh`
    pub mesh: bool,
    /// `istio-telemetry`
    pub istio: bool,
    /// `envoy-metric`
    pub envoy: Option<EnvoySettings>,
}

/// `envoy-metric.default`.
#[derive(Debug, Clone)]
pub struct EnvoySettings {
    pub accept_metrics_service: bool,
    /// `k8s-mesh`, or empty for none.
    pub als_http_analysis: String,
}
