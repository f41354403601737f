//! Rules of meters: which metrics are made of what agents measured themselves (8.1.0 spec, A.10).
//!
//! A file has a list `meters` of name, scope, operation and an expression such as `meter["requests"].increase("PT1M")`.

mod parse;
mod rules;
#[cfg(test)]
mod tests;

use super::diag::{Diagnostic, Diagnostics};
use crate::model::metrics::MeterDefinition;

/// A rule: what to evaluate when an instance reports, and which metric it feeds.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterRule {
    pub definition: MeterDefinition,
    /// Of scope Endpoint: its name.
    pub endpoint: Option<String>,
    pub expression: Expression,
}

/// The samples of a meter and what is done to them, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// Name that the agent gives.
    pub meter: String,
    pub calls: Vec<Call>,
}

/// One function of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Keeps the samples that have the label with this value.
    TagFilter { key: String, value: String },
    Arithmetic {
        operator: Operator,
        operand: Operand,
    },
    /// Times ten to the power.
    Scale(i32),
    /// Compared with what the same sample was before.
    Window {
        function: WindowFunction,
        range_ms: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Multiply,
    Add,
    Minus,
    Divide,
}

/// The right side of an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Number(f64),
    /// At most one sample.
    Samples(Expression),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowFunction {
    Increase,
    /// Per second since the beginning of the range.
    Rate,
    /// Per second since the sample before.
    Irate,
}

impl Expression {
    /// The longest range that it looks back, in milliseconds.
    pub fn longest_range_ms(&self) -> i64 {
        let ranges = self.calls.iter().map(|call| match call {
            Call::Window { range_ms, .. } => *range_ms,
            Call::Arithmetic {
                operand: Operand::Samples(samples),
                ..
            } => samples.longest_range_ms(),
            _ => 0,
        });
        ranges.max().unwrap_or(0)
    }
}

/// Compiles rule files, each a file name and its text. Fails with every mistake of every file.
pub fn compile(files: &[(String, String)]) -> Result<Vec<MeterRule>, Vec<Diagnostic>> {
    let mut compiler = rules::Compiler::default();
    let mut found = Vec::new();
    for (file, text) in files {
        let mut diagnostics = Diagnostics::new(file);
        compiler.add(file, text, &mut diagnostics);
        found.extend(diagnostics.finish());
    }
    if found.is_empty() {
        Ok(compiler.finish())
    } else {
        Err(found)
    }
}
