//! `${NAME:default}` inside one scalar.
//!
//! A name may itself contain placeholders, and so may what it stands for. What cannot be resolved stays as it is written.

use super::raw::Origin;

/// Finds the value of a name.
pub trait Lookup {
    /// The value and where it comes from; `None` if nobody has it.
    fn find(&self, name: &str) -> Option<(String, Origin)>;
}

/// Why a text cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    #[error("placeholder \"{0}\" refers to itself")]
    Circular(String),
    #[error("placeholders expand to more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("placeholders are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("more than {MAX_STEPS} placeholders have to be replaced")]
    TooMany,
}

/// Far above any real setting; stops placeholders that multiply each other.
const MAX_BYTES: usize = 1 << 20;
/// Placeholders within placeholders.
const MAX_DEPTH: usize = 50;
/// Stops those that multiply each other and come to nothing.
const MAX_STEPS: usize = 100_000;

/// Replaces every placeholder. The origin is that of the first one that somebody has a value for.
pub fn resolve(text: &str, lookup: &dyn Lookup) -> Result<(String, Origin), PlaceholderError> {
    let mut resolver = Resolver {
        lookup,
        open: Vec::new(),
        steps: 0,
        origin: Origin::File,
    };
    let resolved = resolver.text(text)?;
    Ok((resolved, resolver.origin))
}

struct Resolver<'a> {
    lookup: &'a dyn Lookup,
    /// Placeholders that are being resolved, to find circles.
    open: Vec<String>,
    /// Placeholders so far.
    steps: usize,
    origin: Origin,
}

impl Resolver<'_> {
    fn text(&mut self, text: &str) -> Result<String, PlaceholderError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from_start)) = rest.split_once("${") {
            out.push_str(before);
            let Some((body, after)) = split_at_end(from_start) else {
                out.push_str("${");
                out.push_str(from_start);
                return Ok(out);
            };
            match self.placeholder(body)? {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("${");
                    out.push_str(body);
                    out.push('}');
                }
            }
            if out.len() > MAX_BYTES {
                return Err(PlaceholderError::TooLong);
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn placeholder(&mut self, body: &str) -> Result<Option<String>, PlaceholderError> {
        if self.open.iter().any(|open| open == body) {
            return Err(PlaceholderError::Circular(body.to_owned()));
        }
        self.steps += 1;
        if self.open.len() >= MAX_DEPTH {
            return Err(PlaceholderError::TooDeep);
        }
        if self.steps > MAX_STEPS {
            return Err(PlaceholderError::TooMany);
        }
        self.open.push(body.to_owned());
        let inner = self.text(body)?;
        let (name, default) = match inner.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inner.as_str(), None),
        };
        let value = match self.lookup.find(name) {
            Some((value, origin)) => {
                if matches!(self.origin, Origin::File | Origin::Default) {
                    self.origin = origin;
                }
                Some(value)
            }
            None => {
                if default.is_some() && self.origin == Origin::File {
                    self.origin = Origin::Default;
                }
                default.map(str::to_owned)
            }
        };
        let value = value.map(|v| self.text(&v)).transpose()?;
        self.open.pop();
        Ok(value)
    }
}

/// Splits what follows `${` at the matching `}`, counting braces in between.
fn split_at_end(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some((text.get(..i)?, text.get(i + 1..)?)),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(&'static [(&'static str, &'static str)]);

    impl Lookup for Map {
        fn find(&self, name: &str) -> Option<(String, Origin)> {
            let (_, value) = self.0.iter().find(|(n, _)| *n == name)?;
            Some(((*value).to_owned(), Origin::Variable(name.to_owned())))
        }
    }

    #[test]
    fn placeholders_are_replaced() {
        let map = Map(&[
            ("A", "1"),
            ("EMPTY", ""),
            ("REF", "<${A}>"),
            ("NAME_1", "nested"),
        ]);
        let variable = |n: &str| Origin::Variable(n.to_owned());
        for (text, want, origin) in [
            ("plain", "plain", Origin::File),
            ("${A:9}", "1", variable("A")),
            ("${NO:9}", "9", Origin::Default),
            ("${NO:a:b:c}", "a:b:c", Origin::Default),
            ("${NO:}", "", Origin::Default),
            ("${EMPTY:9}", "", variable("EMPTY")),
            ("${NO}", "${NO}", Origin::File),
            ("${REF:}", "<1>", variable("REF")),
            ("x${A}y${NO:2}z", "x1y2z", variable("A")),
            ("${NO:2}${A}", "21", variable("A")),
            ("${NO:${A}}", "1", variable("A")),
            ("${NAME_${A}}", "nested", variable("A")),
            (
                r#"${NO:{"a":{"b":1}}}"#,
                r#"{"a":{"b":1}}"#,
                Origin::Default,
            ),
            ("${A", "${A", Origin::File),
            ("$A {}", "$A {}", Origin::File),
        ] {
            assert_eq!(resolve(text, &map), Ok((want.to_owned(), origin)), "{text}");
        }
    }

    #[test]
    fn circles_and_floods_are_errors() {
        let circle = Map(&[("A", "${B}"), ("B", "${A}")]);
        assert_eq!(
            resolve("${A}", &circle),
            Err(PlaceholderError::Circular("A".to_owned()))
        );
        let flood = Map(&[
            ("A", "${B}${B}${B}${B}${B}${B}${B}${B}"),
            ("B", "${C}${C}${C}${C}${C}${C}${C}${C}"),
            ("C", "${D}${D}${D}${D}${D}${D}${D}${D}"),
            ("D", "${E}${E}${E}${E}${E}${E}${E}${E}"),
            ("E", "${F}${F}${F}${F}${F}${F}${F}${F}"),
            ("F", "0123456789012345678901234567890123456789"),
        ]);
        assert_eq!(resolve("${A}", &flood), Err(PlaceholderError::TooLong));
        let drought = Map(&[
            ("A", "${B}${B}${B}${B}${B}${B}${B}${B}${B}${B}"),
            ("B", "${C}${C}${C}${C}${C}${C}${C}${C}${C}${C}"),
            ("C", "${D}${D}${D}${D}${D}${D}${D}${D}${D}${D}"),
            ("D", "${E}${E}${E}${E}${E}${E}${E}${E}${E}${E}"),
            ("E", "${F}${F}${F}${F}${F}${F}${F}${F}${F}${F}"),
            ("F", ""),
        ]);
        assert_eq!(
            resolve("${B}", &drought),
            Ok((String::new(), Origin::Variable("B".to_owned())))
        );
        assert_eq!(resolve("${A}", &drought), Err(PlaceholderError::TooMany));
        let nested = |depth: usize| "${A:".repeat(depth) + &"}".repeat(depth);
        let nothing = Map(&[]);
        assert!(resolve(&nested(50), &nothing).is_ok());
        assert_eq!(
            resolve(&nested(100_000), &nothing),
            Err(PlaceholderError::TooDeep)
        );
    }
}
