//! etcd: the keys of a folder, by the older interface that 8.1.0 uses or by the newer one, which see different data.

use super::center::{TIMEOUT, Values};
use super::key::Key;
use crate::cluster::clients::{self, CenterError, Http, Older};
use crate::config::EtcdApi;

/// A client of the members of a cluster.
#[derive(Debug)]
pub struct Etcd {
    client: clients::Etcd,
    group: String,
    api: EtcdApi,
}

impl Etcd {
    pub(super) fn new(urls: &[String], group: &str, api: EtcdApi) -> Result<Etcd, CenterError> {
        Ok(Etcd {
            client: clients::Etcd::new(Http::new(urls, TIMEOUT)?),
            group: group.to_owned(),
            api,
        })
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let entries = match self.api {
            EtcdApi::V2 => match self.client.v2_folder(&self.group).await? {
                Older::Found(entries) => entries,
                Older::NotFound => Vec::new(),
                Older::NotServed => return Err(clients::Etcd::not_served()),
            },
            EtcdApi::V3 => self.v3().await?,
            EtcdApi::Auto => match self.client.v2_folder(&self.group).await? {
                Older::Found(entries) => entries,
                Older::NotFound | Older::NotServed => self.v3().await?,
            },
        };
        let known = entries
            .into_iter()
            .filter_map(|(name, value)| Some((Key::of(&name)?, value)));
        Ok(known.filter(|(key, _)| keys.contains(key)).collect())
    }

    async fn v3(&mut self) -> Result<Vec<(String, String)>, CenterError> {
        self.client.v3_range(&format!("/{}/", self.group)).await
    }
}
