//! The house rules that a test can check: who may import whom, how long a file may be, how it must begin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A module of `src` and the modules it may import beside itself and the foundation. Data flows from receiver or fetcher to journal,
/// analyzer, stream, storage: a stage may know the types it is handed and where it hands on, never who comes before that.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("util", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("dsl", &[]),
    ("journal", &[]),
    ("receiver", &["journal"]),
    ("fetcher", &["journal", "dsl"]),
    ("analyzer", &["stream", "dsl"]),
    ("stream", &["storage"]),
    ("storage", &[]),
    ("query", &["storage", "dsl"]),
    ("alarm", &["storage", "dsl", "stream"]),
    ("export", &["alarm", "dsl"]),
    ("status", &["storage"]),
    ("cluster", &["stream"]),
    ("dynamic", &["cluster"]),
];
/// What everyone may import, themselves only what stands before them.
const FOUNDATION: [&str; 4] = ["model", "util", "telemetry", "config"];
/// `model` and `dsl` are pure: of the foundation they see only the model.
const PURE: [&str; 2] = ["model", "dsl"];
/// The composition root, which may import everything and which nobody may import.
const ROOT: [&str; 3] = ["app", "main", "lib"];
const LONGEST_FILE_LINES: usize = 500;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the project, with its text.
fn sources(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut files = vec![];
    let mut folders = vec![project().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path)?;
                files.push((path.strip_prefix(project())?.to_owned(), text));
            }
        }
    }
    assert!(!files.is_empty(), "no sources in {folder}");
    Ok(files)
}

/// Names that follow `crate::`, alone or in braces; comments do not count.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut is_start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && !c.is_whitespace() => {
                    names.insert(first_word(&group[at..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    names.remove("");
    names
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Top module that a file of `src` belongs to.
fn module_of(path: &Path) -> Result<String> {
    let mut inner = path.strip_prefix("src")?.components();
    let first = inner.next().context("a file without a name")?;
    let name = Path::new(first.as_os_str()).with_extension("");
    Ok(name.to_string_lossy().into_owned())
}

fn may_import(module: &str, imported: &str) -> bool {
    if module == imported || ROOT.contains(&module) || module == "bin" {
        return true;
    }
    let is_explicit = ALLOWED
        .iter()
        .any(|(name, others)| *name == module && others.contains(&imported));
    let rank = |name: &str| FOUNDATION.iter().position(|f| *f == name);
    is_explicit
        || match (rank(module), rank(imported)) {
            (_, Some(_)) if PURE.contains(&module) => imported == "model",
            (Some(own), Some(other)) => other < own,
            (None, Some(_)) => true,
            (_, None) => false,
        }
}

#[test]
fn imports_follow_the_data() -> Result<()> {
    let mut violations: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (path, text) in sources("src")? {
        let module = module_of(&path)?;
        let is_known = ROOT.contains(&module.as_str())
            || module == "bin"
            || ALLOWED.iter().any(|(name, _)| *name == module);
        assert!(is_known, "{} is in no known module", path.display());
        for imported in imports(&text) {
            if !may_import(&module, &imported) {
                let files = violations.entry((module.clone(), imported)).or_default();
                files.push(path.display().to_string());
            }
        }
    }
    assert!(violations.is_empty(), "not allowed: {violations:#?}");
    Ok(())
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{a::{b, c}, d};\n// crate::comment\nfn f() { crate::e::g(); }\npub(crate) use crate::h;";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "h"]);
    for (module, imported, is_allowed) in [
        ("receiver", "journal", true),
        ("journal", "receiver", false),
        ("query", "stream", false),
        ("stream", "query", false),
        ("storage", "telemetry", true),
        ("dsl", "util", false),
        ("dsl", "model", true),
        ("model", "util", false),
        ("util", "config", false),
        ("query", "app", false),
        ("alarm", "stream", true),
        ("stream", "alarm", false),
        ("app", "query", true),
    ] {
        assert_eq!(
            may_import(module, imported),
            is_allowed,
            "{module} → {imported}"
        );
    }
}

#[test]
fn files_are_short_and_say_what_they_are() -> Result<()> {
    let mut wrong = vec![];
    for folder in ["src", "proto/src", "tests/it", "benches"] {
        for (path, text) in sources(folder)? {
            let lines = text.lines().count();
            if lines > LONGEST_FILE_LINES {
                wrong.push(format!("{}: {lines} lines", path.display()));
            }
            let is_described = text
                .lines()
                .next()
                .is_some_and(|line| line.starts_with("//! ") && line.len() > "//! ".len() + 10);
            if !is_described {
                wrong.push(format!("{}: does not open with `//!`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
