//! Reads the files and checks what they name.

use std::collections::HashMap;

use super::{MeterRule, parse};
use crate::dsl::diag::Diagnostics;
use crate::dsl::yaml::{Fields, Node, Reader};
use crate::model::metrics::{Function, MeterDefinition, MeterScope, Ranks};

const SCOPES: &[(&str, MeterScope)] = &[
    ("SERVICE", MeterScope::Service),
    ("SERVICE_INSTANCE", MeterScope::Instance),
    ("ENDPOINT", MeterScope::Endpoint),
];

#[derive(Clone, Copy)]
enum Operation {
    Avg,
    AvgHistogram,
    AvgHistogramPercentile,
}

const OPERATIONS: &[(&str, Operation)] = &[
    ("avg", Operation::Avg),
    ("avgHistogram", Operation::AvgHistogram),
    ("avgHistogramPercentile", Operation::AvgHistogramPercentile),
];

/// Names become names of indices.
const MAX_NAME: usize = 100;

/// Collects the rules of several files.
#[derive(Default)]
pub struct Compiler {
    rules: Vec<MeterRule>,
    /// Where each metric was defined first, for messages.
    defined: HashMap<String, String>,
}

impl Compiler {
    /// Adds the rules of a file; mistakes go to `diagnostics`.
    pub fn add(&mut self, file: &str, text: &str, diagnostics: &mut Diagnostics) {
        let Some((mut reader, value)) = Reader::new(text, diagnostics) else {
            return;
        };
        let root = reader.root(&value);
        let Some(fields) = reader.map(&root, &["meters"]) else {
            return;
        };
        let meters = reader.required(&fields, "meters");
        let rules = meters.and_then(|meters| reader.list(&meters));
        for node in rules.unwrap_or_default() {
            if let Some(rule) = self.rule(file, &node, &mut reader) {
                self.rules.push(rule);
            }
        }
    }

    pub fn finish(self) -> Vec<MeterRule> {
        self.rules
    }

    /// Looks at every part before it gives up on one.
    fn rule(
        &mut self,
        file: &str,
        node: &Node<'_>,
        reader: &mut Reader<'_, '_>,
    ) -> Option<MeterRule> {
        let fields = reader.map(node, &["name", "scope", "meter"])?;
        let name = reader.required(&fields, "name");
        let name = name.and_then(|name| self.name(file, &name, reader));
        let scope = reader.required(&fields, "scope");
        let scope = scope.and_then(|scope| scope_of(&scope, reader));
        let meter = reader.required(&fields, "meter");
        let meter = meter.and_then(|meter| {
            let fields = reader.map(&meter, &["operation", "value", "percentile"])?;
            let function = function_of(&fields, reader);
            let value = reader.required(&fields, "value");
            let expression = value.and_then(|value| {
                let text = reader.text(&value)?;
                let mut mistakes = Diagnostics::new(file);
                let expression = parse::parse(text, &mut mistakes);
                let is_right = mistakes.is_empty();
                reader.wrong_inside(&value, mistakes);
                expression.filter(|_| is_right)
            });
            Some((function?, expression?))
        });
        let (name, (scope, endpoint), (function, expression)) = (name?, scope?, meter?);
        Some(MeterRule {
            definition: MeterDefinition {
                name,
                scope,
                function,
            },
            endpoint,
            expression,
        })
    }

    /// The name of the metric, if it is free.
    fn name(&mut self, file: &str, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<String> {
        let name = reader.text(node)?;
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.len() > MAX_NAME || !name.chars().all(is_part) {
            let message =
                format!("expected a name of lower-case letters, digits and `_`, up to {MAX_NAME}");
            reader.wrong(node, message);
            return None;
        }
        if let Some(first) = self.defined.get(name) {
            reader.wrong(
                node,
                format!("meter `{name}` is already defined at {first}"),
            );
            return None;
        }
        let at = reader.position(node);
        let place = format!("{file}:{}:{}", at.line, at.column);
        self.defined.insert(name.to_owned(), place);
        Some(format!("meter_{name}"))
    }
}

/// What a meter is about, and the endpoint's name.
fn scope_of(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<(MeterScope, Option<String>)> {
    let fields = reader.map(node, &["type", "endpoint"])?;
    let ty = reader.required(&fields, "type")?;
    let scope = reader.one_of(&ty, SCOPES)?;
    if scope != MeterScope::Endpoint {
        return Some((scope, None));
    }
    let endpoint = reader.required(&fields, "endpoint")?;
    let endpoint = reader.text(&endpoint)?;
    Some((scope, Some(endpoint.to_owned())))
}

fn function_of(fields: &Fields<'_>, reader: &mut Reader<'_, '_>) -> Option<Function> {
    let operation = reader.required(fields, "operation")?;
    Some(match reader.one_of(&operation, OPERATIONS)? {
        Operation::Avg => Function::MeterAvg,
        Operation::AvgHistogram => Function::BucketAvg,
        Operation::AvgHistogramPercentile => {
            let ranks = reader.required(fields, "percentile")?;
            let ranks = ranks_of(&ranks, reader)?;
            Function::BucketAvgPercentile { ranks }
        }
    })
}

fn ranks_of(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Ranks> {
    let items = reader.list(node)?;
    if items.is_empty() {
        reader.wrong(node, "expected at least one rank, such as 50");
        return None;
    }
    let mut ranks = Vec::new();
    for item in &items {
        match item.value.as_i64().filter(|n| (1..=100).contains(n)) {
            Some(rank) => ranks.push(rank),
            None => reader.wrong(item, "expected a rank, a whole number from 1 to 100"),
        }
    }
    (ranks.len() == items.len()).then(|| Ranks::new(ranks))?
}
