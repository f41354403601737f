//! etcd: every node is a key with a time to live below the name of the service (8.1.0 spec, G.3).
//!
//! By the older interface, which 8.1.0 uses, wherever the server has it, so that nodes of both kinds find each other; else by the
//! newer one, laid out as later versions of the original do.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::clients::{self, CenterError, Http, Older};
use super::center::Listing;
use crate::config::{EtcdApi, OwnAddress};

pub(super) const RENEWAL: Duration = Duration::from_secs(30);
const TTL_SECONDS: &str = "45";

/// A client of the members of etcd.
#[derive(Debug)]
pub(super) struct Etcd {
    client: clients::Etcd,
    service: String,
    api: EtcdApi,
    /// Whether the older interface is used, as long as that is known to work.
    is_older: Option<bool>,
    /// Of the own key, by the newer interface.
    lease: Option<String>,
}

/// Value of a key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    service_name: String,
    host: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Lease {
    id: String,
}

#[derive(Deserialize)]
struct KeptAlive {
    result: Kept,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Kept {
    /// Left out if the lease is gone.
    #[serde(default)]
    ttl: String,
}

impl Etcd {
    pub(super) fn new(http: Http, service: &str, api: EtcdApi) -> Etcd {
        Etcd {
            client: clients::Etcd::new(http),
            service: service.to_owned(),
            api,
            is_older: None,
            lease: None,
        }
    }

    pub(super) async fn register(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        if self.uses_older().await? {
            let value = self.value(own, &self.service)?;
            let form = [("value", value.as_str()), ("ttl", TTL_SECONDS)];
            let key = self.key(own);
            match self.client.v2(Method::PUT, &key, &form).await? {
                Older::Found(_) => Ok(()),
                Older::NotFound | Older::NotServed => Err(clients::Etcd::not_served()),
            }
        } else {
            let grant = json!({"TTL": TTL_SECONDS});
            let lease: Lease = self.client.v3(&["lease", "grant"], grant).await?;
            let value = self.value(own, &format!("{}/", self.service))?;
            let put = json!({
                "key": BASE64_STANDARD.encode(self.key(own)),
                "value": BASE64_STANDARD.encode(value),
                "lease": lease.id,
            });
            self.client.v3::<Value>(&["kv", "put"], put).await?;
            self.lease = Some(lease.id);
            Ok(())
        }
    }

    pub(super) async fn renew(&mut self, own: &OwnAddress) -> Result<bool, CenterError> {
        if self.uses_older().await? {
            let form = [
                ("refresh", "true"),
                ("prevExist", "true"),
                ("ttl", TTL_SECONDS),
            ];
            let key = self.key(own);
            let answer = self.client.v2(Method::PUT, &key, &form).await?;
            Ok(matches!(answer, Older::Found(_)))
        } else {
            let Some(lease) = &self.lease else {
                return Ok(false);
            };
            let keep = json!({"ID": lease});
            let kept: KeptAlive = self.client.v3(&["lease", "keepalive"], keep).await?;
            Ok(!matches!(kept.result.ttl.as_str(), "" | "0"))
        }
    }

    pub(super) async fn list(&mut self) -> Result<Listing, CenterError> {
        let listing = self.read().await;
        if listing.is_err() {
            // Whoever comes back may have other interfaces.
            self.is_older = None;
        }
        listing
    }

    async fn read(&mut self) -> Result<Listing, CenterError> {
        let entries = if self.uses_older().await? {
            match self.client.v2_folder(&self.service).await? {
                Older::Found(entries) => entries
                    .into_iter()
                    .map(|(key, value)| (key, value.into_bytes()))
                    .collect(),
                Older::NotFound => Vec::new(),
                Older::NotServed => return Err(clients::Etcd::not_served()),
            }
        } else {
            let start = format!("{}/", self.service);
            self.client.v3_values(&start, |_| true).await?
        };
        Ok(sift(&self.service, entries))
    }

    pub(super) async fn leave(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let key = self.key(own);
        if self.uses_older().await? {
            self.client.v2(Method::DELETE, &key, &[]).await?;
        } else {
            let delete = json!({"key": BASE64_STANDARD.encode(key)});
            self.client
                .v3::<Value>(&["kv", "deleterange"], delete)
                .await?;
            if let Some(lease) = self.lease.take() {
                let revoke = json!({"ID": lease});
                self.client
                    .v3::<Value>(&["lease", "revoke"], revoke)
                    .await?;
            }
        }
        Ok(())
    }

    /// Finds out which interface there is, once, and again after a failure.
    async fn uses_older(&mut self) -> Result<bool, CenterError> {
        if let Some(is_older) = self.is_older {
            return Ok(is_older);
        }
        let is_older = match self.api {
            EtcdApi::V2 => true,
            EtcdApi::V3 => false,
            EtcdApi::Auto => self.client.v2_folder(&self.service).await? != Older::NotServed,
        };
        self.is_older = Some(is_older);
        Ok(is_older)
    }

    /// The key of this node, the same one after a restart.
    fn key(&self, own: &OwnAddress) -> String {
        let hash = own.id().encode_utf16().fold(0_i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(unit.into())
        });
        format!("{}/{}_{}", self.service, own.host, hash.unsigned_abs())
    }

    fn value(&self, own: &OwnAddress, service_name: &str) -> Result<String, CenterError> {
        let endpoint = Endpoint {
            service_name: service_name.to_owned(),
            host: own.host.clone(),
            port: own.port,
        };
        serde_json::to_string(&endpoint).map_err(|error| CenterError::because(&error))
    }
}

fn sift(service: &str, entries: Vec<(String, Vec<u8>)>) -> Listing {
    let mut listing = Listing::default();
    for (key, value) in entries {
        let key = format!("{service}/{key}");
        match serde_json::from_slice::<Endpoint>(&value) {
            Ok(endpoint) => listing.add(&key, &endpoint.host, endpoint.port, true),
            Err(_) => listing.add_strange(&key),
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_nodes_are_passed_over() {
        let entries = [
            (
                "10.0.0.1_1",
                &br#"{"serviceName": "oap", "host": "10.0.0.1", "port": 11800}"#[..],
            ),
            ("junk", b"hello"),
            ("empty", b""),
            ("bytes", b"\xff\xfe"),
            ("host", br#"{"host": "", "port": 11800}"#),
            ("port", br#"{"host": "10.0.0.2", "port": 0}"#),
            ("odd", br#"{"host": "10.0.0.2/x", "port": 1}"#),
            ("far", br#"{"host": "10.0.0.2", "port": 70000}"#),
            ("10.0.0.3_1", br#"{"host": "10.0.0.3", "port": 11800}"#),
        ];
        let entries = entries.map(|(key, value)| (key.to_owned(), value.to_vec()));
        let listing = sift("oap", entries.to_vec());
        let members: Vec<String> = listing.members.into_iter().collect();
        assert_eq!(members, ["10.0.0.1:11800", "10.0.0.3:11800"]);
        let strange = ["bytes", "empty", "far", "host", "junk", "odd", "port"];
        let strange = strange.map(|key| format!("oap/{key}"));
        assert!(listing.strange.iter().eq(&strange), "{:?}", listing.strange);
    }
}
