//! Templates and indices of Elasticsearch that are not as the server would make them: what it says, and what it does.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::es_console::EsConsole;
use crate::golden::{compare_layout, recording};
use crate::oap_process::{OapCommand, few_metrics};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

fn command(folder: &TempDir, namespace: &str) -> Result<OapCommand> {
    few_metrics(&folder.path().join("config"))?;
    let command = OapCommand::new(folder.path()).env("TZ", "UTC");
    command.on_elasticsearch(namespace)
}

fn today() -> String {
    let today = Timestamp::now().to_zoned(TimeZone::UTC);
    today.strftime("%Y%m%d").to_string()
}

/// Runs it to the end with `-Dmode=init` and gives its log.
async fn init(command: &OapCommand) -> Result<String> {
    let ended = command
        .clone()
        .env("JAVA_OPTS", "-Dmode=init")
        .run()
        .await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(ended.stdout)
}

/// The only line with a text.
fn line<'a>(log: &'a str, text: &str) -> Result<&'a str> {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    match lines[..] {
        [line] => Ok(line),
        _ => anyhow::bail!("{} lines with {text}: {log}", lines.len()),
    }
}

async fn template(console: &EsConsole, model: &str) -> Result<Value> {
    let name = format!("{}_{model}", console.namespace());
    let templates = console.templates().await?;
    templates.get(&name).cloned().context(name)
}

/// Parts of an index by their names in the recording.
const PARTS: [(&str, &str); 3] = [
    ("mappings", "_mapping"),
    ("settings", "_settings"),
    ("aliases", "_alias"),
];

/// Index settings that say when and as what an index was made.
const OF_ONE_INDEX: [&str; 4] = ["creation_date", "provided_name", "uuid", "version"];

#[tokio::test(flavor = "multi_thread")]
async fn after_init_templates_and_indices_are_the_recorded_ones() -> Result<()> {
    const NAMESPACE: &str = "layout_recorded";
    let folder = tempfile::tempdir()?;
    let command = OapCommand::new(folder.path()).env("TZ", "UTC");
    init(&command.on_elasticsearch(NAMESPACE)?).await?;
    let console = EsConsole::new(NAMESPACE)?;
    let templates = console.templates().await?;
    let mut parts = vec![];
    for (_, path) in PARTS {
        let path = format!("{NAMESPACE}_*/{path}");
        parts.push(console.ask("GET", &path, None).await?);
    }
    console.clean().await?;

    let file = recording::folder().join("es-layout.json.gz");
    let layout: Value = serde_json::from_str(&recording::read(&file)?)?;
    let recorded = layout["templates"].as_object().context("no templates")?;
    let namespace = recording::meta()?.namespace;
    let report = compare_layout::compare((recorded, &namespace), (&templates, NAMESPACE))?;
    ensure!(report.templates.len() == 78, "{report:?}");
    let is_as_recorded = report.templates.values().all(String::is_empty);
    ensure!(is_as_recorded && report.additional.is_empty(), "{report:?}");

    for ((part, _), got) in PARTS.iter().zip(&mut parts) {
        let got = got.as_object_mut().context("no indices")?;
        for index in got.values_mut() {
            let settings = index.pointer_mut("/settings/index");
            if let Some(settings) = settings.and_then(Value::as_object_mut) {
                settings.retain(|key, _| !OF_ONE_INDEX.contains(&key.as_str()));
            }
        }
        let recorded = layout[part].as_object().context("no indices")?;
        let mut seen = BTreeSet::new();
        for (name, want) in recorded {
            let model = name.replace(&format!("{namespace}_"), "");
            let name = match model.split_once('-') {
                Some((model, _)) => format!("{NAMESPACE}_{model}-{}", today()),
                None => format!("{NAMESPACE}_{model}"),
            };
            let want = want
                .to_string()
                .replace(&format!("{namespace}_"), "layout_recorded_");
            let want: Value = serde_json::from_str(&want)?;
            let got = got.get(&name).with_context(|| format!("no index {name}"))?;
            ensure!(*got == want, "{part} of {name}: {got} instead of {want}");
            seen.insert(name);
        }
        // 78 with days and the dashboards.
        ensure!(seen.len() == 79 && got.len() >= 79, "{}", got.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_differ_are_told_and_changed_only_on_demand() -> Result<()> {
    const NAMESPACE: &str = "layout_changed";
    let folder = tempfile::tempdir()?;
    // In forms that people write; Elasticsearch gives them back in its own.
    let advanced = r#"{"max_result_window": 20000.0, "index": {"translog": {"durability": "async"}}, "index.codec": "default"}"#;
    let command = command(&folder, NAMESPACE)?.env("SW_STORAGE_ES_ADVANCED", advanced);
    let console = EsConsole::new(NAMESPACE)?;
    let first = init(&command).await?;
    ensure!(!first.contains("index templates differ"), "{first}");

    let mut cpm = template(&console, "service_cpm").await?;
    let original = cpm.clone();
    cpm["settings"]["index"]["number_of_shards"] = "3".into();
    ensure!(
        cpm["settings"]["index"]["max_result_window"] == "20000",
        "{cpm}"
    );
    cpm["settings"]["index"]["sort"] = json!({"field": "time_bucket"});
    cpm["mappings"]["properties"]["total"] = json!({"type": "integer"});
    let path = format!("_template/{NAMESPACE}_service_cpm");
    console.ask("PUT", &path, Some(cpm)).await?;
    let changed = template(&console, "service_cpm").await?;

    let log = init(&command).await?;
    for difference in [
        "settings.index.number_of_shards is 3 instead of 1",
        "mappings.properties.total.type is integer instead of long",
        "mappings.properties.total.index is missing, it would be false",
    ] {
        let line = line(&log, difference)?;
        for text in [
            "WARN",
            "layout_changed_service_cpm",
            "SW_STORAGE_ES_UPDATE_TEMPLATES=true",
        ] {
            ensure!(line.contains(text), "{text}: {line}");
        }
    }
    let kept = line(&log, "settings.index.sort.field is time_bucket")?;
    ensure!(kept.contains("INFO"), "{kept}");
    ensure!(template(&console, "service_cpm").await? == changed);

    let updating = command
        .clone()
        .env("SW_STORAGE_ES_UPDATE_TEMPLATES", "true");
    let log = init(&updating).await?;
    line(&log, "settings.index.number_of_shards is 3 instead of 1")?;
    let mut want = original;
    want["settings"]["index"]["sort"] = json!({"field": "time_bucket"});
    let updated = template(&console, "service_cpm").await?;
    let again = init(&updating).await?;
    console.clean().await?;
    ensure!(updated == want, "{updated}");
    ensure!(!again.contains("index templates differ"), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composable_template_is_named_and_does_no_harm() -> Result<()> {
    const NAMESPACE: &str = "layout_trap";
    let folder = tempfile::tempdir()?;
    let command = command(&folder, NAMESPACE)?;
    let console = EsConsole::new(NAMESPACE)?;
    let trap = json!({
        "index_patterns": ["layout_trap_*"],
        "template": {"settings": {"index": {"max_result_window": 12_345, "refresh_interval": "7s"}}},
    });
    console
        .ask("PUT", "_index_template/the-trap", Some(trap))
        .await?;
    let log = init(&command).await?;
    let traffic = format!("layout_trap_service_traffic-{}", today());
    let index = console.ask("GET", &traffic, None).await?;
    // Another one was made while no server looked.
    let lost = format!("layout_trap_service_cpm-{}", today());
    console.ask("DELETE", &lost, None).await?;
    let document = json!({"entity_id": "e", "value": 1});
    console
        .ask("PUT", &format!("{lost}/_doc/1"), Some(document))
        .await?;
    let second = init(&command).await;
    console
        .ask("DELETE", "_index_template/the-trap", None)
        .await?;
    console.clean().await?;

    let warning = line(&log, "the-trap")?;
    for text in [
        "WARN",
        "layout_trap_*",
        "DELETE _index_template",
        "order 1",
        &traffic[..11],
    ] {
        ensure!(warning.contains(text), "{text}: {warning}");
    }
    let index = &index[&traffic];
    ensure!(
        index["aliases"]["layout_trap_service_traffic"].is_object(),
        "{index}"
    );
    let name = &index["mappings"]["properties"]["name"];
    ensure!(
        *name == json!({"type": "keyword", "copy_to": ["name_match"]}),
        "{index}"
    );
    let settings = &index["settings"]["index"];
    ensure!(settings["refresh_interval"] == "10s", "{index}");
    ensure!(settings["max_result_window"] == "12345", "{index}");
    let second = second?;
    for difference in [
        "type of entity_id is text instead of keyword",
        "alias is missing",
    ] {
        let line = line(&second, difference)?;
        ensure!(line.contains("WARN") && line.contains(&lost), "{line}");
    }
    Ok(())
}

/// Someone deleted its template before it came into being.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_any_day_without_its_alias_is_named_with_the_remedy() -> Result<()> {
    const NAMESPACE: &str = "layout_lost";
    const LOST: &str = "layout_lost_service_cpm-20200915";
    let folder = tempfile::tempdir()?;
    let command = command(&folder, NAMESPACE)?;
    let console = EsConsole::new(NAMESPACE)?;
    let document = json!({"entity_id": "e", "value": 1});
    console
        .ask("PUT", &format!("{LOST}/_doc/1"), Some(document))
        .await?;
    let log = init(&command).await;
    console.clean().await?;
    let log = log?;
    let warning = line(&log, "indices have no alias")?;
    for text in ["WARN", LOST, "_reindex", "delete them"] {
        ensure!(warning.contains(text), "{text}: {warning}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_the_user_are_merged_by_their_order() -> Result<()> {
    for (namespace, order, shards, refresh) in [
        ("layout_above", 1, "3", "30s"),
        ("layout_below", -1, "1", "10s"),
    ] {
        let folder = tempfile::tempdir()?;
        let console = EsConsole::new(namespace)?;
        let users = json!({
            "index_patterns": [format!("{namespace}_*")],
            "order": order,
            "settings": {
                "number_of_shards": 3,
                "number_of_replicas": 0,
                "refresh_interval": "30s",
                "translog": {"durability": "async"},
            },
        });
        let path = format!("_template/{namespace}-template");
        console.ask("PUT", &path, Some(users)).await?;
        let log = init(&command(&folder, namespace)?).await;
        let name = format!("{namespace}_service_cpm-{}", today());
        let index = console.ask("GET", &name, None).await;
        console.ask("DELETE", &path, None).await?;
        console.clean().await?;
        let log = log?;
        let warning = log.lines().find(|line| line.contains("WARN oap::storage"));
        ensure!(warning.is_none(), "{warning:?}");
        let index = &index?[&name];
        let settings = &index["settings"]["index"];
        ensure!(settings["number_of_shards"] == shards, "{index}");
        ensure!(settings["refresh_interval"] == refresh, "{index}");
        ensure!(settings["translog"]["durability"] == "async", "{index}");
        ensure!(
            settings["analysis"]["analyzer"]["oap_analyzer"]["type"] == "stop",
            "{index}"
        );
        ensure!(
            index["mappings"]["properties"]["entity_id"]["type"] == "keyword",
            "{index}"
        );
        ensure!(
            index["aliases"][format!("{namespace}_service_cpm")].is_object(),
            "{index}"
        );
    }
    Ok(())
}

/// A lifecycle policy on `NAMESPACE_*` deletes the dashboards too.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_dashboards_templates_and_indices_come_back() -> Result<()> {
    const NAMESPACE: &str = "layout_back";
    let folder = tempfile::tempdir()?;
    few_metrics(folder.path())?;
    let server = TestServer::builder(NAMESPACE, Store::Elasticsearch)
        .config_dir(folder.path())
        .start()
        .await?;
    let console = EsConsole::new(NAMESPACE)?;
    let dashboards = async || {
        console.refresh().await?;
        let path = format!("{NAMESPACE}_ui_template/_count");
        let count = console.ask("GET", &path, None).await?;
        ensure!(count["count"] == 6, "{count}");
        ensure!(
            console
                .templates()
                .await?
                .contains_key("layout_back_segment")
        );
        Ok(())
    };
    wait_until("dashboards are stored", DEADLINE, dashboards).await?;
    console
        .ask("DELETE", &format!("{NAMESPACE}_ui_template"), None)
        .await?;
    console
        .ask("DELETE", &format!("_template/{NAMESPACE}_segment"), None)
        .await?;
    let back = wait_until("they are stored again", DEADLINE, dashboards).await;
    server.stop().await?;
    back
}
