//! Recursive descent over the tokens of a script. After a mistake it goes on with the next statement.

use super::ast::{Argument, ArgumentKind, Condition, LiteralValue, Metric, Statement, Word};
use crate::dsl::diag::{Diagnostics, Position};
use crate::dsl::lex::{Token, TokenKind, tokens};
use crate::model::metrics::CompareOp;

/// The statements that could be read; the rest is in `diagnostics`.
pub fn parse(text: &str, diagnostics: &mut Diagnostics) -> Vec<Statement> {
    let tokens = tokens(text, &['"'], diagnostics);
    let mut parser = Parser {
        tokens: &tokens,
        next: 0,
        diagnostics,
    };
    let mut statements = Vec::new();
    while *parser.peek() != TokenKind::End {
        let start = parser.next;
        match parser.statement() {
            Some(statement) => {
                statements.push(statement);
                parser.end_of_statement();
            }
            None => {
                // The mistake may be that the statement never ended, and that the next one was read as a part of it.
                parser.next = start;
                parser.skip_statement();
            }
        }
    }
    statements
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    diagnostics: &'a mut Diagnostics,
}

/// What a parser function returns: `None` after a mistake, which is then already reported.
type Parsed<T> = Option<T>;

impl Parser<'_> {
    fn statement(&mut self) -> Parsed<Statement> {
        let name = self.word("the name of a metric, or `disable`")?;
        if name.text == "disable" && self.is_symbol("(") {
            self.symbol("(")?;
            let model = self.word("the name of a model")?;
            self.symbol(")")?;
            return Some(Statement::Disable(model));
        }
        self.symbol("=")?;
        self.keyword("from")?;
        self.symbol("(")?;
        let source = self.word("the name of a source")?;
        self.symbol(".")?;
        let attribute_at = self.at();
        let attribute = if self.is_symbol("*") {
            self.bump();
            None
        } else {
            Some(self.word("an attribute, or `*`")?)
        };
        self.symbol(")")?;
        let mut filters = Vec::new();
        loop {
            self.symbol(".")?;
            let word = self.word("`filter` or a function")?;
            self.symbol("(")?;
            if word.text == "filter" {
                filters.push(self.condition()?);
                self.symbol(")")?;
                continue;
            }
            let arguments = self.arguments()?;
            return Some(Statement::Metric(Metric {
                name,
                source,
                attribute,
                attribute_at,
                filters,
                function: word,
                arguments,
            }));
        }
    }

    /// Up to and with the closing bracket.
    fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        let mut arguments = Vec::new();
        if self.is_symbol(")") {
            self.bump();
            return Some(arguments);
        }
        loop {
            arguments.push(self.argument()?);
            if self.is_symbol(",") {
                self.bump();
                continue;
            }
            self.symbol(")")?;
            return Some(arguments);
        }
    }

    fn argument(&mut self) -> Parsed<Argument> {
        let at = self.at();
        let kind = match self.peek() {
            TokenKind::Name(name) if name != "true" && name != "false" => {
                let attribute = self.word("an attribute")?;
                if self.is_symbol(",") || self.is_symbol(")") {
                    ArgumentKind::Attribute(attribute)
                } else {
                    ArgumentKind::Condition(self.comparison(attribute)?)
                }
            }
            _ => ArgumentKind::Literal(self.literal()?),
        };
        Some(Argument { kind, at })
    }

    fn condition(&mut self) -> Parsed<Condition> {
        let attribute = self.word("an attribute")?;
        self.comparison(attribute)
    }

    fn comparison(&mut self, attribute: Word) -> Parsed<Condition> {
        let op_at = self.at();
        let op = match self.peek() {
            TokenKind::Symbol("==") => CompareOp::Equal,
            TokenKind::Symbol(">") => CompareOp::Greater,
            TokenKind::Symbol("<") => CompareOp::Less,
            TokenKind::Symbol(">=") => CompareOp::GreaterEqual,
            TokenKind::Symbol("<=") => CompareOp::LessEqual,
            _ => return self.expected("one of `==` `>` `<` `>=` `<=`, there are no others"),
        };
        self.bump();
        let value_at = self.at();
        let value = self.literal()?;
        Some(Condition {
            attribute,
            op,
            op_at,
            value,
            value_at,
        })
    }

    fn literal(&mut self) -> Parsed<LiteralValue> {
        let value = match self.peek().clone() {
            TokenKind::Number(number) => LiteralValue::Number(number),
            TokenKind::Text(text) => LiteralValue::Text(text),
            TokenKind::Name(name) if name == "true" => LiteralValue::Bool(true),
            TokenKind::Name(name) if name == "false" => LiteralValue::Bool(false),
            TokenKind::Name(ty) => {
                self.bump();
                self.symbol(".")?;
                let value = self.word("a value of the enumeration")?.text;
                return Some(LiteralValue::Enum { ty, value });
            }
            _ => return self.expected("a value"),
        };
        self.bump();
        Some(value)
    }

    /// `;`, which the last statement may leave out.
    fn end_of_statement(&mut self) {
        match self.peek() {
            TokenKind::Symbol(";") => self.bump(),
            TokenKind::End => {}
            found => {
                let message = match found {
                    TokenKind::Symbol(".") => {
                        "expected `;`, nothing follows the function".to_owned()
                    }
                    found => format!("expected `;` before {found}"),
                };
                self.diagnostics.add(self.at(), message);
                if !self.begins_statement() {
                    self.skip_statement();
                }
            }
        }
    }

    /// Skips behind the next `;`, or to the next line that looks like a statement.
    fn skip_statement(&mut self) {
        loop {
            match self.peek() {
                TokenKind::End => return,
                TokenKind::Symbol(";") => {
                    self.bump();
                    return;
                }
                _ => self.bump(),
            }
            if self.begins_statement() {
                return;
            }
        }
    }

    /// Whether a name followed by `=` begins a line here.
    fn begins_statement(&self) -> bool {
        let at = |i: usize| self.tokens.get(i);
        let before = self.next.checked_sub(1).and_then(at);
        let is_first = before.is_none_or(|b| b.at.line < self.at().line);
        let is_name = matches!(self.peek(), TokenKind::Name(_));
        let is_assigned = at(self.next + 1).is_some_and(|t| t.kind == TokenKind::Symbol("="));
        is_first && is_name && is_assigned
    }

    fn peek(&self) -> &TokenKind {
        self.tokens
            .get(self.next)
            .map_or(&TokenKind::End, |t| &t.kind)
    }

    fn at(&self) -> Position {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(Position { line: 1, column: 1 }, |t| t.at)
    }

    fn bump(&mut self) {
        self.next += 1;
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(s) if *s == symbol)
    }

    fn symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.is_symbol(symbol) {
            self.bump();
            return Some(());
        }
        self.expected(&format!("`{symbol}`"))
    }

    fn keyword(&mut self, keyword: &str) -> Parsed<()> {
        match self.peek() {
            TokenKind::Name(name) if name == keyword => {
                self.bump();
                Some(())
            }
            _ => self.expected(&format!("`{keyword}`")),
        }
    }

    fn word(&mut self, what: &str) -> Parsed<Word> {
        let at = self.at();
        match self.peek() {
            TokenKind::Name(name) => {
                let text = name.clone();
                self.bump();
                Some(Word { text, at })
            }
            _ => self.expected(what),
        }
    }

    fn expected<T>(&mut self, what: &str) -> Parsed<T> {
        let message = format!("expected {what}, found {}", self.peek());
        self.diagnostics.add(self.at(), message);
        None
    }
}
