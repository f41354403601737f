//! Settings of the receivers and of the ports they share (8.1.0 spec, A, A.1, K).

use std::time::Duration;

use super::section::Section;
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
    /// Whether access logs are analysed: `alsHTTPAnalysis` has `k8s-mesh`, of several the only one there is.
    pub als_http_analysis: bool,
}

/// The analysis of access logs that knows the pods of a Kubernetes cluster (8.1.0 spec, A.9).
const K8S_MESH: &str = "k8s-mesh";

impl SharingSettings {
    /// Reads `receiver-sharing-server.default`.
    pub(super) fn read(s: &mut Section<'_>) -> SharingSettings {
        s.without_effect(&[
            "jettyMinThreads",
            "jettyMaxThreads",
            "jettyAcceptorPriorityDelta",
            "jettyAcceptQueueSize",
            "gRPCThreadPoolSize",
            "gRPCThreadPoolQueueSize",
            "gRPCSslTrustedCAPath",
        ]);
        let settings = SharingSettings {
            host: s.text("host", "0.0.0.0"),
            port: s.port("port", 0),
            context_path: s.url_path("contextPath", "/"),
            jetty_idle_time_out: s.idle_millis("jettyIdleTimeOut", 30_000),
            grpc_host: s.text("gRPCHost", "0.0.0.0"),
            grpc_port: s.port("gRPCPort", 0),
            grpc_ssl: TlsSettings::read(s),
            max_message_size: s.bound("maxMessageSize"),
            max_concurrent_calls_per_connection: s.bound("maxConcurrentCallsPerConnection"),
            authentication: s.secret("authentication"),
        };
        if settings.port == 0 {
            s.without_effect_as("port is 0", &["host", "contextPath", "jettyIdleTimeOut"]);
        }
        if settings.grpc_port == 0 {
            let keys = [
                "gRPCHost",
                "gRPCSslEnabled",
                "maxMessageSize",
                "maxConcurrentCallsPerConnection",
            ];
            s.without_effect_as("gRPCPort is 0", &keys);
        }
        settings
    }
}

impl EnvoySettings {
    /// Reads `envoy-metric.default`.
    pub(super) fn read(s: &mut Section<'_>) -> EnvoySettings {
        let analyses = s.list("alsHTTPAnalysis", "");
        if analyses.iter().any(|name| name != K8S_MESH) {
            s.problem("alsHTTPAnalysis", "k8s-mesh, or nothing for no analysis");
        }
        EnvoySettings {
            accept_metrics_service: s.flag("acceptMetricsService", false),
            als_http_analysis: !analyses.is_empty(),
        }
    }
}
