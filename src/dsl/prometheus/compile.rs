//! Reads rule files; every mistake of every file at once, each with its place.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fancy_regex::Regex;

use super::{Counter, FetchRules, LabelFilter, MetricsRule, Relabel, RuleSource, Target};
use crate::dsl::diag::{Diagnostic, Diagnostics};
use crate::dsl::duration;
use crate::dsl::java_regex;
use crate::dsl::yaml::{Fields, Node, Reader};
use crate::model::metrics::{Function, MeterDefinition, MeterScope, Ranks};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// A run keeps all pages until the last has come.
const MAX_TARGETS: usize = 1000;
/// Samples that a window holds of one series: its range over the interval.
const MAX_WINDOW_SAMPLES: u128 = 10_000;
/// Steps that a pattern may take on one label.
const MAX_PATTERN_STEPS: usize = 100_000;
/// Names become names of indices.
const MAX_NAME: usize = 100;
const MAX_SCALE: u32 = 18;

const SCOPES: [(&str, MeterScope); 3] = [
    ("SERVICE", MeterScope::Service),
    ("SERVICE_INSTANCE", MeterScope::Instance),
    ("ENDPOINT", MeterScope::Endpoint),
];

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Avg,
    AvgLabeled,
    AvgHistogram,
    AvgHistogramPercentile,
}

const OPERATIONS: [(&str, Operation); 4] = [
    ("avg", Operation::Avg),
    ("avgLabeled", Operation::AvgLabeled),
    ("avgHistogram", Operation::AvgHistogram),
    ("avgHistogramPercentile", Operation::AvgHistogramPercentile),
];

/// Reads files, given by name and text.
pub fn compile(files: &[(String, String)]) -> Result<Vec<FetchRules>, Vec<Diagnostic>> {
    let mut compiled = Vec::new();
    let mut mistakes = Vec::new();
    let mut defined = Defined::new();
    for (name, text) in files {
        let mut diagnostics = Diagnostics::new(name);
        if let Some((reader, value)) = Reader::new(text, &mut diagnostics) {
            let root = reader.root(&value);
            let mut file = File {
                reader,
                interval: None,
                defined: &mut defined,
            };
            let short = name.rsplit('/').next().unwrap_or(name);
            compiled.extend(file.read(short, &root));
        }
        mistakes.extend(diagnostics.finish());
    }
    if mistakes.is_empty() {
        Ok(compiled)
    } else {
        Err(mistakes)
    }
}

/// The metrics so far, by name.
type Defined = HashMap<String, MeterDefinition>;

/// A file while it is read. Every part is looked at before one is given up.
struct File<'t, 'd, 'k> {
    reader: Reader<'t, 'd>,
    interval: Option<Duration>,
    defined: &'k mut Defined,
}

impl File<'_, '_, '_> {
    fn read(&mut self, name: &str, root: &Node<'_>) -> Option<FetchRules> {
        let keys = [
            "fetcherInterval",
            "fetcherTimeout",
            "metricsPath",
            "staticConfig",
            "metricsRules",
        ];
        let fields = self.reader.map(root, &keys)?;
        let interval = self.reader.required(&fields, "fetcherInterval");
        self.interval = interval.and_then(|node| self.duration(&node, Duration::from_secs(1)));
        let timeout = match fields.get("fetcherTimeout") {
            Some(node) => self.duration(&node, Duration::ZERO),
            None => Some(DEFAULT_TIMEOUT),
        };
        let path = self.reader.required(&fields, "metricsPath");
        let path = path.and_then(|node| self.path(&node));
        let mut targets = Vec::new();
        let mut labels = None;
        if let Some(node) = fields.get("staticConfig")
            && let Some(fields) = self.reader.map(&node, &["targets", "labels"])
        {
            let node = self.reader.required(&fields, "targets");
            targets = self.targets(node, path.as_deref().unwrap_or_default());
            labels = fields.get("labels").map(|node| self.labels(&node));
        }
        let rules = self.reader.required(&fields, "metricsRules");
        let rules = rules.and_then(|node| self.reader.list(&node));
        let rules = rules.unwrap_or_default();
        let rules: Vec<_> = rules.iter().filter_map(|node| self.rule(node)).collect();
        Some(FetchRules {
            name: name.to_owned(),
            interval: self.interval?,
            timeout: timeout?,
            targets,
            labels,
            rules,
        })
    }

    fn duration(&mut self, node: &Node<'_>, least: Duration) -> Option<Duration> {
        let text = self.reader.text(node)?;
        let found = duration::parse(text).filter(|length| *length >= least);
        if found.is_none() {
            let message = match least.as_secs() {
                0 => format!("no duration: `{text}`, expected one such as PT10S"),
                s => {
                    format!("no duration of at least PT{s}S: `{text}`, expected one such as PT15S")
                }
            };
            self.reader.wrong(node, message);
        }
        found
    }

    fn path(&mut self, node: &Node<'_>) -> Option<String> {
        let text = self.reader.text(node)?;
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            self.reader.wrong(
                node,
                format!("no path: `{text}`, expected one such as /metrics"),
            );
            return None;
        }
        Some(format!("/{}", text.trim_start_matches('/')))
    }

    fn targets(&mut self, node: Option<Node<'_>>, path: &str) -> Vec<Target> {
        let Some(node) = node else {
            return Vec::new();
        };
        let mut targets: Vec<Target> = Vec::new();
        for item in self.reader.list(&node).unwrap_or_default() {
            let Some(name) = self.reader.text(&item) else {
                continue;
            };
            let is_address = !name.contains(['/', '?', '#', '@', '\\', ' ']);
            let url: Result<reqwest::Url, _> = format!("http://{name}{path}").parse();
            match url.ok().filter(|url| is_address && url.host().is_some()) {
                None => self.reader.wrong(
                    &item,
                    format!("no target: `{name}`, expected host:port without http:// and path"),
                ),
                Some(_) if targets.iter().any(|t| t.name == name) => {
                    self.reader.wrong(&item, format!("target `{name}` twice"));
                }
                Some(url) => targets.push(Target {
                    name: name.to_owned(),
                    url: url.into(),
                }),
            }
        }
        if targets.len() > MAX_TARGETS {
            self.reader.wrong(
                &node,
                format!("{} targets, expected at most {MAX_TARGETS}", targets.len()),
            );
        }
        targets
    }

    fn labels(&mut self, node: &Node<'_>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (name, node) in self.reader.entries(node).unwrap_or_default() {
            if let Some(value) = self.reader.text(&node) {
                labels.insert(name.to_owned(), value.to_owned());
            }
        }
        labels
    }

    fn rule(&mut self, node: &Node<'_>) -> Option<MetricsRule> {
        let keys = ["name", "scope", "operation", "percentiles", "sources"];
        let fields = self.reader.map(node, &keys)?;
        let name_node = self.reader.required(&fields, "name");
        let name = name_node.as_ref().and_then(|node| self.name(node));
        let scope = self.reader.required(&fields, "scope");
        let scope = scope.and_then(|node| self.reader.one_of(&node, &SCOPES));
        let operation = self.reader.required(&fields, "operation");
        let operation = operation.and_then(|node| self.reader.one_of(&node, &OPERATIONS));
        let function = operation.and_then(|operation| self.function(operation, &fields));
        let sources_node = self.reader.required(&fields, "sources");
        let mut sources = Vec::new();
        if let Some(node) = &sources_node {
            let entries = self.reader.entries(node);
            if entries.as_ref().is_some_and(Vec::is_empty) {
                let message = "expected a metric of the page with what is taken of it";
                self.reader.wrong(node, message);
            }
            for (metric, node) in entries.unwrap_or_default() {
                sources.extend(self.source(metric, &node, scope, operation));
            }
        }
        let definition = MeterDefinition {
            name: name?,
            scope: scope?,
            function: function?,
        };
        let first = self.defined.entry(definition.name.clone());
        if *first.or_insert_with(|| definition.clone()) != definition {
            let message = "another rule of this name has another scope, operation or percentiles";
            self.reader.wrong(&name_node?, message);
        }
        Some(MetricsRule {
            definition,
            sources,
        })
    }

    /// The name of the metric.
    fn name(&mut self, node: &Node<'_>) -> Option<String> {
        let name = self.reader.text(node)?;
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.len() > MAX_NAME || !name.chars().all(is_part) {
            let message =
                format!("expected a name of lower-case letters, digits and `_`, up to {MAX_NAME}");
            self.reader.wrong(node, message);
            return None;
        }
        Some(format!("meter_{name}"))
    }

    fn function(&mut self, operation: Operation, fields: &Fields<'_>) -> Option<Function> {
        Some(match operation {
            Operation::Avg => Function::MeterAvg,
            Operation::AvgLabeled => Function::AvgLabeled,
            Operation::AvgHistogram => Function::BucketAvg,
            Operation::AvgHistogramPercentile => {
                let node = self.reader.required(fields, "percentiles")?;
                let items = self.reader.list(&node)?;
                let numbers: Option<Vec<i64>> = items.iter().map(|i| i.value.as_i64()).collect();
                let ranks = numbers.filter(|n| !n.is_empty()).and_then(Ranks::new);
                if ranks.is_none() {
                    let message = "expected a list of whole numbers from 1 to 100";
                    self.reader.wrong(&node, message);
                }
                Function::BucketAvgPercentile { ranks: ranks? }
            }
        })
    }

    fn source(
        &mut self,
        metric: &str,
        node: &Node<'_>,
        scope: Option<MeterScope>,
        operation: Option<Operation>,
    ) -> Option<RuleSource> {
        let keys = [
            "counterFunction",
            "range",
            "labelFilter",
            "groupBy",
            "relabel",
            "scale",
        ];
        let fields = self.reader.map(node, &keys)?;
        let counter = self.counter(&fields);
        let filters = fields.get("labelFilter");
        let filters = filters.map(|node| self.filters(&node)).unwrap_or_default();
        let group_by = match operation {
            Some(Operation::AvgLabeled) => self.reader.required(&fields, "groupBy"),
            _ => fields.get("groupBy"),
        };
        let group_by = group_by.map(|node| self.texts(&node)).unwrap_or_default();
        let relabel = self.reader.required(&fields, "relabel");
        let relabel = relabel.and_then(|node| self.relabel(&node, scope));
        let scale = fields.get("scale").map_or(Some(0), |node| {
            let scale = node.value.as_u64().and_then(|n| u32::try_from(n).ok());
            let scale = scale.filter(|n| *n <= MAX_SCALE);
            if scale.is_none() {
                let message = format!("expected a whole number from 0 to {MAX_SCALE}");
                self.reader.wrong(&node, message);
            }
            scale
        });
        Some(RuleSource {
            metric: metric.to_owned(),
            counter,
            filters,
            group_by,
            relabel: relabel?,
            scale: scale?,
        })
    }

    fn counter(&mut self, fields: &Fields<'_>) -> Option<Counter> {
        type Make = fn(Duration) -> Counter;
        let functions: [(&str, Option<Make>); 3] = [
            ("INCREASE", Some(Counter::Increase)),
            ("RATE", Some(Counter::Rate)),
            ("IRATE", None),
        ];
        let function = fields.get("counterFunction")?;
        let Some(make) = self.reader.one_of(&function, &functions)? else {
            return Some(Counter::Irate);
        };
        let node = self.reader.required(fields, "range")?;
        let range = self.duration(&node, Duration::from_secs(1))?;
        let interval = self.interval.map_or(u128::MAX, |i| i.as_millis());
        if range.as_millis() / interval > MAX_WINDOW_SAMPLES {
            let message = format!("expected at most {MAX_WINDOW_SAMPLES} times fetcherInterval");
            self.reader.wrong(&node, message);
        }
        Some(make(range))
    }

    fn filters(&mut self, node: &Node<'_>) -> Vec<LabelFilter> {
        let mut filters = Vec::new();
        for node in self.reader.list(node).unwrap_or_default() {
            let Some(fields) = self.reader.map(&node, &["key", "options"]) else {
                continue;
            };
            let key = self.reader.required(&fields, "key");
            let key = key.and_then(|node| self.reader.text(&node));
            let list = self.reader.required(&fields, "options");
            let items = list.as_ref().and_then(|list| self.reader.list(list));
            if let Some(list) = list.filter(|_| items.as_ref().is_some_and(Vec::is_empty)) {
                self.reader.wrong(&list, "expected a regular expression");
            }
            let items = items.unwrap_or_default();
            let options: Vec<_> = items.iter().filter_map(|i| self.pattern(i)).collect();
            filters.extend(key.map(|key| LabelFilter {
                key: key.to_owned(),
                options,
            }));
        }
        filters
    }

    fn pattern(&mut self, node: &Node<'_>) -> Option<Regex> {
        let text = self.reader.text(node)?;
        match java_regex::compile(text, MAX_PATTERN_STEPS) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let message = format!("no regular expression: `{text}`, {error}");
                self.reader.wrong(node, message);
                None
            }
        }
    }

    fn relabel(&mut self, node: &Node<'_>, scope: Option<MeterScope>) -> Option<Relabel> {
        let fields = self
            .reader
            .map(node, &["service", "instance", "endpoint"])?;
        let mut names = |key, is_needed| {
            let node = match is_needed {
                true => self.reader.required(&fields, key),
                false => fields.get(key),
            };
            let Some(node) = node else {
                return Vec::new();
            };
            let names = self.texts(&node);
            if is_needed && names.is_empty() {
                let message = format!("expected a list of labels whose values name the {key}");
                self.reader.wrong(&node, message);
            }
            names
        };
        Some(Relabel {
            service: names("service", true),
            instance: names("instance", scope == Some(MeterScope::Instance)),
            endpoint: names("endpoint", scope == Some(MeterScope::Endpoint)),
        })
    }

    fn texts(&mut self, node: &Node<'_>) -> Vec<String> {
        let items = self.reader.list(node).unwrap_or_default();
        let texts = items.iter().filter_map(|item| self.reader.text(item));
        texts.map(str::to_owned).collect()
    }
}
