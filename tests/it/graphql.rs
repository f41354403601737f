//! Asks the server under test as its user interface does.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A client of `/graphql`.
#[derive(Debug, Clone)]
pub struct GraphQl {
    client: reqwest::Client,
    url: String,
}

impl GraphQl {
    /// `address` is `host:port`.
    pub fn new(address: &str) -> Result<GraphQl> {
        Ok(GraphQl {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: format!("http://{address}/graphql"),
        })
    }

    /// Status and text of the answer.
    pub async fn post(&self, query: &str, variables: &Value) -> Result<(u16, String)> {
        let body = json!({"query": query, "variables": variables});
        let answer = self.client.post(&self.url).json(&body).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The single field of `data`; an answer with errors is an error.
    pub async fn ask(&self, query: &str, variables: Value) -> Result<Value> {
        let (status, text) = self.post(query, &variables).await?;
        ensure!(status == 200, "{query}: {status} {text:.500}");
        let mut answer: Value = serde_json::from_str(&text)?;
        ensure!(answer.get("errors").is_none(), "{query}: {text:.500}");
        let data = answer["data"]
            .as_object_mut()
            .with_context(|| format!("{query}: {text:.500}"))?;
        ensure!(data.len() == 1, "{query}: {text:.500}");
        Ok(data
            .values_mut()
            .next()
            .map(Value::take)
            .unwrap_or_default())
    }
}
