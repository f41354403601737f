//! Splits a script into tokens: names, numbers, quoted texts and symbols. Comments are left out.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use super::diag::{Diagnostics, Position};

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub at: Position,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A letter, then letters, digits and `_`.
    Name(String),
    /// Digits, with an optional minus and fraction, as written.
    Number(String),
    /// The inside of a text in quotes.
    Text(String),
    Symbol(&'static str),
    /// Behind the last token.
    End,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenKind::Name(name) => write!(f, "`{name}`"),
            TokenKind::Number(number) => write!(f, "`{number}`"),
            TokenKind::Text(text) => write!(f, "{text:?}"),
            TokenKind::Symbol(symbol) => write!(f, "`{symbol}`"),
            TokenKind::End => f.write_str("the end of the file"),
        }
    }
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "==", ">=", "<=", "!=", "=", ">", "<", "(", ")", "[", "]", ".", ",", ";", "*",
];

/// The tokens of a text, ending with [`TokenKind::End`]. What is no token is reported and passed over. `quotes` are the
/// characters that texts can be quoted with.
pub fn tokens(text: &str, quotes: &[char], diagnostics: &mut Diagnostics) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        at: Position { line: 1, column: 1 },
        quotes,
        diagnostics,
    };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token();
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    at: Position,
    quotes: &'a [char],
    diagnostics: &'a mut Diagnostics,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Token {
        loop {
            self.take_while(char::is_whitespace);
            let at = self.at;
            let kind = match self.rest.peek() {
                None => TokenKind::End,
                Some(c) if self.quotes.contains(c) => {
                    let quote = *c;
                    self.quoted(quote, at)
                }
                Some(c) if c.is_ascii_alphabetic() => {
                    TokenKind::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'))
                }
                Some(c) if c.is_ascii_digit() || *c == '-' => match self.number(at) {
                    Some(number) => number,
                    None => continue,
                },
                Some('/') => {
                    self.comment(at);
                    continue;
                }
                Some(_) => match self.symbol(at) {
                    Some(symbol) => symbol,
                    None => continue,
                },
            };
            return Token { kind, at };
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| is_part(*c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    fn quoted(&mut self, quote: char, at: Position) -> TokenKind {
        self.bump();
        let mut text = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| *c != '\n') {
            self.bump();
            match c {
                c if c == quote => return TokenKind::Text(text),
                '\\' => text.extend(self.bump()),
                c => text.push(c),
            }
        }
        self.diagnostics
            .add(at, "text has no closing quote on its line");
        TokenKind::Text(text)
    }

    /// Digits, `_` between them, one fraction.
    fn number(&mut self, at: Position) -> Option<TokenKind> {
        let mut number = String::new();
        if self.rest.next_if_eq(&'-').is_some() {
            self.at.column += 1;
            number.push('-');
        }
        let digits = self.take_while(|c| c.is_ascii_digit() || c == '_');
        if digits.is_empty() {
            self.diagnostics.add(at, "unexpected `-`");
            return None;
        }
        number.push_str(&digits.replace('_', ""));
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            self.bump();
            number.push('.');
            number.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        Some(TokenKind::Number(number))
    }

    fn comment(&mut self, at: Position) {
        self.bump();
        match self.rest.peek() {
            Some('/') => {
                self.take_while(|c| c != '\n');
            }
            Some('*') => {
                self.bump();
                while let Some(c) = self.bump() {
                    if c == '*' && self.rest.peek() == Some(&'/') {
                        self.bump();
                        return;
                    }
                }
                self.diagnostics.add(at, "comment has no closing `*/`");
            }
            _ => self.diagnostics.add(at, "unexpected `/`"),
        }
    }

    fn symbol(&mut self, at: Position) -> Option<TokenKind> {
        let first = self.bump()?;
        let pair: String = [first]
            .into_iter()
            .chain(self.rest.peek().copied())
            .collect();
        let found = SYMBOLS.iter().find(|s| pair.starts_with(**s));
        match found {
            Some(symbol) => {
                if symbol.len() == 2 {
                    self.bump();
                }
                Some(TokenKind::Symbol(symbol))
            }
            None => {
                self.diagnostics.add(at, format!("unexpected `{first}`"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (String, Vec<String>) {
        let mut diagnostics = Diagnostics::new("f");
        let tokens = tokens(text, &['"'], &mut diagnostics);
        let shown: Vec<String> = tokens
            .iter()
            .map(|t| format!("{}:{} {}", t.at.line, t.at.column, t.kind))
            .collect();
        let found = diagnostics.finish();
        (
            shown.join(", "),
            found.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn tokens_have_kind_and_place() {
        for (text, want) in [
            ("", "1:1 the end of the file"),
            (
                "a_1=\n  from(*)",
                "1:1 `a_1`, 1:4 `=`, 2:3 `from`, 2:7 `(`, 2:8 `*`, 2:9 `)`, 2:10 the end of the file",
            ),
            (
                "1.2.3 1_000 -5 7.x",
                "1:1 `1.2`, 1:4 `.`, 1:5 `3`, 1:7 `1000`, 1:13 `-5`, 1:16 `7`, 1:17 `.`, 1:18 `x`, 1:19 the end of the file",
            ),
            (
                "==>=<=!==",
                "1:1 `==`, 1:3 `>=`, 1:5 `<=`, 1:7 `!=`, 1:9 `=`, 1:10 the end of the file",
            ),
            (
                r#""a\"b" "ü" x[]"#,
                r#"1:1 "a\"b", 1:8 "ü", 1:12 `x`, 1:13 `[`, 1:14 `]`, 1:15 the end of the file"#,
            ),
            (
                "a // b\n/* c\n*/ d",
                "1:1 `a`, 3:4 `d`, 3:5 the end of the file",
            ),
        ] {
            assert_eq!(check(text), (want.to_owned(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_reported_and_passed_over() {
        for (text, want) in [
            ("a # b", "f:1:3: unexpected `#`"),
            ("'", "f:1:1: unexpected `'`"),
            ("a / b", "f:1:3: unexpected `/`"),
            ("a - b", "f:1:3: unexpected `-`"),
            ("\"a\nb", "f:1:1: text has no closing quote on its line"),
            ("/* a", "f:1:1: comment has no closing `*/`"),
        ] {
            assert_eq!(check(text).1, [want], "{text}");
        }
    }
}
