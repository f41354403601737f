//! A configuration centre: asked for the values of keys, it tells those that it has.

use std::collections::HashMap;
use std::time::Duration;

use super::apollo::Apollo;
use super::config_map::ConfigMaps;
use super::consul::Consul;
use super::dcs::Dcs;
use super::etcd::Etcd;
use super::key::Key;
use super::nacos::Nacos;
use super::zookeeper::ZooKeeper;
use crate::cluster::clients::{CenterError, Http};
use crate::config::CenterSettings;

/// How long one request may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What a centre has, as bytes: who takes a value refuses it alone if it is no text. A key that is not there has no value.
pub type Values = HashMap<Key, Vec<u8>>;

/// A centre of one of the kinds that there are.
#[derive(Debug)]
pub enum Center {
    Grpc(Dcs),
    Apollo(Apollo),
    ZooKeeper(ZooKeeper),
    Etcd(Etcd),
    Consul(Consul),
    ConfigMap(ConfigMaps),
    Nacos(Nacos),
}

impl Center {
    /// Prepares the client; nobody is asked yet. Fails if the settings lead to no address.
    pub fn new(settings: &CenterSettings) -> Result<Center, CenterError> {
        Ok(match settings {
            CenterSettings::Grpc {
                host,
                port,
                cluster,
            } => Center::Grpc(Dcs::new(host, *port, cluster)?),
            CenterSettings::Apollo {
                meta_urls,
                cluster,
                app_id,
            } => Center::Apollo(Apollo::new(meta_urls, app_id, cluster)?),
            CenterSettings::ZooKeeper { servers, path } => {
                Center::ZooKeeper(ZooKeeper::new(servers, path))
            }
            CenterSettings::Etcd {
                urls,
                group,
                api,
                trusted_ca_path,
            } => {
                let http = Http::trusting(urls, TIMEOUT, trusted_ca_path.as_deref())?;
                Center::Etcd(Etcd::new(http, group, *api))
            }
            CenterSettings::Consul { urls, token } => {
                Center::Consul(Consul::new(urls, token.clone())?)
            }
            CenterSettings::ConfigMap {
                namespace,
                label_selector,
            } => Center::ConfigMap(ConfigMaps::new(namespace, label_selector)),
            CenterSettings::Nacos {
                urls,
                group,
                namespace,
            } => Center::Nacos(Nacos::new(urls, group, namespace)?),
        })
    }

    /// Name of the provider in settings.
    pub fn provider(&self) -> &'static str {
        match self {
            Center::Grpc(_) => "grpc",
            Center::Apollo(_) => "apollo",
            Center::ZooKeeper(_) => "zookeeper",
            Center::Etcd(_) => "etcd",
            Center::Consul(_) => "consul",
            Center::ConfigMap(_) => "k8s-configmap",
            Center::Nacos(_) => "nacos",
        }
    }

    /// What the centre has of these keys. Either all are known or there is an error.
    pub async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        match self {
            Center::Grpc(center) => center.read(keys).await,
            Center::Apollo(center) => center.read(keys).await,
            Center::ZooKeeper(center) => center.read(keys).await,
            Center::Etcd(center) => center.read(keys).await,
            Center::Consul(center) => center.read(keys).await,
            Center::ConfigMap(center) => center.read(keys).await,
            Center::Nacos(center) => center.read(keys).await,
        }
    }
}
