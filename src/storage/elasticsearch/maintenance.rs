//! Refresh on request, and deletion of days that are older than their TTL (storage 4.1).

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::names::day_of_index;
use super::{Answer, Elasticsearch};
use crate::model::schema::{ModelKind, Schema};
use crate::storage::{Expiry, StorageError};

/// Of an index.
#[derive(Deserialize)]
pub(super) struct Aliases {
    pub(super) aliases: HashMap<String, IgnoredAny>,
}

impl Elasticsearch {
    /// Makes every document of this namespace visible.
    pub(super) async fn refresh_all(&self) -> Answer<()> {
        let path = format!("/{}*/_refresh", self.names.prefix());
        self.client.post::<Value>(&path, &json!({})).await?;
        Ok(())
    }

    /// Deletes expired daily indices of known models. An index behind an alias that is not named like ours stays, and one
    /// that cannot be deleted does not keep the others.
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
        let mut expired: Vec<&String> = vec![];
        for model in schema.models() {
            let last = match model.kind {
                ModelKind::Management => continue,
                ModelKind::Record => expiry.records,
                ModelKind::Metrics => expiry.metrics,
            };
            let alias = self.names.alias(&model.name);
            expired.extend(indices.iter().filter_map(|(index, aliases)| {
                let day = day_of_index(index);
                let is_ours = aliases.aliases.contains_key(&alias)
                    && *index == self.names.index(&model.name, day);
                let is_expired = (1..=last).contains(&self.names.last_day(day));
                (is_ours && is_expired).then_some(index)
            }));
        }
        let mut deleted = Vec::new();
        for index in expired {
            match self.client.delete(&format!("/{index}")).await {
                Ok(true) => deleted.push(index.clone()),
                // Another node or a lifecycle policy was faster.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(index.name = index, %error, "an expired index could not be deleted");
                    if matches!(error, StorageError::Unavailable(_)) {
                        break;
                    }
                }
            }
        }
        Ok(deleted)
    }
}
