//! Looks at what is stored beside or instead of this server's layout, and says what an operator should know of it:
//! templates that differ from the settings, indices that were made without them.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::{accepted, parse, refusal};
use super::difference::{Difference, Differences, merged, of_mappings, of_templates};
use super::template::template;
use super::{Answer, Elasticsearch};
use crate::model::schema::{Model, ModelKind, Schema};

/// Lines about differences; more are only counted.
const MAX_LINES: usize = 20;

/// What was already said.
#[derive(Debug, Default)]
pub struct Reported {
    /// Whether the layout was inspected.
    pub layout: AtomicBool,
    /// The last texts about composable templates, tomorrow's indices, what is in the way, and what has no alias.
    shadows: Mutex<String>,
    tomorrow: Mutex<String>,
    obstacles: Mutex<String>,
    lost: Mutex<String>,
}

impl Reported {
    /// True if the text about composable templates is another one than the last.
    pub fn is_news_of_shadows(&self, text: &str) -> bool {
        is_news(&self.shadows, text)
    }

    /// True if the text about tomorrow is another one than the last.
    pub fn is_news_of_tomorrow(&self, text: &str) -> bool {
        is_news(&self.tomorrow, text)
    }

    /// True if the text about what is in the way is another one than the last.
    pub fn is_news_of_obstacles(&self, text: &str) -> bool {
        is_news(&self.obstacles, text)
    }

    /// True if the text about indices without alias is another one than the last.
    pub fn is_news_of_lost(&self, text: &str) -> bool {
        is_news(&self.lost, text)
    }
}

fn is_news(last: &Mutex<String>, text: &str) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = *last != text;
    text.clone_into(&mut last);
    is_news
}

#[derive(Deserialize)]
struct StoredIndex {
    #[serde(default)]
    aliases: HashMap<String, Value>,
    #[serde(default)]
    mappings: Value,
}

pub(super) fn daily_models(schema: &Schema) -> impl Iterator<Item = &Model> {
    let models = schema.models().iter().map(|model| &**model);
    models.filter(|model| model.kind != ModelKind::Management)
}

impl Elasticsearch {
    /// Reports templates that differ from what this server would create; changes them if the options say so.
    pub(super) async fn compare_templates(&self, schema: &Schema) -> Answer<()> {
        let path = format!("/_template/{}*", self.names.prefix());
        let stored: Map<String, Value> = match self.client.find(&path).await? {
            Some(body) => parse(&body)?,
            None => return Ok(()),
        };
        let updates = self.options.updates_templates && self.options.creates_templates;
        let mut differing = Differences::default();
        let mut additional = Differences::default();
        for model in daily_models(schema) {
            let name = self.names.alias(&model.name);
            let Some(stored) = stored.get(&name) else {
                continue;
            };
            let wanted = template(model, &self.names, &self.options);
            let (ours, theirs): (Vec<Difference>, Vec<Difference>) = of_templates(stored, &wanted)
                .into_iter()
                .partition(|difference| difference.wanted.is_some());
            if updates && !ours.is_empty() {
                let body = merged(stored, &wanted);
                accepted(
                    self.client
                        .put(&format!("/_template/{name}"), Some(&body))
                        .await?,
                )?;
            }
            differing.add(&name, ours);
            additional.add(&name, theirs);
        }
        report(&differing, |difference, templates| {
            if updates {
                tracing::warn!(
                    difference,
                    templates,
                    "index templates differed from the settings and were changed; new indices follow them"
                );
            } else {
                tracing::warn!(
                    difference,
                    templates,
                    "index templates differ from the settings; new indices follow the templates \
                     (SW_STORAGE_ES_UPDATE_TEMPLATES=true changes them)"
                );
            }
        });
        report(&additional, |addition, templates| {
            tracing::info!(
                addition,
                templates,
                "index templates say more than the settings, which is kept"
            );
        });
        Ok(())
    }

    /// Reports indices of a day that were created without their template.
    pub(super) async fn check_indices(&self, schema: &Schema, day: u64) -> Answer<()> {
        let path = format!(
            "/{}*-{day}?filter_path=*.aliases,*.mappings",
            self.names.prefix(),
            day = self.names.first_day(day)
        );
        let reply = self.client.ask(&path).await?;
        let stored: HashMap<String, StoredIndex> = match reply.status {
            200 => parse(&reply.body)?,
            403 | 404 => return Ok(()),
            _ => return Err(refusal(&reply)),
        };
        let mut differing = Differences::default();
        for model in daily_models(schema) {
            let index = self.names.daily(&model.name, day);
            let Some(stored) = stored.get(&index) else {
                continue;
            };
            let wanted = template(model, &self.names, &self.options);
            let mapping = serde_json::json!({"mappings": stored.mappings});
            let mut differences = of_mappings(&mapping, &wanted);
            let alias = self.names.alias(&model.name);
            if !stored.aliases.contains_key(&alias) {
                differences.push(Difference {
                    path: "alias".to_owned(),
                    stored: None,
                    wanted: Some(alias),
                });
            }
            differing.add(&index, differences);
        }
        report(&differing, |difference, indices| {
            tracing::warn!(
                difference,
                indices,
                "indices were created without the template of this server, so that queries fail or find nothing in them: delete \
                 them, or copy their documents into new ones (_reindex)"
            );
        });
        Ok(())
    }
}

fn report(differences: &Differences, mut line: impl FnMut(&str, &str)) {
    for (difference, names) in differences.iter().take(MAX_LINES) {
        line(&difference.to_string(), &names);
    }
    let more = differences.iter().skip(MAX_LINES).count();
    if more > 0 {
        line(&format!("and {more} more"), "…");
    }
}
