//! etcd: the keys of a folder, by the older interface that 8.1.0 uses or by the newer one, which see different data.
//!
//! `GET /v2/keys/{group}` (etcd v2 API) and `POST /v3/kv/range` (etcd v3 API, JSON gateway of 3.4 and later).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::center::{CenterError, Values};
use super::consul::text;
use super::http::{Http, Question};
use super::key::Key;
use crate::config::EtcdApi;

/// "Key not found" in the older interface.
const NOT_FOUND: u64 = 100;

/// A client of the members of a cluster.
#[derive(Debug)]
pub struct Etcd {
    http: Http,
    group: String,
    api: EtcdApi,
}

/// What the older interface answers.
#[derive(Deserialize)]
struct Found {
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    key: String,
    value: Option<String>,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    error_code: u64,
}

/// What the newer interface answers. Keys and values are Base64; what is empty is left out.
#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

impl Etcd {
    pub(super) fn new(urls: &[String], group: &str, api: EtcdApi) -> Result<Etcd, CenterError> {
        Ok(Etcd {
            http: Http::new(urls)?,
            group: group.to_owned(),
            api,
        })
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let mut values = match self.api {
            EtcdApi::V2 => match self.v2().await? {
                Older::Folder(values) => values,
                Older::NoFolder => Values::new(),
                Older::NotServed => {
                    let message = "the v2 API is not served (etcd --enable-v2)";
                    return Err(CenterError(message.to_owned()));
                }
            },
            EtcdApi::V3 => self.v3().await?,
            EtcdApi::Auto => match self.v2().await? {
                Older::Folder(values) => values,
                Older::NoFolder | Older::NotServed => self.v3().await?,
            },
        };
        values.retain(|key, _| keys.contains(key));
        Ok(values)
    }

    async fn v2(&mut self) -> Result<Older, CenterError> {
        let mut path = vec!["v2", "keys"];
        path.extend(self.group.split('/'));
        let question = Question {
            path: &path,
            ..Question::default()
        };
        let answer = self.http.ask(&question).await?;
        match answer.status {
            200 => {
                let folder = answer.json::<Found>()?.node;
                if !folder.dir {
                    return Err(CenterError(format!("{} is no folder", folder.key)));
                }
                let values = folder.nodes.into_iter().filter_map(|node| {
                    let name = node.key.rsplit('/').next()?;
                    Some((Key::of(name)?, node.value?))
                });
                Ok(Older::Folder(values.collect()))
            }
            404 => match answer.json::<Failure>() {
                Ok(failure) if failure.error_code == NOT_FOUND => Ok(Older::NoFolder),
                Ok(_) => Err(answer.refused()),
                Err(_) => Ok(Older::NotServed),
            },
            _ => Err(answer.refused()),
        }
    }

    async fn v3(&mut self) -> Result<Values, CenterError> {
        let from = format!("/{}/", self.group);
        // The first text behind all those that begin so.
        let to = format!("/{}0", self.group);
        let question = Question {
            path: &["v3", "kv", "range"],
            json: Some(json!({
                "key": BASE64_STANDARD.encode(&from),
                "range_end": BASE64_STANDARD.encode(to),
            })),
            ..Question::default()
        };
        let answer = self.http.ask(&question).await?;
        if answer.status != 200 {
            return Err(answer.refused());
        }
        let mut values = Values::new();
        for found in answer.json::<Range>()?.kvs {
            let name = text(&found.key)?;
            if let Some(key) = name.strip_prefix(&from).and_then(Key::of) {
                values.insert(key, text(&found.value)?);
            }
        }
        Ok(values)
    }
}

/// What the older interface knows of the folder.
enum Older {
    Folder(Values),
    NoFolder,
    NotServed,
}
