//! What is on the server: version, templates, indices per model.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::client::parse;
use super::maintenance::Aliases;
use super::names::day_of_index;
use super::{Answer, Elasticsearch};
use crate::model::schema::{ModelKind, Schema};
use crate::storage::transfer::Inspection;

#[derive(Deserialize)]
struct Server {
    cluster_name: String,
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
}

#[derive(Deserialize)]
struct Index {
    index: String,
    health: Option<String>,
    status: Option<String>,
    #[serde(rename = "docs.count")]
    documents: Option<String>,
}

/// What is told of a model.
#[derive(Default)]
struct Held {
    days: Vec<u64>,
    documents: u64,
}

impl Elasticsearch {
    /// Looks whether the server has what the models need; changes nothing.
    pub async fn inspect(&self, schema: &Schema) -> Answer<Inspection> {
        let server: Server = parse(&self.client.get("/").await?)?;
        let mut inspection = Inspection::default();
        inspection.found.push(format!(
            "cluster {}, version {}",
            server.cluster_name, server.version.number
        ));
        let indices = self.indices().await?;
        let templates = self.template_names().await?;
        let path = format!("/{}*/_alias", self.names.prefix());
        let aliases: HashMap<String, Aliases> = match self.client.find(&path).await? {
            Some(body) => parse(&body)?,
            None => HashMap::new(),
        };
        let has_alias = |index: &str, alias: &str| {
            let aliases = aliases.get(index);
            aliases.is_some_and(|of_index| of_index.aliases.contains_key(alias))
        };
        for model in schema.models() {
            let alias = self.names.alias(&model.name);
            let mut held = Held::default();
            for index in &indices {
                let day = day_of_index(&index.index);
                let is_ours = match model.kind {
                    ModelKind::Management => index.index == alias,
                    _ => index.index == self.names.daily(&model.name, day),
                };
                if is_ours {
                    held.days.push(day);
                    let documents = index.documents.as_deref().unwrap_or_default();
                    held.documents += documents.parse().unwrap_or(0);
                }
                let is_daily = model.kind != ModelKind::Management;
                if is_ours && is_daily && !has_alias(&index.index, &alias) {
                    inspection.problems.push(format!(
                        "{}: was made without the template of the server and lacks the alias {alias}, so that nothing in it \
                         is found and it never expires: delete it, or copy its documents into a new index (_reindex)",
                        index.index
                    ));
                }
            }
            let has_template = templates.contains(&alias) || model.kind == ModelKind::Management;
            if !has_template || held.days.is_empty() {
                let what = if has_template { "index" } else { "template" };
                inspection.problems.push(format!(
                    "{alias}: no {what}; the server creates it at its start, or with JAVA_OPTS=-Dmode=init"
                ));
            }
            if let (Some(first), Some(last)) = (held.days.iter().min(), held.days.iter().max()) {
                let (indices, documents) = (held.days.len(), held.documents);
                let days = match (first, last) {
                    (0, 0) => String::new(),
                    _ => format!(", {first} to {last}"),
                };
                inspection.found.push(format!(
                    "{alias}: {documents} documents in {indices} indices{days}"
                ));
            }
        }
        for index in &indices {
            let health = index.health.as_deref().unwrap_or("unknown");
            if index.status.as_deref() == Some("close") {
                inspection
                    .problems
                    .push(format!("{}: is closed, open it", index.index));
            } else if health == "red" {
                let text = "has shards that no node holds; see GET /_cluster/allocation/explain";
                inspection.problems.push(format!("{}: {text}", index.index));
            }
        }
        Ok(inspection)
    }

    /// Models that daily indices of this namespace are named after but the schema does not have.
    pub async fn unknown_models(&self, schema: &Schema) -> Answer<BTreeSet<String>> {
        let indices = self.indices().await?;
        let models = indices.iter().filter_map(|index| {
            let (alias, day) = index.index.rsplit_once('-')?;
            let is_daily = day.len() == 8 && day_of_index(&index.index) > 0;
            let model = alias.strip_prefix(self.names.prefix())?;
            (is_daily && schema.model(model).is_none()).then(|| model.to_owned())
        });
        Ok(models.collect())
    }

    async fn indices(&self) -> Answer<Vec<Index>> {
        let prefix = self.names.prefix();
        let path = format!(
            "/_cat/indices/{prefix}*?format=json&h=index,health,status,docs.count&expand_wildcards=open,closed"
        );
        match self.client.find(&path).await? {
            Some(body) => parse(&body),
            None => Ok(vec![]),
        }
    }
}
