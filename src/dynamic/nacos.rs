//! Nacos: `GET /nacos/v1/cs/configs` (Open API 1.x, "Get configurations"), the key being the `dataId`.

use super::center::{TIMEOUT, Values};
use super::key::Key;
use crate::cluster::clients::{CenterError, Http, Question};

/// A client of the servers.
#[derive(Debug)]
pub struct Nacos {
    http: Http,
    group: String,
    namespace: String,
}

impl Nacos {
    pub(super) fn new(urls: &[String], group: &str, namespace: &str) -> Result<Nacos, CenterError> {
        Ok(Nacos {
            http: Http::new(urls, TIMEOUT)?,
            group: group.to_owned(),
            namespace: namespace.to_owned(),
        })
    }

    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let mut values = Values::new();
        for key in keys {
            let query = [
                ("dataId", key.name()),
                ("group", self.group.as_str()),
                ("tenant", self.namespace.as_str()),
            ];
            let query = match self.namespace.is_empty() {
                true => &query[..2],
                false => &query[..],
            };
            let question = Question {
                path: &["nacos", "v1", "cs", "configs"],
                query,
                ..Question::default()
            };
            let answer = self.http.ask(&question).await?;
            match answer.status {
                200 => {
                    values.insert(*key, answer.body);
                }
                404 => {}
                _ => return Err(answer.refused()),
            }
        }
        Ok(values)
    }
}
