//! Rules of alarms and who is told: `alarm-settings.yml` (8.1.0 spec, H.1).

mod read;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use fancy_regex::Regex;
use serde::Serialize;

pub use read::compile;

/// What the file says.
#[derive(Debug, Clone, Default)]
pub struct AlarmSettings {
    pub rules: Vec<AlarmRule>,
    /// URLs that receive a POST.
    pub webhooks: Vec<String>,
    pub grpc_hook: Option<GrpcTarget>,
    /// What in the file has no effect, and why.
    pub notes: Vec<String>,
}

/// `gRPCHook`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcTarget {
    pub host: String,
    pub port: u16,
}

/// A rule. What it remembers counts as long as all of [`RuleFields`] stay as they are.
#[derive(Debug, Clone)]
pub struct AlarmRule {
    pub fields: RuleFields,
    include_regex: Option<Regex>,
    exclude_regex: Option<Regex>,
    message: Vec<Part>,
}

/// The fields of a rule as written, with the defaults of those that are not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleFields {
    pub name: String,
    /// `metrics-name`
    pub metric: String,
    pub op: Op,
    /// By position; `None` is not compared. One for metrics with one value.
    pub threshold: Vec<Option<f64>>,
    pub include_names: Vec<String>,
    pub exclude_names: Vec<String>,
    pub include_names_regex: String,
    pub exclude_names_regex: String,
    /// Minutes that are looked at.
    pub period: u16,
    /// Minutes that must match, and then checks that must find so.
    pub count: u16,
    /// Checks after an alarm that stay quiet; below 1 none do.
    pub silence_period: i32,
    pub message: String,
}

/// How a value is compared with the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Op {
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = ">=")]
    GreaterEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    LessEqual,
    #[serde(rename = "==")]
    Equal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Name,
}

impl Op {
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Op::Greater => value > threshold,
            Op::GreaterEqual => value >= threshold,
            Op::Less => value < threshold,
            Op::LessEqual => value <= threshold,
            Op::Equal => value == threshold,
        }
    }
}

impl AlarmSettings {
    /// Names of the metrics that rules look at.
    pub fn metrics(&self) -> HashSet<String> {
        let names = self.rules.iter().map(|rule| rule.fields.metric.clone());
        names.collect()
    }
}

impl AlarmRule {
    /// Whether one value is beyond the threshold.
    pub fn matches_number(&self, value: f64) -> bool {
        let threshold = self.fields.threshold.first().copied().flatten();
        threshold.is_some_and(|threshold| self.fields.op.holds(value, threshold))
    }

    /// Whether any of several values is beyond the threshold of its position, which is 0 where none is given.
    pub fn matches_list(&self, values: &[f64]) -> bool {
        values.iter().enumerate().any(|(at, value)| {
            let threshold = match self.fields.threshold.get(at) {
                Some(None) => return false,
                Some(Some(threshold)) => *threshold,
                None => 0.0,
            };
            self.fields.op.holds(*value, threshold)
        })
    }

    /// Whether the rule is about the entity with this display name. A pattern that takes too many steps does not match.
    pub fn is_about(&self, name: &str) -> bool {
        let fields = &self.fields;
        let is_match = |regex: &Regex| regex.is_match(name).unwrap_or(false);
        let is_in = |names: &[String]| names.iter().any(|n| n == name);
        (fields.include_names.is_empty() || is_in(&fields.include_names))
            && !is_in(&fields.exclude_names)
            && self.include_regex.as_ref().is_none_or(is_match)
            && !self.exclude_regex.as_ref().is_some_and(is_match)
    }

    /// The text of an alarm about an entity.
    pub fn text(&self, id: &str, name: &str) -> String {
        let parts = self.message.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Id => id,
            Part::Name => name,
        });
        parts.collect()
    }
}
