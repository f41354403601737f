//! Bounds on documents before anything walks them: nesting of the text, since readers recurse, and what fragments
//! unfold to, which can grow exponentially with the length of the text.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

/// Brackets within brackets.
const MAX_NESTING: usize = 64;
/// Fields of an operation with its fragments unfolded, and everything else that repeats. Dashboards have a few hundred.
const MAX_FIELDS: usize = 10_000;

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
                    return Err(format!(
                        "document is nested deeper than {MAX_NESTING} levels"
                    ));
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

/// Checks that fragments do not contain themselves and that no operation unfolds to too many fields.
pub(super) fn check_size(document: &ExecutableDocument) -> Result<(), String> {
    check(document.fragments.len())?;
    check(document.operations.iter().count())?;
    let mut sizes = HashMap::new();
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        let declared = operation.variable_definitions.len() + operation.directives.len();
        let selected = size_of(&operation.selection_set.node, document, &mut sizes)?;
        check(declared + selected)?;
    }
    Ok(())
}

fn check(size: usize) -> Result<usize, String> {
    if size > MAX_FIELDS {
        Err(format!("document has more than {MAX_FIELDS} fields"))
    } else {
        Ok(size)
    }
}

/// Unfolded fields of a selection; `sizes` knows the fragments that were counted, `None` while one is being counted.
fn size_of<'a>(
    set: &'a SelectionSet,
    document: &'a ExecutableDocument,
    sizes: &mut HashMap<&'a str, Option<usize>>,
) -> Result<usize, String> {
    let mut size = 0usize;
    for item in &set.items {
        size += item.node.directives().len();
        size += match &item.node {
            Selection::Field(field) => {
                1 + size_of(&field.node.selection_set.node, document, sizes)?
            }
            Selection::InlineFragment(fragment) => {
                size_of(&fragment.node.selection_set.node, document, sizes)?
            }
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                match (sizes.get(name.as_str()), document.fragments.get(name)) {
                    (Some(Some(size)), _) => *size,
                    (Some(None), _) => return Err(format!("fragment {name} contains itself")),
                    (None, None) => return Err(format!("fragment {name} is not defined")),
                    (None, Some(fragment)) => {
                        sizes.insert(name, None);
                        let set = &fragment.node.selection_set.node;
                        let size = size_of(set, document, sizes)?;
                        sizes.insert(name, Some(size));
                        size
                    }
                }
            }
        };
        check(size)?;
    }
    Ok(size)
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
}
