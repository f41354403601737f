//! Recursive descent over the tokens of an expression. A wrong function or argument does not hide the next one.

use super::{Call, Expression, Operand, Operator, WindowFunction};
use crate::dsl::diag::{Diagnostics, Position};
use crate::dsl::duration;
use crate::dsl::lex::{Token, TokenKind, tokens};

/// Expressions inside of each other.
const MAX_DEPTH: usize = 16;
const DAY_MS: u128 = 24 * 60 * 60 * 1000;
/// Beyond this a double is infinite or zero anyway.
const MAX_SCALE: i32 = 300;

/// The expression; `None` if it has mistakes, which are then in `diagnostics`.
pub fn parse(text: &str, diagnostics: &mut Diagnostics) -> Option<Expression> {
    let tokens = tokens(text, &['"', '\''], diagnostics);
    let mut parser = Parser {
        tokens: &tokens,
        next: 0,
        depth: 0,
        diagnostics,
    };
    let expression = parser.expression()?;
    match parser.peek() {
        TokenKind::End => Some(expression),
        _ => parser.unexpected("`.` or the end of the expression"),
    }
}

/// What a function takes.
#[derive(Clone, Copy)]
enum Shape {
    Filter,
    Operator(Operator),
    Scale,
    Window(WindowFunction),
}

const FUNCTIONS: &[(&str, Shape)] = &[
    ("tagFilter", Shape::Filter),
    ("multiply", Shape::Operator(Operator::Multiply)),
    ("add", Shape::Operator(Operator::Add)),
    ("minus", Shape::Operator(Operator::Minus)),
    ("divide", Shape::Operator(Operator::Divide)),
    ("scale", Shape::Scale),
    ("increase", Shape::Window(WindowFunction::Increase)),
    ("rate", Shape::Window(WindowFunction::Rate)),
    ("irate", Shape::Window(WindowFunction::Irate)),
];

enum Argument {
    Number(String),
    Text(String),
    /// `None` if it has mistakes.
    Samples(Option<Expression>),
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    depth: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Parser<'_> {
    fn expression(&mut self) -> Option<Expression> {
        const START: &str = "`meter[\"name\"]`";
        if !matches!(self.peek(), TokenKind::Name(name) if name == "meter") {
            return self.unexpected(START);
        }
        self.bump();
        self.symbol("[", START)?;
        let TokenKind::Text(meter) = self.peek().clone() else {
            return self.unexpected("the name of a meter in quotes");
        };
        self.bump();
        self.symbol("]", "`]`")?;
        let mut calls = Vec::new();
        let mut is_right = true;
        while matches!(self.peek(), TokenKind::Symbol(".")) {
            self.bump();
            match self.call()? {
                Some(call) => calls.push(call),
                None => is_right = false,
            }
        }
        is_right.then_some(Expression { meter, calls })
    }

    /// `None` if it cannot go on, `Some(None)` if only this call is wrong.
    fn call(&mut self) -> Option<Option<Call>> {
        let at = self.at();
        let names = FUNCTIONS.iter().map(|(name, _)| *name);
        let names = names.collect::<Vec<_>>().join(", ");
        let TokenKind::Name(name) = self.peek().clone() else {
            return self.unexpected(&format!("a function: {names}"));
        };
        self.bump();
        let shape = FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
        if shape.is_none() {
            let message = format!("unknown function `{name}`, expected {names}");
            self.diagnostics.add(at, message);
        }
        self.symbol("(", "`(`")?;
        let arguments = self.arguments()?;
        Some(shape.and_then(|shape| self.check(&name, shape, at, arguments)))
    }

    /// Up to and with the closing bracket.
    fn arguments(&mut self) -> Option<Vec<(Position, Argument)>> {
        let mut arguments = Vec::new();
        while !matches!(self.peek(), TokenKind::Symbol(")")) {
            if !arguments.is_empty() {
                self.symbol(",", "`,` or `)`")?;
            }
            let at = self.at();
            arguments.push((at, self.argument()?));
        }
        self.bump();
        Some(arguments)
    }

    fn argument(&mut self) -> Option<Argument> {
        match self.peek().clone() {
            TokenKind::Number(number) => {
                self.bump();
                Some(Argument::Number(number))
            }
            TokenKind::Text(text) => {
                self.bump();
                Some(Argument::Text(text))
            }
            _ if self.depth == MAX_DEPTH => {
                let message = format!("more than {MAX_DEPTH} expressions inside of each other");
                self.diagnostics.add(self.at(), message);
                None
            }
            TokenKind::Name(_) => {
                self.depth += 1;
                let before = self.next;
                let samples = self.expression();
                self.depth -= 1;
                // A mistake in its calls; after any other there is nothing to go on from.
                let is_complete = self.is_closed(before);
                (samples.is_some() || is_complete).then_some(Argument::Samples(samples))
            }
            _ => self.unexpected("a number, a text in quotes or `meter[\"name\"]`"),
        }
    }

    /// Whether what was read since `start` ends where an argument can end.
    fn is_closed(&self, start: usize) -> bool {
        self.next > start && matches!(self.peek(), TokenKind::Symbol(")" | ","))
    }

    fn check(
        &mut self,
        name: &str,
        shape: Shape,
        at: Position,
        arguments: Vec<(Position, Argument)>,
    ) -> Option<Call> {
        let mut arguments = arguments.into_iter();
        let given = [arguments.next(), arguments.next(), arguments.next()];
        match (shape, given) {
            (
                Shape::Filter,
                [
                    Some((_, Argument::Text(key))),
                    Some((_, Argument::Text(value))),
                    None,
                ],
            ) => Some(Call::TagFilter { key, value }),
            (Shape::Operator(operator), [Some((at, operand)), None, _]) => {
                let operand = self.operand(name, at, operand)?;
                Some(Call::Arithmetic { operator, operand })
            }
            (Shape::Scale, [Some((at, Argument::Number(n))), None, _]) => {
                let power = n.parse().ok();
                let power = power.filter(|n: &i32| n.abs() <= MAX_SCALE);
                if power.is_none() {
                    let message =
                        format!("expected a whole number from -{MAX_SCALE} to {MAX_SCALE}");
                    self.diagnostics.add(at, message);
                }
                power.map(Call::Scale)
            }
            (Shape::Window(function), [Some((at, Argument::Text(range))), None, _]) => {
                let range_ms = self.range(at, &range)?;
                Some(Call::Window { function, range_ms })
            }
            (shape, _) => {
                let wanted = match shape {
                    Shape::Filter => "the name and the value of a label, in quotes",
                    Shape::Operator(_) => "a number or `meter[\"name\"]`",
                    Shape::Scale => "a whole number",
                    Shape::Window(_) => "a length of time such as \"PT1M\"",
                };
                self.diagnostics.add(at, format!("`{name}` takes {wanted}"));
                None
            }
        }
    }

    fn operand(&mut self, name: &str, at: Position, operand: Argument) -> Option<Operand> {
        match operand {
            Argument::Number(number) => number.parse().ok().map(Operand::Number),
            Argument::Samples(samples) => samples.map(Operand::Samples),
            Argument::Text(_) => {
                let message = format!("`{name}` takes a number or `meter[\"name\"]`");
                self.diagnostics.add(at, message);
                None
            }
        }
    }

    fn range(&mut self, at: Position, text: &str) -> Option<i64> {
        let length = duration::parse(text).map(|length| length.as_millis());
        let length = length.filter(|ms| (1..=DAY_MS).contains(ms));
        if length.is_none() {
            let message =
                format!("{text:?} is no length of time, expected \"PT1M\" or so, up to one day");
            self.diagnostics.add(at, message);
        }
        i64::try_from(length?).ok()
    }

    fn peek(&self) -> &TokenKind {
        self.tokens
            .get(self.next)
            .map_or(&TokenKind::End, |token| &token.kind)
    }

    fn at(&self) -> Position {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(Position { line: 1, column: 1 }, |token| token.at)
    }

    fn bump(&mut self) {
        self.next += 1;
    }

    fn symbol(&mut self, symbol: &str, expected: &str) -> Option<()> {
        match self.peek() {
            TokenKind::Symbol(found) if *found == symbol => {
                self.bump();
                Some(())
            }
            _ => self.unexpected(expected),
        }
    }

    fn unexpected<T>(&mut self, expected: &str) -> Option<T> {
        let found = match self.peek() {
            TokenKind::End => "the end of the expression".to_owned(),
            found => found.to_string(),
        };
        let message = format!("expected {expected}, found {found}");
        self.diagnostics.add(self.at(), message);
        None
    }
}
