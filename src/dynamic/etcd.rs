//! etcd: the keys of a folder, by the older interface that 8.1.0 uses or by the newer one, which see different data.

use super::center::Values;
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
    pub(super) fn new(http: Http, group: &str, api: EtcdApi) -> Etcd {
        Etcd {
            client: clients::Etcd::new(http),
            group: group.to_owned(),
            api,
        }
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let older = match self.api {
            EtcdApi::V3 => return self.v3(keys).await,
            EtcdApi::V2 | EtcdApi::Auto => self.client.v2_folder(&self.group).await?,
        };
        let entries = match older {
            Older::Found(entries) => entries,
            _ if self.api == EtcdApi::Auto => return self.v3(keys).await,
            Older::NotFound => Vec::new(),
            Older::NotServed => return Err(clients::Etcd::not_served()),
        };
        let known = entries
            .into_iter()
            .filter_map(|(name, value)| Some((Key::of(&name)?, value.into_bytes())));
        Ok(known.filter(|(key, _)| keys.contains(key)).collect())
    }

    async fn v3(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let start = format!("/{}/", self.group);
        let is_wanted = |name: &str| Key::of(name).is_some_and(|key| keys.contains(&key));
        let entries = self.client.v3_values(&start, is_wanted).await?;
        let known = entries.into_iter();
        Ok(known
            .filter_map(|(name, value)| Some((Key::of(&name)?, value)))
            .collect())
    }
}
