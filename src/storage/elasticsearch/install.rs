//! Creates what is missing: a template for each model with days, the indices of today so that aliases exist, and before
//! midnight those of tomorrow, so that the first documents of a day find them.
//!
//! What is there is never changed. Nodes may race: an index that came into being meanwhile is as good as ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::client::{accepted, parse, refusal};
use super::difference::some_of;
use super::template::template;
use super::{Answer, Elasticsearch};
use crate::model::schema::{Model, ModelKind, Schema};
use crate::storage::StorageError;

/// Requests in flight; the master works them off one by one anyway.
const SLOTS: usize = 4;
/// The indices of a day are created at the latest this long before it begins ...
const LEAD_MS: i64 = 20 * MINUTE_MS;
/// ... or earlier by up to this much, different for each node.
const LEAD_SPREAD_MS: i64 = 20 * MINUTE_MS;
const MINUTE_MS: i64 = 60_000;
/// Lines about what is in the way; each says how many there are.
const MAX_OBSTACLES: usize = 5;

/// What came of creating indices.
struct Created {
    /// Those that were not there.
    count: usize,
    /// Why some could not be created.
    obstacles: Vec<String>,
}

impl Elasticsearch {
    /// Templates first, then indices. Returns what is in the way of some of these, in words; the others exist then.
    pub(super) async fn create_missing(&self, schema: &Schema) -> Answer<Vec<String>> {
        let now_ms = self.clock.now_ms();
        let today = self.zone.day(now_ms).ok_or_else(|| {
            StorageError::InvalidQuery("the clock is outside the years 1970 to 9999".to_owned())
        })?;
        let created_templates = self.create_templates(schema).await?;
        let is_first = !self.reported.layout.load(Ordering::Acquire);
        if is_first {
            self.compare_templates(schema).await?;
        }
        self.look_for_shadows(schema, today).await?;
        let Created {
            count: created_indices,
            obstacles,
        } = self.create_indices(schema, today, SLOTS).await?;
        self.say_obstacles(&obstacles);
        // Without its template, too, an index comes into being that has no alias.
        if is_first || created_templates > 0 || self.shadows.is_any() {
            self.look_for_lost(schema).await?;
        }
        if is_first {
            self.check_indices(schema, today).await?;
            self.reported.layout.store(true, Ordering::Release);
        }
        if is_first || created_templates + created_indices > 0 {
            tracing::info!(
                templates.created = created_templates,
                indices.created = created_indices,
                "elasticsearch layout is complete"
            );
        }
        self.prepare_tomorrow(schema, now_ms, today).await;
        Ok(obstacles)
    }

    fn say_obstacles(&self, obstacles: &[String]) {
        let is_news = self.reported.is_news_of_obstacles(&obstacles.join("\n"));
        if !is_news {
            return;
        }
        for obstacle in obstacles.iter().take(MAX_OBSTACLES) {
            tracing::warn!(
                obstacle,
                obstacles = obstacles.len(),
                "an index cannot be created, its rows wait until it can"
            );
        }
        if obstacles.is_empty() {
            tracing::info!("nothing is in the way of indices any more");
        }
    }

    /// Creates tomorrow's indices one by one if it is time. A failure is no reason not to go on today.
    async fn prepare_tomorrow(&self, schema: &Schema, now_ms: i64, today: u64) {
        let tomorrow = self
            .zone
            .day(now_ms + LEAD_MS + self.started_ms % LEAD_SPREAD_MS);
        let Some(tomorrow) = tomorrow.filter(|day| *day != today) else {
            return;
        };
        let error = match self.create_indices(schema, tomorrow, 1).await {
            Ok(Created { count, obstacles }) => {
                if count > 0 {
                    tracing::info!(
                        day = tomorrow,
                        indices.created = count,
                        "indices of tomorrow exist"
                    );
                }
                obstacles.join("; ")
            }
            Err(error) => error.to_string(),
        };
        if self.reported.is_news_of_tomorrow(&error) && !error.is_empty() {
            tracing::warn!(
                day = tomorrow,
                error,
                "indices of tomorrow cannot be created yet"
            );
        }
    }

    /// How many were missing.
    async fn create_templates(&self, schema: &Schema) -> Answer<usize> {
        let stored = self.template_names().await?;
        let missing: Vec<Arc<Model>> = schema
            .models()
            .iter()
            .filter(|model| model.kind != ModelKind::Management)
            .filter(|model| !stored.contains(&self.names.alias(&model.name)))
            .cloned()
            .collect();
        let created = missing.len();
        if created > 0 && !self.options.creates_templates {
            let names: Vec<String> = missing.iter().map(|m| self.names.alias(&m.name)).collect();
            return Err(StorageError::Unavailable(format!(
                "this server runs with -Dmode=no-init, so another one, with the same modules and scripts, must create the index \
                 templates {}",
                some_of(&names)
            )));
        }
        stream::iter(missing)
            .map(|model| self.create_template(model))
            .buffer_unordered(SLOTS)
            .try_collect::<()>()
            .await?;
        Ok(created)
    }

    /// Creates the indices of a day, and those without days. One that is refused does not keep the others.
    async fn create_indices(&self, schema: &Schema, day: u64, slots: usize) -> Answer<Created> {
        let stored = self.index_names(schema, day).await?;
        let missing: Vec<(String, Arc<Model>)> = schema
            .models()
            .iter()
            .map(|model| {
                let index = match model.kind {
                    ModelKind::Management => self.names.alias(&model.name),
                    _ => self.names.daily(&model.name, day),
                };
                (index, Arc::clone(model))
            })
            .filter(|(index, _)| !stored.contains(index))
            .collect();
        let outcomes: Vec<Result<bool, String>> = stream::iter(missing)
            .map(|(index, model)| async move {
                let body = self.body_if_shadowed(&index, &model);
                match self.create_index(&index, body.as_ref()).await {
                    Ok(is_new) => Ok(Ok(is_new)),
                    Err(StorageError::Refused(reason)) => {
                        Ok(Err(self.obstacle(&model, reason).await?))
                    }
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(slots)
            .try_collect()
            .await?;
        let count = outcomes.iter().filter(|o| **o == Ok(true)).count();
        let mut obstacles: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
        obstacles.sort();
        Ok(Created { count, obstacles })
    }

    /// Why an index was refused, with the remedy if it is known.
    async fn obstacle(&self, model: &Model, reason: String) -> Answer<String> {
        let alias = self.names.alias(&model.name);
        // Answers with the name of the index itself if there is one, with those behind the alias else.
        let named = self.keys(&format!("/{alias}/_alias")).await?;
        let is_taken = model.kind != ModelKind::Management && named.contains(&alias);
        Ok(match is_taken {
            true => format!(
                "{reason}; there is an index {alias}, and an alias of this name is needed: copy its documents elsewhere if they \
                 are (POST _reindex), then delete it (DELETE /{alias})"
            ),
            false => reason,
        })
    }

    pub(super) async fn template_names(&self) -> Answer<HashSet<String>> {
        // One field of each is enough to list them.
        let path = format!(
            "/_template/{}*?filter_path=error,status,*.order",
            self.names.prefix()
        );
        self.keys(&path).await
    }

    /// The indices of a day.
    pub(super) async fn daily_names(&self, day: u64) -> Answer<HashSet<String>> {
        let (prefix, day) = (self.names.prefix(), self.names.first_day(day));
        let path = format!("/{prefix}*-{day}/_alias?expand_wildcards=open,closed");
        self.keys(&path).await
    }

    /// The indices of a day, and those of the models without days.
    async fn index_names(&self, schema: &Schema, day: u64) -> Answer<HashSet<String>> {
        let prefix = self.names.prefix();
        let mut targets = format!("{prefix}*-{}", self.names.first_day(day));
        for model in schema.models() {
            if model.kind == ModelKind::Management {
                // As a pattern: one that is not there must not fail the whole question.
                targets += &format!(",{}*", self.names.alias(&model.name));
            }
        }
        let path = format!("/{targets}/_alias?expand_wildcards=open,closed");
        self.keys(&path).await
    }

    /// The keys of an object that is asked for; none if there is no such thing.
    pub(super) async fn keys(&self, path: &str) -> Answer<HashSet<String>> {
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

    /// Whether it is new; false if it was there, of which another node may be the reason.
    pub(super) async fn create_index(&self, index: &str, body: Option<&Value>) -> Answer<bool> {
        let reply = self.client.put(&format!("/{index}"), body).await?;
        if reply.status == 400 && contains(&reply.body, b"resource_already_exists_exception") {
            return Ok(false);
        }
        if !(200..300).contains(&reply.status) {
            return Err(match refusal(&reply) {
                StorageError::Refused(text) => {
                    StorageError::Refused(format!("index {index}: {text}"))
                }
                other => other,
            });
        }
        Ok(true)
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}
