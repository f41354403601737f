//! A YAML file beside `application.yml`, taken apart piece by piece: every mistake with its place, all at once.

use serde_norway::Value;

use super::{ConfigFile, Problem};
use crate::model::yaml;

/// What is wrong with a file, and what in it is without effect.
#[derive(Debug)]
pub struct Report {
    /// The file, for messages.
    origin: String,
    /// Where what it says begins.
    first_line: usize,
    problems: Vec<Problem>,
    ignored: Vec<String>,
}

/// A value of a file with its place, such as `grouping[0].rules[2].regex`.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    path: String,
    value: &'a Value,
}

impl Report {
    /// Parses the text of a file. One that is no YAML is reported and read as an empty one.
    pub fn open(file: &ConfigFile) -> (Report, Value) {
        let mut report = Report {
            origin: format!("{} ({})", file.name, file.source),
            first_line: first_line(&file.text),
            problems: Vec::new(),
            ignored: Vec::new(),
        };
        let value = yaml::parse(&file.text).unwrap_or_else(|e| {
            // The message ends with line and column.
            report.add("the file", Some("no YAML".to_owned()), format!("YAML: {e}"));
            Value::Null
        });
        (report, value)
    }

    /// The value, what in the file is without effect, or all mistakes.
    pub fn finish<T>(self, value: T) -> Result<(T, Vec<String>), Vec<Problem>> {
        if self.problems.is_empty() {
            Ok((value, self.ignored))
        } else {
            Err(self.problems)
        }
    }

    /// The value at a place is none that can be used.
    pub fn wrong(&mut self, place: &Place<'_>, expected: impl Into<String>) {
        let value = match place.value {
            Value::Null => None,
            Value::Mapping(_) => Some("a map".to_owned()),
            Value::Sequence(_) => Some("a list".to_owned()),
            Value::Tagged(_) => Some("a tagged value".to_owned()),
            scalar => scalar_text(scalar),
        };
        self.add(&place.path, value, expected.into());
    }

    /// What is at a place has no effect.
    pub fn ignore(&mut self, place: &Place<'_>, reason: &str) {
        let path = &place.path;
        self.ignored.push(format!("{path}: {reason}"));
    }

    fn add(&mut self, path: &str, value: Option<String>, expected: String) {
        self.problems.push(Problem {
            path: path.to_owned(),
            value,
            origin: self.origin.clone(),
            expected,
        });
    }
}

impl<'a> Place<'a> {
    /// The whole file.
    pub fn root(value: &'a Value) -> Place<'a> {
        Place {
            path: String::new(),
            value,
        }
    }

    /// Keys and values of a map; none if there is nothing. Keys that look like numbers count as texts.
    pub fn entries(&self, report: &mut Report) -> Vec<(String, Place<'a>)> {
        match self.value {
            Value::Null => vec![],
            Value::Mapping(map) => map
                .iter()
                .map(|(key, value)| {
                    let key = scalar_text(key).unwrap_or_default();
                    let path = match self.path.as_str() {
                        "" => key.clone(),
                        path => format!("{path}.{key}"),
                    };
                    (key, Place { path, value })
                })
                .collect(),
            _ => {
                let (path, expected) = match self.path.as_str() {
                    "" => (
                        "the file",
                        format!("a map (it begins in line {})", report.first_line),
                    ),
                    path => (path, "a map".to_owned()),
                };
                let place = Place {
                    path: path.to_owned(),
                    value: self.value,
                };
                report.wrong(&place, expected);
                vec![]
            }
        }
    }

    /// The values of the wanted keys of a map, nothing for those that it lacks; other keys are without effect.
    pub fn fields<const N: usize>(&self, wanted: [&str; N], report: &mut Report) -> [Place<'a>; N] {
        let mut fields = wanted.map(|key| Place {
            path: match self.path.as_str() {
                "" => key.to_owned(),
                path => format!("{path}.{key}"),
            },
            value: &Value::Null,
        });
        for (key, place) in self.entries(report) {
            match wanted.iter().zip(&mut fields).find(|(w, _)| **w == key) {
                Some((_, field)) => *field = place,
                None => report.ignore(&place, "unknown key"),
            }
        }
        fields
    }

    /// The items of a list; none if there is nothing.
    pub fn items(&self, report: &mut Report) -> Vec<Place<'a>> {
        match self.value {
            Value::Null => vec![],
            Value::Sequence(items) => (0..)
                .zip(items)
                .map(|(i, value): (usize, _)| Place {
                    path: format!("{}[{i}]", self.path),
                    value,
                })
                .collect(),
            _ => {
                report.wrong(self, "a list");
                vec![]
            }
        }
    }

    /// A text; `None` if there is nothing, an empty text, or something else, which is reported.
    pub fn text(&self, report: &mut Report) -> Option<&'a str> {
        match self.value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => {
                report.wrong(self, "a text");
                None
            }
        }
    }

    /// A whole number; `None` if there is nothing or something else, which is reported.
    pub fn whole_number(&self, report: &mut Report) -> Option<i64> {
        let number = self.value.as_i64();
        if number.is_none() && !self.is_nothing() {
            report.wrong(self, "a whole number");
        }
        number
    }

    /// Whether nothing is there.
    pub fn is_nothing(&self) -> bool {
        self.value.is_null()
    }

    /// A text, number or truth value as text; `None` for anything else.
    pub fn scalar(&self) -> Option<String> {
        scalar_text(self.value)
    }
}

/// The first line that is neither blank nor a comment nor the mark of a document.
pub fn first_line(text: &str) -> usize {
    let is_silent = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    };
    1 + text.lines().take_while(is_silent).count()
}

/// Keys and values may look like numbers or truth values in YAML.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> (Report, Value) {
        Report::open(&ConfigFile::built_in("gateways.yml", text))
    }

    #[test]
    fn mistakes_have_their_places() {
        let (mut report, value) = open("a: {b: [1, x], c: y}\nd: []");
        let root = Place::root(&value);
        let [a, d, e] = root.fields(["a", "d", "e"], &mut report);
        let [b] = a.fields(["b"], &mut report);
        for item in b.items(&mut report) {
            item.whole_number(&mut report);
        }
        assert_eq!(d.text(&mut report), None);
        assert_eq!(e.text(&mut report), None);
        report.wrong(&e, "something");
        let ignored = report.ignored.clone();
        let found: Vec<String> = report
            .finish(())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ignored, ["a.c: unknown key"]);
        assert_eq!(
            found,
            [
                "a.b[1] is \"x\" (from gateways.yml (built in)), expected a whole number",
                "d is \"a list\" (from gateways.yml (built in)), expected a text",
                "e is missing (from gateways.yml (built in)), expected something",
            ]
        );
    }

    #[test]
    fn a_text_that_is_no_yaml_says_where() {
        let (report, value) = open("a: [1\nb: }");
        assert!(value.is_null());
        let found = report.finish(()).unwrap_err();
        let message = found[0].to_string();
        assert!(message.contains("gateways.yml (built in)"), "{message}");
        assert!(message.contains("line 2"), "{message}");
        let (mut report, value) = open("# a\n---\n- 1");
        assert!(Place::root(&value).entries(&mut report).is_empty());
        assert_eq!(
            report.finish(()).unwrap_err()[0].to_string(),
            "the file is \"a list\" (from gateways.yml (built in)), expected a map (it begins in line 3)"
        );
    }
}
