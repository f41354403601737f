//! A script as it is written, before anything is resolved.

use crate::dsl::diag::Position;
use crate::model::metrics::CompareOp;

/// A word with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub at: Position,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    Metric(Metric),
    /// `disable(model);`
    Disable(Word),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: Word,
    pub source: Word,
    /// `None` for `*`.
    pub attribute: Option<Word>,
    /// Place of the attribute or `*`.
    pub attribute_at: Position,
    pub filters: Vec<Condition>,
    pub function: Word,
    pub arguments: Vec<Argument>,
}

/// `attribute OP value`
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub attribute: Word,
    pub op: CompareOp,
    pub op_at: Position,
    pub value: LiteralValue,
    pub value_at: Position,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LiteralValue {
    Bool(bool),
    Text(String),
    /// As written.
    Number(String),
    /// `DetectPoint.CLIENT`
    Enum {
        ty: String,
        value: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub kind: ArgumentKind,
    pub at: Position,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentKind {
    Condition(Condition),
    Literal(LiteralValue),
    Attribute(Word),
}
