//! The program as an operator meets it: command line, start log, what is wrong with a start, signals, restarts.
//!
//! Each test runs the real binary in an empty folder with an empty environment.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use oap_proto::agent::{InstanceProperties, KeyStringValuePair};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, OapProcess};
use crate::peers::Elasticsearch;
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

/// 2020-09-15 20:59:30 UTC, the next day in Shanghai.
const AT_MS: i64 = 1_600_203_570_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// One that keeps old data.
fn keeping(folder: &tempfile::TempDir) -> OapCommand {
    OapCommand::new(folder.path())
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
}

/// A running program with a client of each port.
struct Running {
    process: OapProcess,
    sender: Sender,
    graphql: GraphQl,
}

async fn start(command: &OapCommand) -> Result<Running> {
    let process = command.start().await?;
    Ok(Running {
        sender: Sender::connect(process.grpc(), process.http()).await?,
        graphql: GraphQl::new(process.http())?,
        process,
    })
}

impl Running {
    /// Sends segments in one stream, which must be acknowledged.
    async fn report(&self, segments: impl IntoIterator<Item = Bytes>) -> Result<()> {
        let segments = segments.into_iter().collect();
        let outcome = self
            .sender
            .call(COLLECT, Calling::ClientStream, segments)
            .await?;
        ensure!(outcome.is_ok(), "{outcome:?}");
        Ok(())
    }
}

#[tokio::test]
async fn it_says_what_it_is_and_how_to_use_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let command = || OapCommand::new(folder.path());
    let help = command().argument("--help").run().await?;
    ensure!(help.status.success(), "{help:?}");
    ensure!(help.stdout.contains("Usage: oap") && help.stdout.contains("--config DIR"));
    let version = command().argument("--version").run().await?;
    ensure!(version.status.success());
    ensure!(version.stdout == format!("oap {}\n", env!("CARGO_PKG_VERSION")));
    let unknown = command().argument("--frobnicate").run().await?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    ensure!(unknown.stderr.contains("--frobnicate") && unknown.stdout.is_empty());
    ensure!(folder.path().read_dir()?.next().is_none(), "it left files");
    Ok(())
}

#[tokio::test]
async fn every_wrong_setting_is_named_with_its_value_and_a_remedy() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let command = OapCommand::new(folder.path())
        .env("SW_CORE_REST_PORT", "ninety")
        .env("SW_STORAGE", "punchcards")
        .env("TZ", "Mars/Base");
    let ended = command.run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    for words in [
        &[
            "core.default.restPort",
            "\"ninety\"",
            "SW_CORE_REST_PORT",
            "0 to 65535",
        ][..],
        &["storage.selector", "\"punchcards\"", "elasticsearch7"],
        &["TZ", "\"Mars/Base\"", "Asia/Shanghai"],
    ] {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(
            ended.stderr.lines().any(has_all),
            "{words:?}: {}",
            ended.stderr
        );
    }
    ensure!(!folder.path().join("data").exists());
    Ok(())
}

#[tokio::test]
async fn a_broken_script_is_named_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scripts = folder.path().join("mine/oal");
    std::fs::create_dir_all(&scripts)?;
    std::fs::write(
        scripts.join("core.oal"),
        "a = from(Service.latency).longAvg();\nb = from(Service.nothing).longAvg();\n",
    )?;
    let command = OapCommand::new(folder.path()).argument("--config=mine");
    let ended = command.run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains("core.oal:2:18"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    for variable in ["SW_CORE_GRPC_PORT", "SW_CORE_REST_PORT"] {
        let command = OapCommand::new(folder.path()).env(variable, &port.to_string());
        let ended = command.run().await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        let wanted = format!("127.0.0.1:{port}");
        ensure!(ended.stderr.contains(&wanted), "{}", ended.stderr);
        ensure!(ended.stderr.contains("in use"), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn data_in_use_is_left_to_who_has_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = OapCommand::new(folder.path()).start().await?;
    let ended = OapCommand::new(folder.path()).run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains("data is in use"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("--data"), "{}", ended.stderr);
    process.stop().await
}

#[tokio::test]
async fn it_starts_from_nothing_and_says_so_in_a_few_lines() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = OapCommand::new(folder.path()).start().await?;
    wait_until("the store is named", DEADLINE, async || {
        let store = process.value_of("data is stored here", "store");
        store.with_context(|| process.log())
    })
    .await?;
    let log = process.log();
    ensure!(log.lines().count() <= 10, "{log}");
    for text in [
        "application.yml oal/core.oal",
        "embedded, in data",
        process.grpc(),
        process.http(),
    ] {
        ensure!(log.contains(text), "{text}: {log}");
    }
    ensure!(folder.path().join("data").is_dir());
    let graphql = GraphQl::new(process.http())?;
    ensure!(graphql.ask("{ version }", json!({})).await? == "8.0");
    process.stop().await
}

#[tokio::test]
async fn each_file_is_looked_for_in_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for dir in ["config", "mine"] {
        std::fs::create_dir(folder.path().join(dir))?;
        std::fs::write(
            folder.path().join(dir).join("gateways.yml"),
            "gateways: []\n",
        )?;
    }
    let thresholds = folder.path().join("config/service-apdex-threshold.yml");
    std::fs::write(thresholds, "default: 400\n")?;
    let command = OapCommand::new(folder.path())
        .argument("--config")
        .argument("mine");
    let process = command.start().await?;
    let log = process.log();
    for text in [
        "source=mine/gateways.yml",
        "source=config/service-apdex-threshold.yml",
    ] {
        ensure!(log.contains(text), "{text}: {log}");
    }
    let built_in = log.lines().find(|line| line.contains("built-in"));
    let built_in = built_in.context("no line about built-in files")?;
    ensure!(built_in.contains("application.yml") && !built_in.contains("gateways.yml"));
    process.stop().await
}

/// Values of every kind of function at every precision, in the order of the arguments.
async fn values(graphql: &GraphQl, at_ms: i64) -> Result<Vec<Value>> {
    let mut values = vec![];
    for step in ["MINUTE", "HOUR", "DAY"] {
        let duration = buckets_from(at_ms, "UTC", step)?;
        for metric in [
            "service_cpm",
            "service_resp_time",
            "service_sla",
            "service_apdex",
        ] {
            let value = service_value(graphql, metric, "shop", &duration).await?;
            values.push(json!([step, metric, value]));
        }
        let query = "query($c: MetricsCondition!, $d: Duration!) {
            readLabeledMetricsValues(condition: $c, labels: [\"0\", \"1\", \"2\", \"3\", \"4\"], duration: $d) {
                label values { values { value } } } }";
        let entity = json!({"scope": "Service", "serviceName": "shop", "normal": true});
        let condition = json!({"name": "service_percentile", "entity": entity});
        let variables = json!({"c": condition, "d": duration});
        values.push(json!([step, graphql.ask(query, variables).await?]));
    }
    Ok(values)
}

fn requests(at_ms: i64) -> Vec<Bytes> {
    let latencies = [20, 50, 80, 150, 3000];
    let requests = latencies.iter().enumerate().map(|(i, latency)| Served {
        is_error: i % 2 == 1,
        ..Served::new(i.to_string(), "shop", at_ms, *latency)
    });
    requests.map(|served| served.bytes()).collect()
}

#[tokio::test]
async fn a_bucket_that_is_continued_after_a_restart_adds_up() -> Result<()> {
    let now = Timestamp::now().as_millisecond();
    // Long over, of this minute, and of an agent whose clock is ahead.
    for at_ms in [AT_MS, now, now + 180_000] {
        let (whole, parted) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let running = start(&keeping(&whole)).await?;
        running.report(requests(at_ms)).await?;
        running.process.stop().await?;
        let running = start(&keeping(&whole)).await?;
        let expected = values(&running.graphql, at_ms).await?;
        ensure!(
            expected[0] == json!(["MINUTE", "service_cpm", 5]),
            "{expected:?}"
        );

        let mut parts = requests(at_ms);
        let second = parts.split_off(3);
        for part in [parts, second, vec![]] {
            let running = start(&keeping(&parted)).await?;
            running.report(part).await?;
            running.process.stop().await?;
        }
        let running = start(&keeping(&parted)).await?;
        let seen = values(&running.graphql, at_ms).await?;
        ensure!(
            seen == expected,
            "{at_ms}: {seen:?}\nwithout a restart: {expected:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn everything_is_there_after_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let now = Timestamp::now().as_millisecond();
    let running = start(&keeping(&folder)).await?;
    let served = Served::new("1", "shop", now, 20);
    running
        .report([bytes(&served.called_at("shop:80"))])
        .await?;
    let properties = InstanceProperties {
        service: "shop".into(),
        service_instance: "shop-1".into(),
        properties: vec![KeyStringValuePair {
            key: "language".into(),
            value: "java".into(),
        }],
    };
    let properties = vec![properties.encode_to_vec().into()];
    let path = "/ManagementService/reportInstanceProperties";
    let outcome = running
        .sender
        .call(path, Calling::Unary, properties)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    let setting =
        json!({"name": "Mine", "type": "DASHBOARD", "configuration": "[1]", "active": true});
    let add = "mutation($s: DashboardSetting!) { addTemplate(setting: $s) { status } }";
    let added = running.graphql.ask(add, json!({"s": setting})).await?;
    ensure!(added["status"] == true, "{added}");
    let templates = "{ getAllTemplates { name configuration } }";
    let shipped = running.graphql.ask(templates, json!({})).await?;
    let name = shipped[0]["name"].clone();
    let changed =
        json!({"name": name, "type": "DASHBOARD", "configuration": "[2]", "active": true});
    let change = "mutation($s: DashboardSetting!) { changeTemplate(setting: $s) { status } }";
    let outcome = running.graphql.ask(change, json!({"s": changed})).await?;
    ensure!(outcome["status"] == true, "{outcome}");
    running.process.stop().await?;

    let running = start(&keeping(&folder)).await?;
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    ensure!(trace_count(&running.graphql, "shop", &minute).await? == 1);
    let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    let services = running.graphql.ask(services, json!({"d": minute})).await?;
    ensure!(services == json!([{"name": "shop"}]), "{services}");
    let instances = "query($s: ID!, $d: Duration!) {
        getServiceInstances(serviceId: $s, duration: $d) { name language } }";
    let id = oap::model::id::service_id("shop", true);
    let variables = json!({"s": id, "d": minute});
    let instances = running.graphql.ask(instances, variables).await?;
    ensure!(
        instances == json!([{"name": "shop-1", "language": "JAVA"}]),
        "{instances}"
    );
    let stored = running.graphql.ask(templates, json!({})).await?;
    let stored = stored.as_array().context("no list")?;
    for (name, configuration) in [(json!("Mine"), "[1]"), (name, "[2]")] {
        let wanted = json!({"name": name, "configuration": configuration});
        ensure!(stored.contains(&wanted), "{wanted}");
    }
    // Who answers at the address is known again: the call goes to the service.
    let caller = Served::new("2", "web", now, 20);
    wait_until("a call to a known address", DEADLINE, async || {
        running.report([bytes(&caller.calling("shop:80"))]).await?;
        let query = "query($d: Duration!) { getGlobalTopology(duration: $d) { calls { source target detectPoints } } }";
        let topology = running.graphql.ask(query, json!({"d": minute})).await?;
        let web = oap::model::id::service_id("web", true);
        let calls = topology["calls"].as_array().context("no calls")?;
        let call = calls.iter().find(|c| c["source"] == web && c["target"] == id);
        let points = &call.with_context(|| topology.to_string())?["detectPoints"];
        ensure!(points.as_array().is_some_and(|p| p.contains(&json!("CLIENT"))), "{topology}");
        Ok(())
    })
    .await?;
    running.process.stop().await
}

#[tokio::test]
async fn a_stop_right_after_the_acknowledgement_loses_nothing() -> Result<()> {
    const SEGMENTS: usize = 2000;
    let folder = tempfile::tempdir()?;
    let running = start(&keeping(&folder)).await?;
    let segments = (0..SEGMENTS).map(|i| Served::new(i.to_string(), "shop", AT_MS, 20).bytes());
    running.report(segments).await?;
    running.process.stop().await?;
    let running = start(&keeping(&folder)).await?;
    let minute = buckets_from(AT_MS, "UTC", "MINUTE")?;
    let count = trace_count(&running.graphql, "shop", &minute).await?;
    ensure!(count == SEGMENTS as u64, "{count} segments");
    let cpm = service_value(&running.graphql, "service_cpm", "shop", &minute).await?;
    ensure!(cpm == SEGMENTS as i64, "{cpm} calls");
    Ok(())
}

/// Whoever asks for metrics and does not go on holds nobody up: `stop` wants everything stored, of every precision.
#[tokio::test]
async fn a_half_sent_request_for_metrics_does_not_hold_up_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(&keeping(&folder).with_metrics()).await?;
    let url = running.process.metrics_url()?;
    let address = url.trim_start_matches("http://");
    let address = address.trim_end_matches("/metrics");
    let mut half = tokio::net::TcpStream::connect(address).await?;
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await?;
    running.report(requests(AT_MS)).await?;
    running.process.stop().await?;
    let running = start(&keeping(&folder)).await?;
    for step in ["MINUTE", "HOUR", "DAY"] {
        let duration = buckets_from(AT_MS, "UTC", step)?;
        let time = service_value(&running.graphql, "service_resp_time", "shop", &duration).await?;
        ensure!(time == 660, "{step}: {time}");
    }
    ensure!(!running.process.log().contains("was killed"));
    drop(half);
    running.process.stop().await
}

#[tokio::test]
async fn a_second_signal_ends_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let command = keeping(&folder)
        .env("SW_STORAGE", "elasticsearch7")
        // Nobody listens on port 1.
        .env("SW_STORAGE_ES_CLUSTER_NODES", "127.0.0.1:1");
    let running = start(&command).await?;
    let served = Served::new("1", "shop", AT_MS, 20);
    running.report([served.bytes()]).await?;
    running.process.terminate()?;
    wait_until("it says that it stops", DEADLINE, async || {
        let log = running.process.log();
        ensure!(log.contains("shutting down"), "{log}");
        Ok(())
    })
    .await?;
    // Some tools send the same signal twice at once.
    running.process.terminate()?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    running.process.terminate()?;
    let second = Instant::now();
    let ended = running.process.ended().await?;
    ensure!(
        second.elapsed() < Duration::from_secs(3),
        "{:?}",
        second.elapsed()
    );
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains("second signal"), "{ended:?}");
    ensure!(!ended.stdout.contains("everything is stored"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn the_time_zone_decides_the_buckets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A machine without time zone files.
    let nowhere = folder.path().join("nowhere").display().to_string();
    let command = keeping(&folder)
        .env("TZ", "Asia/Shanghai")
        .env("TZDIR", &nowhere);
    let running = start(&command).await?;
    let info = running
        .graphql
        .ask("{ getTimeInfo { timezone } }", json!({}))
        .await?;
    ensure!(info["timezone"] == "+0800", "{info}");
    running
        .report([Served::new("1", "shop", AT_MS, 20).bytes()])
        .await?;
    running.process.stop().await?;
    for file in ["metrics-20200916.db", "records-20200916.db"] {
        ensure!(folder.path().join("data").join(file).is_file(), "no {file}");
    }
    let running = start(&command).await?;
    for step in ["MINUTE", "HOUR", "DAY"] {
        let there = buckets_from(AT_MS, "Asia/Shanghai", step)?;
        let value = service_value(&running.graphql, "service_resp_time", "shop", &there).await?;
        ensure!(value == 20, "{step}: {value}");
    }
    Ok(())
}

#[tokio::test]
async fn init_mode_creates_the_structures_and_ends() -> Result<()> {
    const NAMESPACE: &str = "process_init";
    let node = tokio::task::spawn_blocking(Elasticsearch::shared).await?;
    let (user, password) = node.credentials().context("the shared node is open")?;
    let folder = tempfile::tempdir()?;
    // Scripts without metrics keep it short.
    std::fs::create_dir_all(folder.path().join("config/oal"))?;
    for script in ["core", "java-agent", "dotnet-agent", "envoy"] {
        let path = folder.path().join(format!("config/oal/{script}.oal"));
        std::fs::write(path, "// nothing\n")?;
    }
    let script = "service_cpm = from(Service.*).cpm();\n";
    std::fs::write(folder.path().join("config/oal/core.oal"), script)?;
    let command = OapCommand::new(folder.path())
        .env("JAVA_OPTS", "-Dmode=init")
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_NAMESPACE", NAMESPACE)
        .env("SW_STORAGE_ES_CLUSTER_NODES", &node.address())
        .env("SW_ES_USER", user)
        .env("SW_ES_PASSWORD", password);
    let ended = command.run().await?;
    let console = EsConsole::new(NAMESPACE)?;
    let templates = console.templates().await?;
    let documents = console.documents().await?;
    console.clean().await?;
    ensure!(ended.status.success(), "{ended:?}");
    for name in ["service_cpm", "segment", "service_traffic"] {
        ensure!(
            templates.contains_key(&format!("{NAMESPACE}_{name}")),
            "no {name}"
        );
    }
    let dashboards = documents
        .iter()
        .filter(|d| d.index.ends_with("ui_template"));
    ensure!(dashboards.count() > 0, "no dashboards");
    Ok(())
}
