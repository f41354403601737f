//! Creates what is missing: a template for each model with days, and the index of today so that its alias exists.
//!
//! What is there is never changed. Nodes may race: an index that came into being meanwhile is as good as ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;

use super::client::{accepted, parse, refusal};
use super::template::template;
use super::{Answer, Elasticsearch};
use crate::model::schema::{Model, ModelKind, Schema};
use crate::storage::StorageError;

/// Requests in flight; the master works them off one by one anyway.
const SLOTS: usize = 4;

impl Elasticsearch {
    /// Templates first, then indices.
    pub(super) async fn create_missing(&self, schema: &Schema) -> Answer<()> {
        let today = self.zone.day(self.clock.now_ms()).ok_or_else(|| {
            StorageError::InvalidQuery("the clock is outside the years 1970 to 9999".to_owned())
        })?;
        let (templates, indices) =
            futures_util::try_join!(self.template_names(), self.index_names(today))?;
        let missing: Vec<Arc<Model>> = schema
            .models()
            .iter()
            .filter(|model| model.kind != ModelKind::Management)
            .filter(|model| !templates.contains(&self.names.alias(&model.name)))
            .cloned()
            .collect();
        let created_templates = missing.len();
        stream::iter(missing)
            .map(|model| self.create_template(model))
            .buffer_unordered(SLOTS)
            .try_collect::<()>()
            .await?;
        let missing: Vec<String> = schema
            .models()
            .iter()
            .map(|model| match model.kind {
                ModelKind::Management => self.names.alias(&model.name),
                _ => self.names.daily(&model.name, today),
            })
            .filter(|index| !indices.contains(index))
            .collect();
        let created_indices = missing.len();
        stream::iter(missing)
            .map(|index| self.create_index(index))
            .buffer_unordered(SLOTS)
            .try_collect::<()>()
            .await?;
        tracing::info!(
            templates.created = created_templates,
            indices.created = created_indices,
            "elasticsearch layout is complete"
        );
        Ok(())
    }

    async fn template_names(&self) -> Answer<HashSet<String>> {
        // One field of each is enough to list them.
        let path = format!(
            "/_template/{}*?filter_path=error,status,*.order",
            self.names.prefix()
        );
        self.keys(&path).await
    }

    /// The indices of a day, and those without days.
    async fn index_names(&self, day: u64) -> Answer<HashSet<String>> {
        let prefix = self.names.prefix();
        let path =
            format!("/{prefix}*-{day},{prefix}ui_template*/_alias?expand_wildcards=open,closed");
        self.keys(&path).await
    }

    async fn keys(&self, path: &str) -> Answer<HashSet<String>> {
        let Some(body) = self.client.find(path).await? else {
            return Ok(HashSet::new());
        };
        let named: HashMap<String, IgnoredAny> = parse(&body)?;
        Ok(named.into_keys().collect())
    }

    async fn create_template(&self, model: Arc<Model>) -> Answer<()> {
        let path = format!("/_template/{}", self.names.alias(&model.name));
        let body = template(&model, &self.names, &self.options);
        accepted(self.client.put(&path, Some(&body)).await?)?;
        Ok(())
    }

    async fn create_index(&self, index: String) -> Answer<()> {
        let reply = self.client.put(&format!("/{index}"), None).await?;
        if reply.status == 400 && contains(&reply.body, b"resource_already_exists_exception") {
            return Ok(());
        }
        if !(200..300).contains(&reply.status) {
            return Err(match refusal(&reply) {
                StorageError::Refused(text) => {
                    StorageError::Refused(format!("index {index}: {text}"))
                }
                other => other,
            });
        }
        Ok(())
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}
