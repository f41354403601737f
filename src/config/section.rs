//! Reads the keys of one provider as typed values, and remembers everything that was wrong on the way.
//!
//! A text is parsed as YAML once more to get its type, as the original does; where a text is wanted, one that happens to
//! look like a number or like nothing at all is taken as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_norway::Value;

use super::raw::{Origin, RawData, RawModule, RawValue};
use super::{Problem, Secret};

/// What reading settings brought up.
#[derive(Debug, Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub unknown_keys: Vec<String>,
    pub keys_without_effect: Vec<String>,
}

/// The keys of a provider while they are read.
pub struct Section<'a> {
    path: String,
    keys: &'a BTreeMap<String, RawValue>,
    known: BTreeSet<&'static str>,
    findings: &'a mut Findings,
}

impl<'a> Section<'a> {
    pub fn new(module: &str, raw: &'a RawModule, findings: &'a mut Findings) -> Section<'a> {
        Section {
            path: format!("{module}.{}", raw.provider),
            keys: &raw.keys,
            known: BTreeSet::new(),
            findings,
        }
    }

    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        match self.get(key) {
            None => default.to_owned(),
            Some(RawData::Scalar(text)) => plain(text),
            Some(RawData::List(items)) => items.join(","),
            Some(RawData::Map(_)) => {
                self.problem(key, "a text");
                default.to_owned()
            }
        }
    }

    pub fn secret(&mut self, key: &'static str) -> Secret {
        Secret::new(self.text(key, ""))
    }

    /// A path of a URL, from its first `/` on.
    pub fn url_path(&mut self, key: &'static str, default: &str) -> String {
        let path = self.text(key, default);
        if path.is_empty() {
            return default.to_owned();
        }
        if !path.starts_with('/') || path.contains(['{', '}', '?', '#', '*', ' ']) {
            self.problem(key, "a path that begins with /");
            return default.to_owned();
        }
        path
    }

    /// `None` if empty.
    pub fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key, "");
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(data) = self.get(key) else {
            return default;
        };
        let word = match data {
            RawData::Scalar(text) => plain(text).to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" => true,
            "false" | "no" | "off" => false,
            _ => {
                self.problem(key, "true or false");
                default
            }
        }
    }

    pub fn number<T: TryFrom<i64> + Default>(
        &mut self,
        key: &'static str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> T {
        let number = match self.get(key) {
            None => Some(default),
            Some(RawData::Scalar(text)) => integer(text),
            Some(_) => None,
        };
        let number = number.filter(|n| range.contains(n));
        match number.and_then(|n| T::try_from(n).ok()) {
            Some(n) => n,
            None => {
                let (low, high) = range.into_inner();
                self.problem(key, &format!("a whole number from {low} to {high}"));
                T::default()
            }
        }
    }

    pub fn port(&mut self, key: &'static str, default: u16) -> u16 {
        self.number(key, default.into(), 0..=u16::MAX.into())
    }

    /// A bound where 0 means that it is not set.
    pub fn bound<T: TryFrom<i64> + Default>(&mut self, key: &'static str) -> Option<T> {
        let n: i64 = self.number(key, 0, 0..=i32::MAX.into());
        if n == 0 { None } else { T::try_from(n).ok() }
    }

    /// A count of at least 1.
    pub fn count<T: TryFrom<i64> + Default>(&mut self, key: &'static str, default: i64) -> T {
        self.number(key, default, 1..=i32::MAX.into())
    }

    pub fn millis(&mut self, key: &'static str, default: i64) -> Duration {
        Duration::from_millis(self.number(key, default, 0..=i32::MAX.into()))
    }

    /// At least one second.
    pub fn seconds(&mut self, key: &'static str, default: i64) -> Duration {
        Duration::from_secs(self.count(key, default))
    }

    /// At least `least` minutes.
    pub fn minutes(&mut self, key: &'static str, default: i64, least: i64) -> Duration {
        let minutes: u64 = self.number(key, default, least..=i32::MAX.into());
        Duration::from_secs(60 * minutes)
    }

    /// Items of a list, or of a text with commas; `None` if the key is absent.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let items: Vec<String> = match self.get(key)? {
            RawData::Scalar(text) => match serde_norway::from_str(text) {
                Ok(Value::Sequence(items)) => items
                    .iter()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect(),
                _ => plain(text).split(',').map(str::to_owned).collect(),
            },
            RawData::List(items) => items.iter().map(|i| plain(i)).collect(),
            RawData::Map(_) => {
                self.problem(key, "a list");
                return None;
            }
        };
        let trimmed = items.iter().map(|i| i.trim());
        Some(
            trimmed
                .filter(|i| !i.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Keys that are understood and mean nothing here; those that somebody set are reported.
    pub fn without_effect(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.known.insert(key);
            if self
                .keys
                .get(*key)
                .is_some_and(|v| v.origin != Origin::Default)
            {
                self.findings
                    .keys_without_effect
                    .push(format!("{}.{key}", self.path));
            }
        }
    }

    /// Records that the value of a key is not usable. Values of secrets are masked.
    pub fn problem(&mut self, key: &str, expected: &str) {
        let value = self.keys.get(key);
        let is_secret = ["password", "trustStorePass", "authentication", "aclToken"].contains(&key);
        let text = value.map(|v| match &v.data {
            _ if is_secret => "***".to_owned(),
            RawData::Scalar(text) => text.clone(),
            RawData::List(items) => items.join(","),
            RawData::Map(map) => map.keys().cloned().collect::<Vec<_>>().join(","),
        });
        self.findings.problems.push(Problem {
            path: format!("{}.{key}", self.path),
            value: text,
            origin: value.map(|v| v.origin.describe()).unwrap_or_default(),
            expected: expected.to_owned(),
        });
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for key in self.keys.keys() {
            if !self.known.contains(key.as_str()) {
                self.findings
                    .unknown_keys
                    .push(format!("{}.{key}", self.path));
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a RawData> {
        self.known.insert(key);
        self.keys.get(key).map(|v| &v.data)
    }
}

/// A text as YAML reads it, or as it is written where YAML sees something else than a text.
fn plain(text: &str) -> String {
    let text = text.trim();
    match serde_norway::from_str(text) {
        Ok(Value::String(inner)) => inner,
        _ => text.to_owned(),
    }
}

fn integer(text: &str) -> Option<i64> {
    let text = plain(text);
    match serde_norway::from_str(&text) {
        Ok(Value::Number(n)) => n.as_i64(),
        Ok(Value::String(s)) => s.replace('_', "").parse().ok(),
        _ => None,
    }
}
