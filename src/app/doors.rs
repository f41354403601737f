//! The ports: bound when everything behind them is ready, served until the stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use oap_proto::cluster::exchange_server::SERVICE_NAME as EXCHANGE;
use oap_proto::cluster::remote::remote_service_server::SERVICE_NAME as REMOTE;
use tokio_util::sync::CancellationToken;

use super::cluster::Services;
use super::stages::budget;
use super::task::Tasks;
use super::{GRACE, Shared, store_name};
use crate::config::{ClusterSettings, Secret, Settings, TelemetrySettings};
use crate::query::QueryContext;
use crate::query::graphql::Api;
use crate::query::http::{self as query_http, HttpSettings};
use crate::receiver::http::{Room, Timeouts, serve, serve_within};
use crate::receiver::{self, Enabled, GrpcOptions, HttpOptions, Receivers};
use crate::status::{About, Status};
use crate::storage::Store;
use crate::telemetry;

/// Connections to the telemetry port at a time: a few Prometheus servers, and whoever has a look.
const SCRAPERS: usize = 64;
/// How long a connection to the telemetry port may be silent at first.
const FIRST_SCRAPE: Duration = Duration::from_secs(5);

/// What all ports share while they are opened.
struct Opening<'a> {
    settings: &'a Settings,
    receivers: Receivers,
    on: Enabled,
    tasks: Tasks,
    /// What other nodes call, for the core port.
    peers: Option<Services>,
    stop: &'a CancellationToken,
}

/// Opens every port that the settings ask for; returns the addresses of the core gRPC and HTTP ports.
pub(super) async fn open(
    shared: &Shared,
    receivers: Receivers,
    context: Arc<QueryContext<Store>>,
    status: &Arc<Status>,
    peers: Option<Services>,
    stop: &CancellationToken,
) -> anyhow::Result<(Tasks, SocketAddr, SocketAddr)> {
    let mut opening = Opening {
        settings: &shared.settings,
        receivers,
        on: enabled(&shared.settings),
        tasks: Tasks::new(stop),
        peers,
        stop,
    };
    let grpc = opening.grpc_ports().await?;
    let http = opening.http_ports(shared, context, status).await?;
    opening.telemetry_port(shared).await?;
    tracing::info!(address = %grpc, "agents report here (gRPC)");
    tracing::info!(address = %http, "the UI asks and HTTP agents report here (HTTP)");
    tracing::info!(store = store_name(&shared.settings), "data is stored here");
    Ok((opening.tasks, grpc, http))
}

impl Opening<'_> {
    /// The core port, and the receivers' own if they have one.
    async fn grpc_ports(&mut self) -> anyhow::Result<SocketAddr> {
        let settings = self.settings;
        let core = &settings.core;
        let own = settings
            .receiver_sharing
            .as_ref()
            .filter(|sharing| sharing.grpc_port != 0);
        let token = match &self.settings.receiver_sharing {
            Some(sharing) if own.is_none() => sharing.authentication.clone(),
            _ => Secret::default(),
        };
        let address = self
            .serve_grpc(
                GrpcOptions {
                    receivers: if own.is_some() {
                        Enabled::NONE
                    } else {
                        self.on
                    },
                    max_message_bytes: core.max_message_size,
                    max_streams_per_connection: core.max_concurrent_calls_per_connection,
                    tls: core.grpc_ssl.clone(),
                    token,
                    grace: GRACE,
                },
                &core.grpc_host,
                core.grpc_port,
            )
            .await?;
        if let Some(sharing) = own {
            let options = GrpcOptions {
                receivers: self.on,
                max_message_bytes: sharing.max_message_size,
                max_streams_per_connection: sharing.max_concurrent_calls_per_connection,
                tls: sharing.grpc_ssl.clone(),
                token: sharing.authentication.clone(),
                grace: GRACE,
            };
            let address = self
                .serve_grpc(options, &sharing.grpc_host, sharing.grpc_port)
                .await?;
            tracing::info!(%address, "agents report here (gRPC, a port of their own)");
        }
        Ok(address)
    }

    async fn http_ports(
        &mut self,
        shared: &Shared,
        context: Arc<QueryContext<Store>>,
        status: &Arc<Status>,
    ) -> anyhow::Result<SocketAddr> {
        let settings = self.settings;
        let core = &settings.core;
        let own = settings
            .receiver_sharing
            .as_ref()
            .filter(|sharing| sharing.port != 0);
        let mut routes = Router::new();
        if let Some(query) = &self.settings.query {
            let api = Api::build().context("the query schema is not usable")?;
            let http = HttpSettings {
                context_path: core.rest_context_path.clone(),
                path: query.path.clone(),
                stay: Some(shared.registry.queue_stay("questions")?),
                stop: self.stop.clone(),
                ..HttpSettings::default()
            };
            let (room, depth) = (http.max_waiting, Arc::clone(&http.waiting));
            let depth = move || depth.load(Ordering::Relaxed);
            shared.registry.queue("questions", "questions", room, depth);
            routes = routes.merge(query_http::router(api, context, http));
        }
        match own {
            None => routes = routes.merge(self.twins(&core.rest_context_path)?),
            Some(sharing) => {
                let twins = self.twins(&sharing.context_path)?;
                let timeouts = Timeouts {
                    idle: sharing.jetty_idle_time_out,
                    grace: GRACE,
                };
                let twins = twins.fallback(query_http::fallback);
                let address = self
                    .serve_http(twins, &sharing.host, sharing.port, timeouts)
                    .await?;
                tracing::info!(%address, "agents report here (HTTP, a port of their own)");
            }
        }
        let timeouts = Timeouts {
            idle: core.rest_idle_time_out,
            grace: GRACE,
        };
        let status = Arc::clone(status);
        let routes = routes.fallback(async move |request: Request| {
            let (method, path) = (request.method().clone(), request.uri().path());
            let answer = status.answer(&method, path, request.headers()).await;
            match answer {
                Some(answer) => answer,
                None => query_http::fallback(method).await,
            }
        });
        self.serve_http(routes, &core.rest_host, core.rest_port, timeouts)
            .await
    }

    async fn telemetry_port(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let TelemetrySettings::Prometheus { host, port } = &self.settings.telemetry else {
            return Ok(());
        };
        let listener = telemetry::server::bind(host, *port)
            .await
            .with_context(|| format!("failed to listen on {host}:{port} (telemetry)"))?;
        tracing::info!(address = %listener.local_addr()?, "metrics of the server itself (Prometheus)");
        let routes = telemetry::server::router(shared.registry.clone());
        let refused = shared.registry.counters(
            "telemetry_refused_connections_total",
            "Connections to the telemetry port that were closed because as many as may be were open",
            &[],
        )?;
        let room = Room {
            connections: SCRAPERS,
            opening: FIRST_SCRAPE,
            refused: refused.with_label_values::<&str>(&[]),
        };
        let timeouts = Timeouts {
            grace: GRACE,
            ..Timeouts::default()
        };
        let stop = self.stop.clone();
        self.tasks.spawn("telemetry", async move {
            serve_within(listener, routes, timeouts, Some(room), stop).await;
            Ok(())
        });
        Ok(())
    }

    /// The HTTP forms of the receivers.
    fn twins(&self, context_path: &str) -> anyhow::Result<Router> {
        let options = HttpOptions {
            receivers: self.on,
            context_path: context_path.to_owned(),
            ..HttpOptions::default()
        };
        Ok(self.receivers.http(&options)?)
    }

    async fn serve_grpc(
        &mut self,
        options: GrpcOptions,
        host: &str,
        port: u16,
    ) -> anyhow::Result<SocketAddr> {
        let server = self.receivers.grpc(options)?;
        let listener = receiver::bind(&format!("{host}:{port}")).await?;
        let address = listener.local_addr()?;
        let stop = self.stop.clone();
        match self.peers.take() {
            None => {
                self.tasks.spawn("grpc", async move {
                    server.serve(listener, stop).await;
                    Ok(())
                });
            }
            Some(Services { routes, port }) => {
                let server = server.with(routes, vec![EXCHANGE, REMOTE]);
                self.tasks.spawn("grpc", async move {
                    let open = server.serve_first(listener, stop).await;
                    // Nobody takes it if the relay has failed, which has been said.
                    port.send(open).ok();
                    Ok(())
                });
            }
        }
        Ok(address)
    }

    async fn serve_http(
        &mut self,
        routes: Router,
        host: &str,
        port: u16,
        timeouts: Timeouts,
    ) -> anyhow::Result<SocketAddr> {
        let listener = receiver::bind(&format!("{host}:{port}")).await?;
        let address = listener.local_addr()?;
        let stop = self.stop.clone();
        self.tasks.spawn("http", async move {
            serve(listener, routes, timeouts, stop).await;
            Ok(())
        });
        Ok(address)
    }
}

/// Who answers about the state of the server.
pub(super) fn status(shared: &Shared, stop: &CancellationToken) -> Status {
    let settings = &shared.settings;
    let about = About {
        store: store_name(settings),
        cluster: match &settings.cluster {
            ClusterSettings::Standalone => "standalone".to_owned(),
            ClusterSettings::Static { .. } => "a list".to_owned(),
            ClusterSettings::Kubernetes { .. } => "pods of Kubernetes".to_owned(),
            ClusterSettings::Announced { coordinator, .. } => coordinator.provider().to_owned(),
        },
        budget: budget(settings),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        context_path: settings.core.rest_context_path.clone(),
    };
    let (registry, storage) = (shared.registry.clone(), Arc::clone(&shared.storage));
    Status::new(about, registry, storage, shared.clock.clone(), stop.clone())
}

fn enabled(settings: &Settings) -> Enabled {
    let on = &settings.receivers;
    Enabled {
        trace: on.trace && settings.agent_analyzer.is_some(),
        register: on.register,
        jvm: on.jvm,
        clr: on.clr,
        profile: on.profile,
        mesh: on.mesh,
        istio: on.istio,
        meter: on.meter,
        envoy_access_logs: on.envoy.is_some(),
        envoy_metrics: on.envoy.as_ref().is_some_and(|e| e.accept_metrics_service),
    }
}
