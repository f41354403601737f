//! Plays the recorded scenario and compares what comes of it with what the original server made of it: replies, stored
//! documents, index templates and the answers to 640 questions, on both stores.
//!
//! So that nothing can be right for this one recording only, it is also played with other names, at other times and in
//! another order, and must come out changed in the same way.

mod allow_list;
mod any_order;
mod compare_answers;
mod compare_docs;
pub mod compare_layout;
mod compare_shapes;
mod json;
mod judgement;
mod moved;
mod names;
mod order;
pub mod recording;
mod replay;
mod segment_bytes;
mod takeover;
mod times;
mod transform;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::civil::date;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::sender::Sender;
use crate::server::{Builder, Store, TestServer};
use crate::ui;
use crate::waiting::wait_until;
use recording::Document;
use replay::Step;
use times::Times;
use transform::Transform;

/// Settings that the original was recorded with.
const SETTINGS: [(&str, &str); 5] = [
    ("SW_HEALTH_CHECKER", "default"),
    ("SW_CORE_METRICS_DATA_TTL", "36500"),
    ("SW_CORE_RECORD_DATA_TTL", "36500"),
    ("SW_CORE_ENABLE_DATA_KEEPER_EXECUTOR", "false"),
    ("SW_CORE_TOPN_REPORT_PERIOD", "1"),
];

/// A limit below the number of matches: which endpoints are shown is undefined, only how many is compared.
const UNDETERMINED: &str = "endpoints of order-service '' 1";

/// Found differences by the name they have in the lists.
type Differences = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_on_embedded() -> Result<()> {
    let play = Play::default();
    play.check("golden_embedded", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_on_elasticsearch() -> Result<()> {
    let play = Play::default();
    play.check("golden_es", Store::Elasticsearch).await
}

/// Services, instances, endpoints and addresses have other names.
#[tokio::test(flavor = "multi_thread")]
async fn golden_a_renamed() -> Result<()> {
    let play = Play {
        transform: Transform::new(true, None)?,
        seed: None,
    };
    play.check("golden_renamed", Store::Embedded).await
}

/// A leap day, in a zone that is a quarter of an hour from the others.
#[tokio::test(flavor = "multi_thread")]
async fn golden_a_on_another_day_in_another_zone() -> Result<()> {
    let times = Times::same_wall_clock(date(2024, 2, 29), "Asia/Kathmandu")?;
    let play = Play {
        transform: Transform::new(false, Some(times))?,
        seed: None,
    };
    play.check("golden_zone", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_a_in_another_order() -> Result<()> {
    let play = Play {
        transform: Transform::default(),
        seed: Some(20_200_915),
    };
    play.check("golden_order", Store::Embedded).await
}

/// Everything at once. In this zone midnight comes two minutes after the first message, and the next day is in March.
#[tokio::test(flavor = "multi_thread")]
async fn golden_a_renamed_around_midnight_in_another_order() -> Result<()> {
    let times = Times::other_wall_clock(date(2024, 2, 29), "Pacific/Tongatapu")?;
    let play = Play {
        transform: Transform::new(true, Some(times))?,
        seed: Some(81_000),
    };
    play.check("golden_changed", Store::Elasticsearch).await
}

/// A server with the settings of the recording but its zone.
fn server(name: &str, store: Store, zone: &str) -> Builder {
    let mut builder = TestServer::builder(name, store).env("TZ", zone);
    for (variable, value) in SETTINGS {
        builder = builder.env(variable, value);
    }
    builder
}

/// Each play has several hundred indices, which is all that the node can hold.
async fn turn(store: Store) -> Option<MutexGuard<'static, ()>> {
    static ONE_BY_ONE: Mutex<()> = Mutex::const_new(());
    match store {
        Store::Elasticsearch => Some(ONE_BY_ONE.lock().await),
        Store::Embedded => None,
    }
}

/// What may differ on a store.
fn listed(store: Store) -> PathBuf {
    recording::folder().join(match store {
        Store::Embedded => "differences-embedded.txt",
        Store::Elasticsearch => "differences-elasticsearch.txt",
    })
}

/// How the recording is played; by default as it is.
#[derive(Debug, Default)]
struct Play {
    transform: Transform,
    /// Decides another order and other batches.
    seed: Option<u64>,
}

impl Play {
    /// Plays it, asks everything, and compares what can be compared with the lists of differences of the store.
    async fn check(&self, name: &str, store: Store) -> Result<()> {
        let _turn = turn(store).await;
        let server = server(name, store, self.transform.zone()).start().await?;
        let mut found = self.play(name, &server).await?;
        let skipped = self.compare(&server, &mut found).await?;
        if self.is_as_recorded() {
            ui::check_recorded(&server).await?;
        }
        server.stop().await?;
        allow_list::check(&found, &skipped, &listed(store))
    }

    fn is_as_recorded(&self) -> bool {
        self.seed.is_none() && self.transform.is_identity()
    }

    /// Plays it; gives what differs in the replies.
    async fn play(&self, name: &str, server: &TestServer) -> Result<Differences> {
        let steps = replay::steps()?.into_iter();
        let steps: Vec<Step> = steps
            .map(|step| self.transform.step(step))
            .collect::<Result<_>>()?;
        let actions = match self.seed {
            Some(seed) => {
                eprintln!("{name}: order of seed {seed}");
                order::shuffled(steps, seed)
            }
            None => replay::as_recorded(steps),
        };
        replay::differences(&replay::play(server, actions).await?)
    }

    /// Asks everything and looks at documents and templates; gives the names of questions that cannot be asked.
    async fn compare(
        &self,
        server: &TestServer,
        found: &mut Differences,
    ) -> Result<BTreeSet<String>> {
        let (documents, days) = self.transform.documents(&recording::documents()?)?;
        let skipped = self.ask_everything(server, &documents, found).await?;
        if let Some(console) = server.console() {
            compare_documents(console, (&documents, &days), found).await?;
            compare_templates(console, found).await?;
        }
        Ok(skipped)
    }

    /// The questions, in the order they were recorded; gives the names of those that cannot be asked.
    async fn ask_everything(
        &self,
        server: &TestServer,
        documents: &[Document],
        found: &mut Differences,
    ) -> Result<BTreeSet<String>> {
        let known = compare_answers::known_records(documents.iter());
        let graphql = GraphQl::new(&server.http())?;
        // The original had been up for long when it was asked.
        wait_until(
            "the health checker has looked",
            Duration::from_secs(30),
            async || {
                let health = graphql.ask("{ checkHealth { score } }", json!({})).await?;
                ensure!(health["score"] == 0, "{health}");
                Ok(())
            },
        )
        .await?;
        let raw = Sender::connect(&server.grpc(), &server.http()).await?;
        let (mut passed, mut failed) = (0, 0);
        let mut skipped = BTreeSet::new();
        for recorded in recording::questions()? {
            let name = format!("answer to {}", recorded.name);
            let Some(mut question) = self.transform.question(&recorded) else {
                skipped.insert(name);
                continue;
            };
            question.is_count_only |= question.name == UNDETERMINED;
            let (status, text) = match &question.http {
                Some(request) => {
                    let body = request.body.clone().map(Bytes::from);
                    let reply = raw.http(&request.method, &request.path, body).await?;
                    (reply.status, reply.body)
                }
                None => {
                    let query = question.query.as_deref().context("no query")?;
                    graphql.post(query, &question.variables).await?
                }
            };
            let differences = compare_answers::compare(&question, status, &text, &known);
            if differences.is_empty() {
                passed += 1;
            } else {
                failed += 1;
                found.insert(name, differences.join(" | "));
            }
        }
        let skips = skipped.len();
        eprintln!("answers: {passed} passed, {failed} failed, {skips} not asked");
        Ok(skipped)
    }
}

async fn compare_documents(
    console: &EsConsole,
    (recorded, days): (&[Document], &[String]),
    found: &mut Differences,
) -> Result<()> {
    let meta = recording::meta()?;
    let stored = console.documents().await?;
    let want = compare_docs::Side {
        documents: recorded,
        namespace: &meta.namespace,
    };
    let got = compare_docs::Side {
        documents: &stored,
        namespace: console.namespace(),
    };
    found.extend(compare_shapes::compare(want, got));
    let report = compare_docs::compare(want, got, days);
    let (mut passed, mut failed) = (0, 0);
    for (model, tally) in report.models {
        passed += tally.passed;
        failed += tally.failed();
        if tally.failed() > 0 {
            // The numbers are part of the name, so that a list is exact.
            let name = format!(
                "documents of {model}: missing {}, extra {}, different {}",
                tally.missing, tally.extra, tally.different
            );
            found.insert(name, tally.examples.join("\n    "));
        }
    }
    eprintln!("documents: {passed} passed, {failed} failed");
    if !report.additional_fields.is_empty() {
        eprintln!("additional fields: {:?}", report.additional_fields);
    }
    Ok(())
}

async fn compare_templates(console: &EsConsole, found: &mut Differences) -> Result<()> {
    let path = recording::folder().join("es-layout.json.gz");
    let layout: Value = serde_json::from_str(&recording::read(&path)?)?;
    let recorded = layout["templates"].as_object().context("no templates")?;
    let stored = console.templates().await?;
    let report = compare_layout::compare(
        (recorded, &recording::meta()?.namespace),
        (&stored, console.namespace()),
    )?;
    let total = report.templates.len();
    let differing = report.templates.iter().filter(|(_, text)| !text.is_empty());
    let mut failed = 0;
    for (model, text) in differing {
        failed += 1;
        found.insert(format!("template of {model}"), text.clone());
    }
    eprintln!("templates: {} passed, {failed} failed", total - failed);
    if !report.additional.is_empty() {
        eprintln!("additional templates: {:?}", report.additional);
    }
    Ok(())
}
