//! Composable index templates of the user that match indices of this server: Elasticsearch 7.8 and later then ignore all
//! legacy templates for these, so that a new index would have neither mapping nor alias (storage 4.2). Such an index must not
//! come into being by itself; the others keep what the user's legacy templates say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{parse, refusal};
use super::difference::some_of;
use super::inspect::daily_models;
use super::maintenance::Aliases;
use super::names::day_of_index;
use super::template::template;
use super::{Answer, Elasticsearch};
use crate::model::row::Row;
use crate::model::schema::{Model, ModelKind, Schema};
use crate::model::time_bucket::day_of;
use crate::storage::StorageError;

#[derive(Deserialize)]
struct ComposableTemplates {
    #[serde(default)]
    index_templates: Vec<Composable>,
}

#[derive(Deserialize)]
struct Composable {
    name: String,
    index_template: Patterns,
}

#[derive(Deserialize)]
struct Patterns {
    index_patterns: Vec<String>,
}

/// Patterns of the composable templates that match indices of this server, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Shadows(RwLock<Arc<[String]>>);

impl Shadows {
    fn patterns(&self) -> Arc<[String]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_any(&self) -> bool {
        !self.patterns().is_empty()
    }

    /// Whether the templates of this server are ignored for an index.
    pub(super) fn cover(&self, index: &str) -> bool {
        self.patterns().iter().any(|p| matches(p, index))
    }
}

impl Elasticsearch {
    /// Looks for composable templates that match indices of this server. Each is named in the log.
    pub(super) async fn look_for_shadows(&self, schema: &Schema, day: u64) -> Answer<()> {
        let path = "/_index_template?filter_path=index_templates.name,index_templates.index_template.index_patterns";
        let reply = self.client.ask(path).await?;
        let templates = match reply.status {
            200 => parse::<ComposableTemplates>(&reply.body)?.index_templates,
            // Older servers have none; a user without the right to look is not told.
            400 | 403 | 404 | 405 => vec![],
            _ => return Err(refusal(&reply)),
        };
        let indices: Vec<String> = daily_models(schema)
            .map(|model| self.names.daily(&model.name, day))
            .collect();
        let mut text = String::new();
        let mut lines = vec![];
        let mut covering = vec![];
        for Composable {
            name,
            index_template: Patterns { index_patterns },
        } in templates
        {
            let is_match = |index: &&String| index_patterns.iter().any(|p| matches(p, index));
            let matched: Vec<String> = indices.iter().filter(is_match).cloned().collect();
            if !matched.is_empty() {
                text += &format!("{name} {index_patterns:?}\n");
                lines.push((name, index_patterns.join(", "), some_of(&matched)));
                covering.extend(index_patterns);
            }
        }
        *self
            .shadows
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = covering.into();
        if self.reported.is_news_of_shadows(&text) {
            for (template, patterns, indices) in &lines {
                tracing::warn!(
                    template,
                    patterns,
                    indices,
                    "a composable index template replaces this server's templates for new indices, which lack mappings and \
                     aliases then: put its settings into a legacy template (PUT _template, order 1 or more) and delete it \
                     (DELETE _index_template); until then this server creates each index with all it needs"
                );
            }
        }
        Ok(())
    }

    /// What an index gets from its template, if that does not apply.
    pub(super) fn body_if_shadowed(&self, index: &str, model: &Model) -> Option<Value> {
        let is_daily = model.kind != ModelKind::Management;
        (is_daily && self.shadows.cover(index)).then(|| {
            let template = template(model, &self.names, &self.options);
            json!({
                "settings": template["settings"],
                "mappings": template["mappings"],
                "aliases": template["aliases"],
            })
        })
    }

    /// Indices of rows to which the templates of this server do not apply, by day, each with what it needs.
    fn shadowed_indices(&self, rows: &[Row]) -> BTreeMap<u64, Vec<(String, Value)>> {
        let mut shadowed: BTreeMap<u64, Vec<(String, Value)>> = BTreeMap::new();
        if !self.shadows.is_any() {
            return shadowed;
        }
        let mut seen: HashSet<(*const Model, u64)> = HashSet::new();
        for row in rows {
            let day = self.names.first_day(day_of(row.time_bucket));
            if day > 0 && seen.insert((Arc::as_ptr(&row.model), day)) {
                let index = self.index_of(row);
                if let Some(body) = self.body_if_shadowed(&index, &row.model) {
                    shadowed.entry(day).or_default().push((index, body));
                }
            }
        }
        shadowed
    }

    /// Creates the indices that rows would bring into being without mapping and alias. Returns those that cannot be created,
    /// each with the reason: nothing may be written to them.
    pub(super) async fn create_shadowed(&self, rows: &[Row]) -> Answer<HashMap<String, String>> {
        let mut refused = HashMap::new();
        for (day, indices) in self.shadowed_indices(rows) {
            let stored = self.daily_names(day).await?;
            for (index, body) in indices {
                if stored.contains(&index) {
                    continue;
                }
                match self.create_index(&index, Some(&body)).await {
                    Ok(is_new) => self.counters.created_indices.inc_by(is_new.into()),
                    Err(error @ StorageError::Unavailable(_)) => return Err(error),
                    Err(error) => drop(refused.insert(index, error.to_string())),
                }
            }
        }
        Ok(refused)
    }

    /// Names indices of this server that lack their alias: someone else brought them into being.
    pub(super) async fn look_for_lost(&self, schema: &Schema) -> Answer<()> {
        let path = format!("/{}*/_alias", self.names.prefix());
        let stored: HashMap<String, Aliases> = match self.client.find(&path).await? {
            Some(body) => parse(&body)?,
            None => HashMap::new(),
        };
        let lost = stored.iter().filter(|(index, of_index)| {
            let model = index
                .strip_prefix(self.names.prefix())
                .and_then(|name| schema.model(name.rsplit_once('-')?.0));
            model.is_some_and(|model| {
                let alias = self.names.alias(&model.name);
                let is_ours = **index == self.names.daily(&model.name, day_of_index(index));
                is_ours && !of_index.aliases.contains_key(&alias)
            })
        });
        let lost: BTreeSet<String> = lost.map(|(index, _)| index.clone()).collect();
        let lost: Vec<String> = lost.into_iter().collect();
        if self.reported.is_news_of_lost(&lost.join(",")) && !lost.is_empty() {
            tracing::warn!(
                indices = some_of(&lost),
                "indices have no alias, so that nothing in them is found and they never expire: delete them, or copy their \
                 documents into new ones (_reindex); `oap storage check` names all"
            );
        }
        Ok(())
    }
}

/// Whether a name is like a pattern, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = name.split_once(part) else {
            return false;
        };
        name = after;
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_elasticsearch() {
        let index = "skywalking_segment-20200915";
        for pattern in [
            "*",
            "skywalking_*",
            "*segment*",
            "sky*_seg*-*",
            index,
            "*0915",
            "**",
        ] {
            assert!(matches(pattern, index), "{pattern}");
        }
        for pattern in ["skywalking", "segment*", "*-2020091", "sky*x*", "", "a*"] {
            assert!(!matches(pattern, index), "{pattern}");
        }
        assert!(!matches("aa*aa", "aaa"));
    }
}
