//! OAL: which metrics are made of which sources (8.1.0 spec, D.2).
//!
//! `name = from(Source.attribute).filter(attribute OP value).function(arguments);` and `disable(model);`

mod ast;
mod compile;
mod function;
mod parse;
#[cfg(test)]
mod tests;

use super::diag::{Diagnostic, Diagnostics};
use crate::model::metrics::MetricDefinition;

/// What the scripts define.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OalProgram {
    /// In the order of the scripts.
    pub metrics: Vec<MetricDefinition>,
    /// Built-in models that scripts switch off.
    pub disabled: Vec<String>,
}

/// Compiles scripts, each a file name and its text. Fails with every mistake of every file.
pub fn compile(files: &[(String, String)]) -> Result<OalProgram, Vec<Diagnostic>> {
    let mut compiler = compile::Compiler::new();
    let mut found = Vec::new();
    for (file, text) in files {
        let mut diagnostics = Diagnostics::new(file);
        let statements = parse::parse(text, &mut diagnostics);
        compiler.add(file, &statements, &mut diagnostics);
        found.extend(diagnostics.finish());
    }
    if found.is_empty() {
        Ok(compiler.finish())
    } else {
        Err(found)
    }
}
