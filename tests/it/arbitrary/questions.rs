//! Questions: bodies of requests, and documents with variables, asked over a store full of odd rows.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::{Context, Result, ensure};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use oap::model::id;
use oap::model::row::{Cell, Row};
use oap::model::schema::{Column, ColumnType, Model, ModelKind};
use oap::model::time_bucket::Zone;
use oap::query::graphql::Api;
use oap::query::http::{HttpSettings, router};
use oap::query::service::template_file;
use oap::query::{AliasLookup, Answers, QueryContext, QueryLimits, QueryMetrics};
use oap::storage::Backend;
use oap::storage::embedded::Embedded;
use oap::util::clock::Clock;
use prometheus::Registry;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::{Form, Target, text};
use crate::every_metric::compiled;
use crate::golden::recording;
use crate::segments::Served;

/// Between document and variables.
const SEPARATOR: char = '\u{1}';
/// What the store holds, generously: an answer repeats it for each field at most.
const BYTES_PER_FIELD: usize = 100_000;

const WORDS: &[&str] = &[
    "{",
    "}",
    "query",
    "mutation",
    "fragment f on Query",
    "...f",
    "...",
    "@include(if: true)",
    "@skip(if: $b)",
    "$d",
    "!",
    "[",
    "]",
    "__schema { types { name } }",
    "__typename",
    "a: ",
    "(duration: $d)",
    "\"\"\"",
    "\"",
    "\\u0000",
    "#",
    "null",
    "getAllServices",
    "YQ==.1",
    "YQ==.1_aQ==",
    "YQ==.1-Yg==.0",
    "VXNlcg==.0",
    "!!!.1",
    "=.",
    "service_cpm",
    "service_percentile",
    "all_heatmap",
    "\"step\": \"MINUTE\"",
    "0001-01-01 0000",
    "9999-12-31 2359",
    "2147483647",
    "-1",
    "1e400",
];

struct Nobody;

impl AliasLookup for Nobody {
    fn service_of(&self, address: &str) -> Option<String> {
        address.contains('8').then(|| address.to_owned())
    }
}

/// The n-th odd cell of a column.
fn cell(column: &Column, n: usize) -> Cell {
    const TEXTS: [&str; 12] = [
        "YQ==.1",
        "Yg==.0",
        "YQ==.1_aQ==",
        "YQ==.1-Yg==.0",
        "YQ==.1-ZQ==-Yg==.0-Zg==",
        "",
        "!!!",
        "=.1_-_.",
        "💥",
        "a.b",
        "YQ==",
        "YQ==.1_aQ==-Yg==.0_ag==",
    ];
    const LONGS: [i64; 7] = [
        0,
        1,
        -1,
        i64::MAX,
        i64::MIN,
        1_600_167_570_000,
        202_009_151_059,
    ];
    const TABLES: [&str; 6] = [
        "0,1|10,2",
        "",
        "x,y|1",
        "0,9223372036854775807|1,9223372036854775807",
        "4,-1",
        "|,|,,",
    ];
    const JSONS: [&str; 5] = [
        "{}",
        "",
        "{",
        "[1]",
        "{\"OS Name\":7,\"ipv4s\":\"1,2\",\"language\":null}",
    ];
    // Each column at its own pace, so that there are many combinations.
    let n = n * (1 + column.name.len() % 5) + column.name.len();
    match column.ty {
        ColumnType::Int => Cell::Long(i64::from(LONGS[n % LONGS.len()] as i32)),
        ColumnType::Long => Cell::Long(LONGS[n % LONGS.len()]),
        ColumnType::Double => Cell::Double([0.0, -1.5, f64::MAX, 1e-300][n % 4]),
        ColumnType::Keyword => Cell::text(TEXTS[n % TEXTS.len()]),
        ColumnType::Table => Cell::text(TABLES[n % TABLES.len()]),
        ColumnType::Json => Cell::text(JSONS[n % JSONS.len()]),
        ColumnType::Binary => Cell::Bytes(match n % 3 {
            0 => Served::new("1", "a", 1_600_167_570_000, 7).bytes(),
            1 => Bytes::from_static(b"\xff\xff"),
            _ => Bytes::new(),
        }),
    }
}

fn rows(model: &Arc<Model>, day: u64) -> impl Iterator<Item = Row> + use<'_> {
    let buckets = match model.kind {
        ModelKind::Metrics if model.is_downsampled => {
            vec![day * 10_000 + 1059, day * 100 + 10, day]
        }
        ModelKind::Metrics => vec![day * 10_000 + 1059],
        ModelKind::Record => vec![day * 1_000_000 + 105_930],
        ModelKind::Management => vec![0],
    };
    let row = move |bucket, n: usize| {
        let cells: Vec<Cell> = model.columns.iter().map(|column| cell(column, n)).collect();
        let own_id = format!("{n}_YQ==.1");
        let entity = cells
            .first()
            .and_then(Cell::as_text)
            .unwrap_or_default()
            .to_owned();
        Row {
            model: Arc::clone(model),
            id: match model.has_entity_id() {
                true => id::metrics_id(bucket, &entity),
                false => own_id,
            },
            time_bucket: bucket,
            cells,
        }
    };
    buckets
        .into_iter()
        .flat_map(move |bucket| (0..9).map(move |n| row(bucket, n)))
}

/// Asks by `body`, which makes an input the body of a request.
fn check(target: Target, body: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let schema = &compiled()?.schema;
    let day: u64 = recording::meta()?.scenario_day.parse()?;
    let storage = Arc::new(Embedded::open(folder.path())?);
    runtime.block_on(async {
        storage.install(schema).await?;
        for model in schema.models() {
            storage.write(&rows(model, day).collect::<Vec<_>>()).await?;
        }
        anyhow::Ok(())
    })?;
    let metrics = QueryMetrics::register(&Registry::new())?;
    let context = QueryContext {
        storage,
        schema: Arc::clone(schema),
        zone: Zone::utc(),
        clock: Clock::Fixed(Arc::new(AtomicI64::new(1_795_400_000_000))),
        components: Arc::default(),
        aliases: Arc::new(Nobody),
        templates: template_file::parse(include_str!(
            "../../../config/ui-initialized-templates.yml"
        ))?,
        limits: QueryLimits::default(),
        answers: Answers::new(32 << 20, metrics.refused_answers.clone()),
        metrics,
        creating_profile_task: Default::default(),
        health: None,
    };
    let router = router(Api::build()?, Arc::new(context), HttpSettings::default());
    target.words(WORDS).check(|input| {
        let request = Request::post("/graphql").body(Body::from(body(input)?))?;
        let (status, answer) = runtime.block_on(async {
            let response = router.clone().oneshot(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, to_bytes(response.into_body(), usize::MAX).await?))
        })?;
        if status == 500 {
            return Ok(());
        }
        ensure!(status == 200, "{status}");
        let most = BYTES_PER_FIELD * (input.len() + 1);
        ensure!(answer.len() <= most, "{} bytes of answer", answer.len());
        let answer: Map<String, Value> = serde_json::from_slice(&answer)?;
        let errors = answer
            .get("errors")
            .map_or(Some(0), |e| e.as_array().map(Vec::len));
        ensure!(errors.is_some_and(|n| n <= 50), "{errors:?} errors");
        ensure!(
            answer.contains_key("data") || errors != Some(0),
            "{answer:?}"
        );
        Ok(())
    })
}

/// Recorded questions with their variables.
fn recorded() -> Result<Vec<(String, Value)>> {
    let questions = recording::questions()?.into_iter();
    let asked = questions.filter_map(|q| Some((q.query?, q.variables)));
    Ok(asked.collect())
}

#[test]
fn graphql_body() -> Result<()> {
    let seeds = recorded()?.into_iter().map(|(query, variables)| {
        json!({"query": query, "variables": variables, "operationName": null}).to_string()
    });
    let target = Target::of(Form::Bytes, "graphql-body").seeds(seeds);
    check(target, |input| Ok(input.to_vec()))
}

#[test]
fn graphql_document() -> Result<()> {
    let seeds = recorded()?
        .into_iter()
        .map(|(query, variables)| format!("{query}{SEPARATOR}{variables}"));
    let target = Target::of(Form::Text, "graphql-document").seeds(seeds);
    check(target, |input| {
        let (query, variables) = text(input)?
            .split_once(SEPARATOR)
            .unwrap_or((text(input)?, ""));
        let variables: Value = serde_json::from_str(variables).unwrap_or_default();
        let variables = variables.as_object().cloned().unwrap_or_default();
        serde_json::to_vec(&json!({"query": query, "variables": variables})).context("no JSON")
    })
}
