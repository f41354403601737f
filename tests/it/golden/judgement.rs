//! The comparisons judge as the program that came with the recording, on changed answers and documents.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::compare_answers;
use super::compare_docs::{self, Side};
use super::compare_layout;
use super::recording::{self, Document, Question};

#[derive(Debug, Deserialize)]
struct AnswerCase {
    question: String,
    status: u16,
    text: String,
    /// What was done to the recorded answer, for messages.
    change: String,
    passes: bool,
}

#[test]
fn recorded_answers_pass() -> Result<()> {
    let documents = recording::documents()?;
    let known = compare_answers::known_records(documents.iter());
    let questions = recording::questions()?;
    ensure!(questions.len() == 640, "{} questions", questions.len());
    for question in questions {
        let text = match question.response["_text"].as_str() {
            Some(text) => text.to_owned(),
            None => question.response.to_string(),
        };
        let differences = compare_answers::compare(&question, question.status, &text, &known);
        ensure!(differences.is_empty(), "{}: {differences:?}", question.name);
    }
    Ok(())
}

#[test]
fn changed_answers_get_the_same_verdict() -> Result<()> {
    let documents = recording::documents()?;
    let known = compare_answers::known_records(documents.iter());
    let questions: HashMap<String, Question> = recording::questions()?
        .into_iter()
        .map(|q| (q.name.clone(), q))
        .collect();
    let cases: Vec<AnswerCase> =
        recording::lines(&recording::folder().join("comparison-cases.jsonl.gz"))?;
    ensure!(cases.len() > 1000, "{} cases", cases.len());
    let mut wrong = vec![];
    for (i, case) in cases.iter().enumerate() {
        let question = questions.get(&case.question).context("unknown question")?;
        let differences = compare_answers::compare(question, case.status, &case.text, &known);
        if differences.is_empty() != case.passes {
            let (name, change) = (&case.question, &case.change);
            wrong.push(format!(
                "case {i} ({change} in {name:?}) must pass: {}; {differences:?}",
                case.passes
            ));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[derive(Debug, Deserialize)]
struct DocumentCase {
    want: Vec<Document>,
    got: Vec<Document>,
    /// Model → passed, missing, extra, different.
    tallies: BTreeMap<String, [usize; 4]>,
}

#[test]
fn changed_documents_get_the_same_verdict() -> Result<()> {
    let cases: Vec<DocumentCase> =
        recording::lines(&recording::folder().join("comparison-documents.jsonl.gz"))?;
    let days = [recording::meta()?.scenario_day];
    for (i, case) in cases.iter().enumerate() {
        let side = |documents| Side {
            documents,
            namespace: "skywalking",
        };
        let report = compare_docs::compare(side(&case.want), side(&case.got), &days);
        for (model, tally) in &report.models {
            let got = [tally.passed, tally.missing, tally.extra, tally.different];
            let want = case.tallies.get(model).copied().unwrap_or_default();
            ensure!(got == want, "case {i}, {model}: {want:?}, got {tally:?}");
        }
        ensure!(report.models.len() == case.tallies.len(), "case {i}");
    }
    Ok(())
}

#[test]
fn changed_templates_differ() -> Result<()> {
    let templates: Map<String, Value> = json!({
        "a_one": {"index_patterns": ["a_one-*"], "order": 0, "mappings": {"x": 1, "y": 2}},
        "a_two": {"index_patterns": ["a_two-*"]},
    })
    .as_object()
    .context("no object")?
    .clone();
    for (name, got, wrong) in [
        (
            "same in another namespace",
            json!({
                "b_one": {"index_patterns": ["b_one-*"], "order": 0, "mappings": {"y": 2, "x": 1}, "version": 7},
                "b_two": {"index_patterns": ["b_two-*"]}, "b_three": {},
            }),
            vec![],
        ),
        (
            "changed and missing",
            json!({"b_one": {"index_patterns": ["b_one-*"], "order": 1, "mappings": {"x": 1, "y": 2}}}),
            vec!["one", "two"],
        ),
    ] {
        let got = got.as_object().context("no object")?;
        let report = compare_layout::compare((&templates, "a"), (got, "b"))?;
        let failed: Vec<&str> = report
            .templates
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, _)| name.as_str())
            .collect();
        ensure!(failed == wrong, "{name}: {report:?}");
    }
    Ok(())
}
