//! The ConfigMaps with some labels in a namespace.

use std::collections::HashMap;

use kube::core::Request;
use kube::core::params::ListParams;
use serde::Deserialize;

use super::kubernetes::{
    ClientHandle, KubernetesError, ListMeta, READ_TIMEOUT, ask, connect, or_default, role,
};

/// Maps of one answer; each has up to 1 MiB.
const PAGE: u32 = 4;
/// Far more than are meant.
const MAX_MAPS: usize = 32;

/// A map, of which only this is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    pub name: String,
    pub data: HashMap<String, String>,
}

/// Reads maps, again and again.
#[derive(Debug)]
pub struct ConfigMapReader {
    namespace: String,
    label_selector: String,
    /// Gone after a failure, so that a configuration that was changed is read anew.
    client: Option<ClientHandle>,
}

#[derive(Deserialize)]
struct MapList {
    #[serde(default, deserialize_with = "or_default")]
    metadata: ListMeta,
    items: Option<Vec<MapItem>>,
}

#[derive(Deserialize)]
struct MapItem {
    metadata: MapMeta,
    data: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct MapMeta {
    name: String,
}

impl ConfigMapReader {
    /// Of a namespace; an empty selector selects all maps.
    pub fn new(namespace: &str, label_selector: &str) -> ConfigMapReader {
        ConfigMapReader {
            namespace: namespace.to_owned(),
            label_selector: label_selector.to_owned(),
            client: None,
        }
    }

    /// Where is looked, for messages.
    pub fn place(&self) -> String {
        let (namespace, labels) = (&self.namespace, &self.label_selector);
        format!("with labels {labels} in namespace {namespace}")
    }

    /// All maps, in the order of their names.
    pub async fn read(&mut self) -> Result<Vec<ConfigMap>, KubernetesError> {
        let ClientHandle(client) = match self.client.take() {
            Some(handle) => handle,
            None => ClientHandle(connect(None, READ_TIMEOUT).await?),
        };
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        let mut page = ListParams::default().limit(PAGE);
        if !self.label_selector.is_empty() {
            page = page.labels(&self.label_selector);
        }
        let mut maps = Vec::new();
        loop {
            let request = Request::new(path.clone()).list(&page);
            let list = ask(&client, request, "a list of ConfigMaps").await;
            let needed = || role("configmaps", &self.namespace);
            let list: MapList = list.map_err(|e| e.unless_may(needed))?;
            maps.extend(
                list.items
                    .unwrap_or_default()
                    .into_iter()
                    .map(|item| ConfigMap {
                        name: item.metadata.name,
                        data: item.data.unwrap_or_default(),
                    }),
            );
            if maps.len() > MAX_MAPS {
                return Err(KubernetesError::TooManyMaps(MAX_MAPS));
            }
            match list.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => break,
            }
        }
        maps.sort_by(|a, b| a.name.cmp(&b.name));
        self.client = Some(ClientHandle(client));
        Ok(maps)
    }
}
