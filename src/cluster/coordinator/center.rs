//! The centres that nodes can announce themselves at, as one.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Url;

use super::super::clients::{CenterError, Http};
use super::consul::Consul;
use super::etcd::Etcd;
use super::nacos::Nacos;
use super::zookeeper::ZooKeeper;
use crate::config::{CoordinatorSettings, OwnAddress};

/// How long one request to one server may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Far more nodes than aggregation is divided among.
const MAX_MEMBERS: usize = 1000;

/// Who is announced. Addresses are `host:port`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) members: BTreeSet<String>,
    /// Announced, but the centre does not think that they are well.
    pub(super) unwell: BTreeSet<String>,
    /// What stands there and is no node, as whoever looks for it at the centre finds it.
    pub(super) strange: BTreeSet<String>,
}

impl Listing {
    /// `name` is what it is called at the centre; what is no address is strange.
    pub(super) fn add(&mut self, name: &str, host: &str, port: u16, is_well: bool) {
        let member = OwnAddress::new(host.trim_matches(['[', ']']), port).member();
        let set = match (is_reachable(&member, port), is_well) {
            (false, _) => return self.add_strange(name),
            (true, true) => &mut self.members,
            (true, false) => &mut self.unwell,
        };
        set.insert(member);
    }

    pub(super) fn add_strange(&mut self, name: &str) {
        self.strange.insert(name.to_owned());
    }
}

/// Whether anybody can be asked there.
fn is_reachable(member: &str, port: u16) -> bool {
    let url = Url::parse(&format!("http://{member}")).ok();
    let is_plain = |url: Url| url.path() == "/" && url.username().is_empty();
    port > 0 && url.is_some_and(is_plain)
}

/// Fails if there are far too many.
pub(super) fn check_count(members: usize) -> Result<(), CenterError> {
    match members {
        0..=MAX_MEMBERS => Ok(()),
        _ => Err(CenterError(format!(
            "there are more than {MAX_MEMBERS} members"
        ))),
    }
}

#[derive(Debug)]
pub(super) enum Center {
    ZooKeeper(ZooKeeper),
    Etcd(Etcd),
    Consul(Consul),
    Nacos(Nacos),
}

impl Center {
    pub(super) fn new(settings: &CoordinatorSettings) -> Result<Center, CenterError> {
        Ok(match settings {
            CoordinatorSettings::ZooKeeper {
                servers,
                path,
                login,
            } => Center::ZooKeeper(ZooKeeper::new(servers, path, login.clone())),
            CoordinatorSettings::Etcd {
                urls,
                service,
                api,
                trusted_ca_path,
            } => {
                let http = Http::trusting(urls, REQUEST_TIMEOUT, trusted_ca_path.as_deref())?;
                Center::Etcd(Etcd::new(http, service, *api))
            }
            CoordinatorSettings::Consul {
                urls,
                service,
                token,
                checks_tls,
            } => Center::Consul(Consul::new(urls, service, token.clone(), *checks_tls)?),
            CoordinatorSettings::Nacos {
                urls,
                service,
                namespace,
            } => Center::Nacos(Nacos::new(urls, service, namespace)?),
        })
    }

    /// Announces this node; also if it is announced already.
    pub(super) async fn register(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        match self {
            Center::ZooKeeper(center) => center.register(own).await,
            Center::Etcd(center) => center.register(own).await,
            Center::Consul(center) => center.register(own).await,
            Center::Nacos(center) => center.register(own).await,
        }
    }

    /// How often the centre must hear of this node; `None` if it finds out by itself.
    pub(super) fn renewal(&self) -> Option<Duration> {
        match self {
            Center::ZooKeeper(_) | Center::Consul(_) => None,
            Center::Etcd(_) => Some(super::etcd::RENEWAL),
            Center::Nacos(_) => Some(super::nacos::BEAT),
        }
    }

    /// Says that this node is still there; `false` if the centre has forgotten it.
    pub(super) async fn renew(&mut self, own: &OwnAddress) -> Result<bool, CenterError> {
        match self {
            Center::ZooKeeper(_) | Center::Consul(_) => Ok(true),
            Center::Etcd(center) => center.renew(own).await,
            Center::Nacos(center) => center.renew(own).await,
        }
    }

    pub(super) async fn list(&mut self) -> Result<Listing, CenterError> {
        let listing = match self {
            Center::ZooKeeper(center) => center.list().await?,
            Center::Etcd(center) => center.list().await?,
            Center::Consul(center) => center.list().await?,
            Center::Nacos(center) => center.list().await?,
        };
        check_count(listing.members.len() + listing.unwell.len())?;
        Ok(listing)
    }

    /// Ends when the list may have changed; never, where only looking tells.
    pub(super) async fn changed(&mut self) {
        match self {
            Center::ZooKeeper(center) => center.changed().await,
            Center::Etcd(_) | Center::Consul(_) | Center::Nacos(_) => std::future::pending().await,
        }
    }

    /// Takes this node from the list.
    pub(super) async fn leave(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        match self {
            Center::ZooKeeper(center) => center.leave().await,
            Center::Etcd(center) => center.leave(own).await,
            Center::Consul(center) => center.leave(own).await,
            Center::Nacos(center) => center.leave(own).await,
        }
    }

    /// What to look at when a call fails for a reason.
    pub(super) fn remedy(&self, reason: &str) -> &'static str {
        let is_forbidden = ["not authorized", "401", "403", "user name is empty"]
            .iter()
            .any(|word| reason.contains(word));
        match (self, is_forbidden) {
            (Center::ZooKeeper(_), true) => {
                "cluster.zookeeper.enableACL and expression must be those with which the nodes below /skywalking were made"
            }
            (Center::ZooKeeper(_), false) => {
                "cluster.zookeeper.hostPort must name servers of ZooKeeper, host:port,host:port"
            }
            (Center::Etcd(_), true) => {
                "etcd asks for a user, for which cluster.etcd has no key: let nodes in without one"
            }
            (Center::Etcd(_), false) => {
                "cluster.etcd.hostPort must name client addresses of etcd, host:port,host:port; isSSL, trustedCAPath and api must fit them"
            }
            (Center::Consul(_), true) => {
                "cluster.consul.aclToken must have the rights service:write and service:read for serviceName, and node:read"
            }
            (Center::Consul(_), false) => {
                "cluster.consul.hostPort must name agents of Consul, host:port,host:port"
            }
            (Center::Nacos(_), true) => {
                "Nacos asks for a user, for which cluster.nacos has no key: let nodes in without one"
            }
            (Center::Nacos(_), false) => {
                "cluster.nacos.hostPort must name servers of Nacos, host:port,host:port, and namespace an id of a namespace"
            }
        }
    }

    /// What to do about what stands between the nodes and is none.
    pub(super) fn remedy_if_strange(&self) -> &'static str {
        match self {
            Center::ZooKeeper(_) => {
                "remove it, or give all nodes another cluster.zookeeper.nameSpace"
            }
            Center::Etcd(_) => "remove it, or give all nodes another cluster.etcd.serviceName",
            Center::Consul(_) => "remove it, or give all nodes another cluster.consul.serviceName",
            Center::Nacos(_) => "remove it, or give all nodes another cluster.nacos.serviceName",
        }
    }

    /// What to look at when a node that is announced is not in the list.
    pub(super) fn remedy_if_unlisted(&self) -> &'static str {
        match self {
            Center::Consul(_) => {
                "its check must reach the announced address, which internalComHost and internalComPort change; without the right node:read for its token Consul shows no node at all"
            }
            _ => "see what else writes to the place where nodes are announced",
        }
    }
}
