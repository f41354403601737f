//! Writers and readers against an Elasticsearch that does what a healthy one does not: nothing is lost, all is counted, and
//! work goes on when it is well again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::Uri;
use bytes::Bytes;
use futures_util::future::try_join_all;
use oap::config::Secret;
use oap::model::row::{Cell, Row, RowKey};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::writer::{WriterMetrics, lane};
use oap::storage::{Backend, DeadLetters, StorageError};
use oap::util::clock::Clock;
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::elasticsearch_store::all_stored;
use crate::fake_es::{Asked, FakeEs, Fault};
use crate::lanes::count;

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;
const MINUTE: u64 = 202_009_151_059;
const ROWS: usize = 60;
const INDEX: &str = "fake_endpoint_traffic-20200915";

fn store(fake: &FakeEs) -> Result<Elasticsearch> {
    let options = ElasticsearchOptions {
        name_space: "fake".to_owned(),
        cluster_nodes: vec![fake.address().to_owned()],
        user: "elastic".to_owned(),
        password: Secret::new("x"),
        bulk_actions: 10,
        request_timeout: Duration::from_millis(400),
        ..ElasticsearchOptions::default()
    };
    let clock = Clock::Fixed(Arc::new(NOW_MS.into()));
    Ok(Elasticsearch::new(options, Zone::utc(), clock)?)
}

fn row(id: impl ToString, version: usize, time_bucket: u64) -> Result<Row> {
    let schema = Schema::build(&[], &[], &[], false);
    let model = schema.model("endpoint_traffic").context("no model")?;
    Ok(Row {
        model: Arc::clone(model),
        id: id.to_string(),
        time_bucket,
        cells: vec![Cell::text("b3JkZXI=.1"), Cell::text(version.to_string())],
    })
}

/// What is left after rows were written through a lane.
struct Written {
    fake: FakeEs,
    registry: Registry,
    folder: TempDir,
}

impl Written {
    fn count(&self, metric: &str) -> u64 {
        count(&self.registry, metric)
    }

    fn dead_letters(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.path().join("dead.jsonl"))?;
        Ok(text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    }

    /// Every row but those is stored in its last version.
    fn has_all_but(&self, missing: &[usize]) -> Result<()> {
        let stored = self.fake.documents();
        for id in 0..ROWS {
            let document = stored.get(&(INDEX.to_owned(), id.to_string()));
            let version = document.map(|d| d["name"].as_str().unwrap_or_default());
            let want = (!missing.contains(&id)).then_some("2");
            ensure!(version == want, "row {id} is {document:?}");
        }
        Ok(())
    }
}

/// Writes two versions of some rows through a lane, whatever the script does, and waits until all is settled.
async fn write(script: impl Fn(&Asked<'_>) -> Fault + Send + 'static) -> Result<Written> {
    let fake = FakeEs::start(script).await?;
    let store = store(&fake)?;
    let (registry, folder) = (Registry::new(), tempfile::tempdir()?);
    store.register(&registry)?;
    let path = folder.path().join("dead.jsonl");
    let letters = DeadLetters::new(path, 1 << 20, Clock::System, &registry)?;
    let metrics = WriterMetrics::new(&registry)?;
    let linger = Duration::from_millis(1);
    let (lane, writer) = lane("test", Arc::new(store), 1 << 30, linger, metrics);
    let writer = tokio::spawn(writer.with_dead_letters(Arc::new(letters)).run());
    for version in 1..=2 {
        let rows = (0..ROWS).map(|id| row(id, version, MINUTE));
        lane.write(rows.collect::<Result<_>>()?).await;
    }
    let drained = tokio::time::timeout(Duration::from_secs(60), lane.drained());
    drained.await.context("rows still wait")?;
    drop(lane);
    writer.await?;
    Ok(Written {
        fake,
        registry,
        folder,
    })
}

/// A script that fails the first bulk requests like this.
fn first(bulks: usize, fault: Fault) -> impl Fn(&Asked<'_>) -> Fault + Send + 'static {
    move |asked| match asked.action {
        "_bulk" if asked.number <= bulks => fault.clone(),
        _ => Fault::None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_passes_is_stood_and_nothing_is_lost() -> Result<()> {
    let cases = [
        (
            "some documents find a full queue",
            Fault::Items(|i| {
                (i % 3 == 0).then_some((429, "es_rejected_execution_exception", "queue full"))
            }),
        ),
        (
            "some documents find no primary shard",
            Fault::Items(|i| {
                (i % 2 == 0).then_some((503, "unavailable_shards_exception", "not active"))
            }),
        ),
        (
            "some documents conflict",
            Fault::Items(|i| {
                (i == 4).then_some((409, "version_conflict_engine_exception", "conflict"))
            }),
        ),
        ("the queue is full", Fault::Status(429, "queue full")),
        ("no master", Fault::Status(503, "no master")),
        ("the password is being changed", Fault::Status(401, "who?")),
        ("no answer", Fault::Hang),
        ("half an answer", Fault::HalfAnswer),
        ("an answer about others", Fault::ShortAnswer),
    ];
    try_join_all(cases.map(|(name, fault)| async move {
        let written = write(first(5, fault)).await.context(name)?;
        written.has_all_but(&[]).context(name)?;
        ensure!(written.fake.asked("_bulk") > 5, "{name}");
        let again = written.count("storage_retried_rows_total")
            + written.count("storage_failed_writes_total");
        ensure!(again > 0, "{name}");
        let stored = written.count("storage_stored_rows_total");
        let replaced = written.count("storage_replaced_rows_total");
        ensure!(
            stored + replaced == 2 * ROWS as u64,
            "{name}: {stored} {replaced}"
        );
        ensure!(written.count("storage_rejected_rows_total") == 0, "{name}");
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_kept_with_the_reason() -> Result<()> {
    let reason = "failed to parse field [last_ping] of type [long]";
    let written = write(|asked| match asked.action {
        "_bulk" => Fault::Items(|i| {
            (i == 7).then_some((
                400,
                "mapper_parsing_exception",
                "failed to parse field [last_ping] of type [long]",
            ))
        }),
        _ => Fault::None,
    })
    .await?;
    let letters = written.dead_letters()?;
    let ids: Vec<usize> = letters
        .iter()
        .map(|letter| Ok(letter["id"].as_str().context("no id")?.parse()?))
        .collect::<Result<_>>()?;
    ensure!(!ids.is_empty());
    written.has_all_but(&ids)?;
    let refused = letters[0]["reason"].as_str().unwrap_or_default();
    ensure!(refused.contains(reason), "{refused}");
    ensure!(
        letters[0]["row"]["service_id"] == "b3JkZXI=.1",
        "{}",
        letters[0]
    );
    let kept = written.count("storage_dead_letters_total");
    ensure!(kept == letters.len() as u64);
    ensure!(written.count("storage_rejected_rows_total") == kept);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_lacking_is_created() -> Result<()> {
    // As with action.auto_create_index off after someone deleted the index.
    let written = write(first(
        6,
        Fault::Items(|_| Some((404, "index_not_found_exception", "no such index"))),
    ))
    .await?;
    written.has_all_but(&[])?;
    ensure!(written.fake.asked(INDEX) > 0);
    ensure!(written.count("storage_elasticsearch_created_indices_total") > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_request_is_sent_in_parts() -> Result<()> {
    let written = write(|asked| match asked.documents {
        4.. => Fault::Status(413, "too large"),
        _ => Fault::None,
    })
    .await?;
    written.has_all_but(&[])?;
    ensure!(written.count("storage_rejected_rows_total") == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_a_sick_cluster_fails_in_time_and_says_why() -> Result<()> {
    let cases = [
        (Fault::Status(503, "all shards failed"), "all shards failed"),
        (Fault::Status(401, "who?"), "SW_ES_PASSWORD"),
        (Fault::Hang, "in time"),
        (Fault::HalfAnswer, "elasticsearch"),
    ];
    for (fault, want) in cases {
        let fake = FakeEs::start(move |asked| match asked.number {
            1 => fault.clone(),
            _ => Fault::None,
        })
        .await?;
        let store = store(&fake)?;
        let key = RowKey {
            model: row(1, 1, MINUTE)?.model,
            id: "1".to_owned(),
            time_bucket: None,
        };
        // Not found must not be taken for not there.
        match store.load(std::slice::from_ref(&key)).await {
            Err(StorageError::Unavailable(text)) => ensure!(text.contains(want), "{text}"),
            other => anyhow::bail!("{want}: {other:?}"),
        }
        ensure!(store.load(&[key]).await?[0].is_none());
        ensure!(store.endpoints("b3JkZXI=.1", "", 10).await?.is_empty());
    }
    Ok(())
}

/// An index that was created a moment ago is waited for, but not for ever.
#[tokio::test]
async fn an_index_whose_shards_are_not_there_yet_is_asked_again() -> Result<()> {
    const STARTING: &str = r#"{"docs": [{"_index": "fake_x-20200915", "error": {
        "type": "no_shard_available_action_exception", "reason": "No shard available"}}]}"#;
    const THERE: &str =
        r#"{"docs": [{"_index": "fake_x-20200915", "found": true, "_source": {}}]}"#;
    for (starting, is_read) in [(3, true), (usize::MAX, false)] {
        let fake = FakeEs::start(move |asked| match asked.number <= starting {
            true => Fault::Answer(STARTING),
            false => Fault::Answer(THERE),
        })
        .await?;
        let key = RowKey {
            model: row(1, 1, MINUTE)?.model,
            id: "1".to_owned(),
            time_bucket: Some(MINUTE),
        };
        match store(&fake)?.load(&[key]).await {
            Ok(rows) => ensure!(is_read && rows[0].is_some(), "{rows:?}"),
            Err(StorageError::Unavailable(text)) => {
                ensure!(!is_read && text.contains("No shard available"), "{text}");
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
    Ok(())
}

/// Two requests that wait for each other: one at a time would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_in_flight_together_and_ask_for_no_refresh() -> Result<()> {
    let both = Arc::new(Barrier::new(2));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    let router = Router::new().fallback(async move |uri: Uri, body: Bytes| {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(uri.to_string());
        both.wait().await;
        let documents = body.split(|b| *b == b'\n').count() / 2;
        let items = vec![json!({"index": {"status": 201}}); documents];
        json!({"errors": false, "items": items}).to_string()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let options = ElasticsearchOptions {
        cluster_nodes: vec![listener.local_addr()?.to_string()],
        bulk_actions: 10,
        concurrent_requests: 2,
        ..ElasticsearchOptions::default()
    };
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let store = Elasticsearch::new(options, Zone::utc(), Clock::System)?;
    let rows = (0..40).map(|id| row(id, 1, MINUTE));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let outcomes = timeout(Duration::from_secs(60), store.write(&rows)).await??;
    server.abort();
    all_stored(&outcomes)?;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(asked.len() == 4, "{asked:?}");
    ensure!(
        !asked.iter().any(|uri| uri.contains("refresh")),
        "{asked:?}"
    );
    Ok(())
}

/// Searches of one moment are one request, in which each has its own answer or failure.
#[tokio::test]
async fn searches_of_one_moment_travel_together() -> Result<()> {
    const ANSWERS: &str = r#"{"responses": [
        {"hits": {"total": {"value": 1, "relation": "eq"}, "hits": [
            {"_index": "fake_endpoint_traffic-20200915", "_id": "1", "_source": {"service_id": "a", "name": "/a"}}]}},
        {"error": {"root_cause": [{"type": "parsing_exception", "reason": "no such word"}]}, "status": 400},
        {"error": {"root_cause": [{"type": "busy", "reason": "later"}]}, "status": 429}
    ]}"#;
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let fake = FakeEs::start(move |asked| {
        seen.fetch_add(1, Ordering::SeqCst);
        match asked.action {
            "_msearch" => Fault::Answer(ANSWERS),
            _ => Fault::None,
        }
    })
    .await?;
    let store = store(&fake)?;
    let asking = ["a", "b", "c", "d"].map(|service| store.endpoints(service, "", 10));
    let answers = futures_util::future::join_all(asking).await;
    ensure!(requests.load(Ordering::SeqCst) == 1, "{requests:?}");
    match answers.as_slice() {
        [
            Ok(found),
            Err(StorageError::InvalidQuery(wrong)),
            Err(StorageError::Unavailable(later)),
            Err(StorageError::Damaged(_)),
        ] => {
            ensure!(found.len() == 1 && found[0].name == "/a", "{found:?}");
            ensure!(wrong.contains("no such word"), "{wrong}");
            ensure!(later.contains("busy"), "{later}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    // One alone is asked as ever.
    ensure!(store.endpoints("a", "", 10).await?.is_empty());
    Ok(())
}
