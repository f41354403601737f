//! Compares stored documents with the recorded ones, as sets by model, day and id.
//!
//! Tables are maps, JSON texts are JSON, segment bytes are decoded, absent is null. A bucket or an index day that is
//! on none of the scenario's days is time of the server: one symbolic value. Documents without a segment id have a
//! generated id and are matched by content. Additional fields are noted, not counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::json::{canon, quote, same};
use super::recording::Document;
use super::segment_bytes;

const TABLES: [&str; 5] = ["value", "dataset", "summation", "count", "detail_group"];
const BUCKETS: [&str; 3] = ["time_bucket", "last_ping", "last_update_time_bucket"];
/// Alarms and what their rules remember depend on the time of the run, dashboards are not in the recording.
const IGNORED_MODELS: [&str; 3] = ["alarm_record", "alarm_state", "ui_template"];

/// What the comparison found about one model.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub missing: usize,
    pub extra: usize,
    pub different: usize,
    /// The first few differences.
    pub examples: Vec<String>,
}

impl Tally {
    pub fn failed(&self) -> usize {
        self.missing + self.extra + self.different
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 5 {
            self.examples.push(text());
        }
    }
}

/// The whole result.
#[derive(Debug, Default)]
pub struct Report {
    pub models: BTreeMap<String, Tally>,
    /// `model.field` of additional fields, with how often.
    pub additional_fields: BTreeMap<String, usize>,
}

/// Where the documents come from.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub documents: &'a [Document],
    pub namespace: &'a str,
}

/// Compares two sets of documents; `days` are the scenario's.
pub fn compare(want: Side<'_>, got: Side<'_>, days: &[String]) -> Report {
    let (want, got) = (Set::build(want, days), Set::build(got, days));
    let mut report = Report::default();
    let keys: BTreeSet<&Key> = want.by_key.keys().chain(got.by_key.keys()).collect();
    for key in keys {
        let tally = report.models.entry(key.model.clone()).or_default();
        let (w, g) = match (want.by_key.get(key), got.by_key.get(key)) {
            (Some(w), Some(g)) => (w, g),
            (_, None) => {
                tally.missing += 1;
                tally.example(|| format!("missing {key}"));
                continue;
            }
            (None, _) => {
                tally.extra += 1;
                tally.example(|| format!("extra {key}"));
                continue;
            }
        };
        let (Some(first_w), Some(first_g)) = (w.first(), g.first()) else {
            continue;
        };
        let differing: Vec<&String> = first_w
            .iter()
            .filter(|(field, v)| !first_g.get(*field).is_some_and(|other| same(v, other)))
            .map(|(field, _)| field)
            .collect();
        for field in first_g.keys().filter(|f| !first_w.contains_key(*f)) {
            let name = format!("{}.{field}", key.model);
            *report.additional_fields.entry(name).or_default() += 1;
        }
        if differing.is_empty() && w.len() == g.len() {
            tally.passed += 1;
            continue;
        }
        tally.different += 1;
        tally.example(|| {
            let fields: Vec<String> = differing
                .iter()
                .map(|f| {
                    let (w, g) = (first_w.get(*f), first_g.get(*f));
                    format!("{f} expected {} got {}", quote(w), quote(g))
                })
                .collect();
            format!("different {key}: {}", fields.join("; "))
        });
    }
    want.compare_generated(&got, &mut report);
    report
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    model: String,
    day: String,
    id: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{} {}", self.model, self.day, self.id)
    }
}

#[derive(Debug, Default)]
struct Set {
    by_key: BTreeMap<Key, Vec<Map<String, Value>>>,
    /// Documents with a generated id: model and content, with how often.
    generated: HashMap<(String, String), usize>,
}

impl Set {
    fn build(side: Side<'_>, days: &[String]) -> Set {
        let mut set = Set::default();
        for document in side.documents {
            let (model, index_day) = split_index(&document.index, side.namespace, days);
            if IGNORED_MODELS.contains(&model.as_str()) {
                continue;
            }
            let fields = normalised(&document.source, days);
            let has_segment_id = fields
                .get("segment_id")
                .is_some_and(|id| id.as_str() != Some(""));
            if model == "segment" && !has_segment_id {
                let content = canon(&Value::Object(fields));
                *set.generated.entry((model, content)).or_default() += 1;
                continue;
            }
            let key = Key {
                model,
                day: index_day,
                id: document.id.clone(),
            };
            set.by_key.entry(key).or_default().push(fields);
        }
        set
    }

    fn compare_generated(&self, got: &Set, report: &mut Report) {
        let keys: BTreeSet<_> = self.generated.keys().chain(got.generated.keys()).collect();
        for key in keys {
            let count = |set: &Set| set.generated.get(key).copied().unwrap_or(0);
            let (w, g) = (count(self), count(got));
            let tally = report.models.entry(key.0.clone()).or_default();
            tally.passed += w.min(g);
            tally.missing += w.saturating_sub(g);
            tally.extra += g.saturating_sub(w);
            if w != g {
                tally.example(|| format!("generated id: expected {w} got {g} of {}", key.1));
            }
        }
    }
}

/// Model of an index name.
pub fn model_of(index: &str, namespace: &str) -> String {
    split_index(index, namespace, &[]).0
}

/// Model and day of an index name.
fn split_index(index: &str, namespace: &str, days: &[String]) -> (String, String) {
    let name = index
        .strip_prefix(namespace)
        .and_then(|rest| rest.strip_prefix('_'))
        .unwrap_or(index);
    match name.rsplit_once('-') {
        Some((model, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            let is_determined = digits == "0" || days.iter().any(|day| day == digits);
            let day = if is_determined {
                digits
            } else {
                "{SERVER_DAY}"
            };
            (model.to_owned(), day.to_owned())
        }
        _ => (name.to_owned(), String::new()),
    }
}

fn normalised(source: &Map<String, Value>, days: &[String]) -> Map<String, Value> {
    source
        .iter()
        .filter(|(_, v)| !v.is_null())
        .map(|(name, value)| (name.clone(), field(name, value, days)))
        .collect()
}

fn field(name: &str, value: &Value, days: &[String]) -> Value {
    if let (true, Some(n)) = (BUCKETS.contains(&name), value.as_i64()) {
        let text = n.to_string();
        let is_scenario_time = days.iter().any(|day| text.starts_with(day));
        let is_server_time = n > 10_000_000 && !is_scenario_time;
        return if is_server_time {
            json!("{SERVER_TIME}")
        } else {
            value.clone()
        };
    }
    let Some(text) = value.as_str() else {
        return value.clone();
    };
    match name {
        _ if TABLES.contains(&name) => json!({"table": table(text)}),
        "properties" | "configuration" => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        "data_binary" if !text.is_empty() => match STANDARD.decode(text) {
            Ok(bytes) => segment_bytes::decode(&bytes)
                .unwrap_or_else(|| json!(format!("undecodable: {text}"))),
            Err(error) => json!(format!("undecodable: {error}")),
        },
        _ => value.clone(),
    }
}

/// `key,value|key,value` as a map; an item that is no pair is left out, a value that is no number stays text.
pub fn table(text: &str) -> Map<String, Value> {
    text.split('|')
        .filter_map(|item| {
            let (key, value) = item.rsplit_once(',')?;
            let value = value
                .parse::<i64>()
                .map_or_else(|_| json!(value), Value::from);
            Some((key.to_owned(), value))
        })
        .collect()
}
