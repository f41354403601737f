//! Dashboards: one document each in an index without days and without template, visible as soon as they are written.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bulk_answer::{FILTER, Item, items};
use super::client::accepted;
use super::search::{Completeness, Found, all_of, search, term};
use super::{Answer, Elasticsearch};
use crate::storage::query::UiTemplate;
use crate::storage::{StorageError, WriteOutcome};

const MODEL: &str = "ui_template";
/// As many as Elasticsearch gives at once; index settings of the user do not apply to this index.
const MAX_TEMPLATES: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Stored {
    name: Option<String>,
    #[serde(rename = "type")]
    ty: Option<String>,
    configuration: Option<String>,
    activated: Option<i64>,
    disabled: Option<i64>,
}

impl Elasticsearch {
    pub(super) async fn list_ui_templates(
        &self,
        including_disabled: bool,
    ) -> Answer<Vec<UiTemplate>> {
        let mut clauses = vec![];
        if !including_disabled {
            clauses.push(term("disabled", 0));
        }
        let body = json!({"query": all_of(clauses), "size": MAX_TEMPLATES});
        let target = self.names.alias(MODEL);
        let found: Found<Stored> =
            search(&self.client, &target, Completeness::Required, &body).await?;
        let templates = found.sources().map(|stored| UiTemplate {
            name: stored.name.unwrap_or_default(),
            ty: stored.ty.unwrap_or_default(),
            configuration: stored.configuration.unwrap_or_default(),
            is_activated: stored.activated == Some(1),
            is_disabled: stored.disabled == Some(1),
        });
        Ok(templates.collect())
    }

    pub(super) async fn create_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        let action = json!({"create": {"_index": self.names.alias(MODEL), "_id": template.name}});
        let item = self.act(&action, &document(template)).await?;
        match item.status {
            409 => Ok(false),
            _ => stored(&item).map(|()| true),
        }
    }

    pub(super) async fn update_ui_template(&self, template: &UiTemplate) -> Answer<bool> {
        let action = json!({"update": {
            "_index": self.names.alias(MODEL), "_id": template.name, "retry_on_conflict": 3,
        }});
        let item = self
            .act(&action, &json!({"doc": document(template)}))
            .await?;
        match item.status {
            404 => Ok(false),
            _ => stored(&item).map(|()| true),
        }
    }

    /// A single action as a bulk request, where an id needs no place in a path.
    async fn act(&self, action: &Value, content: &Value) -> Answer<Item> {
        let lines = Bytes::from(format!("{action}\n{content}\n"));
        let path = format!("/_bulk?refresh=true&{FILTER}");
        let body = accepted(self.client.post_lines(&path, lines).await?)?;
        let no_answer = || StorageError::Damaged("elasticsearch answered no item".to_owned());
        items(&body, 1)?.pop().ok_or_else(no_answer)
    }
}

fn stored(item: &Item) -> Answer<()> {
    match item.outcome(false) {
        WriteOutcome::Stored => Ok(()),
        WriteOutcome::Retry(reason) => Err(StorageError::Unavailable(reason)),
        WriteOutcome::Rejected(reason) => Err(StorageError::Refused(reason)),
    }
}

fn document(template: &UiTemplate) -> Value {
    json!({
        "name": template.name,
        "type": template.ty,
        "configuration": template.configuration,
        "activated": i64::from(template.is_activated),
        "disabled": i64::from(template.is_disabled),
    })
}
