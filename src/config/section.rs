//! Reads the keys of one provider as typed values, and remembers everything that was wrong on the way.
//!
//! A text is parsed as YAML once more to get its type, as the original does; where a text is wanted, one that happens to
//! look like a number or like nothing at all is taken as it is written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_norway::Value;

use super::raw::{Origin, RawData, RawModule, RawValue};
use super::{Problem, Secret, Setting};

/// What reading settings brought up.
#[derive(Debug, Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub unknown_keys: Vec<String>,
    pub keys_without_effect: Vec<String>,
    /// Every key that was asked for, as the server has it.
    pub settings: Vec<Setting>,
}

/// What became of a key.
#[derive(Debug, Default)]
struct Taken {
    /// Masked if it is a secret.
    value: String,
    is_without_effect: bool,
    /// What wins over the place that the key itself has its value from.
    replaced_by: Option<Origin>,
}

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What stands for a secret that is set.
const MASK: &str = "***";

/// The keys of a provider while they are read.
pub struct Section<'a> {
    path: String,
    keys: &'a BTreeMap<String, RawValue>,
    known: BTreeMap<&'static str, Taken>,
    findings: &'a mut Findings,
}

impl<'a> Section<'a> {
    pub fn new(module: &str, raw: &'a RawModule, findings: &'a mut Findings) -> Section<'a> {
        Section {
            path: format!("{module}.{}", raw.provider),
            keys: &raw.keys,
            known: BTreeMap::new(),
            findings,
        }
    }

    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        let text = match self.get(key) {
            None => default.to_owned(),
            Some(RawData::Scalar(text)) => plain(text),
            Some(RawData::List(items)) => items.join(","),
            Some(RawData::Map(_)) => {
                self.problem(key, "a text");
                default.to_owned()
            }
        };
        self.took(key, &text);
        text
    }

    pub fn secret(&mut self, key: &'static str) -> Secret {
        let text = self.text(key, "");
        self.took(key, if text.is_empty() { "" } else { MASK });
        Secret::new(text)
    }

    /// Remembers that another place than the key decides its value. Secrets must come masked.
    pub fn replaced(&mut self, key: &'static str, value: &str, by: Origin) {
        self.took(key, value);
        self.known.entry(key).or_default().replaced_by = Some(by);
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

    /// The default if empty.
    pub fn file_or(&mut self, key: &'static str, default: PathBuf) -> PathBuf {
        let file = self.file(key).unwrap_or(default);
        self.took(key, &file.display().to_string());
        file
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(data) = self.get(key) else {
            self.took(key, &default.to_string());
            return default;
        };
        let word = match data {
            RawData::Scalar(text) => plain(text).to_ascii_lowercase(),
            _ => String::new(),
        };
        let flag = match word.as_str() {
            "true" | "yes" | "on" => true,
            "false" | "no" | "off" => false,
            _ => {
                self.problem(key, "true or false");
                default
            }
        };
        self.took(key, &flag.to_string());
        flag
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
        self.took(key, &number.unwrap_or(default).to_string());
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

    /// How long a silent connection is kept. 0 is no bound in the original; here a day is.
    pub fn idle_millis(&mut self, key: &'static str, default: i64) -> Duration {
        match self.number(key, default, 0..=i32::MAX.into()) {
            0 => A_DAY,
            millis => Duration::from_millis(millis),
        }
    }

    /// At least one second.
    pub fn seconds(&mut self, key: &'static str, default: i64) -> Duration {
        Duration::from_secs(self.count(key, default))
    }

    /// At least one minute.
    pub fn minutes(&mut self, key: &'static str, default: i64) -> Duration {
        let minutes: u64 = self.count(key, default);
        Duration::from_secs(60 * minutes)
    }

    /// Items of a list, or of a text with commas, as is the default.
    pub fn list(&mut self, key: &'static str, default: &str) -> Vec<String> {
        let written = |text: &str| text.split(',').map(str::to_owned).collect();
        let items: Vec<String> = match self.get(key) {
            None => written(default),
            Some(RawData::Scalar(text)) => match serde_norway::from_str(text) {
                Ok(Value::Sequence(items)) => items
                    .iter()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect(),
                _ => written(&plain(text)),
            },
            Some(RawData::List(items)) => items.iter().map(|i| plain(i)).collect(),
            Some(RawData::Map(_)) => {
                self.problem(key, "a list");
                written(default)
            }
        };
        let trimmed = items.iter().map(|i| i.trim());
        let items: Vec<String> = trimmed
            .filter(|i| !i.is_empty())
            .map(str::to_owned)
            .collect();
        self.took(key, &items.join(","));
        items
    }

    /// Keys that are understood and mean nothing here; those that somebody set are reported.
    pub fn without_effect(&mut self, keys: &[&'static str]) {
        for key in keys {
            let value = self.keys.get(*key);
            self.took(key, &value.map(shown).unwrap_or_default());
            self.known.entry(key).or_default().is_without_effect = true;
            if value.is_some_and(|v| v.origin != Origin::Default) {
                self.findings
                    .keys_without_effect
                    .push(format!("{}.{key}", self.path));
            }
        }
    }

    /// Keys that mean nothing as another one is set now; those that somebody set are reported with the reason.
    pub fn without_effect_as(&mut self, reason: &str, keys: &[&'static str]) {
        for key in keys {
            let value = self.keys.get(*key);
            let is_set =
                |v: &&RawValue| v.origin != Origin::Default && !plain(&shown(v)).is_empty();
            if value.filter(is_set).is_some() {
                let named = format!("{}.{key} ({reason})", self.path);
                self.findings.keys_without_effect.push(named);
            }
        }
    }

    /// Records that the value of a key is not usable. Values of secrets are masked.
    pub fn problem(&mut self, key: &str, expected: &str) {
        let value = self.keys.get(key);
        let text = value.map(|v| match is_secret(key) {
            true => MASK.to_owned(),
            false => without_user(&plain(&shown(v))),
        });
        self.findings.problems.push(Problem {
            path: format!("{}.{key}", self.path),
            value: text,
            origin: value.map(|v| v.origin.describe()).unwrap_or_default(),
            expected: expected.to_owned(),
        });
    }

    /// Reports the keys that nobody asked for, and what became of the others.
    pub fn finish(self) {
        for (key, taken) in &self.known {
            let own = self.keys.get(*key).map(|v| v.origin.clone());
            self.findings.settings.push(Setting {
                path: format!("{}.{key}", self.path),
                value: taken.value.clone(),
                origin: taken.replaced_by.clone().or(own),
                has_effect: !taken.is_without_effect,
            });
        }
        for key in self.keys.keys() {
            if !self.known.contains_key(key.as_str()) {
                self.findings
                    .unknown_keys
                    .push(format!("{}.{key}", self.path));
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a RawData> {
        self.known.entry(key).or_default();
        self.keys.get(key).map(|v| &v.data)
    }

    fn took(&mut self, key: &'static str, value: &str) {
        let taken = self.known.entry(key).or_default();
        taken.value = if is_secret(key) && !value.is_empty() {
            MASK.to_owned()
        } else {
            without_user(value)
        };
    }
}

/// Whether a key, by its name, holds what must not be shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "token", "secret", "authentication", "expression"]
        .iter()
        .any(|word| key.contains(word))
        && key != "secretsmanagementfile"
}

/// Addresses without the user and the password that they may begin with.
pub fn without_user(text: &str) -> String {
    let hidden = text.split(',').map(|item| match item.rsplit_once('@') {
        Some((user, rest)) if user.contains(':') => {
            let scheme = user.find("://").and_then(|end| user.get(..end + 3));
            format!("{}{MASK}@{rest}", scheme.unwrap_or_default())
        }
        _ => item.to_owned(),
    });
    hidden.collect::<Vec<_>>().join(",")
}

/// A value for messages.
fn shown(value: &RawValue) -> String {
    match &value.data {
        RawData::Scalar(text) => text.clone(),
        RawData::List(items) => items.join(","),
        RawData::Map(map) => map.keys().cloned().collect::<Vec<_>>().join(","),
    }
}

/// The keys of a provider that this server does not use, as they are; secrets are masked.
pub fn unread(module: &str, raw: &RawModule) -> Vec<Setting> {
    let settings = raw.keys.iter().map(|(key, value)| Setting {
        path: format!("{module}.{}.{key}", raw.provider),
        value: if is_secret(key) && !shown(value).is_empty() {
            MASK.to_owned()
        } else {
            shown(value)
        },
        origin: Some(value.origin.clone()),
        has_effect: false,
    });
    settings.collect()
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
