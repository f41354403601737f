//! The gRPC server: every agent service under both its names, the health service, limits, TLS, token, shutdown.
//!
//! What a service does with a message is in the file of that receiver.

mod calls;
mod lines;
mod serve;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::sync::Arc;
use std::time::Duration;

use oap_proto::envoy::access_log::access_log_service_server::AccessLogServiceServer;
use oap_proto::envoy::metrics::metrics_service_server::MetricsServiceServer;
use oap_proto::health::health_server::{HealthServer, SERVICE_NAME as HEALTH};
use oap_proto::istio::metric::handle_metric_service_server::HandleMetricServiceServer;
use oap_proto::{legacy, v3};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Routes, RoutesBuilder};

use super::handover::Handover;
use super::profile::ProfileTasks;
use super::{
    Enabled, ReceiveError, clr, envoy, health, istio, jvm, management, mesh, meter, profile, trace,
};
use crate::config::{Secret, TlsSettings};
use calls::Calls;
pub use lines::{Census, Lines};
use serve::Server;
pub use token::TokenCheck;

/// How the gRPC port behaves.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// Which services there are, besides health.
    pub receivers: Enabled,
    /// `maxMessageSize`. `None` stands for 50 MiB, where the original has no bound; agents send a few MiB at most.
    pub max_message_bytes: Option<usize>,
    /// `maxConcurrentCallsPerConnection`. `None` stands for 200, where the original allows 4 and lets agents with more
    /// services than that wait for themselves.
    pub max_streams_per_connection: Option<u32>,
    /// `None` is clear text.
    pub tls: Option<TlsSettings>,
    /// `authentication`; the empty one lets everyone in.
    pub token: Secret,
    /// How long running calls may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            receivers: Enabled::ALL,
            max_message_bytes: None,
            max_streams_per_connection: None,
            tls: None,
            token: Secret::default(),
            grace: Duration::from_secs(3),
        }
    }
}

const MAX_MESSAGE_BYTES: usize = 50 * 1024 * 1024;
const MAX_STREAMS: u32 = 200;
/// A peer that is gone without a word is noticed after both of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After all calls are answered, how long peers have to close their connections.
const CLOSING: Duration = Duration::from_secs(1);

/// A port whose server has ended.
#[derive(Debug)]
pub struct Port {
    listener: Arc<TcpListener>,
    server: Server,
}

impl Port {
    /// Serves these until `end`. Connections are told to go away then, and break a second later: whoever waits for an answer
    /// that comes at the end still gets it.
    pub async fn serve(self, routes: Routes, end: CancellationToken) {
        let severed = CancellationToken::new();
        let ending = async {
            end.cancelled().await;
            tokio::time::sleep(CLOSING).await;
            severed.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.server.serve(self.listener, routes, end.clone(), severed.clone()) => {}
            () = ending => {}
        }
    }
}

/// A server that is ready to be put on a listener.
#[derive(Debug)]
pub struct GrpcServer {
    handover: Handover,
    tasks: Arc<dyn ProfileTasks>,
    options: GrpcOptions,
    server: Server,
    /// Services for other nodes, without the token of agents, and their names.
    also: Routes,
    also_names: Vec<&'static str>,
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// Whether a port can be opened with these files.
pub fn check_tls(files: &TlsSettings) -> Result<(), ReceiveError> {
    tls::server_config(files).map(drop)
}

impl GrpcServer {
    pub(super) fn new(
        handover: Handover,
        tasks: Arc<dyn ProfileTasks>,
        lines: Lines,
        options: GrpcOptions,
    ) -> Result<Self, ReceiveError> {
        let tls = options.tls.as_ref().map(tls::server_config).transpose()?;
        let server = Server {
            max_streams: options.max_streams_per_connection.unwrap_or(MAX_STREAMS),
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            lines,
        };
        Ok(Self {
            handover,
            tasks,
            options,
            server,
            also: Routes::default(),
            also_names: Vec::new(),
        })
    }

    /// Also serves these, which have these names.
    pub fn with(self, also: Routes, names: Vec<&'static str>) -> Self {
        Self {
            also,
            also_names: names,
            ..self
        }
    }

    /// Serves until `shutdown` is cancelled and the last call is answered. Connections are told to go away at once;
    /// calls that still run after the grace period are ended with UNAVAILABLE. Afterwards nothing of the server is
    /// left that could hand a message over.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        self.run(Arc::new(listener), shutdown).await;
    }

    /// The same, but the port stays open, for those services that must go on.
    pub async fn serve_first(self, listener: TcpListener, shutdown: CancellationToken) -> Port {
        let listener = Arc::new(listener);
        let server = self.run(Arc::clone(&listener), shutdown).await;
        Port { listener, server }
    }

    async fn run(self, listener: Arc<TcpListener>, shutdown: CancellationToken) -> Server {
        let cut = CancellationToken::new();
        let severed = CancellationToken::new();
        let grace = self.options.grace;
        let routes = self.routes(&shutdown, &cut);
        let server = self.server;
        let ending = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
            cut.cancel();
            tokio::time::sleep(CLOSING).await;
            severed.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = server.serve(listener, routes, shutdown.clone(), severed.clone()) => {}
            () = ending => {}
        }
        server
    }

    fn routes(&self, shutdown: &CancellationToken, cut: &CancellationToken) -> Routes {
        let enabled = self.options.receivers;
        let handover = self.handover.until(shutdown);
        let max_message_bytes = self.options.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES);
        let rejected = &self.handover.metrics.rejected_calls;
        let check = TokenCheck::new(self.options.token.clone(), rejected.clone());
        let mut routes = RoutesBuilder::from(self.also.clone());
        let mut names = self.also_names.clone();
        names.push(HEALTH);

        macro_rules! add {
            ($service:expr, $($server:path),+) => {
                $({
                    use $server as Server;
                    let server = Server::new($service)
                        .max_decoding_message_size(max_message_bytes)
                        .accept_compressed(CompressionEncoding::Gzip);
                    names.push(name_of(&server));
                    routes.add_service(InterceptedService::new(server, check.clone()));
                })+
            };
        }

        if enabled.trace {
            add!(
                trace::Trace(handover.clone()),
                legacy::trace_segment_report_service_server::TraceSegmentReportServiceServer,
                v3::trace_segment_report_service_server::TraceSegmentReportServiceServer
            );
        }
        if enabled.register {
            add!(
                management::Management(handover.clone()),
                legacy::management_service_server::ManagementServiceServer,
                v3::management_service_server::ManagementServiceServer
            );
        }
        if enabled.jvm {
            add!(
                jvm::Jvm(handover.clone()),
                legacy::jvm_metric_report_service_server::JvmMetricReportServiceServer,
                v3::jvm_metric_report_service_server::JvmMetricReportServiceServer
            );
        }
        if enabled.clr {
            add!(
                clr::Clr(handover.clone()),
                legacy::clr_metric_report_service_server::ClrMetricReportServiceServer,
                v3::clr_metric_report_service_server::ClrMetricReportServiceServer
            );
        }
        if enabled.profile {
            add!(
                profile::Profile {
                    handover: handover.clone(),
                    tasks: Arc::clone(&self.tasks),
                },
                legacy::profile_task_server::ProfileTaskServer,
                v3::profile_task_server::ProfileTaskServer
            );
        }
        if enabled.mesh {
            add!(
                mesh::Mesh(handover.clone()),
                legacy::service_mesh_metric_service_server::ServiceMeshMetricServiceServer,
                v3::service_mesh_metric_service_server::ServiceMeshMetricServiceServer
            );
        }
        if enabled.istio {
            add!(istio::Istio(handover.clone()), HandleMetricServiceServer);
        }
        if enabled.meter {
            add!(
                meter::Meter(handover.clone()),
                legacy::meter_report_service_server::MeterReportServiceServer,
                v3::meter_report_service_server::MeterReportServiceServer
            );
        }
        if enabled.envoy_access_logs {
            add!(envoy::AccessLogs(handover.clone()), AccessLogServiceServer);
        }
        if enabled.envoy_metrics {
            add!(envoy::Metrics(handover.clone()), MetricsServiceServer);
        }
        // Probes carry no token.
        routes.add_service(HealthServer::new(health::Health {
            shutdown: shutdown.clone(),
            names: names.into(),
        }));

        Calls::new(rejected.clone(), cut.clone()).watch(routes.routes())
    }
}
