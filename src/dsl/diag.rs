//! Mistakes in scripts, with their places.

use std::fmt;

/// A place in a text. Both numbers begin with 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file, self.line, self.column, self.message
        )
    }
}

impl std::error::Error for Diagnostic {}

/// Collects the mistakes of one file.
#[derive(Debug)]
pub struct Diagnostics {
    file: String,
    found: Vec<Diagnostic>,
}

/// Nobody reads more, and a text that is no script at all must not fill the memory.
const MAX_PER_FILE: usize = 100;

impl Diagnostics {
    pub fn new(file: &str) -> Diagnostics {
        Diagnostics {
            file: file.to_owned(),
            found: Vec::new(),
        }
    }

    /// Adds one; beyond the first hundred of a file they are left out.
    pub fn add(&mut self, at: Position, message: impl Into<String>) {
        if !self.is_full() {
            self.found.push(Diagnostic {
                file: self.file.clone(),
                line: at.line,
                column: at.column,
                message: message.into(),
            });
        }
    }

    /// Whether further ones are left out.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MAX_PER_FILE
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes in the order of the text.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|d| (d.line, d.column));
        self.found
    }
}
