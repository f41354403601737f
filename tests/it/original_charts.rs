//! The original charts with another image: the variables that each version renders for a deployment with its own Elasticsearch, given to the
//! real program as they are (deployment spec, A1, A4, A8). References stand for what a cluster would put in: host, user, password and namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, few_metrics};
use crate::questions::{buckets_from, ensure_writable, trace_count};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

/// By version of the chart: name and value of each variable of the init Job and of a server.
const RENDERED: &str = include_str!("../data/original-charts.json");
const DEADLINE: Duration = Duration::from_secs(60);

/// The variables of a container, each with what it refers to.
fn apply(
    command: OapCommand,
    variables: &Value,
    namespace: &str,
    replica: usize,
) -> Result<OapCommand> {
    let command = command.on_elasticsearch(namespace)?;
    let mut with = command;
    for variable in variables.as_array().context("no variables")? {
        let part = |i: usize| variable[i].as_str().context("not a text");
        let (name, value) = (part(0)?, part(1)?);
        with = match (name, value) {
            // These stand for the test's own Elasticsearch.
            (
                "SW_STORAGE_ES_CLUSTER_NODES" | "SW_ES_USER" | "SW_ES_PASSWORD" | "SW_NAMESPACE",
                _,
            ) => with,
            (name, "<metadata.uid>") => with.env(name, &format!("uid-{replica}")),
            (name, value) => {
                ensure!(!value.starts_with('<'), "{name}={value}");
                with.env(name, value)
            }
        };
    }
    Ok(with)
}

/// A container of a deployment: on an address of its own.
fn container(folder: &std::path::Path, replica: usize) -> OapCommand {
    let host = format!("127.0.0.{}", replica + 2);
    OapCommand::new(folder)
        .argument("--lenient")
        .env("SW_CORE_GRPC_HOST", &host)
        .env("SW_CORE_REST_HOST", &host)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_runs_its_job_and_two_servers() -> Result<()> {
    let rendered: Value = serde_json::from_str(RENDERED)?;
    let versions = rendered.as_object().context("no versions")?;
    ensure!(versions.len() == 6);
    let mut seen = BTreeSet::new();
    for (version, environments) in versions {
        // Versions that render the same need no second look.
        if seen.insert(environments.to_string()) {
            deploy(environments)
                .await
                .with_context(|| version.clone())?;
        }
    }
    ensure!(seen.len() == 3, "{seen:?}");
    Ok(())
}

async fn deploy(environments: &Value) -> Result<()> {
    const NAMESPACE: &str = "original_charts";
    let home = tempfile::tempdir()?;
    // As a folder that is mounted: what is in it comes before what the image has.
    few_metrics(&home.path().join("ext-config"))?;
    let console = EsConsole::new(NAMESPACE)?;
    let server = |replica| {
        let command = container(home.path(), replica);
        apply(command, &environments["server"], NAMESPACE, replica)
    };

    // Servers start beside the job, as they do in a cluster.
    let first = server(0)?.start().await?;
    let job = apply(
        container(home.path(), 9),
        &environments["job"],
        NAMESPACE,
        9,
    )?;
    let ended = job.run().await?;
    ensure!(ended.status.success(), "{ended:?}");
    let again = job.run().await?;
    ensure!(again.status.success(), "{again:?}");
    let second = server(1)?.start().await?;

    let now = Timestamp::now().as_millisecond();
    let graphql = GraphQl::new(second.http())?;
    for http in [first.http(), second.http()] {
        let graphql = GraphQl::new(http)?;
        wait_until("the store is there", DEADLINE, async || {
            ensure_writable(&graphql).await
        })
        .await?;
    }
    for process in [&first, &second] {
        let sender = Sender::connect(process.grpc(), process.http()).await?;
        let segments =
            (0..5).map(|i| Served::new(format!("{}-{i}", process.http()), "shop", now, 20).bytes());
        let outcome = sender
            .call(COLLECT, Calling::ClientStream, segments.collect())
            .await?;
        ensure!(outcome.is_ok(), "{outcome:?}");
    }
    let day = buckets_from(now, "UTC", "DAY")?;
    wait_until(
        "what both stored is seen by the second",
        DEADLINE,
        async || {
            console.refresh().await?;
            let count = trace_count(&graphql, "shop", &day).await?;
            ensure!(count == 10, "{count}");
            Ok(())
        },
    )
    .await?;
    let log = first.log();
    ensure!(
        log.contains("-Dmode=no-init") && log.contains("memory budget"),
        "{log}"
    );
    first.stop().await?;
    second.stop().await?;
    console.clean().await
}

/// The guide lets the new program look at the variables of an old pod: those that its command picks have to be enough.
#[tokio::test]
async fn the_guide_picks_all_variables_that_a_check_needs() -> Result<()> {
    let guide = include_str!("../../docs/migrate.md");
    let (_, rest) = guide.split_once("grep -E '^(").context("no command")?;
    let (prefixes, _) = rest.split_once(")'").context("no end")?;
    let prefixes: Vec<&str> = prefixes.split('|').collect();
    let rendered: Value = serde_json::from_str(RENDERED)?;
    for (version, environments) in rendered.as_object().context("no versions")? {
        let folder = tempfile::tempdir()?;
        let mut check = OapCommand::new(folder.path()).argument("--lenient");
        for variable in environments["server"].as_array().context("no variables")? {
            let part = |i: usize| variable[i].as_str().context("not a text");
            let (name, value) = (part(0)?, part(1)?);
            let value = if value.starts_with('<') {
                "something"
            } else {
                value
            };
            let line = format!("{name}={value}");
            if prefixes.iter().any(|prefix| line.starts_with(prefix)) {
                check = check.env(name, value);
            }
        }
        let ended = check.argument("config").argument("check").run().await?;
        ensure!(ended.status.success(), "{version}: {ended:?}");
        ensure!(!ended.stdout.contains("unknown"), "{version}: {ended:?}");
    }
    Ok(())
}
