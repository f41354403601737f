//! What only Elasticsearch can do wrong: passwords, racing nodes, documents it refuses, indices that are not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use oap::config::Secret;
use oap::model::row::{Cell, Row, RowKey};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::{Backend, Expiry, StorageError, WriteOutcome};
use oap::util::clock::Clock;
use serde_json::json;

use crate::es_console::EsConsole;
use crate::peers;

const MINUTE: u64 = 202_009_151_050;

fn options(name_space: &str) -> Result<ElasticsearchOptions> {
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

fn store(options: ElasticsearchOptions) -> Result<Elasticsearch> {
    Ok(Elasticsearch::new(options, Zone::utc(), Clock::System)?)
}

/// Only the model of endpoints.
fn schema() -> Schema {
    let all = Schema::build(&[], &[], &[], false);
    let others: Vec<String> = all
        .models()
        .iter()
        .map(|m| m.name.clone())
        .filter(|name| name != "endpoint_traffic")
        .collect();
    Schema::build(&[], &[], &others, false)
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
        impostor.install(&schema).await,
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
    ensure!(store.trace("t", 10).await?.is_empty());
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
        .map(|row| RowKey {
            model: Arc::clone(&row.model),
            id: row.id.clone(),
            time_bucket: Some(row.time_bucket),
        })
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
    ensure!(outcomes.iter().all(|o| *o == WriteOutcome::Stored));
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
