//! `oap alarm explain` as an operator runs it, on what a server has stored.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::oap_process::{Ended, OapCommand};
use crate::questions::ensure_writable;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

/// 2020-09-15 10:59:00 UTC.
const START_MS: i64 = 1_600_167_540_000;
const MINUTE_MS: i64 = 60_000;
/// Far above what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Latency in each minute.
const SERIES: [(i64, i64); 6] = [
    (0, 2000),
    (1, 1500),
    (2, 100),
    (3, 1200),
    (7, 3000),
    (8, 50),
];

const RULES: &str = "
rules:
  slow_rule: {metrics-name: service_resp_time, op: '>', threshold: 1000, period: 3, count: 2, silence-period: 1, exclude-names: [web]}
  never_rule: {metrics-name: service_percentile, op: '>', threshold: '-,-,-,-,9000'}
";

const WANT: &str = "\
slow_rule: service_resp_time > 1000 in 2 of 3 minutes, found by 2 checks; 1 checks silent after an alarm
  7 values of 2 entities, 1 of which its names leave out; 4 values match
  a check is at second 16 and sees of its own minute what has come by then; the next check sees what comes later
  shop: 1 alarms
    2020-09-15 10:59  2000: quiet, 1 of 2 minutes match
    2020-09-15 11:00  1500: quiet, found by 1 of 2 checks if the value came by second 16
    2020-09-15 11:01  no match: alarm
    2020-09-15 11:02  1200: silent, for 0 more checks if the value came by second 16
    2020-09-15 11:03  no match: quiet, 1 of 2 minutes match
    2020-09-15 11:04  no match: quiet, 1 of 2 minutes match
    2020-09-15 11:05  no match: quiet, 0 of 2 minutes match
    2020-09-15 11:06  3000: quiet, 1 of 2 minutes match
";

fn command(folder: &Path, namespace: Option<&str>) -> Result<OapCommand> {
    let command = OapCommand::new(folder)
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500");
    match namespace {
        Some(namespace) => command.on_elasticsearch(namespace),
        None => Ok(command),
    }
}

async fn explain(command: OapCommand, arguments: &str) -> Result<Ended> {
    let command = command.argument("alarm").argument("explain");
    let arguments = arguments.split_whitespace();
    arguments
        .fold(command, |command, argument| command.argument(argument))
        .run()
        .await
}

async fn explained(namespace: Option<&str>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("config"))?;
    std::fs::write(folder.path().join("config/alarm-settings.yml"), RULES)?;
    let command = command(folder.path(), namespace)?;
    let process = command.start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let mut segments = vec![Served::new("web", "web", START_MS, 5000).bytes()];
    for (minute, latency_ms) in SERIES {
        let at_ms = START_MS + minute * MINUTE_MS;
        segments.push(Served::new(minute.to_string(), "shop", at_ms, latency_ms).bytes());
    }
    let sent = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(sent.is_ok(), "{sent:?}");
    let graphql = GraphQl::new(process.http())?;
    wait_until("the store can be written to", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    // While the server runs, as soon as it has stored what it was sent.
    wait_until("what is stored is explained", DEADLINE, async || {
        let slow = explain(command.clone(), "--rule slow_rule --from 2020-09-15").await?;
        ensure!(slow.status.success(), "{slow:?}");
        ensure!(slow.stdout.starts_with(WANT), "{}", slow.stdout);
        Ok(())
    })
    .await?;
    // It was left in peace: it writes on, and another look sees it.
    let at_ms = START_MS + 30 * MINUTE_MS;
    let later = Served::new("later", "desk", at_ms, 5000).bytes();
    let sent = sender
        .call(COLLECT, Calling::ClientStream, vec![later])
        .await?;
    ensure!(sent.is_ok(), "{sent:?}");
    wait_until("what came later is explained", DEADLINE, async || {
        let found = explain(command.clone(), "--rule slow_rule").await?;
        ensure!(found.stdout.contains("8 values of 3 entities"), "{found:?}");
        Ok(())
    })
    .await?;
    ensure!(!process.log().contains("damaged"), "{}", process.log());
    process.stop().await?;

    let slow = explain(command.clone(), "--rule slow_rule --from 2020-09-15").await?;
    ensure!(slow.status.success(), "{slow:?}");
    ensure!(
        slow.stdout.contains("8 values of 3 entities"),
        "{}",
        slow.stdout
    );
    let all = explain(command.clone(), "").await?;
    ensure!(all.stdout.starts_with(&slow.stdout), "{}", all.stdout);
    let never = "never_rule: service_percentile > -,-,-,-,9000 in 1 of 1 minutes, found by 1 checks; 0 checks silent after an \
                 alarm\n  8 values of 3 entities, 0 of which its names leave out; 0 values match\n  a check is at second 16 and sees of its own \
                 minute what has come by then; with a period of 1 no check sees what comes later\n";
    ensure!(all.stdout.ends_with(never), "{}", all.stdout);
    let later = explain(command.clone(), "--rule slow_rule --from 2020-09-16").await?;
    ensure!(
        later.stdout.contains("  0 values of 0 entities"),
        "{later:?}"
    );
    let unknown = explain(command, "--rule fast_rule").await?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    let said = "there is no rule fast_rule in alarm-settings.yml, only slow_rule, never_rule";
    ensure!(unknown.stderr.contains(said), "{unknown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_explained_on_embedded() -> Result<()> {
    explained(None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_explained_on_elasticsearch() -> Result<()> {
    let namespace = "alarm_explain";
    let outcome = explained(Some(namespace)).await;
    EsConsole::new(namespace)?.clean().await?;
    outcome
}
