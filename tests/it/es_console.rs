//! A tester's own look into Elasticsearch, past the server: what is stored there, and cleaning it away.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::golden::recording::Document;
use crate::peers::Elasticsearch;

/// Speaks to the shared node about the indices of one namespace.
#[derive(Debug, Clone)]
pub struct EsConsole {
    client: reqwest::Client,
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct ScrollPage {
    _scroll_id: String,
    hits: Hits,
}

#[derive(Debug, Deserialize)]
struct Hits {
    hits: Vec<Document>,
}

impl EsConsole {
    pub fn new(namespace: &str) -> Result<EsConsole> {
        Ok(EsConsole {
            client: reqwest::Client::builder().no_proxy().build()?,
            namespace: namespace.to_owned(),
        })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Any request; a refusal is an error, nothing found is an empty object.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let body = body.map(|body| body.to_string());
        self.send(method, path, "application/json", body).await
    }

    async fn ask_lines(&self, path: &str, lines: String) -> Result<Value> {
        let lines = Some(lines);
        self.send("POST", path, "application/x-ndjson", lines).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<String>,
    ) -> Result<Value> {
        let node = Elasticsearch::shared();
        let url = format!("{}/{path}", node.url());
        let mut request = self.client.request(method.parse()?, url);
        if let Some((user, password)) = node.credentials() {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        // A pattern without a match.
        let is_empty = method == "GET" && status == 404 && text == "{}";
        ensure!(
            status.is_success() || is_empty,
            "{method} {path}: {status} {text:.300}"
        );
        let answer: Value =
            serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text:.300}"))?;
        ensure!(
            answer["_shards"]["failed"].as_u64().unwrap_or(0) == 0,
            "{method} {path}: {text:.300}"
        );
        Ok(answer)
    }

    /// Makes everything written visible to searches.
    pub async fn refresh(&self) -> Result<()> {
        let path = format!("{}_*/_refresh", self.namespace);
        self.ask("POST", &path, None).await.map(drop)
    }

    /// Every document of the namespace.
    pub async fn documents(&self) -> Result<Vec<Document>> {
        self.refresh().await?;
        let path = format!("{}_*/_search?scroll=1m", self.namespace);
        let first = self
            .ask("POST", &path, Some(json!({"size": 5000, "sort": ["_doc"]})))
            .await?;
        let mut page: ScrollPage = serde_json::from_value(first)?;
        let mut documents = vec![];
        while !page.hits.hits.is_empty() {
            documents.append(&mut page.hits.hits);
            let next = json!({"scroll": "1m", "scroll_id": page._scroll_id});
            page = serde_json::from_value(self.ask("POST", "_search/scroll", Some(next)).await?)?;
        }
        let end = json!({"scroll_id": page._scroll_id});
        self.ask("DELETE", "_search/scroll", Some(end)).await?;
        Ok(documents)
    }

    /// Puts index templates by name, and documents into the indices that they name.
    pub async fn load(&self, templates: &Map<String, Value>, documents: &[Document]) -> Result<()> {
        for (name, template) in templates {
            let path = format!("_template/{name}");
            self.ask("PUT", &path, Some(template.clone())).await?;
        }
        for part in documents.chunks(500) {
            let lines: String = part
                .iter()
                .map(|document| {
                    let action = json!({"index": {"_index": document.index, "_id": document.id}});
                    let source = Value::from(document.source.clone());
                    format!("{action}\n{source}\n")
                })
                .collect();
            let answer = self.ask_lines("_bulk", lines).await?;
            ensure!(answer["errors"] == false, "{answer:.500}");
        }
        self.refresh().await
    }

    /// Changes settings of an index; its name is without the namespace.
    pub async fn set(&self, index: &str, settings: Value) -> Result<()> {
        let path = format!("{}_{index}/_settings", self.namespace);
        self.ask("PUT", &path, Some(settings)).await.map(drop)
    }

    /// Every index template of the namespace, by name.
    pub async fn templates(&self) -> Result<Map<String, Value>> {
        let path = format!("_template/{}_*", self.namespace);
        match self.ask("GET", &path, None).await? {
            Value::Object(templates) => Ok(templates),
            other => anyhow::bail!("templates are {other:.300}"),
        }
    }

    /// Removes the namespace, so that the shared node does not run out of shards.
    pub async fn clean(&self) -> Result<()> {
        let pattern = format!("{}_*", self.namespace);
        self.ask("DELETE", &pattern, None).await?;
        if !self.templates().await?.is_empty() {
            let path = format!("_template/{pattern}");
            self.ask("DELETE", &path, None).await?;
        }
        Ok(())
    }
}
