//! Rule files of the Prometheus fetcher: what is fetched, and which metrics are made of it (8.1.0 spec, A.11).

mod compile;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use fancy_regex::Regex;

pub use compile::compile;

use crate::model::metrics::MeterDefinition;

/// A file.
#[derive(Debug, Clone)]
pub struct FetchRules {
    /// Name of the file without its folder.
    pub name: String,
    /// `fetcherInterval`
    pub interval: Duration,
    /// `fetcherTimeout`, how long one page may take.
    pub timeout: Duration,
    pub targets: Vec<Target>,
    /// Added to every sample; without them the target is not added either.
    pub labels: Option<BTreeMap<String, String>>,
    pub rules: Vec<MetricsRule>,
}

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`
    pub name: String,
    pub url: String,
}

/// How samples become values of a metric.
#[derive(Debug, Clone)]
pub struct MetricsRule {
    /// Several rules may feed one metric; they agree on all of it.
    pub definition: MeterDefinition,
    pub sources: Vec<RuleSource>,
}

/// The samples that a rule takes.
#[derive(Debug, Clone)]
pub struct RuleSource {
    /// Name in the page; a histogram and a summary also have `_count` and `_sum`.
    pub metric: String,
    pub counter: Option<Counter>,
    pub filters: Vec<LabelFilter>,
    /// Names of labels; for `avgLabeled`.
    pub group_by: Vec<String>,
    pub relabel: Relabel,
    /// The value times ten to this power.
    pub scale: u32,
}

/// What is derived from a number that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// The difference over a time.
    Increase(Duration),
    /// The difference over a time, per second.
    Rate(Duration),
    /// The difference to the previous sample, per second.
    Irate,
}

/// A label that must match one of the patterns, whole.
#[derive(Debug, Clone)]
pub struct LabelFilter {
    pub key: String,
    pub options: Vec<Regex>,
}

/// Names of the labels whose values, joined by dots, name the entity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relabel {
    pub service: Vec<String>,
    /// Not empty where the scope is an instance.
    pub instance: Vec<String>,
    /// Not empty where the scope is an endpoint.
    pub endpoint: Vec<String>,
}

impl FetchRules {
    /// The metrics that the files feed, each once.
    pub fn meters(files: &[FetchRules]) -> Vec<MeterDefinition> {
        let mut meters: Vec<MeterDefinition> = Vec::new();
        for rule in files.iter().flat_map(|file| &file.rules) {
            if !meters.contains(&rule.definition) {
                meters.push(rule.definition.clone());
            }
        }
        meters
    }
}
