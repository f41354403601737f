//! Consul's key/value store: `GET /v1/kv/{key}` (HTTP API v1, "KV Store").

use serde::Deserialize;

use super::center::{TIMEOUT, Values};
use super::key::Key;
use crate::cluster::clients::{CenterError, Http, Question, bytes};
use crate::config::Secret;

/// A client of the agents.
#[derive(Debug)]
pub struct Consul {
    http: Http,
    token: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    /// Base64; none is an empty value.
    value: Option<String>,
}

impl Consul {
    pub(super) fn new(urls: &[String], token: Secret) -> Result<Consul, CenterError> {
        let http = Http::new(urls, TIMEOUT)?;
        Ok(Consul { http, token })
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let mut values = Values::new();
        for key in keys {
            let token = Some(self.token.expose()).filter(|token| !token.is_empty());
            let question = Question {
                path: &["v1", "kv", key.name()],
                secret: token.map(|token| ("X-Consul-Token", token)),
                ..Question::default()
            };
            let answer = self.http.ask(&question).await?;
            match answer.status {
                200 => {
                    let entries: Vec<Entry> = answer.json()?;
                    let value = entries.into_iter().next().and_then(|entry| entry.value);
                    if let Some(value) = value {
                        values.insert(*key, bytes(&value)?);
                    }
                }
                404 => {}
                _ => return Err(answer.refused()),
            }
        }
        Ok(values)
    }
}
