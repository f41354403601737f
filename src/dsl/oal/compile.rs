//! Resolves names and checks types: from statements to metric definitions.

use std::collections::{HashMap, HashSet};

use super::OalProgram;
use super::ast::{Argument, ArgumentKind, Condition, LiteralValue, Metric, Statement, Word};
use super::function::{DISABLEABLE, FUNCTIONS, Shape};
use crate::dsl::diag::{Diagnostics, Position};
use crate::model::attr::{Attr, AttrType};
use crate::model::metrics::{CompareOp, Entrance, Filter, Function, Literal, MetricDefinition};
use crate::model::schema::Schema;
use crate::model::scope::{DetectPoint, RequestType, Scope};
use crate::model::source::{GcPhrase, MemoryPool};

/// Compiles the statements of several files into one program.
pub struct Compiler {
    program: OalProgram,
    /// Where each metric was defined first, for messages.
    defined: HashMap<String, String>,
    built_in: HashSet<String>,
}

/// A name, its place and the mistakes, or the value. `Err` is already reported.
type Checked<T> = Result<T, Reported>;

/// A mistake that is in the diagnostics.
struct Reported;

impl Compiler {
    pub fn new() -> Compiler {
        let schema = Schema::build(&[], &[], &[], false);
        Compiler {
            program: OalProgram::default(),
            defined: HashMap::new(),
            built_in: schema.models().iter().map(|m| m.name.clone()).collect(),
        }
    }

    /// Adds the statements of a file; mistakes go to `diagnostics`.
    pub fn add(&mut self, file: &str, statements: &[Statement], diagnostics: &mut Diagnostics) {
        for statement in statements {
            match statement {
                Statement::Disable(model) => self.disable(model, diagnostics),
                Statement::Metric(metric) => {
                    let is_new = self.define(file, &metric.name, diagnostics);
                    let mut checker = Checker { diagnostics };
                    if let (true, Ok(definition)) = (is_new, checker.metric(metric)) {
                        self.program.metrics.push(definition);
                    }
                }
            }
        }
    }

    pub fn finish(self) -> OalProgram {
        self.program
    }

    fn disable(&mut self, model: &Word, diagnostics: &mut Diagnostics) {
        if !DISABLEABLE.contains(&model.text.as_str()) {
            let message = format!(
                "`{}` cannot be disabled, only {}",
                model.text,
                DISABLEABLE.join(", ")
            );
            diagnostics.add(model.at, message);
        } else if !self.program.disabled.contains(&model.text) {
            self.program.disabled.push(model.text.clone());
        }
    }

    /// Whether the name is free.
    fn define(&mut self, file: &str, name: &Word, diagnostics: &mut Diagnostics) -> bool {
        let stored = name.text.to_ascii_lowercase();
        if stored.len() > MAX_NAME {
            let message = format!(
                "a name may have {MAX_NAME} characters, not {}",
                stored.len()
            );
            diagnostics.add(name.at, message);
            return false;
        }
        if self.built_in.contains(&stored) {
            let message = format!("`{stored}` is the name of a built-in model");
            diagnostics.add(name.at, message);
            return false;
        }
        if let Some(first) = self.defined.get(&stored) {
            let message = format!("metric `{stored}` is already defined at {first}");
            diagnostics.add(name.at, message);
            return false;
        }
        let place = format!("{file}:{}:{}", name.at.line, name.at.column);
        self.defined.insert(stored, place);
        true
    }
}

/// With namespace and day it is the name of an index, which may have 255.
const MAX_NAME: usize = 200;

struct Checker<'a> {
    diagnostics: &'a mut Diagnostics,
}

impl Checker<'_> {
    fn metric(&mut self, metric: &Metric) -> Checked<MetricDefinition> {
        let function = self.function(&metric.function);
        let scope = self.scope(&metric.source)?;
        let attribute = match &metric.attribute {
            Some(word) => self.attribute(scope, word).map(Some),
            None => Ok(None),
        };
        let filters: Vec<Checked<Filter>> = metric
            .filters
            .iter()
            .map(|c| self.condition(scope, c))
            .collect();
        let (function, entrance) = self.entrance(metric, scope, attribute?, function?)?;
        Ok(MetricDefinition {
            name: metric.name.text.to_ascii_lowercase(),
            scope,
            filters: filters.into_iter().collect::<Checked<_>>()?,
            function,
            entrance,
        })
    }

    fn entrance(
        &mut self,
        metric: &Metric,
        scope: Scope,
        attribute: Option<Attr>,
        (shape, usage): (Shape, &str),
    ) -> Checked<(Function, Entrance)> {
        let number = match shape {
            Shape::Occurrence(_) | Shape::Condition => None,
            _ => Some(self.number(metric, attribute)),
        };
        let arguments = metric.arguments.as_slice();
        let wrong_arguments = |checker: &mut Self| {
            let name = &metric.function.text;
            checker.report(metric.function.at, format!("expected `{name}({usage})`"))
        };
        Ok(match (shape, number.transpose()?, arguments) {
            (Shape::Long(f), Some(number), []) => (f, Entrance::Long(number)),
            (Shape::Double(f), Some(number), []) => (f, Entrance::Double(number)),
            (Shape::Occurrence(f), None, []) => (f, Entrance::One),
            (
                Shape::Condition,
                None,
                [
                    Argument {
                        kind: ArgumentKind::Condition(condition),
                        ..
                    },
                ],
            ) => {
                let filter = self.condition(scope, condition)?;
                (Function::Percent, Entrance::Match(filter))
            }
            (
                Shape::Apdex,
                Some(latency),
                [
                    Argument {
                        kind: ArgumentKind::Attribute(name),
                        ..
                    },
                    Argument {
                        kind: ArgumentKind::Attribute(status),
                        ..
                    },
                ],
            ) => {
                let service = self.typed(scope, name, AttrType::Text);
                let status = self.typed(scope, status, AttrType::Bool);
                let entrance = Entrance::Apdex {
                    service: service?,
                    latency,
                    status: status?,
                };
                (Function::Apdex, entrance)
            }
            (Shape::Histogram, Some(number), [step, steps]) => {
                let step = self.argument(step, i32::MAX);
                let max_steps = self.argument(steps, MAX_STEPS);
                let function = Function::Histogram {
                    step: step?,
                    max_steps: max_steps?,
                };
                (function, Entrance::Int(number))
            }
            (Shape::Percentile, Some(number), [precision]) => {
                let precision = self.argument(precision, i32::MAX)?;
                (Function::Percentile { precision }, Entrance::Int(number))
            }
            (Shape::Rank(rank), Some(number), [precision]) => {
                let precision = self.argument(precision, i32::MAX)?;
                (Function::Rank { rank, precision }, Entrance::Int(number))
            }
            _ => return Err(wrong_arguments(self)),
        })
    }

    fn function(&mut self, name: &Word) -> Checked<(Shape, &'static str)> {
        let known = FUNCTIONS.iter().find(|(n, ..)| *n == name.text);
        known
            .map(|(_, shape, usage)| (*shape, *usage))
            .ok_or_else(|| {
                let names = FUNCTIONS.iter().map(|(n, ..)| *n);
                self.unknown("function", name, names)
            })
    }

    fn scope(&mut self, source: &Word) -> Checked<Scope> {
        Scope::from_source_name(&source.text).ok_or_else(|| {
            let names = Scope::SOURCES.iter().map(|(n, _)| *n);
            self.unknown("source", source, names)
        })
    }

    fn attribute(&mut self, scope: Scope, name: &Word) -> Checked<Attr> {
        Attr::find(scope, &name.text).ok_or_else(|| {
            let names = Attr::of(scope).iter().map(|(n, _)| *n);
            self.unknown("attribute", name, names)
        })
    }

    /// The attribute that a function calculates with.
    fn number(&mut self, metric: &Metric, attribute: Option<Attr>) -> Checked<Attr> {
        let function = &metric.function.text;
        let Some(attribute) = attribute else {
            let message = format!("`{function}` needs an attribute instead of `*`");
            return Err(self.report(metric.attribute_at, message));
        };
        match attribute.ty() {
            AttrType::Long | AttrType::Double => Ok(attribute),
            other => {
                let message = format!("`{function}` needs a number, found {}", kind(other));
                Err(self.report(metric.attribute_at, message))
            }
        }
    }

    fn typed(&mut self, scope: Scope, name: &Word, wanted: AttrType) -> Checked<Attr> {
        let attribute = self.attribute(scope, name)?;
        if attribute.ty() == wanted {
            return Ok(attribute);
        }
        let found = kind(attribute.ty());
        let message = format!("expected {}, found {found}", kind(wanted));
        Err(self.report(name.at, message))
    }

    /// A whole number from 1 on.
    fn argument(&mut self, argument: &Argument, max: i32) -> Checked<i32> {
        if let ArgumentKind::Literal(LiteralValue::Number(number)) = &argument.kind
            && let Ok(number) = number.parse::<i32>()
            && (1..=max).contains(&number)
        {
            return Ok(number);
        }
        let message = format!("expected a whole number from 1 to {max}");
        Err(self.report(argument.at, message))
    }

    fn condition(&mut self, scope: Scope, condition: &Condition) -> Checked<Filter> {
        let attr = self.attribute(scope, &condition.attribute)?;
        let is_ordered = matches!(attr.ty(), AttrType::Long | AttrType::Double);
        if condition.op != CompareOp::Equal && !is_ordered {
            let message = format!("{} can only be compared with `==`", kind(attr.ty()));
            return Err(self.report(condition.op_at, message));
        }
        let literal = literal(attr.ty(), &condition.value).ok_or_else(|| {
            let message = format!("expected {}", values(attr.ty()));
            self.report(condition.value_at, message)
        })?;
        Ok(Filter {
            attr,
            op: condition.op,
            literal,
        })
    }

    fn unknown(
        &mut self,
        what: &str,
        name: &Word,
        known: impl Iterator<Item = &'static str>,
    ) -> Reported {
        let known: Vec<&str> = known.collect();
        let message = format!(
            "unknown {what} `{}`, known: {}",
            name.text,
            known.join(", ")
        );
        self.report(name.at, message)
    }

    fn report(&mut self, at: Position, message: String) -> Reported {
        self.diagnostics.add(at, message);
        Reported
    }
}

/// Every value of a histogram carries this many buckets, so there is a limit.
const MAX_STEPS: i32 = 10_000;

const REQUEST_TYPES: &[(&str, RequestType)] = &[
    ("DATABASE", RequestType::Database),
    ("HTTP", RequestType::Http),
    ("RPC", RequestType::Rpc),
    ("gRPC", RequestType::Grpc),
    ("LOGIC", RequestType::Logic),
];
const DETECT_POINTS: &[(&str, DetectPoint)] = &[
    ("SERVER", DetectPoint::Server),
    ("CLIENT", DetectPoint::Client),
    ("PROXY", DetectPoint::Proxy),
    ("UNRECOGNIZED", DetectPoint::Unrecognized),
];
const GC_PHRASES: &[(&str, GcPhrase)] = &[("NEW", GcPhrase::New), ("OLD", GcPhrase::Old)];
const MEMORY_POOLS: &[(&str, MemoryPool)] = &[
    ("CODE_CACHE_USAGE", MemoryPool::CodeCache),
    ("NEWGEN_USAGE", MemoryPool::NewGen),
    ("OLDGEN_USAGE", MemoryPool::OldGen),
    ("SURVIVOR_USAGE", MemoryPool::Survivor),
    ("PERMGEN_USAGE", MemoryPool::PermGen),
    ("METASPACE_USAGE", MemoryPool::Metaspace),
];

/// The literal as a value of the attribute's type; `None` if it is none.
fn literal(ty: AttrType, value: &LiteralValue) -> Option<Literal> {
    match (ty, value) {
        (AttrType::Text, LiteralValue::Text(text)) => Some(Literal::Text(text.clone())),
        (AttrType::Bool, LiteralValue::Bool(value)) => Some(Literal::Bool(*value)),
        (AttrType::Long, LiteralValue::Number(n)) => n.parse().ok().map(Literal::Long),
        (AttrType::Double, LiteralValue::Number(n)) => n.parse().ok().map(Literal::Double),
        (AttrType::RequestType, LiteralValue::Enum { ty, value }) if ty == "RequestType" => {
            find(REQUEST_TYPES, value).map(Literal::RequestType)
        }
        (AttrType::DetectPoint, LiteralValue::Enum { ty, value }) if ty == "DetectPoint" => {
            find(DETECT_POINTS, value).map(Literal::DetectPoint)
        }
        (AttrType::GcPhrase, LiteralValue::Enum { ty, value }) if ty == "GCPhrase" => {
            find(GC_PHRASES, value).map(Literal::GcPhrase)
        }
        (AttrType::MemoryPool, LiteralValue::Enum { ty, value }) if ty == "MemoryPoolType" => {
            find(MEMORY_POOLS, value).map(Literal::MemoryPool)
        }
        _ => None,
    }
}

fn find<T: Copy>(values: &[(&str, T)], name: &str) -> Option<T> {
    values.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

fn kind(ty: AttrType) -> &'static str {
    match ty {
        AttrType::Text => "a text",
        AttrType::Long => "a whole number",
        AttrType::Double => "a number",
        AttrType::Bool => "a boolean",
        AttrType::RequestType => "a request type",
        AttrType::DetectPoint => "a detect point",
        AttrType::GcPhrase => "a garbage collection phrase",
        AttrType::MemoryPool => "a memory pool type",
    }
}

/// What an attribute of the type can be compared with.
fn values(ty: AttrType) -> String {
    fn names<T>(ty: &str, values: &[(&str, T)]) -> String {
        let names: Vec<String> = values.iter().map(|(n, _)| format!("{ty}.{n}")).collect();
        format!("one of {}", names.join(", "))
    }
    match ty {
        AttrType::Text => "a text in double quotes".to_owned(),
        AttrType::Bool => "true or false".to_owned(),
        AttrType::Long | AttrType::Double => kind(ty).to_owned(),
        AttrType::RequestType => names("RequestType", REQUEST_TYPES),
        AttrType::DetectPoint => names("DetectPoint", DETECT_POINTS),
        AttrType::GcPhrase => names("GCPhrase", GC_PHRASES),
        AttrType::MemoryPool => names("MemoryPoolType", MEMORY_POOLS),
    }
}
