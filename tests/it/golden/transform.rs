//! The recording with other names and at another time: messages, documents, questions and answers alike.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::names::{Names, rotate};
use super::recording::{self, Document, Question};
use super::replay::Step;
use super::times::{Times, is_day_text};
use super::wire::{self, Edit};

/// What is done to the recording; the default does nothing.
#[derive(Debug, Default)]
pub struct Transform {
    names: Option<Names>,
    times: Option<Times>,
}

impl Transform {
    /// Other names, if `is_renaming`, and other times.
    pub fn new(is_renaming: bool, times: Option<Times>) -> Result<Transform> {
        let names = is_renaming.then(all_names).transpose()?;
        Ok(Transform { names, times })
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.names.is_none() && self.times.is_none()
    }

    /// `TZ` of the server.
    pub fn zone(&self) -> &'static str {
        self.times.as_ref().map_or("UTC", Times::zone_name)
    }

    /// A message of the scenario. Its JSON form stays exactly what the bytes say.
    pub fn step(&self, step: Step) -> Result<Step> {
        let Step::Send {
            line,
            rpc,
            bytes,
            json,
        } = step
        else {
            return Ok(step);
        };
        let is_http = rpc.contains(' ');
        let json = self.value(&json);
        let bytes = match is_http {
            true => json.to_string().into(),
            false => {
                let edited = wire::edit(&rpc, &bytes, &mut Editor(self));
                edited
                    .with_context(|| format!("line {line} is not understood"))?
                    .into()
            }
        };
        Ok(Step::Send {
            line,
            rpc,
            bytes,
            json,
        })
    }

    /// JSON of any kind; names are known by themselves, times by their range.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, v)| (key.clone(), self.field(key, v)))
                .collect(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::String(text) => self.text(text).into(),
            Value::Number(number) => match (&self.times, number.as_i64()) {
                (Some(times), Some(n)) => moved_number(times, n).into(),
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }

    fn field(&self, key: &str, value: &Value) -> Value {
        match (key, value.as_str()) {
            // The bytes of a segment.
            ("data_binary", Some(text)) => {
                let bytes = STANDARD.decode(text).unwrap_or_default();
                let edited = wire::edit_segment(&bytes, &mut Editor(self));
                edited.map_or_else(|| value.clone(), |bytes| STANDARD.encode(bytes).into())
            }
            // A search for words.
            ("k", Some(words)) if self.names.is_some() => rotate(words).into(),
            ("timezone", Some("+0000")) => {
                let offset = self
                    .times
                    .as_ref()
                    .and_then(|times| times.offset_text().ok());
                offset.map_or_else(|| value.clone(), Value::from)
            }
            _ => self.value(value),
        }
    }

    fn text(&self, text: &str) -> String {
        let text = match &self.times {
            Some(times) => moved_text(times, text),
            None => text.to_owned(),
        };
        let Some(names) = &self.names else {
            return text;
        };
        // How statements of segments and names in top lists are put together.
        if let Some((owner, owned)) = text.rsplit_once(" - ") {
            return format!("{} - {}", names.rename(owner), names.rename(owned));
        }
        // The bucket before the entity: an entity may be a bare name.
        match text.split_once('_') {
            Some((bucket, entity)) if bucket.bytes().all(|b| b.is_ascii_digit()) => {
                format!("{bucket}_{}", names.rename(entity))
            }
            _ => names.rename(&text),
        }
    }

    /// A question with its answer; `None` if the answer does not follow from the recorded one.
    pub fn question(&self, question: &Question) -> Option<Question> {
        // What is said about the schema is no data.
        let query = question.query.as_deref().unwrap_or_default();
        if query.contains("__type(") {
            return Some(question.clone());
        }
        let splits_days = self.times.as_ref().is_some_and(|times| !times.keeps_days());
        if splits_days && (query.split('"').any(is_day_text) || names_a_day(&question.variables)) {
            return None;
        }
        let literals = query.split('"').enumerate();
        let query: Vec<String> = literals
            .map(|(i, part)| {
                if i % 2 == 1 {
                    self.text(part)
                } else {
                    part.to_owned()
                }
            })
            .collect();
        Some(Question {
            query: question.query.is_some().then(|| query.join("\"")),
            variables: self.value(&question.variables),
            response: self.value(&question.response),
            has_other_names: self.names.is_some(),
            ..question.clone()
        })
    }

    /// The documents, and the days on which the scenario is now.
    pub fn documents(&self, recorded: &[Document]) -> Result<(Vec<Document>, Vec<String>)> {
        let day = recording::meta()?.scenario_day;
        if self.names.is_none() && self.times.is_none() {
            return Ok((recorded.to_vec(), vec![day]));
        }
        let first_days = self.first_days(recorded)?;
        let splits_days = self.times.as_ref().is_some_and(|times| !times.keeps_days());
        let mut documents = vec![];
        let mut days = BTreeSet::new();
        let mut made = HashSet::new();
        for document in recorded {
            let source: Map<String, Value> = document
                .source
                .iter()
                .map(|(key, v)| (key.clone(), self.field(key, v)))
                .collect();
            let (model, is_of_day) = match document.index.strip_suffix(day.as_str()) {
                Some(model) => (model, true),
                None => (document.index.as_str(), false),
            };
            let bucket = source
                .get("time_bucket")
                .map(ToString::to_string)
                .unwrap_or_default();
            if is_of_day && splits_days && bucket.len() == 8 {
                continue;
            }
            let index = if !is_of_day {
                document.index.clone()
            } else if let Some(day) = bucket
                .get(..8)
                .or(first_days.get(&document.id).map(String::as_str))
            {
                days.insert(day.to_owned());
                format!("{model}{day}")
            } else {
                document.index.clone()
            };
            let moved = Document {
                index,
                id: self.text(&document.id),
                source,
            };
            if splits_days && bucket.len() == 10 {
                let of_day = day_of_its_hour(&moved, &bucket)?;
                let is_new = made.insert((of_day.index.clone(), of_day.id.clone()));
                ensure!(is_new, "two hours of one day: {}", of_day.id);
                documents.push(of_day);
            }
            documents.push(moved);
        }
        Ok((documents, days.into_iter().collect()))
    }

    /// The day of the first minute of each entity (recorded id): its row is stored there even if it says no time.
    fn first_days(&self, recorded: &[Document]) -> Result<HashMap<String, String>> {
        let mut first: HashMap<&str, u64> = HashMap::new();
        for document in recorded {
            let bucket = document.source.get("time_bucket").and_then(Value::as_u64);
            let entity = document.source.get("entity_id").and_then(Value::as_str);
            if let (Some(minute @ 100_000_000_000..1_000_000_000_000), Some(entity)) =
                (bucket, entity)
            {
                let known = first.entry(entity).or_insert(minute);
                *known = minute.min(*known);
            }
        }
        let day_of = |minute: u64| {
            let moved = self.value(&json!(minute)).to_string();
            let day = moved.get(..8).context("no minute")?;
            anyhow::Ok(day.to_owned())
        };
        first
            .into_iter()
            .map(|(entity, minute)| Ok((entity.to_owned(), day_of(minute)?)))
            .collect()
    }
}

/// Puts a transformed value into a message.
struct Editor<'a>(&'a Transform);

impl Edit for Editor<'_> {
    fn text(&mut self, text: &str, _is_name: bool) -> String {
        self.0.text(text)
    }

    fn time(&mut self, epoch_ms: i64) -> i64 {
        let times = self.0.times.as_ref();
        times.map_or(epoch_ms, |times| times.instant(epoch_ms))
    }
}

/// Names of all messages and questions.
fn all_names() -> Result<Names> {
    let mut names = Names::default();
    for step in super::replay::steps()? {
        let Step::Send {
            line,
            rpc,
            bytes,
            json,
        } = step
        else {
            continue;
        };
        if rpc.contains(' ') {
            names.learn(&json);
        } else {
            wire::edit(&rpc, &bytes, &mut names).with_context(|| format!("line {line}: {rpc}"))?;
        }
    }
    for question in recording::questions()? {
        names.learn(&question.variables);
    }
    Ok(names)
}

fn moved_number(times: &Times, number: i64) -> i64 {
    let bucket = || times.scenario_bucket(&number.to_string())?.parse().ok();
    times
        .scenario_instant(number)
        .or_else(bucket)
        .unwrap_or(number)
}

/// An instant, a bucket, an id that begins with one, a time of a question, or other text.
fn moved_text(times: &Times, text: &str) -> String {
    let instant = || Some(times.scenario_instant(text.parse().ok()?)?.to_string());
    let id = || {
        let (bucket, entity) = text.split_once('_')?;
        Some(format!("{}_{entity}", times.scenario_bucket(bucket)?))
    };
    instant()
        .or_else(|| times.scenario_bucket(text))
        .or_else(id)
        .or_else(|| times.question_text(text))
        .unwrap_or_else(|| text.to_owned())
}

fn names_a_day(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(names_a_day),
        Value::Array(items) => items.iter().any(names_a_day),
        Value::String(text) => is_day_text(text),
        _ => false,
    }
}

/// The row of a day whose only hour with data this is. Only what is counted per minute is another number.
fn day_of_its_hour(hour: &Document, bucket: &str) -> Result<Document> {
    let mut document = hour.clone();
    let day = &bucket[..8];
    let entity = hour
        .id
        .strip_prefix(bucket)
        .context("the id is not of its hour")?;
    document.id = format!("{day}{entity}");
    document
        .source
        .insert("time_bucket".into(), day.parse::<u64>()?.into());
    if hour.index.contains("_cpm-") {
        let total = hour.source["total"].as_u64().context("no total")?;
        let value = total / 1440;
        document.source.insert("value".into(), value.into());
    }
    Ok(document)
}
