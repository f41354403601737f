//! The doors: what agents send over gRPC and HTTP is limited, counted and handed to the journal, still encoded.
//!
//! Each door answers as 8.1.0 does, and acknowledges only what the journal took. Nothing here reads a protobuf message;
//! one that cannot be read is found and counted by the analyzer. Only the JSON of the HTTP twins is translated here.

mod clr;
mod envoy;
pub mod grpc;
mod handover;
mod health;
pub mod http;
mod istio;
mod jvm;
mod listen;
mod management;
mod mesh;
mod meter;
mod metrics;
mod profile;
mod stream;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;

use crate::journal::Intake;
pub use grpc::{Census, GrpcOptions, GrpcServer, Lines, Port, TokenCheck};
use handover::Handover;
pub use http::HttpOptions;
pub use listen::bind;
pub use metrics::ReceiverMetrics;
use profile::NoTasks;
pub use profile::ProfileTasks;

/// Which receivers are on, by the selectors of their modules. One that is off is as unknown to agents as any other path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enabled {
    /// `receiver-trace`
    pub trace: bool,
    /// `receiver-register`: instance properties and keep-alive
    pub register: bool,
    /// `receiver-jvm`
    pub jvm: bool,
    /// `receiver-clr`
    pub clr: bool,
    /// `receiver-profile`
    pub profile: bool,
    /// `service-mesh`
    pub mesh: bool,
    /// `istio-telemetry`
    pub istio: bool,
    /// `receiver-meter`
    pub meter: bool,
    /// `envoy-metric`: access logs
    pub envoy_access_logs: bool,
    /// `envoy-metric` with `acceptMetricsService`
    pub envoy_metrics: bool,
}

impl Enabled {
    /// All of them; 8.1.0 leaves out meters by default.
    pub const ALL: Enabled = Enabled {
        trace: true,
        register: true,
        jvm: true,
        clr: true,
        profile: true,
        mesh: true,
        istio: true,
        meter: true,
        envoy_access_logs: true,
        envoy_metrics: true,
    };
    /// None: what the core port serves when the sharing server has ports of its own.
    pub const NONE: Enabled = Enabled {
        trace: false,
        register: false,
        jvm: false,
        clr: false,
        profile: false,
        mesh: false,
        istio: false,
        meter: false,
        envoy_access_logs: false,
        envoy_metrics: false,
    };
}

/// Why a door could not be opened, or fell shut.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("failed to listen on {address}")]
    Bind {
        address: String,
        source: std::io::Error,
    },
    #[error("failed to read the {what} at {}", path.display())]
    ReadTls {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the {what} at {} is not usable PEM: {reason}", path.display())]
    Pem {
        what: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("the certificate chain and the key cannot be used together")]
    TlsPair(#[source] rustls::Error),
    #[error("the context path {0:?} is not a plain path such as / or /observability")]
    ContextPath(String),
}

/// All receivers, ready to be put on a listener.
#[derive(Debug, Clone)]
pub struct Receivers {
    handover: Handover,
    tasks: Arc<dyn ProfileTasks>,
    lines: Lines,
}

impl Receivers {
    /// Receivers that hand over to `intake` and count in `metrics`.
    pub fn new(intake: Intake, metrics: ReceiverMetrics) -> Self {
        Self {
            lines: Lines::new(metrics.clone()),
            handover: Handover::new(intake, metrics),
            tasks: Arc::new(NoTasks),
        }
    }

    /// The same, giving these profile tasks to agents.
    pub fn giving(self, tasks: Arc<dyn ProfileTasks>) -> Self {
        Self { tasks, ..self }
    }

    /// The gRPC server with every enabled service, its TLS files read and checked.
    pub fn grpc(&self, options: GrpcOptions) -> Result<GrpcServer, ReceiveError> {
        let (handover, tasks) = (self.handover.clone(), Arc::clone(&self.tasks));
        GrpcServer::new(handover, tasks, self.lines.clone(), options)
    }

    /// The connections of all gRPC servers made here.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The routes of the HTTP twins. There is no fallback among them, so they can be merged with others.
    pub fn http(&self, options: &HttpOptions) -> Result<axum::Router, ReceiveError> {
        http::router(self.handover.clone(), options)
    }
}
