//! etcd, by the older interface that 8.1.0 uses or by the newer one, which see different data.
//!
//! `/v2/keys/…` (etcd v2 API) and `POST /v3/…` (etcd v3 API, JSON gateway of 3.4 and later).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CenterError;
use super::http::{Answer, Body, Http, Question};

/// "Key not found" in the older interface.
const NOT_FOUND: u64 = 100;

/// A client of the members of a cluster.
#[derive(Debug)]
pub struct Etcd(Http);

/// What the older interface says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Older<T> {
    Found(T),
    NotFound,
    /// The server does not have that interface.
    NotServed,
}

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
    pub fn new(http: Http) -> Etcd {
        Etcd(http)
    }

    /// The error where the older interface is needed and not there.
    pub fn not_served() -> CenterError {
        CenterError("the v2 API is not served (etcd --enable-v2)".to_owned())
    }

    /// Last part of the key and value of everything in a folder, by the older interface.
    pub async fn v2_folder(
        &mut self,
        folder: &str,
    ) -> Result<Older<Vec<(String, String)>>, CenterError> {
        let answer = self.v2(reqwest::Method::GET, folder, &[]).await?;
        let Older::Found(answer) = answer else {
            return Ok(match answer {
                Older::NotServed => Older::NotServed,
                _ => Older::NotFound,
            });
        };
        let folder = answer.json::<Found>()?.node;
        if !folder.dir {
            return Err(CenterError(format!("{} is no folder", folder.key)));
        }
        let entries = folder.nodes.into_iter().filter_map(|node| {
            let name = node.key.rsplit('/').next()?.to_owned();
            Some((name, node.value?))
        });
        Ok(Older::Found(entries.collect()))
    }

    /// Asks for a key of the older interface, or changes it.
    pub async fn v2(
        &mut self,
        method: reqwest::Method,
        key: &str,
        form: &[(&str, &str)],
    ) -> Result<Older<Answer>, CenterError> {
        let mut path = vec!["v2", "keys"];
        path.extend(key.split('/'));
        let question = Question {
            method,
            path: &path,
            body: match form {
                [] => Body::None,
                form => Body::Form(form),
            },
            ..Question::default()
        };
        let answer = self.0.ask(&question).await?;
        match answer.status {
            200 | 201 => Ok(Older::Found(answer)),
            404 => match answer.json::<Failure>() {
                Ok(failure) if failure.error_code == NOT_FOUND => Ok(Older::NotFound),
                Ok(_) => Err(answer.refused()),
                Err(_) => Ok(Older::NotServed),
            },
            _ => Err(answer.refused()),
        }
    }

    /// All keys that begin with a text, without it, as far as they are wanted, and their values, by the newer interface. The text
    /// ends with `/`. What is no UTF-8 in a key is replaced.
    pub async fn v3_values(
        &mut self,
        start: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, Vec<u8>)>, CenterError> {
        // The first text behind all those that begin so.
        let end = format!("{}0", start.trim_end_matches('/'));
        let range = json!({
            "key": BASE64_STANDARD.encode(start),
            "range_end": BASE64_STANDARD.encode(end),
        });
        let mut entries = Vec::new();
        for found in self.v3::<Range>(&["kv", "range"], range).await?.kvs {
            let key = bytes(&found.key)?;
            let key = String::from_utf8_lossy(&key);
            if let Some(name) = key.strip_prefix(start).filter(|name| is_wanted(name)) {
                entries.push((name.to_owned(), bytes(&found.value)?));
            }
        }
        Ok(entries)
    }

    /// A call of the newer interface.
    pub async fn v3<T: DeserializeOwned>(
        &mut self,
        call: &[&str],
        message: Value,
    ) -> Result<T, CenterError> {
        let path = [&["v3"], call].concat();
        let question = Question {
            method: reqwest::Method::POST,
            path: &path,
            body: Body::Json(message),
            ..Question::default()
        };
        let answer = self.0.ask(&question).await?;
        if answer.status != 200 {
            return Err(answer.refused());
        }
        answer.json()
    }
}

/// What Base64 stands for.
pub fn bytes(base64: &str) -> Result<Vec<u8>, CenterError> {
    BASE64_STANDARD.decode(base64).map_err(CenterError::answer)
}
