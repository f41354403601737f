//! YAML files of rules: typed reading that collects all mistakes with their places.
//!
//! The reader of YAML keeps no places, so a mistake is looked up by reading the text again up to it.

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_norway::{Mapping, Value};

use super::diag::{Diagnostics, Position};
use crate::model::yaml;

/// One step from the root of a file to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
    /// The key itself instead of what it has.
    Name(String),
}

/// A value and how to find it again.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    path: Vec<Step>,
}

/// The keys of a map.
#[derive(Debug)]
pub struct Fields<'a> {
    node: Node<'a>,
    map: &'a Mapping,
}

impl<'a> Fields<'a> {
    /// What a key has; `None` for an absent key and for one that has nothing.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(self.node.child(value, Step::Key(key.to_owned())))
    }
}

impl<'a> Node<'a> {
    fn child(&self, value: &'a Value, step: Step) -> Node<'a> {
        let mut path = self.path.clone();
        path.push(step);
        Node { value, path }
    }
}

/// Reads one file; mistakes go to its diagnostics.
#[derive(Debug)]
pub struct Reader<'t, 'd> {
    text: &'t str,
    diagnostics: &'d mut Diagnostics,
}

impl<'t, 'd> Reader<'t, 'd> {
    /// The file as one value; `None` if it is no YAML, which is then reported.
    pub fn new(text: &'t str, diagnostics: &'d mut Diagnostics) -> Option<(Reader<'t, 'd>, Value)> {
        match yaml::parse(text) {
            Ok(value) => Some((Reader { text, diagnostics }, value)),
            Err(error) => {
                let message = error.to_string();
                let reason = message.split(" at line ").next().unwrap_or_default();
                let reason = too_large(reason).unwrap_or_else(|| reason.to_owned());
                diagnostics.add(place(text, &error), format!("no valid YAML: {reason}"));
                None
            }
        }
    }

    /// The root of a file.
    pub fn root<'a>(&self, value: &'a Value) -> Node<'a> {
        Node {
            value,
            path: Vec::new(),
        }
    }

    /// Reports a mistake about a value.
    pub fn wrong(&mut self, node: &Node<'_>, message: impl Into<String>) {
        // Looking for the place takes as long as reading the whole text.
        if !self.diagnostics.is_full() {
            let at = self.position(node);
            self.diagnostics.add(at, message);
        }
    }

    /// Where a value stands.
    pub fn position(&self, node: &Node<'_>) -> Position {
        locate(self.text, &node.path)
    }

    /// A map that has none but these keys.
    pub fn map<'a>(&mut self, node: &Node<'a>, keys: &[&str]) -> Option<Fields<'a>> {
        let Value::Mapping(map) = node.value else {
            self.wrong(node, format!("expected a map with {}", keys.join(", ")));
            return None;
        };
        for (key, value) in map {
            let name = key.as_str().unwrap_or_default();
            if !keys.contains(&name) {
                let message = format!("unknown key `{name}`, expected {}", keys.join(", "));
                self.wrong(&node.child(value, Step::Name(name.to_owned())), message);
            }
        }
        let node = node.clone();
        Some(Fields { node, map })
    }

    /// What a key must have.
    pub fn required<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<Node<'a>> {
        let found = fields.get(key);
        if found.is_none() {
            self.wrong(&fields.node, format!("`{key}` is missing"));
        }
        found
    }

    /// The entries of a map with free keys.
    pub fn entries<'a>(&mut self, node: &Node<'a>) -> Option<Vec<(&'a str, Node<'a>)>> {
        let Value::Mapping(map) = node.value else {
            self.wrong(node, "expected a map");
            return None;
        };
        let mut entries = Vec::new();
        for (key, value) in map {
            match key.as_str() {
                Some(name) => {
                    entries.push((name, node.child(value, Step::Key(name.to_owned()))));
                }
                None => self.wrong(node, "expected texts as keys"),
            }
        }
        Some(entries)
    }

    /// The items of a list.
    pub fn list<'a>(&mut self, node: &Node<'a>) -> Option<Vec<Node<'a>>> {
        let Value::Sequence(items) = node.value else {
            self.wrong(node, "expected a list");
            return None;
        };
        let items = items.iter().enumerate();
        Some(
            items
                .map(|(i, item)| node.child(item, Step::Item(i)))
                .collect(),
        )
    }

    /// A text that is not empty.
    pub fn text<'a>(&mut self, node: &Node<'a>) -> Option<&'a str> {
        let text = node.value.as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.wrong(node, "expected a text");
        }
        text
    }

    /// One of some names, and what it stands for.
    pub fn one_of<T: Copy>(&mut self, node: &Node<'_>, names: &[(&str, T)]) -> Option<T> {
        let name = self.text(node)?;
        let found = names.iter().find(|(n, _)| *n == name).map(|(_, it)| *it);
        if found.is_none() {
            let names: Vec<&str> = names.iter().map(|(n, _)| *n).collect();
            let message = format!("unknown name `{name}`, expected {}", names.join(", "));
            self.wrong(node, message);
        }
        found
    }

    /// Takes over mistakes inside of a text.
    pub fn wrong_inside(&mut self, node: &Node<'_>, mistakes: Diagnostics) {
        let start = self.position(node);
        for mistake in mistakes.finish() {
            let inner = Position {
                line: mistake.line,
                column: mistake.column,
            };
            let at = self.inside(start, inner);
            self.diagnostics.add(at, mistake.message);
        }
    }

    /// A place in a text that begins at `start`, as far as lines were not joined.
    fn inside(&self, start: Position, inner: Position) -> Position {
        let line = |number: usize| self.text.lines().nth(number - 1).unwrap_or_default();
        let first = line(start.line);
        let (line_number, before) = match first.chars().nth(start.column - 1) {
            Some('|') => {
                // The first line decides how far the text is indented.
                let text = line(start.line + 1);
                let indent = text.len() - text.trim_start().len();
                (start.line + inner.line, indent)
            }
            Some('"' | '\'') => (start.line + inner.line - 1, start.column),
            _ => (start.line + inner.line - 1, start.column - 1),
        };
        let column = before + inner.column;
        if column <= line(line_number).chars().count() + 1 {
            Position {
                line: line_number,
                column,
            }
        } else {
            start
        }
    }
}

/// What to say of an integer that the reader of YAML has no type for.
fn too_large(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("integer `")?;
    let (number, rest) = rest.split_once('`')?;
    let is_wide = rest.starts_with(" as u128") || rest.starts_with(" as i128");
    is_wide.then(|| format!("{number} is too large for a whole number"))
}

/// Where the reader stopped. It counts bytes right but knows more ends of lines than editors do.
fn place(text: &str, error: &serde_norway::Error) -> Position {
    let mut at = Position { line: 1, column: 1 };
    let before = error.location().map_or(0, |location| location.index());
    let passed = text.char_indices().take_while(|(index, _)| *index < before);
    for (_, c) in passed {
        if c == '\n' {
            at.line += 1;
            at.column = 1;
        } else {
            at.column += 1;
        }
    }
    at
}

fn locate(text: &str, path: &[Step]) -> Position {
    match Seek(path).deserialize(serde_norway::Deserializer::from_str(text)) {
        Ok(()) => Position { line: 1, column: 1 },
        Err(stopped) => place(text, &stopped),
    }
}

/// Reads on to the value behind a path and stops there with an error, which has the place.
struct Seek<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Whatever is not on the path has no `visit` function here and is an error, as the end of the path is meant to be.
impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the end of a path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        while let Some(key) = map.next_key_seed(Key(step))? {
            match (step, key.as_str()) {
                (Step::Key(wanted), Some(name)) if name == wanted => {
                    return map.next_value_seed(Seek(rest));
                }
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        // It is taken over from another map.
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Item(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            items.next_element::<IgnoredAny>()?;
        }
        items.next_element_seed(Seek(rest)).map(drop)
    }
}

/// Reads a key, or stops at it.
struct Key<'a>(&'a Step);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Value, E> {
        match self.0 {
            Step::Name(wanted) if wanted == name => Err(E::custom("here")),
            _ => Ok(Value::from(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a:\n  - b: 1\n  - {b: 2, c: x}\n  -  b: \"q z\"\n     c: |\n       block z\n";

    #[test]
    fn mistakes_have_the_place_of_their_value() {
        let mut diagnostics = Diagnostics::new("f");
        let (mut reader, value) = Reader::new(TEXT, &mut diagnostics).unwrap();
        let root = reader.root(&value);
        let fields = reader.map(&root, &["a"]).unwrap();
        let list = reader.required(&fields, "a").unwrap();
        for item in reader.list(&list).unwrap() {
            let fields = reader.map(&item, &["b", "d"]).unwrap();
            let b = reader.required(&fields, "b").unwrap();
            reader.text(&b);
            reader.required(&fields, "d");
            for node in [fields.get("b"), fields.get("c")].into_iter().flatten() {
                let Some(z) = node.value.as_str().and_then(|text| text.find('z')) else {
                    continue;
                };
                let mut inner = Diagnostics::new("");
                let at = Position {
                    line: 1,
                    column: z + 1,
                };
                inner.add(at, "z");
                reader.wrong_inside(&node, inner);
            }
        }
        let found: Vec<String> = diagnostics
            .finish()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "f:2:5: `d` is missing",
                "f:2:8: expected a text",
                "f:3:5: `d` is missing",
                "f:3:9: expected a text",
                "f:3:12: unknown key `c`, expected b, d",
                "f:4:6: `d` is missing",
                "f:4:12: z",
                "f:5:6: unknown key `c`, expected b, d",
                "f:6:14: z",
            ]
        );
    }

    #[test]
    fn what_is_taken_over_has_the_place_of_the_map() {
        let text = "a: &a {b: 1}\nc:\n  d: 2\n  <<: *a\n";
        let mut diagnostics = Diagnostics::new("f");
        let (mut reader, value) = Reader::new(text, &mut diagnostics).unwrap();
        let c = value.get("c").unwrap();
        let c = reader.root(&value).child(c, Step::Key("c".to_owned()));
        for (_, node) in reader.entries(&c).unwrap() {
            reader.text(&node);
        }
        let found = diagnostics.finish();
        let places: Vec<_> = found.iter().map(|d| (d.line, d.column)).collect();
        assert_eq!(places, [(3, 3), (3, 6)]);
    }

    #[test]
    fn lines_end_where_editors_end_them() {
        let mut diagnostics = Diagnostics::new("f");
        let text = "a: \"\u{2028}ä\"\nä: 1\n";
        let (mut reader, value) = Reader::new(text, &mut diagnostics).unwrap();
        let root = reader.root(&value);
        let fields = reader.map(&root, &["a", "ä"]).unwrap();
        reader.text(&fields.get("ä").unwrap());
        assert_eq!(
            diagnostics.finish()[0].to_string(),
            "f:2:4: expected a text"
        );
    }

    #[test]
    fn what_is_no_yaml_is_one_mistake() {
        for text in ["a: [", "a: 1\na: 2", "\t", "a: *b"] {
            let mut diagnostics = Diagnostics::new("f");
            assert!(Reader::new(text, &mut diagnostics).is_none(), "{text}");
            let found = diagnostics.finish();
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].message.starts_with("no valid YAML: "), "{found:?}");
        }
    }
}
