//! What stands in the way of the indices of single models in Elasticsearch: composable templates of the user, an index that
//! has the name of an alias, blocks. It is named, and the other models go on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::model::row::{Cell, Row};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::Elasticsearch;
use oap::storage::writer::{WriterMetrics, lane};
use oap::storage::{Backend, Expiry, ServiceFilter, WriteOutcome};
use oap::util::clock::Clock;
use prometheus::Registry;
use serde_json::{Value, json};

use crate::elasticsearch_store::{all_stored, options, schema_of};
use crate::es_console::EsConsole;
use crate::lanes::count;
use crate::oap_process::{OapCommand, few_metrics};
use crate::waiting::wait_until;

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;
const TODAY: u64 = 202_009_151_059;
const YESTERDAY: u64 = 202_009_141_059;
const DEADLINE: Duration = Duration::from_secs(60);

fn store(name_space: &str) -> Result<Elasticsearch> {
    let clock = Clock::Fixed(Arc::new(NOW_MS.into()));
    Ok(Elasticsearch::new(
        options(name_space)?,
        Zone::utc(),
        clock,
    )?)
}

fn schema() -> Schema {
    schema_of(&["endpoint_traffic", "service_traffic"], &[])
}

fn row(schema: &Schema, model: &str, id: &str, time_bucket: u64) -> Result<Row> {
    let model = schema.model(model).context("no model")?;
    let cells = match model.name.as_str() {
        "service_traffic" => vec![Cell::text(id), Cell::Long(0)],
        _ => vec![Cell::text("b3JkZXI=.1"), Cell::text(id)],
    };
    Ok(Row {
        model: Arc::clone(model),
        id: id.to_owned(),
        time_bucket,
        cells,
    })
}

fn any_service() -> ServiceFilter {
    ServiceFilter {
        node_type: 0,
        name: None,
        keyword: None,
    }
}

/// The text of the only thing that is in the way.
async fn obstacle(store: &Elasticsearch, schema: &Schema) -> Result<String> {
    let mut obstacles = store.install(schema).await?;
    ensure!(obstacles.len() == 1, "{obstacles:?}");
    obstacles.pop().context("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn indices_that_a_composable_template_shadows_are_made_whole_before_they_are_written()
-> Result<()> {
    const NAMESPACE: &str = "shadowed";
    let (store, schema) = (store(NAMESPACE)?, schema());
    let console = EsConsole::new(NAMESPACE)?;
    let shadow = json!({
        "index_patterns": ["shadowed_endpoint_*"],
        "template": {"settings": {"index": {"max_result_window": 12_345}}},
    });
    let users = json!({
        "index_patterns": ["shadowed_*"], "order": 1, "settings": {"refresh_interval": "33s"},
    });
    console
        .ask("PUT", "_index_template/shadow", Some(shadow))
        .await?;
    console
        .ask("PUT", "_template/shadowed-users", Some(users))
        .await?;
    let run = async {
        store.install(&schema).await?;
        let today = "shadowed_endpoint_traffic-20200915";
        console.ask("DELETE", today, None).await?;
        console
            .ask("DELETE", "shadowed_service_traffic-20200915", None)
            .await?;
        let mut rows = vec![];
        for (day, bucket) in [("old", YESTERDAY), ("new", TODAY)] {
            rows.push(row(
                &schema,
                "endpoint_traffic",
                &format!("/{day}"),
                bucket,
            )?);
            rows.push(row(
                &schema,
                "service_traffic",
                &format!("s-{day}"),
                bucket,
            )?);
        }
        for _ in 0..2 {
            all_stored(&store.write(&rows).await?)?;
        }
        store.refresh().await?;
        let found = store.endpoints("b3JkZXI=.1", "", 10).await?;
        ensure!(found.len() == 2, "{found:?}");
        let found = store.endpoints("b3JkZXI=.1", "old", 10).await?;
        ensure!(found.len() == 1, "{found:?}");
        let indices = console.ask("GET", "shadowed_*-*", None).await?;
        let indices = indices.as_object().context("no object")?;
        ensure!(indices.len() == 4, "{indices:?}");
        for (name, index) in indices {
            let model = name.rsplit_once('-').context("no day")?.0;
            ensure!(index["aliases"][model].is_object(), "{name}: {index}");
            let field = &index["mappings"]["properties"]["name"];
            ensure!(field["type"] == "keyword", "{name}: {index}");
            let settings = &index["settings"]["index"];
            let (refresh, window) = match name.contains("endpoint") {
                true => ("10s", json!("12345")),
                // What the user's other templates say stays in force.
                false => ("33s", Value::Null),
            };
            ensure!(settings["refresh_interval"] == refresh, "{name}: {index}");
            ensure!(settings["max_result_window"] == window, "{name}: {index}");
        }
        let expiry = Expiry {
            records: 0,
            metrics: 20_200_914,
        };
        let removed = store.remove_expired(&schema, expiry).await?;
        ensure!(removed.len() == 2, "{removed:?}");
        anyhow::Ok(())
    };
    let outcome = run.await;
    console
        .ask("DELETE", "_index_template/shadow", None)
        .await?;
    console
        .ask("DELETE", "_template/shadowed-users", None)
        .await?;
    console.clean().await?;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_named_like_an_alias_stops_only_its_model_until_it_is_gone() -> Result<()> {
    const NAMESPACE: &str = "taken_name";
    const TAKEN: &str = "taken_name_endpoint_traffic";
    let (store, schema) = (store(NAMESPACE)?, schema());
    let console = EsConsole::new(NAMESPACE)?;
    console.ask("PUT", TAKEN, None).await?;
    let run = async {
        let text = obstacle(&store, &schema).await?;
        for word in [&format!("there is an index {TAKEN}"), "_reindex", "DELETE"] {
            ensure!(text.contains(word), "{word}: {text}");
        }
        let rows = [
            row(&schema, "endpoint_traffic", "/a", TODAY)?,
            row(&schema, "service_traffic", "s", TODAY)?,
        ];
        let outcomes = store.write(&rows).await?;
        ensure!(
            matches!(outcomes[0], WriteOutcome::Retry(_)),
            "{outcomes:?}"
        );
        ensure!(outcomes[1] == WriteOutcome::Stored, "{outcomes:?}");
        store.refresh().await?;
        let services = store.services(&any_service(), 10).await?;
        ensure!(services.items.len() == 1, "{services:?}");
        console.ask("DELETE", TAKEN, None).await?;
        let obstacles = store.install(&schema).await?;
        ensure!(obstacles.is_empty(), "{obstacles:?}");
        all_stored(&store.write(&rows).await?)?;
        store.refresh().await?;
        let found = store.endpoints("b3JkZXI=.1", "", 10).await?;
        ensure!(found.len() == 1, "{found:?}");
        anyhow::Ok(())
    };
    let outcome = run.await;
    console.clean().await?;
    outcome
}

/// Whether these are indices of days: today's, and before midnight tomorrow's too.
fn are_days(found: &Value) -> bool {
    let is_day = |name: &String| {
        let day = name.rsplit('-').next().unwrap_or_default();
        day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit())
    };
    let found = found.as_object();
    found.is_some_and(|found| (1..=2).contains(&found.len()) && found.keys().all(is_day))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_what_is_in_the_way_and_goes_on_when_it_is_gone() -> Result<()> {
    const NAMESPACE: &str = "taken_at_start";
    const TAKEN: &str = "taken_at_start_service_cpm";
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let command = OapCommand::new(folder.path()).env("TZ", "UTC");
    let command = command.on_elasticsearch(NAMESPACE)?;
    let console = EsConsole::new(NAMESPACE)?;
    console.ask("PUT", TAKEN, None).await?;
    let init = command
        .clone()
        .env("JAVA_OPTS", "-Dmode=init")
        .run()
        .await?;
    let run = async {
        ensure!(init.status.code() == Some(1), "{init:?}");
        let reason = format!("there is an index {TAKEN}");
        ensure!(init.stderr.contains(&reason), "{init:?}");
        let process = command.start().await?;
        wait_until("it says what is in the way", DEADLINE, async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains(&reason));
            ensure!(line.is_some_and(|line| line.contains("WARN")), "{log}");
            Ok(())
        })
        .await?;
        let others = console
            .ask("GET", "taken_at_start_service_traffic", None)
            .await?;
        ensure!(are_days(&others), "{others}");
        console.ask("DELETE", TAKEN, None).await?;
        wait_until("the index is created", DEADLINE, async || {
            let found = console.ask("GET", &format!("{TAKEN}-*"), None).await?;
            ensure!(are_days(&found), "{found}");
            Ok(())
        })
        .await?;
        process.stop().await
    };
    let outcome = run.await;
    console.clean().await?;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_blocked_index_wait_and_those_of_others_do_not() -> Result<()> {
    const NAMESPACE: &str = "write_blocked";
    let (store, schema) = (Arc::new(store(NAMESPACE)?), schema());
    let console = EsConsole::new(NAMESPACE)?;
    store.install(&schema).await?;
    let index = "endpoint_traffic-20200915";
    console
        .set(index, json!({"index.blocks.write": true}))
        .await?;
    let registry = Registry::new();
    let metrics = WriterMetrics::new(&registry)?;
    let (lane, writer) = lane(
        "test",
        Arc::clone(&store),
        1 << 20,
        Duration::from_millis(1),
        metrics,
    );
    let writer = tokio::spawn(writer.run());
    let run = async {
        for n in 0..20 {
            let rows = vec![
                row(&schema, "endpoint_traffic", &format!("/{n}"), TODAY)?,
                row(&schema, "service_traffic", &format!("s{n}"), TODAY)?,
            ];
            lane.write(rows).await;
        }
        let (done, is_done) = tokio::sync::oneshot::channel();
        lane.notify_settled(done).await;
        is_done.await?;
        store.refresh().await?;
        let services = store.services(&any_service(), 100).await?;
        ensure!(services.items.len() == 20, "{}", services.items.len());
        console
            .set(index, json!({"index.blocks.write": false}))
            .await?;
        tokio::time::timeout(DEADLINE, lane.drained()).await?;
        store.refresh().await?;
        let endpoints = store.endpoints("b3JkZXI=.1", "", 100).await?;
        ensure!(endpoints.len() == 20, "{}", endpoints.len());
        ensure!(count(&registry, "storage_rejected_rows_total") == 0);
        anyhow::Ok(())
    };
    let outcome = run.await;
    console.clean().await?;
    drop(lane);
    writer.await?;
    outcome
}
