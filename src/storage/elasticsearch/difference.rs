//! How stored index templates and mappings differ from what this server would create.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::options::flat_settings;

/// Names that are listed before the rest is only counted.
const MAX_NAMES: usize = 3;

/// One value that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Dotted, such as `settings.index.number_of_shards`.
    pub path: String,
    pub stored: Option<String>,
    /// `None` if only the stored side has something there.
    pub wanted: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (&self.stored, &self.wanted) {
            (Some(stored), Some(wanted)) => write!(f, "{path} is {stored} instead of {wanted}"),
            (None, Some(wanted)) => write!(f, "{path} is missing, it would be {wanted}"),
            (stored, None) => write!(f, "{path} is {}", stored.as_deref().unwrap_or_default()),
        }
    }
}

/// Differences with the names of those that have them, so that one that is everywhere is told once.
#[derive(Debug, Default)]
pub struct Differences(BTreeMap<Difference, Vec<String>>);

impl Differences {
    pub fn add(&mut self, name: &str, differences: Vec<Difference>) {
        for difference in differences {
            self.0.entry(difference).or_default().push(name.to_owned());
        }
    }

    /// Each with its names.
    pub fn iter(&self) -> impl Iterator<Item = (&Difference, String)> {
        self.0.iter().map(|(d, names)| (d, some_of(names)))
    }
}

/// The first names of a list, and how many more there are.
pub fn some_of(names: &[String]) -> String {
    let listed: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    match names.len() - listed.len() {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

/// What is not the same in two bodies of a template, in whatever form each writes its settings.
pub fn of_templates(stored: &Value, wanted: &Value) -> Vec<Difference> {
    of_leaves(&leaves(stored), &leaves(wanted))
}

/// Fields that an index lacks or has with another type; other fields that it has are nobody's business.
pub fn of_mappings(stored: &Value, wanted: &Value) -> Vec<Difference> {
    let types = |template: &Value| {
        let mut types = BTreeMap::new();
        let fields = template["mappings"]["properties"].as_object();
        for (field, property) in fields.into_iter().flatten() {
            types.insert(format!("type of {field}"), text(&property["type"]));
        }
        types
    };
    let mut differences = of_leaves(&types(stored), &types(wanted));
    differences.retain(|difference| difference.wanted.is_some());
    differences
}

fn of_leaves(
    stored: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let paths: BTreeSet<&String> = stored.keys().chain(wanted.keys()).collect();
    let differing = paths
        .into_iter()
        .filter(|p| stored.get(*p) != wanted.get(*p));
    differing
        .map(|path| Difference {
            path: path.clone(),
            stored: stored.get(path).cloned(),
            wanted: wanted.get(path).cloned(),
        })
        .collect()
}

/// A template with everything wanted, and with what else is stored.
pub fn merged(stored: &Value, wanted: &Value) -> Value {
    let mut merged = stored.clone();
    if let Some(settings) = stored["settings"].as_object() {
        merged["settings"] = flat_settings(settings).into();
    }
    merge(&mut merged, wanted);
    merged
}

fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => *into = from.clone(),
    }
}

fn leaves(template: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    let empty = Map::new();
    let settings = template["settings"].as_object().unwrap_or(&empty);
    for (key, value) in flat_settings(settings) {
        leaves.insert(format!("settings.{key}"), text(&value));
    }
    for part in ["order", "index_patterns", "mappings", "aliases"] {
        walk(part, &template[part], &mut leaves);
    }
    leaves
}

fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                walk(&format!("{path}.{key}"), value, leaves);
            }
        }
        Value::Null => {}
        other => {
            leaves.insert(path.to_owned(), text(other));
        }
    }
}

/// Elasticsearch gives numbers and flags of settings back as texts, and a single value sometimes as a list.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.len() == 1 => items.iter().map(text).collect(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted() -> Value {
        json!({
            "index_patterns": ["sw_a-*"],
            "order": 0,
            "settings": {"index.number_of_shards": 1, "index.analysis.analyzer.oap_analyzer.type": "stop"},
            "mappings": {"properties": {
                "name": {"type": "keyword", "copy_to": "name_match"},
                "bytes": {"type": "binary", "index": false},
            }},
            "aliases": {"sw_a": {}},
        })
    }

    /// As Elasticsearch answers.
    fn stored() -> Value {
        json!({
            "order": 0,
            "index_patterns": ["sw_a-*"],
            "settings": {"index": {
                "number_of_shards": "1", "analysis": {"analyzer": {"oap_analyzer": {"type": "stop"}}},
            }},
            "mappings": {"properties": {
                "bytes": {"index": false, "type": "binary"},
                "name": {"copy_to": ["name_match"], "type": "keyword"},
            }},
            "aliases": {"sw_a": {}},
        })
    }

    fn texts(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_form_of_a_template_makes_no_difference() {
        assert_eq!(of_templates(&stored(), &wanted()), []);
    }

    #[test]
    fn differences_have_their_path_and_both_values() {
        let mut stored = stored();
        stored["settings"]["index"]["number_of_shards"] = "3".into();
        stored["settings"]["index"]["codec"] = "best_compression".into();
        stored["mappings"]["properties"]["name"]["type"] = "text".into();
        stored["mappings"]["properties"]["bytes"] = json!({"type": "binary"});
        stored["aliases"] = json!({});
        stored["order"] = 7.into();
        assert_eq!(
            texts(&of_templates(&stored, &wanted())),
            [
                "aliases is {}",
                "aliases.sw_a is missing, it would be {}",
                "mappings.properties.bytes.index is missing, it would be false",
                "mappings.properties.name.type is text instead of keyword",
                "order is 7 instead of 0",
                "settings.index.codec is best_compression",
                "settings.index.number_of_shards is 3 instead of 1",
            ]
        );
        let merged = merged(&stored, &wanted());
        assert_eq!(
            texts(&of_templates(&merged, &wanted())),
            ["settings.index.codec is best_compression"]
        );
    }

    #[test]
    fn only_fields_of_ours_must_be_in_a_mapping() {
        let stored = json!({"mappings": {"properties": {
            "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}, "more": {"type": "long"},
        }}});
        assert_eq!(
            texts(&of_mappings(&stored, &wanted())),
            [
                "type of bytes is missing, it would be binary",
                "type of name is text instead of keyword"
            ]
        );
    }

    #[test]
    fn a_difference_is_told_once_with_some_names() {
        let difference = Difference {
            path: "order".to_owned(),
            stored: None,
            wanted: Some("0".to_owned()),
        };
        let mut all = Differences::default();
        for name in ["a", "b", "c", "d", "e"] {
            all.add(name, vec![difference.clone()]);
        }
        let told: Vec<_> = all.iter().collect();
        assert_eq!(told, [(&difference, "a, b, c and 2 more".to_owned())]);
    }
}
