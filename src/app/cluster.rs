//! The relay between the nodes of a cluster, if there is one, and the coordinator that knows them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, bail};
use prometheus::IntGauge;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Routes;
use tonic::transport::{Certificate, ClientTlsConfig};

use super::Shared;
use super::task::Tasks;
use crate::cluster::kubernetes::{MemberWatcher, PodSelection};
use crate::cluster::{
    ClusterMetrics, Connections, Coordinator, Dependencies, Membership, PeerOptions, RelayOptions,
    connect,
};
use crate::config::{
    ClusterSettings, CoordinatorSettings, CoreSettings, Role, Secret, Settings, StorageSettings,
};
use crate::receiver::{Port, TokenCheck};
use crate::stream::{AddressBook, Ground, Held, Input, Partitions, Plan, Route, Watched};
use crate::telemetry::Throttle;
use crate::util::file;

/// Lots of facts that may wait for the relay.
const INBOX: usize = 32;

/// How this node is connected to others.
#[derive(Debug)]
pub(super) struct Connection {
    /// The way of facts.
    pub(super) route: Route,
    /// What other nodes call on the core gRPC port.
    pub(super) services: Option<Services>,
    /// Whether this node does what one does for all.
    pub(super) is_first: watch::Receiver<bool>,
    /// How many agents other nodes have, if surplus ones are to be given away.
    pub(super) others: Option<watch::Receiver<Option<Vec<u32>>>>,
}

/// Services for other nodes, which go on when those for agents have ended.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) routes: Routes,
    /// Takes the port then.
    pub(super) port: oneshot::Sender<Port>,
}

/// What the relay works with.
pub(super) struct Parts<'a> {
    pub(super) shards: Vec<mpsc::Sender<Input>>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) addresses: &'a Arc<AddressBook>,
    /// How many agents are connected.
    pub(super) agents: IntGauge,
    /// What calls of members must pass.
    pub(super) check: TokenCheck,
    /// Who looks at the values of the shards.
    pub(super) watcher: Option<mpsc::Sender<Watched>>,
    /// Is told what this node writes.
    pub(super) owned: watch::Sender<Partitions>,
    /// Bytes that everything may take.
    pub(super) budget: u64,
}

/// Host and port by which metrics tell the servers apart: those of the core gRPC port, with Nacos those announced there (8.1.0
/// spec, G.3).
pub(super) fn instance(settings: &Settings) -> (&str, u16) {
    match &settings.cluster {
        ClusterSettings::Announced {
            coordinator: CoordinatorSettings::Nacos { .. },
            own: Some(own),
        } => (&own.host, own.port),
        _ => (&settings.core.grpc_host, settings.core.grpc_port),
    }
}

/// Starts it. Alone, everything goes to the own shards.
pub(super) fn start(
    shared: &Shared,
    parts: Parts<'_>,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Connection> {
    let settings = &shared.settings;
    let core = &settings.core;
    let stay = shared.registry.queue_stay("shards")?;
    let route = Route::new(parts.shards.clone()).measuring(stay);
    if settings.cluster == ClusterSettings::Standalone {
        let (_, is_first) = watch::channel(true);
        return Ok(Connection {
            route,
            services: None,
            is_first,
            others: None,
        });
    }
    let metrics = ClusterMetrics::new(&shared.registry)?;
    let capacity = parts.budget / 16;
    let registry = &shared.registry;
    registry.queue("cluster", "bytes", capacity, metrics.waiting_bytes());
    registry.memory("cluster", metrics.held_bytes());
    let (told, membership) = watch::channel(None);
    match &settings.cluster {
        ClusterSettings::Standalone => {}
        ClusterSettings::Static { members, own } => {
            let fixed = Membership::fixed(members, own.as_deref());
            told.send_replace(Some(fixed));
        }
        ClusterSettings::Kubernetes {
            namespace,
            label_selector,
            uid,
        } => {
            let selection = PodSelection {
                namespace: namespace.clone(),
                label_selector: label_selector.clone(),
                uid: uid.clone(),
                port: core.grpc_port,
            };
            let watcher = MemberWatcher::new(selection, None).counting(metrics.clone());
            let stop = stop.clone();
            tasks.spawn("members", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = watcher.keep(told) => {}
                }
                Ok(())
            });
        }
        ClusterSettings::Announced { coordinator, own } => {
            let coordinator = Coordinator::new(coordinator, own.clone(), metrics.clone())
                .context("module cluster")?;
            let stop = stop.clone();
            tasks.spawn("members", async move {
                coordinator.keep(told, stop).await;
                Ok(())
            });
        }
    }
    if matches!(settings.storage, StorageSettings::Embedded(_)) {
        tracing::warn!(
            "nodes do not share the embedded store: each has only what it writes, a cluster needs Elasticsearch"
        );
    }
    let (held, kept) = (Held::default(), Arc::<AtomicU64>::default());
    let (elsewhere, facts) = mpsc::channel(INBOX);
    let (first, is_first) = watch::channel(false);
    let connections = Connections {
        own: Some(parts.agents).filter(|_| core.rebalance_connections),
        ..Connections::default()
    };
    let others = connections.others.subscribe();
    let dependencies = Dependencies {
        plan: Arc::clone(parts.plan),
        addresses: Arc::clone(parts.addresses),
        ground: Ground::new(parts.shards, Arc::clone(&shared.storage)).watched_by(parts.watcher),
        held: Arc::clone(&held),
        owned: parts.owned,
        kept: Arc::clone(&kept),
        facts,
        membership,
        stop: stop.clone(),
        metrics,
        is_first: first,
        connections,
        log: Throttle::new(shared.clock.clone()),
    };
    let own = match &settings.cluster {
        ClusterSettings::Announced { own, .. } => own.as_ref().map(|own| own.member()),
        _ => None,
    };
    let options = RelayOptions {
        own,
        receives_only: core.role == Role::Receiver,
        capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
        peers: PeerOptions {
            tls: tls(core)?,
            timeout: core.remote_timeout,
            token: token(authentication(settings))?,
        },
    };
    let (relay, services) = connect(
        dependencies,
        options,
        parts.check,
        Throttle::new(shared.clock.clone()),
    );
    let over = CancellationToken::new();
    let is_over = over.clone();
    tasks.spawn("cluster", async move {
        let _over = over.drop_guard();
        relay.run().await;
        Ok(())
    });
    let (port, handed_over) = oneshot::channel::<Port>();
    let routes = services.clone();
    tasks.spawn("cluster-port", async move {
        // If it could not be opened, that ends the start.
        if let Ok(port) = handed_over.await {
            port.serve(routes, is_over).await;
        }
        Ok(())
    });
    Ok(Connection {
        route: route.sending_on(held, kept, elsewhere),
        services: Some(Services {
            routes: services,
            port,
        }),
        is_first,
        others: Some(others).filter(|_| core.rebalance_connections),
    })
}

/// What members send with each call, whichever port agents use; empty for nothing.
pub(super) fn authentication(settings: &Settings) -> Secret {
    let sharing = settings.receiver_sharing.as_ref();
    sharing.map_or_else(Secret::default, |sharing| sharing.authentication.clone())
}

fn token(secret: Secret) -> anyhow::Result<Option<AsciiMetadataValue>> {
    if secret.is_empty() {
        return Ok(None);
    }
    let mut token = AsciiMetadataValue::try_from(secret.expose().as_bytes()).context(
        "receiver-sharing-server.default.authentication has characters that no call can carry: members need another one",
    )?;
    token.set_sensitive(true);
    Ok(Some(token))
}

/// How other nodes are called: as this one wants to be called.
fn tls(core: &CoreSettings) -> anyhow::Result<Option<ClientTlsConfig>> {
    let Some(tls) = &core.grpc_ssl else {
        return Ok(None);
    };
    let path = tls.trusted_ca_path.as_ref().context(
        "core.default.gRPCSslTrustedCAPath is not set: with gRPCSslEnabled nodes of a cluster call each other over TLS and \
         must know whom to trust",
    )?;
    let what = || format!("gRPCSslTrustedCAPath {}", path.display());
    let pem =
        file::read(path, file::MAX_BYTES).with_context(|| format!("failed to read {}", what()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.with_context(|| format!("{} is not PEM", what()))?;
    let mut trusted = RootCertStore::empty();
    let (usable, _) = trusted.add_parsable_certificates(certificates);
    if usable == 0 {
        bail!("{} holds no certificate that can be used", what());
    }
    let mut calling = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    if let Some(name) = &core.grpc_ssl_member_name {
        ServerName::try_from(name.as_str())
            .with_context(|| format!("gRPCSslMemberName {name:?} is no name of a host"))?;
        calling = calling.domain_name(name);
    }
    Ok(Some(calling))
}
