//! Questions that make no sense: every field of the schema with absurd arguments, and documents that are none.
//!
//! Each gets an answer in GraphQL's form in time, on both stores, and the next question is answered as before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::graphql::GraphQl;
use crate::server::{Store, TestServer};

const DEADLINE: Duration = Duration::from_secs(20);
/// How often each field is asked, each time with other values.
const ROUNDS: usize = 8;
/// Levels of an answer that are asked for.
const DEPTH: usize = 3;

const TEXTS: [&str; 11] = [
    "",
    "2020-09-15 1059",
    "service_cpm",
    "c2hvcA==.1",
    "9999-99-99 9999",
    "1000-01-01 0000",
    "9999-12-31 2359",
    "!!!.1_=-.-.",
    "'; DROP TABLE segment; -- %_*?\\\\",
    "\\u0000\\uD83D",
    "(?:a+)+$ AND OR NOT {\\\"match_all\\\":{}} 💥",
];
const NUMBERS: [&str; 6] = ["0", "-1", "1", "2147483647", "-2147483648", "20"];
const LONGS: [&str; 4] = ["0", "-1", "9223372036854775807", "-9223372036854775808"];

const INTROSPECTION: &str = "{ __schema {
    queryType { name } mutationType { name }
    types { name kind enumValues { name } inputFields { name type { ...T } } fields { name args { name type { ...T } } type { ...T } } } } }
    fragment T on __Type { name kind ofType { name kind ofType { name kind ofType { name kind } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_on_embedded() -> Result<()> {
    answered(TestServer::builder("questions_embedded", Store::Embedded)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_on_elasticsearch() -> Result<()> {
    answered(TestServer::builder("questions_es", Store::Elasticsearch)).await
}

/// The types by name.
struct Schema(Map<String, Value>);

/// Counts up, so that equal types get other values the next time.
#[derive(Default)]
struct Dice(usize);

impl Dice {
    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        self.0 += 1;
        choices[self.0 % choices.len()]
    }
}

impl Schema {
    async fn read(graphql: &GraphQl) -> Result<(Schema, Vec<(&'static str, Value)>)> {
        let schema = graphql.ask(INTROSPECTION, json!({})).await?;
        let types = schema["types"].as_array().context("no types")?;
        let named = types
            .iter()
            .filter_map(|t| Some((t["name"].as_str()?.to_owned(), t.clone())));
        let named: Map<String, Value> = named.collect();
        let mut fields = vec![];
        for (kind, root) in [("query", "queryType"), ("mutation", "mutationType")] {
            let name = schema[root]["name"].as_str().context("no root")?;
            let of_root = named[name]["fields"].as_array().context("no fields")?;
            fields.extend(of_root.iter().map(|field| (kind, field.clone())));
        }
        Ok((Schema(named), fields))
    }

    fn named<'a>(&'a self, mut ty: &'a Value) -> &'a Value {
        while !ty["ofType"].is_null() {
            ty = &ty["ofType"];
        }
        ty["name"]
            .as_str()
            .and_then(|name| self.0.get(name))
            .unwrap_or(&Value::Null)
    }

    /// A literal of a type.
    fn literal(&self, ty: &Value, dice: &mut Dice) -> String {
        match ty["kind"].as_str().unwrap_or_default() {
            "NON_NULL" => self.literal(&ty["ofType"], dice),
            "LIST" => {
                let items: Vec<String> = (0..dice.0 % 3)
                    .map(|_| self.literal(&ty["ofType"], dice))
                    .collect();
                format!("[{}]", items.join(","))
            }
            "ENUM" => {
                let values = self.named(ty)["enumValues"].as_array();
                let values: Vec<&str> = values
                    .into_iter()
                    .flatten()
                    .filter_map(|v| v["name"].as_str())
                    .collect();
                dice.pick(&values).to_owned()
            }
            "INPUT_OBJECT" => {
                let fields = self.named(ty)["inputFields"].as_array();
                let fields: Vec<String> = fields
                    .into_iter()
                    .flatten()
                    .map(|f| {
                        format!(
                            "{}:{}",
                            f["name"].as_str().unwrap_or_default(),
                            self.literal(&f["type"], dice)
                        )
                    })
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
            _ => match ty["name"].as_str().unwrap_or_default() {
                "Int" => dice.pick(&NUMBERS).to_owned(),
                "Long" => dice.pick(&LONGS).to_owned(),
                "Boolean" => dice.pick(&["true", "false"]).to_owned(),
                _ => format!("\"{}\"", dice.pick(&TEXTS)),
            },
        }
    }

    fn selection(&self, ty: &Value, depth: usize) -> String {
        let fields = self.named(ty)["fields"].as_array();
        let Some(fields) = fields.filter(|_| depth > 0) else {
            return String::new();
        };
        let selected = fields.iter().filter_map(|field| {
            let inner = self.selection(&field["type"], depth - 1);
            let is_object = self.named(&field["type"])["kind"] == "OBJECT";
            (!is_object || !inner.is_empty())
                .then(|| format!("{}{inner}", field["name"].as_str().unwrap_or_default()))
        });
        let selected: Vec<String> = selected.collect();
        if selected.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", selected.join(" "))
        }
    }
}

async fn answered(server: crate::server::Builder) -> Result<()> {
    let server = server.env("TZ", "UTC").start().await?;
    let graphql = GraphQl::new(&server.http())?;
    let (schema, fields) = Schema::read(&graphql).await?;
    ensure!(fields.len() > 40, "{} fields", fields.len());
    let mut dice = Dice::default();
    let mut failed = 0;
    for (kind, field) in &fields {
        for _ in 0..ROUNDS {
            let name = field["name"].as_str().context("no name")?;
            let arguments = field["args"].as_array().context("no arguments")?.iter();
            let arguments: Vec<String> = arguments
                .map(|a| {
                    format!(
                        "{}:{}",
                        a["name"].as_str().unwrap_or_default(),
                        schema.literal(&a["type"], &mut dice)
                    )
                })
                .collect();
            let arguments = match arguments.as_slice() {
                [] => String::new(),
                arguments => format!("({})", arguments.join(",")),
            };
            let selection = schema.selection(&field["type"], DEPTH);
            let question = format!("{kind} {{ {name}{arguments}{selection} }}");
            failed += usize::from(answer(&graphql, &question).await?);
            dice.0 += 1;
        }
    }
    // Most of it is nonsense; some of it is not.
    ensure!(
        failed > 0 && failed < fields.len() * ROUNDS,
        "{failed} failed"
    );
    for document in documents() {
        ensure!(answer(&graphql, &document).await?, "{document:.100}");
    }
    ensure!(graphql.ask("{ version }", json!({})).await? == "8.0");
    server.flush().await?;
    server.stop().await
}

/// Asks; whether there was an error among the answer.
async fn answer(graphql: &GraphQl, question: &str) -> Result<bool> {
    let nothing = json!({});
    let asking = graphql.post(question, &nothing);
    let answer = timeout(DEADLINE, asking)
        .await
        .with_context(|| question.to_owned())?;
    let (status, text) = answer.with_context(|| question.to_owned())?;
    ensure!(status == 200, "{question}: {status} {text}");
    let answer: Value = serde_json::from_str(&text)?;
    ensure!(
        answer["data"].is_object() || answer["errors"].is_array(),
        "{question}: {text}"
    );
    Ok(!answer["errors"].is_null())
}

/// Texts that are no answerable question.
fn documents() -> Vec<String> {
    let aliases: String = (0..20_000).map(|i| format!("a{i}: version ")).collect();
    let unfolding: String = (0..40)
        .map(|i| format!("fragment f{i} on Query {{ ...f{} ...f{} }} ", i + 1, i + 1))
        .collect();
    vec![
        String::new(),
        "{".to_owned(),
        "}".to_owned(),
        "\u{0}".to_owned(),
        "query".to_owned(),
        "{ version ".to_owned(),
        "{ \"".to_owned(),
        "{".repeat(10_000),
        format!("{{ a(b: {}) }}", "[".repeat(10_000)),
        format!("{{ {aliases} }}"),
        format!("{{ ...f0 }} {unfolding} fragment f40 on Query {{ version }}"),
        "{ ...a } fragment a on Query { ...a }".to_owned(),
        "{ nothing }".to_owned(),
        "{ version { a } }".to_owned(),
        "subscription { version }".to_owned(),
        "{ typeOfMetrics(name: 99999999999999999999999999) }".to_owned(),
        "query($a: Nothing!) { version }".to_owned(),
        "{ typeOfMetrics(name: $a) }".to_owned(),
    ]
}
