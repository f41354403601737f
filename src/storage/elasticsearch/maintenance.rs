//! Refresh on request, and deletion of days that are older than their TTL (storage 4.1).

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::names::day_of_index;
use super::{Answer, Elasticsearch};
use crate::model::schema::{ModelKind, Schema};
use crate::storage::Expiry;

#[derive(Deserialize)]
struct Aliases {
    aliases: HashMap<String, IgnoredAny>,
}

impl Elasticsearch {
    /// Makes every document of this namespace visible.
    pub(super) async fn refresh_all(&self) -> Answer<()> {
        let path = format!("/{}*/_refresh", self.names.prefix());
        self.client.post::<Value>(&path, &json!({})).await?;
        Ok(())
    }

    /// Deletes expired daily indices of known models. An index behind an alias that is not named like ours stays.
    pub(super) async fn delete_expired(
        &self,
        schema: &Schema,
        expiry: Expiry,
    ) -> Answer<Vec<String>> {
        let path = format!("/_alias/{}*", self.names.prefix());
        let Some(body) = self.client.find(&path).await? else {
            return Ok(vec![]);
        };
        let indices: HashMap<String, Aliases> = super::client::parse(&body)?;
        let mut deleted = Vec::new();
        for model in schema.models() {
            let last = match model.kind {
                ModelKind::Management => continue,
                ModelKind::Record => expiry.records,
                ModelKind::Metrics => expiry.metrics,
            };
            let alias = self.names.alias(&model.name);
            for (index, aliases) in &indices {
                let day = day_of_index(index);
                let is_ours = aliases.aliases.contains_key(&alias)
                    && *index == self.names.daily(&model.name, day);
                if is_ours
                    && (1..=last).contains(&day)
                    && self.client.delete(&format!("/{index}")).await?
                {
                    deleted.push(index.clone());
                }
            }
        }
        Ok(deleted)
    }
}
