//! The list of differences that exist now: each must be listed with its reason, and each listed one must exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::server::Store;

/// Corrections to the recorded behaviour are numbered 1 to this.
const CORRECTIONS: u32 = 20;

/// Compares found differences (name → detail) with the list in a file. Of `skipped` names nothing is known.
pub fn check(
    found: &BTreeMap<String, String>,
    skipped: &BTreeSet<String>,
    file: &Path,
) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read {}", file.display()))?;
    let problems = problems(found, skipped, &text);
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}:\n{}", file.display(), problems.join("\n"))
}

fn problems(
    found: &BTreeMap<String, String>,
    skipped: &BTreeSet<String>,
    list: &str,
) -> Vec<String> {
    let mut problems = vec![];
    let mut listed = BTreeMap::new();
    for line in list.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, reason)) = line.rsplit_once(" | ") else {
            problems.push(format!("no reason: {line}"));
            continue;
        };
        if !is_reason(reason) {
            problems.push(format!(
                "neither a correction nor something awaited: {line}"
            ));
        }
        if listed.insert(name, reason).is_some() {
            problems.push(format!("listed twice: {name}"));
        }
        if !found.contains_key(name) && !skipped.contains(name) {
            problems.push(format!("gone, remove it from the list: {line}"));
        }
    }
    for (name, detail) in found {
        if !listed.contains_key(name.as_str()) {
            problems.push(format!("not listed: {name}\n    {detail}"));
        }
    }
    problems
}

fn is_reason(reason: &str) -> bool {
    if let Some(number) = reason.strip_prefix("correction ") {
        return number
            .parse()
            .is_ok_and(|n: u32| (1..=CORRECTIONS).contains(&n));
    }
    reason
        .strip_prefix("waits for: ")
        .is_some_and(|part| !part.trim().is_empty())
}

#[test]
fn the_list_must_be_exact() {
    let found: BTreeMap<String, String> = [("q 1", "d1"), ("a | b", "d2")]
        .map(|(name, detail)| (name.to_owned(), detail.to_owned()))
        .into();
    let skipped = BTreeSet::from(["not asked".to_owned()]);
    for (name, list, expected) in [
        (
            "exact",
            "# text\n\nq 1 | correction 8\na | b | waits for: profiling\n",
            vec![],
        ),
        (
            "skipped",
            "q 1 | correction 8\na | b | correction 1\nnot asked | correction 2\n",
            vec![],
        ),
        (
            "not listed",
            "q 1 | correction 8\n",
            vec!["not listed: a | b\n    d2"],
        ),
        (
            "gone",
            "q 1 | correction 8\na | b | correction 1\nq 2 | correction 19\n",
            vec!["gone, remove it from the list: q 2 | correction 19"],
        ),
        (
            "bad reasons",
            "q 1 | correction 21\na | b | waits for: \n",
            vec![
                "neither a correction nor something awaited: q 1 | correction 21",
                "neither a correction nor something awaited: a | b | waits for: ",
            ],
        ),
        (
            "twice",
            "q 1 | correction 8\nq 1 | correction 8\na | b | correction 1",
            vec!["listed twice: q 1"],
        ),
    ] {
        assert_eq!(problems(&found, &skipped, list), expected, "{name}");
    }
}

#[test]
fn the_embedded_store_answers_as_elasticsearch_does() -> Result<()> {
    let answers = |store| {
        let text = std::fs::read_to_string(super::listed(store))?;
        let answers = text.lines().filter(|line| line.starts_with("answer to "));
        anyhow::Ok(answers.map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let embedded = answers(Store::Embedded)?;
    assert!(!embedded.is_empty());
    assert_eq!(embedded, answers(Store::Elasticsearch)?);
    Ok(())
}
