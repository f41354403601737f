//! Reads `alarm-settings.yml`: every mistake at once, and what has no effect as a note.
//!
//! What the original passes over (keys it does not know, rules about metrics that nothing feeds) must not keep a server from
//! starting that takes its place: these are notes. What it refuses, and what cannot have been meant, are mistakes.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use fancy_regex::Regex;
use serde_norway::Value;

use super::{AlarmRule, AlarmSettings, GrpcTarget, Op, Part, RuleFields};
use crate::dsl::diag::{Diagnostic, Diagnostics};
use crate::dsl::java_regex;
use crate::dsl::yaml::{Node, Reader};
use crate::model::metrics::{Function, MetricDefinition, PERCENTILE_RANKS};
use crate::model::scope::Scope;

const OPS: [(&str, Op); 5] = [
    (">", Op::Greater),
    (">=", Op::GreaterEqual),
    ("<", Op::Less),
    ("<=", Op::LessEqual),
    ("==", Op::Equal),
];
/// The longest window, a day in minutes.
const MAX_PERIOD: i64 = 1440;
const MAX_NOTES: usize = 100;
/// Steps that a pattern may take on one name.
const MAX_PATTERN_STEPS: usize = 100_000;

/// Reads the file. `metrics` are those that scripts define.
pub fn compile(
    file: &str,
    text: &str,
    metrics: &[MetricDefinition],
) -> Result<AlarmSettings, Vec<Diagnostic>> {
    let mut diagnostics = Diagnostics::new(file);
    let mut settings = AlarmSettings::default();
    if let Some((reader, value)) = Reader::new(text, &mut diagnostics)
        && !value.is_null()
    {
        let root = reader.root(&value);
        let metrics = metrics.iter().map(|m| (m.name.as_str(), m)).collect();
        let mut file = File {
            reader,
            metrics,
            notes: Vec::new(),
        };
        settings = file.settings(&root);
        settings.notes = file.notes;
    }
    if diagnostics.is_empty() {
        Ok(settings)
    } else {
        Err(diagnostics.finish())
    }
}

struct File<'t, 'd> {
    reader: Reader<'t, 'd>,
    metrics: HashMap<&'t str, &'t MetricDefinition>,
    notes: Vec<String>,
}

impl File<'_, '_> {
    /// Beyond the first hundred they are left out.
    fn note(&mut self, node: &Node<'_>, text: &str) {
        if self.notes.len() >= MAX_NOTES {
            return;
        }
        let line = self.reader.position(node).line;
        self.notes.push(format!("line {line}: {text}"));
    }

    /// The entries of a map that have something.
    fn entries<'a>(&mut self, node: &Node<'a>) -> Vec<(&'a str, Node<'a>)> {
        let entries = self.reader.entries(node).unwrap_or_default();
        let has_value = |(_, node): &(&str, Node<'_>)| !node.value.is_null();
        entries.into_iter().filter(has_value).collect()
    }

    fn settings(&mut self, root: &Node<'_>) -> AlarmSettings {
        let mut settings = AlarmSettings::default();
        for (key, node) in self.entries(root) {
            match key {
                "rules" => {
                    for (name, node) in self.entries(&node) {
                        if name.ends_with("_rule") {
                            settings.rules.extend(self.rule(name, &node));
                        } else {
                            let note = format!("{name} is no rule, its name does not end in _rule");
                            self.note(&node, &note);
                        }
                    }
                }
                "webhooks" => {
                    for node in self.reader.list(&node).unwrap_or_default() {
                        settings.webhooks.extend(self.url(&node));
                    }
                }
                "gRPCHook" => settings.grpc_hook = self.grpc_hook(&node),
                _ => self.note(&node, &format!("{key} has no effect")),
            }
        }
        settings
    }

    fn url(&mut self, node: &Node<'_>) -> Option<String> {
        let text = self.reader.text(node)?;
        let parsed = reqwest::Url::parse(text).ok();
        let is_http = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            let message = format!("`{text}` is no URL that begins with http:// or https://");
            self.reader.wrong(node, message);
        }
        is_http.then(|| text.to_owned())
    }

    fn grpc_hook(&mut self, node: &Node<'_>) -> Option<GrpcTarget> {
        let (mut host, mut port) = (None, None);
        let mut has_port = false;
        for (key, node) in self.entries(node) {
            match key {
                "target_host" => {
                    host = self.scalar(&node);
                    if let Some(text) = host.as_ref().filter(|host| !is_host(host)) {
                        let message =
                            format!("`{text}` is no host, expected a name or an address alone");
                        self.reader.wrong(&node, message);
                    }
                }
                "target_port" => {
                    has_port = true;
                    port = self.number(&node, 1..=u16::MAX.into());
                }
                _ => self.note(&node, &format!("gRPCHook.{key} has no effect")),
            }
        }
        let host = host.filter(|host| !host.is_empty())?;
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
            if !has_port {
                self.reader
                    .wrong(node, "`target_port`, a number from 1 to 65535, is missing");
            }
            return None;
        };
        Some(GrpcTarget { host, port })
    }

    fn rule(&mut self, name: &str, node: &Node<'_>) -> Option<AlarmRule> {
        if !node.value.is_mapping() {
            let message = format!("expected a map with what {name} is, metrics-name and others");
            self.reader.wrong(node, message);
            return None;
        }
        let mut fields = RuleFields {
            name: name.to_owned(),
            metric: String::new(),
            op: Op::Greater,
            threshold: vec![],
            include_names: vec![],
            exclude_names: vec![],
            include_names_regex: String::new(),
            exclude_names_regex: String::new(),
            period: 1,
            count: 1,
            silence_period: -1,
            message: format!("Alarm caused by Rule {name}"),
        };
        let (mut include_regex, mut exclude_regex) = (None, None);
        let mut needed = vec!["metrics-name", "op", "threshold"];
        let mut threshold = None;
        let mut message_node = None;
        for (key, node) in self.entries(node) {
            needed.retain(|needed| *needed != key);
            match key {
                "metrics-name" => fields.metric = self.scalar(&node).unwrap_or_default(),
                "op" => fields.op = self.reader.one_of(&node, &OPS).unwrap_or(Op::Greater),
                "threshold" => threshold = Some(node),
                "include-names" => fields.include_names = self.names(&node),
                "exclude-names" => fields.exclude_names = self.names(&node),
                "include-names-regex" => {
                    fields.include_names_regex = self.scalar(&node).unwrap_or_default();
                    include_regex = self.pattern(&node, &fields.include_names_regex);
                }
                "exclude-names-regex" => {
                    fields.exclude_names_regex = self.scalar(&node).unwrap_or_default();
                    exclude_regex = self.pattern(&node, &fields.exclude_names_regex);
                }
                "period" => fields.period = self.minutes(&node),
                "count" => fields.count = self.minutes(&node),
                "silence-period" => {
                    let number = self.number(&node, i32::MIN.into()..=i32::MAX.into());
                    fields.silence_period = number.and_then(|n| n.try_into().ok()).unwrap_or(-1);
                }
                "message" => {
                    fields.message = self.scalar(&node).unwrap_or_default();
                    message_node = Some(node);
                }
                _ => self.note(&node, &format!("{name}.{key} has no effect")),
            }
        }
        for key in needed {
            self.reader
                .wrong(node, format!("`{key}` of {name} is missing"));
        }
        if fields.count > fields.period {
            let (count, period) = (fields.count, fields.period);
            let note = format!("{name} never fires: {count} minutes of {period} cannot match");
            self.note(node, &note);
        }
        let message = self.message(message_node.as_ref().unwrap_or(node), &fields.message);
        let definition = self.metrics.get(fields.metric.as_str()).copied();
        let unfit = unfit(definition);
        if let Some(why) = unfit.filter(|_| !fields.metric.is_empty()) {
            let note = format!("{name} never fires: {} {why}", fields.metric);
            self.note(node, &note);
        }
        if let Some(node) = threshold {
            let is_list = definition.map(|metric| is_list(metric.function));
            fields.threshold = self.threshold(&node, is_list);
            self.note_positions(&node, &fields, definition);
        }
        Some(AlarmRule {
            fields,
            include_regex,
            exclude_regex,
            message,
        })
    }

    /// A text or number as a text.
    fn scalar(&mut self, node: &Node<'_>) -> Option<String> {
        match node.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(is) => Some(is.to_string()),
            _ => {
                self.reader.wrong(node, "expected a text");
                None
            }
        }
    }

    fn number(&mut self, node: &Node<'_>, range: RangeInclusive<i64>) -> Option<i64> {
        let number = node.value.as_i64().filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = range.into_inner();
            let message = format!("expected a whole number from {low} to {high}");
            self.reader.wrong(node, message);
        }
        number
    }

    fn minutes(&mut self, node: &Node<'_>) -> u16 {
        let number = self.number(node, 1..=MAX_PERIOD);
        number.and_then(|n| n.try_into().ok()).unwrap_or(1)
    }

    fn names(&mut self, node: &Node<'_>) -> Vec<String> {
        let items = self.reader.list(node).unwrap_or_default();
        items.iter().filter_map(|item| self.scalar(item)).collect()
    }

    fn pattern(&mut self, node: &Node<'_>, text: &str) -> Option<Regex> {
        if text.is_empty() {
            return None;
        }
        let pattern = java_regex::compile(text, MAX_PATTERN_STEPS);
        if let Err(error) = &pattern {
            let message = format!("no regular expression: `{text}`, {error}");
            self.reader.wrong(node, message);
        }
        pattern.ok()
    }

    /// `is_list` is unknown where the metric is.
    fn threshold(&mut self, node: &Node<'_>, is_list: Option<bool>) -> Vec<Option<f64>> {
        let text = self.scalar(node).unwrap_or_default();
        let is_single = is_list == Some(false);
        let mut threshold = Vec::new();
        for part in text.split(',').map(str::trim) {
            let number = part.parse::<f64>().ok().filter(|n| n.is_finite());
            match (part, number) {
                ("-", _) if !is_single => threshold.push(None),
                (_, Some(number)) => threshold.push(Some(number)),
                _ => {
                    let expected = match is_single {
                        true => "a number",
                        false => "numbers, or - for a position to pass over, with commas between",
                    };
                    let message = format!("`{text}` is no threshold, expected {expected}");
                    self.reader.wrong(node, message);
                    return threshold;
                }
            }
        }
        if is_single && threshold.len() > 1 {
            let message = format!("`{text}` has several values, those of the metric are one each");
            self.reader.wrong(node, message);
        }
        threshold
    }

    /// Says which values a rule does not look at as somebody may think.
    fn note_positions(
        &mut self,
        node: &Node<'_>,
        fields: &RuleFields,
        definition: Option<&MetricDefinition>,
    ) {
        let (name, given) = (&fields.name, fields.threshold.len());
        let ranks = PERCENTILE_RANKS.len();
        if definition.is_none_or(|metric| !is_list(metric.function)) || given == 0 {
            return;
        }
        if given < ranks {
            let metric = &fields.metric;
            let note = format!(
                "{name} compares the last {} of the {ranks} values of {metric} with 0, which have no threshold",
                ranks - given
            );
            self.note(node, &note);
        } else if fields.threshold.iter().take(ranks).all(Option::is_none) {
            self.note(
                node,
                &format!("{name} never fires: it passes over every value"),
            );
        }
    }

    fn message(&mut self, node: &Node<'_>, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{')
            && let Some((name, after)) = behind.split_once('}')
        {
            parts.push(Part::Text(before.to_owned()));
            match name {
                "id" => parts.push(Part::Id),
                "name" => parts.push(Part::Name),
                _ => {
                    let message = format!("`{{{name}}}` in a message, expected {{id}} or {{name}}");
                    self.reader.wrong(node, message);
                }
            }
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts
    }
}

/// Whether a text can be a name or an address of a machine.
fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    inner.unwrap_or(text).parse::<Ipv6Addr>().is_ok() || text.chars().all(is_name)
}

fn is_list(function: Function) -> bool {
    matches!(function, Function::Percentile { .. })
}

/// Why a metric cannot raise alarms.
fn unfit(metric: Option<&MetricDefinition>) -> Option<&'static str> {
    let Some(metric) = metric else {
        return Some("is defined in no script that is in use");
    };
    if metric.scope == Scope::All {
        return Some("is about no entity");
    }
    match metric.function {
        Function::Histogram { .. } => Some("has no values to compare"),
        _ => None,
    }
}
