//! What the server says about itself on its telemetry port, read by the client library of Prometheus, is what
//! `docs/metrics.md` says, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde::Deserialize;

use crate::alarms::dead_url;
use crate::oap_process::{OapCommand, few_metrics};
use crate::peers::families;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

/// A metric, in the page of a server or in that of the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Described {
    kind: String,
    /// Beside the instance and the bounds of buckets.
    labels: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Family {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    samples: usize,
    instances: BTreeSet<String>,
}

/// What a server runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Embedded,
    Elasticsearch,
    /// Receives for a node that is not there.
    Cluster,
}

/// Everything is on that can be; whom the server asks or sends to is nobody.
async fn scrape(name: &str, mode: Mode) -> Result<Vec<Family>> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config");
    few_metrics(&config)?;
    let rules = "rules:\n  slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1}\n";
    let hook = format!("{rules}webhooks: ['{}']\n", dead_url().await?);
    std::fs::write(config.join("alarm-settings.yml"), hook)?;
    let command = OapCommand::new(folder.path());
    let command = match mode {
        Mode::Embedded => command,
        Mode::Elasticsearch => command.on_elasticsearch(name)?,
        Mode::Cluster => command
            .env("SW_CLUSTER", "static")
            .env("SW_CLUSTER_STATIC_MEMBERS", "127.0.0.1:1")
            .env("SW_CORE_ROLE", "Receiver"),
    };
    let process = command
        .with_metrics()
        .env("SW_RECEIVER_METER", "default")
        .env("SW_PROMETHEUS_FETCHER_ACTIVE", "true")
        .env("SW_HEALTH_CHECKER", "default")
        .env("SW_CONFIGURATION", "etcd")
        .env("SW_CONFIG_ETCD_SERVER_ADDR", "127.0.0.1:1")
        .env("SW_EXPORTER", "grpc")
        .env("SW_EXPORTER_GRPC_PORT", "1")
        .start()
        .await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let now = Timestamp::now().as_millisecond();
    let segments = (0..10).map(|i| Served::new(i.to_string(), "shop", now, 20).bytes());
    let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
    ensure!(sent.await?.is_ok());
    let url = process.metrics_url()?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = wait_until("a stored row", DEADLINE, async || {
        let text = client.get(&url).send().await?.text().await?;
        ensure!(text.contains("storage_stored_rows_total{"), "{text}");
        Ok(text)
    })
    .await?;
    let read = tokio::task::spawn_blocking(move || families(&text)).await??;
    match mode {
        // It could not hand over what it holds.
        Mode::Cluster => process.kill()?,
        _ => process.stop().await?,
    }
    read.iter()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

/// The rows of the tables of the page: name, type, labels, meaning.
fn documented() -> Result<BTreeMap<String, Described>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page)?;
    let mut all = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else {
            anyhow::bail!("not four columns: {row}");
        };
        ensure!(meaning.len() > 10, "no meaning: {row}");
        let labels = labels.split(", ").map(|label| label.trim_matches('`'));
        let described = Described {
            kind: kind.to_owned(),
            labels: labels
                .filter(|l| !l.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        let name = name.trim_matches('`').to_owned();
        ensure!(
            all.insert(name.clone(), described).is_none(),
            "{name} is there twice"
        );
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_the_server_serves() -> Result<()> {
    let mut served: BTreeMap<String, Family> = BTreeMap::new();
    for (name, mode) in [
        ("self_metrics_embedded", Mode::Embedded),
        ("self_metrics", Mode::Elasticsearch),
        ("self_metrics_cluster", Mode::Cluster),
    ] {
        for family in scrape(name, mode).await? {
            ensure!(!family.help.is_empty(), "{family:?}");
            let is_process = family.name.starts_with("process_");
            let instance = family.instances.first().map_or("", String::as_str);
            let is_of_instance = instance.starts_with("127.0.0.1_");
            ensure!(
                family.samples == 0 || is_of_instance != is_process,
                "{family:?}"
            );
            let known = served.get(&family.name);
            if known.is_none_or(|known| known.samples == 0) {
                served.insert(family.name.clone(), family);
            }
        }
    }
    let mut documented = documented()?;
    let mut wrong = vec![];
    for (name, family) in &served {
        match documented.remove(name) {
            None => wrong.push(format!(
                "not in docs/metrics.md: | `{name}` | {} | {} | {} |",
                family.kind,
                family
                    .labels
                    .iter()
                    .map(|l| format!("`{l}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                family.help
            )),
            Some(page) if page.kind != family.kind => {
                wrong.push(format!("type: {family:?} {page:?}"))
            }
            Some(page) if family.samples > 0 && page.labels != family.labels => {
                wrong.push(format!("labels: {family:?} {page:?}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        documented
            .keys()
            .map(|name| format!("nobody serves {name}")),
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    served
        .get("ledger_received_total")
        .context("no ledger")
        .map(drop)
}
