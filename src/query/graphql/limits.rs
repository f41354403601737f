//! Bounds on documents before anything walks them: nesting of the text, since readers recurse, and what fragments
//! unfold to, which can grow exponentially with the length of the text.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};

/// Brackets within brackets, and selections within selections with fragments unfolded.
const MAX_NESTING: usize = 64;
/// Fields of a document with fragments unfolded, and everything else that repeats. Dashboards have a few hundred.
const MAX_FIELDS: usize = 10_000;

/// What asks about the schema itself.
const SCHEMA_ROOTS: [&str; 2] = ["__schema", "__type"];
/// Fields there with many values. Types have fields, which have types: each level multiplies the answer, without end.
const SCHEMA_LISTS: [&str; 8] = [
    "types",
    "directives",
    "fields",
    "args",
    "inputFields",
    "enumValues",
    "interfaces",
    "possibleTypes",
];
/// Types, their fields and the arguments of those: tools ask for no more.
const MAX_SCHEMA_LISTS: usize = 3;
/// The question that tools ask has two hundred.
const MAX_SCHEMA_FIELDS: usize = 500;

/// Checks the nesting of brackets outside of texts and comments.
pub(super) fn check_nesting(query: &str) -> Result<(), String> {
    let mut depth = 0usize;
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = match c {
            '"' => after_text(rest).ok_or("a text has no end")?,
            '#' => after.trim_start_matches(|c| !matches!(c, '\n' | '\r')),
            '{' | '[' | '(' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(too_deep());
                }
                after
            }
            '}' | ']' | ')' => {
                depth = depth.saturating_sub(1);
                after
            }
            _ => after,
        };
    }
    Ok(())
}

/// What follows a text that starts here; `None` if it does not end.
fn after_text(text: &str) -> Option<&str> {
    match text.strip_prefix("\"\"\"") {
        Some(block) => after_block(block),
        None => after_line(text.strip_prefix('"')?),
    }
}

fn after_block(mut rest: &str) -> Option<&str> {
    loop {
        let (before, after) = rest.split_once("\"\"\"")?;
        if !before.ends_with('\\') {
            return Some(after);
        }
        rest = after;
    }
}

fn after_line(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some(chars.as_str()),
            '\\' => {
                chars.next()?;
            }
            '\n' | '\r' => return None,
            _ => {}
        }
    }
}

/// How much a selection unfolds to.
#[derive(Debug, Default, Clone, Copy)]
struct Extent {
    fields: usize,
    /// Selections within selections.
    height: usize,
    /// Lists within lists, if this is about the schema itself.
    lists: usize,
    /// Fields that are about the schema itself.
    introspected: usize,
}

impl Extent {
    fn add(&mut self, other: Extent) {
        self.fields += other.fields;
        self.introspected += other.introspected;
        self.height = self.height.max(other.height);
        self.lists = self.lists.max(other.lists);
    }
}

/// Checks that fragments do not contain themselves and that all operations and fragments together do not unfold to too
/// many fields: checks of the document walk each of them, used or not.
pub(super) fn check_size(document: &ExecutableDocument) -> Result<(), String> {
    let mut measure = Measure {
        document,
        fragments: HashMap::new(),
    };
    let mut size = document.fragments.len() + document.operations.iter().count();
    check(size)?;
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        size += operation.variable_definitions.len() + operation.directives.len();
        size += measure.set(&operation.selection_set.node, 1)?.fields;
        check(size)?;
    }
    for name in document.fragments.keys() {
        size += measure.fragment(name, 1)?.fields;
        check(size)?;
    }
    Ok(())
}

fn check(size: usize) -> Result<(), String> {
    if size > MAX_FIELDS {
        Err(format!("document has more than {MAX_FIELDS} fields"))
    } else {
        Ok(())
    }
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    /// Those that were measured; `None` while one is being measured.
    fragments: HashMap<&'a str, Option<Extent>>,
}

impl<'a> Measure<'a> {
    /// The extent of selections that are so deep in the document. Nothing below is visited if that is too deep, so that
    /// the depth of this recursion has a bound too.
    fn set(&mut self, set: &'a SelectionSet, depth: usize) -> Result<Extent, String> {
        let mut extent = Extent::default();
        if set.items.is_empty() {
            return Ok(extent);
        }
        if depth > MAX_NESTING {
            return Err(too_deep());
        }
        for item in &set.items {
            extent.fields += item.node.directives().len();
            extent.add(match &item.node {
                Selection::Field(field) => self.field(&field.node, depth)?,
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node, depth + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, depth + 1)?
                }
            });
            check(extent.fields)?;
            if extent.introspected > MAX_SCHEMA_FIELDS {
                return Err(format!(
                    "document asks for more than {MAX_SCHEMA_FIELDS} fields about the schema"
                ));
            }
        }
        extent.height += 1;
        Ok(extent)
    }

    fn field(&mut self, field: &'a Field, depth: usize) -> Result<Extent, String> {
        let name = field.name.node.as_str();
        let mut extent = self.set(&field.selection_set.node, depth + 1)?;
        if SCHEMA_LISTS.contains(&name) {
            extent.lists += 1;
        }
        if SCHEMA_ROOTS.contains(&name) {
            if extent.lists > MAX_SCHEMA_LISTS {
                return Err(format!(
                    "question about the schema nests more than {MAX_SCHEMA_LISTS} lists"
                ));
            }
            extent.introspected = extent.fields;
        }
        extent.fields += 1 + field.arguments.len();
        Ok(extent)
    }

    fn fragment(&mut self, name: &'a str, depth: usize) -> Result<Extent, String> {
        match (self.fragments.get(name), self.document.fragments.get(name)) {
            (Some(Some(extent)), _) if depth + extent.height > MAX_NESTING + 1 => Err(too_deep()),
            (Some(Some(extent)), _) => Ok(*extent),
            (Some(None), _) => Err(format!("fragment {name} contains itself")),
            (None, None) => Err(format!("fragment {name} is not defined")),
            (None, Some(fragment)) => {
                self.fragments.insert(name, None);
                let extent = self.set(&fragment.node.selection_set.node, depth)?;
                self.fragments.insert(name, Some(extent));
                Ok(extent)
            }
        }
    }
}

fn too_deep() -> String {
    format!("document is nested deeper than {MAX_NESTING} levels")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use async_graphql::parser::parse_query;

    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_texts_and_comments() {
        assert!(check_nesting(&"{a".repeat(64)).is_ok());
        assert!(check_nesting(&"{a".repeat(65)).is_err());
        assert!(check_nesting(&"[(".repeat(33)).is_err());
        assert!(check_nesting(&"{a}".repeat(1000)).is_ok());
        let text = "(".repeat(100);
        assert!(check_nesting(&format!("{{ a(b: \"{text}\\\"{text}\") }}")).is_ok());
        assert!(check_nesting(&format!("# {text}\n{{ a }}")).is_ok());
        assert!(check_nesting(&format!("{{ a(b: \"\"\"\n{text}\\\"\"\"\n\"\"\") }}")).is_ok());
        for start in [
            "\"\"\" \"\"\"",
            "\"\"",
            "\"a\\\\\"",
            "# \"\n",
            "\"\"\"\n\"\"\"",
        ] {
            assert!(check_nesting(&format!("{start}{text}")).is_err(), "{start}");
        }
        for open in ["\"\n", "\"", "\"\"\" \"\"", "\"\\"] {
            assert_eq!(
                check_nesting(open),
                Err("a text has no end".into()),
                "{open}"
            );
        }
    }

    #[test]
    fn fragments_neither_explode_nor_circle() {
        let mut text = "{ ...f0 }".to_owned();
        for i in 0..40 {
            write!(
                text,
                " fragment f{i} on Query {{ ...f{} ...f{} }}",
                i + 1,
                i + 1
            )
            .unwrap();
        }
        text.push_str(" fragment f40 on Query { version }");
        let size = |text: &str| check_size(&parse_query(text).unwrap());
        assert!(size(&text).unwrap_err().contains("more than"));
        assert!(size("{ ...a } fragment a on Query { ...a }").is_err());
        assert!(size("{ ...a }").is_err());
        assert!(size(&format!("{{ version {} }}", "@a ".repeat(10_001))).is_err());
        assert!(size("{ ...a ...a } fragment a on Query { version }").is_ok());
    }

    /// `f0` contains `f1`, and so on.
    fn chain(length: usize) -> String {
        let mut text = format!("fragment f{length} on Query {{ version }}");
        for i in 0..length {
            write!(text, " fragment f{i} on Query {{ ...f{} }}", i + 1).unwrap();
        }
        text
    }

    #[test]
    fn chains_of_fragments_are_no_deeper_than_brackets() {
        let check = |text: &str| check_size(&parse_query(text).unwrap());
        assert_eq!(check(&format!("{{ ...f0 }} {}", chain(62))), Ok(()));
        for text in [
            format!("{{ ...f0 }} {}", chain(63)),
            format!("{{ ...f0 }} {}", chain(9000)),
            // Nobody uses them, but checks walk them.
            format!("{{ version }} {}", chain(9000)),
            // Measured from below first, then used from above.
            format!(
                "query a {{ ...f30 }} query b {{ a {{ b {{ ...f0 }} }} }} {}",
                chain(61)
            ),
        ] {
            let failed = check(&text).unwrap_err();
            assert!(failed.contains("deeper"), "{failed} {text:.100}");
        }
        let many = "fragment g on Query { version version version version version version version version }";
        let users: String = (0..2000)
            .map(|i| format!(" fragment f{i} on Query {{ ...g }}"))
            .collect();
        assert!(check(&format!("{{ version }} {many}{users}")).is_err());
    }

    #[test]
    fn questions_about_the_schema_do_not_multiply() {
        let check = |text: &str| check_size(&parse_query(text).unwrap());
        let deep = |levels: usize| {
            let mut text = "name".to_owned();
            for _ in 0..levels {
                text = format!("fields {{ type {{ ofType {{ ofType {{ {text} }} }} }} }}");
            }
            format!("{{ __type(name: \"__Type\") {{ {text} }} }}")
        };
        assert_eq!(check(&deep(3)), Ok(()));
        assert!(check(&deep(4)).unwrap_err().contains("lists"));
        let wide: String = (0..501).map(|i| format!("a{i}: name ")).collect();
        let of_types = format!("{{ __schema {{ types {{ {wide} }} }} }}");
        assert!(check(&of_types).unwrap_err().contains("about the schema"));
        let roots: String = (0..501)
            .map(|i| format!("a{i}: __type(name: \"A\") {{ name }} "))
            .collect();
        assert!(
            check(&format!("{{ {roots} }}"))
                .unwrap_err()
                .contains("about the schema")
        );
        let fields: String = (0..501).map(|i| format!("a{i}: version ")).collect();
        assert_eq!(check(&format!("{{ {fields} }}")), Ok(()));
    }
}
