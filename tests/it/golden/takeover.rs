//! Documents as the original left them, taken over: the recorded questions have the recorded answers, and what comes into
//! minutes that it wrote is merged with them. All sums are done here, from the recorded documents and what is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use oap::model::id;
use oap_proto::agent::{SegmentObject, SpanObject, SpanType};
use serde_json::{Map, Value, json};

use super::json::{canon, same};
use super::recording::{self, Document};
use super::{Play, SETTINGS, allow_list, compare_docs};
use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::questions::ensure_writable;
use crate::segments::{COLLECT, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "golden_takeover";
/// An entity with several requests in this minute, and what it is asked in addition.
const SERVICE: &str = "frontend-web";
const ENDPOINT: &str = "/checkout";
const MINUTE: u64 = 202_009_151_058;
/// 2020-09-15 10:58:40 UTC.
const AT_MS: i64 = 1_600_167_520_000;
/// Milliseconds, and whether it went well.
const CALLS: [(i64, bool); 7] = [
    (20, true),
    (130, false),
    (480, true),
    (730, true),
    (2600, true),
    (55, true),
    (55, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_is_taken_over_from_the_original() -> Result<()> {
    let _turn = super::turn(Store::Elasticsearch).await;
    let recorded = as_left_behind()?;
    let console = EsConsole::new(NAMESPACE)?;
    let layout: Value = serde_json::from_str(&recording::read(
        &recording::folder().join("es-layout.json.gz"),
    )?)?;
    console
        .load(&renamed(&layout["templates"])?, &recorded)
        .await?;

    let mut builder = TestServer::builder(NAMESPACE, Store::Elasticsearch).env("TZ", "UTC");
    for (variable, value) in SETTINGS {
        builder = builder.env(variable, value);
    }
    let server = builder.start().await?;
    let graphql = GraphQl::new(&server.http())?;
    wait_until("the store is ready", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    let mut found = BTreeMap::new();
    let play = Play::default();
    let skipped = play.ask_everything(&server, &recorded, &mut found).await?;
    let list = recording::folder().join("differences-takeover.txt");
    let answers = allow_list::check(&found, &skipped, &list);
    // Twice, so that a part is merged with rows that this server wrote, and half of it after a restart.
    send(&server, &recorded, 0..3).await?;
    server.flush().await?;
    let server = server.restart(|builder| builder).await?;
    send(&server, &recorded, 3..7).await?;
    server.flush().await?;
    let stored = console.documents().await?;
    server.stop().await?;
    answers?;
    check(&recorded, &stored)
}

/// The recorded documents, in indices of this test.
fn as_left_behind() -> Result<Vec<Document>> {
    let old = recording::meta()?.namespace;
    let documents = recording::documents()?.into_iter();
    documents
        .map(|document| {
            let index = document.index.strip_prefix(&old).context("no namespace")?;
            Ok(Document {
                index: format!("{NAMESPACE}{index}"),
                ..document
            })
        })
        .collect()
}

fn renamed(templates: &Value) -> Result<Map<String, Value>> {
    let old = format!("\"{}_", recording::meta()?.namespace);
    let text = templates
        .to_string()
        .replace(&old, &format!("\"{NAMESPACE}_"));
    Ok(serde_json::from_str(&text)?)
}

fn instance(recorded: &[Document]) -> Result<String> {
    let service = id::service_id(SERVICE, true);
    let of_minute = recorded.iter().find(|document| {
        document.index.contains("_service_instance_cpm-")
            && document.source["service_id"] == service.as_str()
            && document.source["time_bucket"] == MINUTE
    });
    let entity = &of_minute.context("no instance in this minute")?.source["entity_id"];
    Ok(id::parse_instance_id(entity.as_str().context("no text")?)?.1)
}

async fn send(
    server: &TestServer,
    recorded: &[Document],
    calls: std::ops::Range<usize>,
) -> Result<()> {
    let instance = instance(recorded)?;
    let segments: Vec<Bytes> = calls
        .map(|i| {
            let (latency, is_good) = CALLS[i];
            bytes(&SegmentObject {
                trace_id: format!("taken-over-{i}"),
                trace_segment_id: format!("taken-over-segment-{i}"),
                service: SERVICE.into(),
                service_instance: instance.clone(),
                spans: vec![SpanObject {
                    parent_span_id: -1,
                    start_time: AT_MS,
                    end_time: AT_MS + latency,
                    operation_name: ENDPOINT.into(),
                    span_type: SpanType::Entry.into(),
                    is_error: !is_good,
                    ..SpanObject::default()
                }],
                ..SegmentObject::default()
            })
        })
        .collect();
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    Ok(())
}

/// Ids of entities that the calls are about; `""` is everything.
fn entities(recorded: &[Document]) -> Result<Vec<String>> {
    let (user, service) = (
        id::service_id(id::USER, false),
        id::service_id(SERVICE, true),
    );
    let instance = id::instance_id(&service, &instance(recorded)?);
    Ok(vec![
        String::new(),
        id::endpoint_id(&service, ENDPOINT),
        id::relation_id(&user, &service),
        id::relation_id(&id::instance_id(&user, id::USER), &instance),
        id::endpoint_relation_id(&user, id::USER, &service, ENDPOINT),
        service,
        instance,
    ])
}

/// What the calls change is changed by exactly them, everything else is as it was.
fn check(recorded: &[Document], stored: &[Document]) -> Result<()> {
    let entities = entities(recorded)?;
    let by_key = |documents: &[Document]| -> BTreeMap<(String, String), Map<String, Value>> {
        let key = |d: &Document| ((d.index.clone(), d.id.clone()), d.source.clone());
        documents.iter().map(key).collect()
    };
    let (before, after) = (by_key(recorded), by_key(stored));
    let minutes = BTreeMap::from([(MINUTE, 1), (MINUTE / 100, 60), (MINUTE / 10_000, 1440)]);
    let (mut merged, mut added, mut kept) = (0, 0, 0);
    for ((index, id), got) in &after {
        let model = compare_docs::model_of(index, NAMESPACE);
        let of_calls = ["all_", "service_", "endpoint_"]
            .iter()
            .any(|p| model.starts_with(p))
            && !["_traffic", "_side"].iter().any(|s| model.ends_with(s));
        let (bucket, entity) = id.split_once('_').unwrap_or((id, ""));
        let length = minutes.get(&bucket.parse().unwrap_or(0));
        let was = before.get(&(index.clone(), id.clone()));
        match (length, was) {
            (Some(minutes), was) if of_calls && entities.iter().any(|e| e == entity) => {
                let want = with_calls(was.unwrap_or(&Map::new()), got, *minutes)
                    .with_context(|| format!("{index} {id}"))?;
                for (field, value) in want {
                    let got = comparable(&field, &got[&field]);
                    ensure!(
                        same(&comparable(&field, &value), &got),
                        "{index} {id}: {field} is {got}, not {value}"
                    );
                }
                *(if was.is_some() {
                    &mut merged
                } else {
                    &mut added
                }) += 1;
            }
            // The instance reported again, templates were edited by the questions.
            (_, Some(_)) if ["instance_traffic", "ui_template"].contains(&model.as_str()) => {}
            (_, Some(was)) => {
                let (was, got) = (Value::from(was.clone()), Value::from(got.clone()));
                ensure!(
                    canon(&was) == canon(&got),
                    "{index} {id}: {was} became {got}"
                );
                kept += 1;
            }
            (_, None) => {}
        }
    }
    check_copies(recorded, stored)?;
    let gone = before.keys().find(|key| !after.contains_key(*key));
    ensure!(gone.is_none(), "{gone:?} is gone");
    eprintln!("{merged} documents merged, {added} added, {kept} as they were");
    ensure!(merged >= 42 && kept > 6000, "{merged} merged, {kept} kept");
    Ok(())
}

/// What is updated where it lives is not on more days than before.
fn check_copies(recorded: &[Document], stored: &[Document]) -> Result<()> {
    let copies = |documents: &[Document]| {
        let mut copies = BTreeMap::<(String, String), usize>::new();
        for document in documents {
            let model = compare_docs::model_of(&document.index, NAMESPACE);
            if model.ends_with("_traffic") || model == "network_address_alias" {
                *copies.entry((model, document.id.clone())).or_default() += 1;
            }
        }
        copies
    };
    let (before, after) = (copies(recorded), copies(stored));
    for (key, count) in after {
        let was = before.get(&key).copied().unwrap_or(1);
        ensure!(count == was, "{key:?} is there {count} times, not {was}");
    }
    Ok(())
}

fn comparable(field: &str, value: &Value) -> Value {
    match value.as_str() {
        Some(text) if ["dataset", "value"].contains(&field) => {
            json!(compare_docs::table(text))
        }
        _ => value.clone(),
    }
}

/// The fields of a document after the calls; which function it has shows in `shape`.
fn with_calls(
    was: &Map<String, Value>,
    shape: &Map<String, Value>,
    minutes: i64,
) -> Result<Map<String, Value>> {
    let number = |field: &str| was.get(field).and_then(Value::as_i64).unwrap_or(0);
    let count = CALLS.len() as i64;
    let how_many =
        |judge: fn(&(i64, bool)) -> bool| CALLS.iter().filter(|c| judge(c)).count() as i64;
    let mut want = was.clone();
    let mut set = |fields: &[(&str, Value)]| {
        for (field, value) in fields {
            want.insert((*field).to_owned(), value.clone());
        }
    };
    if shape.contains_key("summation") {
        let summation = number("summation") + CALLS.iter().map(|c| c.0).sum::<i64>();
        let count = number("count") + count;
        set(&[
            ("summation", json!(summation)),
            ("count", json!(count)),
            ("value", json!(summation / count)),
        ]);
    } else if shape.contains_key("match") {
        let (total, good) = (number("total") + count, number("match") + how_many(|c| c.1));
        set(&[
            ("total", json!(total)),
            ("match", json!(good)),
            ("percentage", json!(good * 10_000 / total)),
        ]);
    } else if shape.contains_key("s_num") {
        let total = number("total_num") + count;
        let satisfied = number("s_num") + how_many(|(ms, good)| *good && *ms <= 500);
        let tolerated = number("t_num") + how_many(|(ms, good)| *good && (501..=2000).contains(ms));
        set(&[
            ("total_num", json!(total)),
            ("s_num", json!(satisfied)),
            ("t_num", json!(tolerated)),
            (
                "value",
                json!((satisfied * 10_000 + tolerated * 5_000) / total),
            ),
        ]);
    } else if shape.contains_key("precision") {
        let dataset = counted(was, |ms| ms / 10);
        set(&[
            ("dataset", json!(text(&dataset))),
            ("value", json!(text(&ranks(&dataset)))),
        ]);
    } else if shape.contains_key("dataset") {
        set(&[(
            "dataset",
            json!(text(&counted(was, |ms| (ms / 100).min(20) * 100))),
        )]);
    } else {
        let total = shape.get("total").map(|_| number("total") + count);
        let total = total.context("a function that this test does not know")?;
        set(&[("total", json!(total)), ("value", json!(total / minutes))]);
    }
    Ok(want)
}

fn counted(was: &Map<String, Value>, key: fn(i64) -> i64) -> BTreeMap<i64, i64> {
    let text = was
        .get("dataset")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut counts: BTreeMap<i64, i64> = compare_docs::table(text)
        .iter()
        .filter_map(|(key, count)| Some((key.parse().ok()?, count.as_i64()?)))
        .collect();
    for (latency, _) in CALLS {
        *counts.entry(key(latency)).or_default() += 1;
    }
    counts
}

/// The five ranks of a percentile (8.1.0 spec, D.4).
fn ranks(dataset: &BTreeMap<i64, i64>) -> BTreeMap<i64, i64> {
    let total: i64 = dataset.values().sum();
    let rank = |rank: i64| {
        let roof = ((total * rank) as f32 / 100.0 + 0.5).floor() as i64;
        let mut sum = 0;
        let at = dataset.iter().find(|(_, count)| {
            sum += **count;
            sum >= roof
        });
        at.map_or(0, |(key, _)| key * 10)
    };
    (0..).zip([50, 75, 90, 95, 99].map(rank)).collect()
}

fn text(table: &BTreeMap<i64, i64>) -> String {
    let items: Vec<String> = table.iter().map(|(k, v)| format!("{k},{v}")).collect();
    items.join("|")
}
