//! What only Elasticsearch can do wrong: passwords, racing nodes, documents it refuses, indices that are not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use oap::config::Secret;
use oap::model::metrics::{Entrance, Function, MetricDefinition};
use oap::model::row::{Cell, Row, RowKey};
use oap::model::schema::Schema;
use oap::model::scope::Scope;
use oap::model::time_bucket::{Zone, day_of};
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::{
    Backend, BucketRange, Expiry, Order, ServiceFilter, StorageError, TopNFilter, TraceFilter,
    WriteOutcome,
};
use oap::util::clock::Clock;
use prometheus::Registry;
use serde_json::json;

use crate::es_console::EsConsole;
use crate::lanes::count;
use crate::peers;

const MINUTE: u64 = 202_009_151_050;

pub fn options(name_space: &str) -> Result<ElasticsearchOptions> {
    let node = tokio::task::block_in_place(peers::Elasticsearch::shared);
    let (user, password) = node.credentials().context("the shared node is open")?;
    Ok(ElasticsearchOptions {
        name_space: name_space.to_owned(),
        cluster_nodes: vec![node.address()],
        user: user.to_owned(),
        password: Secret::new(password),
        ..ElasticsearchOptions::default()
    })
}

const DAY_MS: i64 = 86_400_000;

fn store(options: ElasticsearchOptions) -> Result<Elasticsearch> {
    Ok(Elasticsearch::new(options, Zone::utc(), Clock::System)?)
}

/// Only the model of endpoints.
fn schema() -> Schema {
    schema_of(&["endpoint_traffic"], &[])
}

/// Fails unless every row was taken.
pub fn all_stored(outcomes: &[WriteOutcome]) -> Result<()> {
    ensure!(
        outcomes.iter().all(|o| *o == WriteOutcome::Stored),
        "{outcomes:?}"
    );
    Ok(())
}

/// Some of the built-in models, and metrics.
pub fn schema_of(names: &[&str], metrics: &[MetricDefinition]) -> Schema {
    let all = Schema::build(&[], &[], &[], false);
    let others: Vec<String> = all
        .models()
        .iter()
        .map(|m| m.name.clone())
        .filter(|name| !names.contains(&name.as_str()))
        .collect();
    Schema::build(metrics, &[], &others, false)
}

fn key(row: &Row, time_bucket: Option<u64>) -> RowKey {
    RowKey {
        model: Arc::clone(&row.model),
        id: row.id.clone(),
        time_bucket,
    }
}

fn endpoint(schema: &Schema, name: &str, time_bucket: u64) -> Result<Row> {
    let model = schema.model("endpoint_traffic").context("no model")?;
    Ok(Row {
        model: Arc::clone(model),
        id: format!("id of {name:.20}"),
        time_bucket,
        cells: vec![Cell::text("b3JkZXI=.1"), Cell::text(name)],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_from_a_lost_server() -> Result<()> {
    let impostor = store(ElasticsearchOptions {
        password: Secret::new("wrong"),
        ..options("impostor")?
    })?;
    let schema = schema();
    let rows = [endpoint(&schema, "/a", MINUTE)?];
    let answers = [
        impostor.ping().await,
        impostor.install(&schema).await.map(drop),
        impostor.write(&rows).await.map(drop),
    ];
    for answer in answers {
        let Err(StorageError::Unavailable(text)) = answer else {
            anyhow::bail!("{answer:?}")
        };
        ensure!(text.contains("SW_ES_PASSWORD"), "{text}");
    }
    Ok(store(options("friend")?)?.ping().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_nodes_install_together() -> Result<()> {
    let (one, two) = (store(options("race")?)?, store(options("race")?)?);
    let schema = schema();
    let (first, second) = tokio::join!(one.install(&schema), two.install(&schema));
    let console = EsConsole::new("race")?;
    let templates = console.templates().await?;
    console.clean().await?;
    first?;
    second?;
    let names: Vec<&String> = templates.keys().collect();
    ensure!(names == ["race_endpoint_traffic"], "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_does_not_take_others_along() -> Result<()> {
    let store = store(ElasticsearchOptions {
        bulk_actions: 3,
        ..options("refusal")?
    })?;
    let schema = schema();
    store.install(&schema).await?;
    // Above the limit of a keyword; only the server knows.
    let long = "/x".repeat(20_000);
    let mut rows = vec![];
    for name in ["/a", &long, "/b", "/c", "/d"] {
        rows.push(endpoint(&schema, name, MINUTE)?);
    }
    let outcomes = store.write(&rows).await;
    let keys: Vec<RowKey> = rows
        .iter()
        .map(|row| RowKey {
            model: Arc::clone(&row.model),
            id: row.id.clone(),
            time_bucket: Some(row.time_bucket),
        })
        .collect();
    let loaded = store.load(&keys).await;
    EsConsole::new("refusal")?.clean().await?;
    let outcomes = outcomes?;
    ensure!(
        matches!(&outcomes[1], WriteOutcome::Rejected(reason) if reason.contains("32766")),
        "{outcomes:?}"
    );
    let stored: Vec<bool> = outcomes
        .iter()
        .map(|o| *o == WriteOutcome::Stored)
        .collect();
    ensure!(stored == [true, false, true, true, true], "{outcomes:?}");
    let found: Vec<bool> = loaded?.iter().map(Option::is_some).collect();
    ensure!(found == stored, "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_on_two_days_is_listed_once_and_kept_on_the_later() -> Result<()> {
    let store = store(options("twice")?)?;
    let schema = schema();
    store.install(&schema).await?;
    let later = MINUTE + 10_000;
    let rows = [
        endpoint(&schema, "/a", later)?,
        endpoint(&schema, "/a", MINUTE)?,
    ];
    store.write(&rows).await?;
    let console = EsConsole::new("twice")?;
    console.refresh().await?;
    let listed = store.endpoints("b3JkZXI=.1", "", 10).await;
    let key = RowKey {
        model: Arc::clone(&rows[0].model),
        id: rows[0].id.clone(),
        time_bucket: None,
    };
    let loaded = store.load(&[key]).await;
    console.clean().await?;
    ensure!(listed?.len() == 1);
    let bucket = loaded?[0].as_ref().map(|row| row.time_bucket);
    ensure!(bucket == Some(later), "{bucket:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_anything_is_installed_answers_are_empty() -> Result<()> {
    let store = store(options("nothing")?)?;
    let schema = schema();
    let row = endpoint(&schema, "/a", MINUTE)?;
    for time_bucket in [Some(MINUTE), None] {
        let key = RowKey {
            model: Arc::clone(&row.model),
            id: row.id.clone(),
            time_bucket,
        };
        let loaded = store.load(&[key]).await?;
        ensure!(loaded.len() == 1 && loaded[0].is_none(), "{loaded:?}");
    }
    ensure!(store.endpoints("b3JkZXI=.1", "a", 10).await?.is_empty());
    ensure!(store.ui_templates(true).await?.is_empty());
    let trace = store.trace(&TraceFilter::first("t", 10)).await?;
    ensure!(trace.items.is_empty(), "{trace:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_days_go_whatever_else_is_behind_the_alias() -> Result<()> {
    const ALIAS: &str = "old_endpoint_traffic";
    let (one, two) = (store(options("old")?)?, store(options("old")?)?);
    let schema = schema();
    one.install(&schema).await?;
    let console = EsConsole::new("old")?;
    let alias = json!({"aliases": {ALIAS: {}}});
    // Copies and rollovers that somebody made, and days; the last two are not expired.
    let foreign = ["-v2", "-000001", "-20200901-copy", "x-20200901"];
    let (expired, kept) = (["-20200901", "-20200902"], ["-20200903", "-20200904"]);
    for suffix in foreign.iter().chain(&expired).chain(&kept) {
        let index = format!("{ALIAS}{suffix}");
        console.ask("PUT", &index, Some(alias.clone())).await?;
    }
    let expiry = Expiry {
        records: 20_200_904,
        metrics: 20_200_902,
    };
    let (first, second) = tokio::join!(
        one.remove_expired(&schema, expiry),
        two.remove_expired(&schema, expiry)
    );
    let again = one.remove_expired(&schema, expiry).await;
    let rest = console.ask("GET", &format!("_alias/{ALIAS}"), None).await;
    console.clean().await?;
    // Both may be told that an index is gone by their doing.
    let deleted: BTreeSet<String> = first?.into_iter().chain(second?).collect();
    let names = |suffixes: &[&str]| -> BTreeSet<String> {
        suffixes.iter().map(|s| format!("{ALIAS}{s}")).collect()
    };
    ensure!(deleted == names(&expired), "{deleted:?}");
    ensure!(again?.is_empty());
    let rest = rest?;
    let rest = rest.as_object().context("no object")?;
    for name in names(&foreign).union(&names(&kept)) {
        ensure!(rest.contains_key(name), "{name}: {rest:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_over_512_bytes_is_stored_and_found() -> Result<()> {
    let store = store(options("long_ids")?)?;
    let registry = Registry::new();
    store.register(&registry)?;
    let schema = schema();
    store.install(&schema).await?;
    let mut rows = vec![];
    for (id, name) in [("a", "/a"), ("b", "/b"), ("ä", "/c")] {
        rows.push(Row {
            id: format!("{}{id}", "ä".repeat(300)),
            ..endpoint(&schema, name, MINUTE)?
        });
    }
    let outcomes = store.write(&rows).await?;
    // The day is known or not.
    let direct: Vec<RowKey> = rows.iter().map(|row| key(row, Some(MINUTE))).collect();
    let found = store.load(&direct).await?;
    let console = EsConsole::new("long_ids")?;
    let documents = console.documents().await?;
    let anywhere: Vec<RowKey> = rows.iter().map(|row| key(row, None)).collect();
    let found_anywhere = store.load(&anywhere).await;
    console.clean().await?;
    all_stored(&outcomes)?;
    for found in [found, found_anywhere?] {
        for (row, found) in rows.iter().zip(found) {
            let found = found.context("not found")?;
            ensure!(found.id == row.id && found.cells == row.cells, "{found:?}");
        }
    }
    ensure!(documents.len() == 3);
    let begin = format!("{}~", "ä".repeat(200));
    for document in documents {
        let digest = document.id.strip_prefix(&begin).context("another id")?;
        ensure!(digest.len() == 64, "{digest}");
    }
    ensure!(count(&registry, "storage_elasticsearch_shortened_ids_total") == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_share_an_index_when_asked_for() -> Result<()> {
    let grouping = store(ElasticsearchOptions {
        day_step: 4,
        ..options("step")?
    })?;
    let schema = schema();
    grouping.install(&schema).await?;
    // Days 7560 to 7563 since the beginning of 2000, and the one after.
    let rows = [
        endpoint(&schema, "/a", 202_009_121_050)?,
        endpoint(&schema, "/b", 202_009_151_050)?,
        endpoint(&schema, "/c", 202_009_161_050)?,
    ];
    let outcomes = grouping.write(&rows).await?;
    let keys: Vec<RowKey> = rows
        .iter()
        .map(|row| key(row, Some(row.time_bucket)))
        .collect();
    let loaded = grouping.load(&keys).await;
    let expiry = |day| Expiry {
        records: day,
        metrics: day,
    };
    let early = grouping.remove_expired(&schema, expiry(20_200_914)).await;
    let late = grouping.remove_expired(&schema, expiry(20_200_915)).await;
    let console = EsConsole::new("step")?;
    let rest = console
        .ask("GET", "_alias/step_endpoint_traffic", None)
        .await;
    console.clean().await?;
    all_stored(&outcomes)?;
    let buckets: Vec<Option<u64>> = loaded?
        .iter()
        .map(|row| row.as_ref().map(|row| row.time_bucket))
        .collect();
    let want: Vec<Option<u64>> = rows.iter().map(|row| Some(row.time_bucket)).collect();
    ensure!(buckets == want, "{buckets:?}");
    ensure!(early?.is_empty());
    ensure!(late? == ["step_endpoint_traffic-20200912"]);
    let rest = rest?;
    ensure!(rest["step_endpoint_traffic-20200916"].is_object(), "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_made_read_only_holds_up_nothing() -> Result<()> {
    let store = store(options("read_only")?)?;
    let schema = schema();
    store.install(&schema).await?;
    let old = endpoint(&schema, "/a", MINUTE)?;
    let first = store.write(std::slice::from_ref(&old)).await;
    let console = EsConsole::new("read_only")?;
    let blocked = json!({"index.blocks.write": true});
    console.set("endpoint_traffic-20200915", blocked).await?;
    let today = Zone::utc()
        .minute(Clock::System.now_ms())
        .context("no time")?;
    let outcomes = store.write(&[old, endpoint(&schema, "/b", today)?]).await;
    console.clean().await?;
    ensure!(first? == [WriteOutcome::Stored]);
    let outcomes = outcomes?;
    ensure!(
        matches!(&outcomes[0], WriteOutcome::Rejected(reason) if reason.contains("write")),
        "{outcomes:?}"
    );
    ensure!(outcomes[1] == WriteOutcome::Stored, "{outcomes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_today_are_there_when_someone_asks() -> Result<()> {
    let mut options = options("asked")?;
    // Nothing becomes visible by itself.
    let settings = json!({"index.refresh_interval": "-1"});
    options.advanced = settings.as_object().context("no object")?.clone();
    let metric = MetricDefinition {
        name: "calls".to_owned(),
        scope: Scope::Service,
        filters: vec![],
        function: Function::Sum,
        entrance: Entrance::One,
    };
    let schema = schema_of(&[], &[metric]);
    // Five minutes after midnight.
    let now_ms = Clock::System.now_ms() / DAY_MS * DAY_MS + 5 * 60_000;
    let clock = Clock::Fixed(Arc::new(now_ms.into()));
    let store = Elasticsearch::new(options, Zone::utc(), clock)?;
    store.install(&schema).await?;
    let model = schema.model("calls").context("no model")?;
    let row = |minute: u64| Row {
        model: Arc::clone(model),
        id: format!("{minute}_shop"),
        time_bucket: minute,
        cells: vec![Cell::text("shop"), Cell::Long(7)],
    };
    let minute = Zone::utc().minute(now_ms).context("no time")?;
    let filter = |minute| TopNFilter {
        range: BucketRange {
            start: minute,
            end: minute,
        },
        service_id: None,
        order: Order::Descending,
        limit: 10,
    };
    let yesterday = Zone::utc().minute(now_ms - DAY_MS).context("no time")?;
    let earlier = Zone::utc().minute(now_ms - 2 * DAY_MS).context("no time")?;
    ensure!(day_of(earlier) < day_of(yesterday) && day_of(yesterday) < day_of(minute));
    let rows = [row(minute), row(yesterday), row(earlier)];
    store.write(&rows).await?;
    let found = store.top_n(model, &filter(minute)).await;
    let sum = store.aggregate(model, "shop", filter(minute).range).await;
    let of_yesterday = store.top_n(model, &filter(yesterday)).await;
    // Days that are over for long change seldom; they wait for their refresh.
    let of_earlier = store.top_n(model, &filter(earlier)).await;
    EsConsole::new("asked")?.clean().await?;
    ensure!(found?.len() == 1);
    ensure!(sum? == Some(7.0));
    ensure!(of_yesterday?.len() == 1);
    ensure!(of_earlier?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_counted() -> Result<()> {
    let store = store(options("cut")?)?;
    let registry = Registry::new();
    store.register(&registry)?;
    let schema = schema_of(&["service_traffic"], &[]);
    store.install(&schema).await?;
    let model = schema.model("service_traffic").context("no model")?;
    let rows = ["a", "b", "c"].map(|name| Row {
        model: Arc::clone(model),
        id: name.to_owned(),
        time_bucket: MINUTE,
        cells: vec![Cell::text(name), Cell::Long(0)],
    });
    store.write(&rows).await?;
    let console = EsConsole::new("cut")?;
    console.refresh().await?;
    let filter = ServiceFilter {
        node_type: 0,
        name: None,
        keyword: None,
    };
    let mut shown = vec![];
    let mut cut = vec![];
    for limit in [3, 2] {
        let page = store.services(&filter, limit).await?;
        shown.push((page.items.len(), page.total));
        cut.push(count(&registry, "storage_elasticsearch_cut_answers_total"));
    }
    console.clean().await?;
    ensure!(shown == [(3, 3), (2, 3)], "{shown:?}");
    ensure!(cut == [0, 1], "{cut:?}");
    Ok(())
}
