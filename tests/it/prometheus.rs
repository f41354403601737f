//! The Prometheus fetcher as a whole: targets of the test's own, good and bad ones, from their pages to the answers to questions.

pub mod targets;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::util::clock::Clock;
use serde_json::{Value, json};

use crate::graphql::GraphQl;
use crate::oap_process::OapCommand;
use crate::questions::buckets_from;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;
use targets::{Answer, PageTarget, absent};

/// 2020-09-15 10:59:00 UTC.
const AT_MS: i64 = 1_600_167_540_000;
/// Between two runs by the clock of the server.
const STEP_MS: i64 = 15_000;
const RUNS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(90);

const RULES: &str = "
metricsRules:
- name: size
  scope: SERVICE_INSTANCE
  operation: avg
  sources: {m_size: {relabel: {service: [service], instance: [instance]}}}
- name: requests
  scope: SERVICE
  operation: avg
  sources: {m_requests: {counterFunction: INCREASE, range: PT30S, relabel: {service: [service]}}}
- name: codes
  scope: SERVICE
  operation: avgLabeled
  sources: {m_codes: {groupBy: [code], relabel: {service: [service]}}}
- name: latency
  scope: SERVICE
  operation: avgHistogramPercentile
  percentiles: [50, 90, 99]
  sources: {m_latency: {counterFunction: INCREASE, range: PT30S, relabel: {service: [service]}}}
- name: heat
  scope: SERVICE
  operation: avgHistogram
  sources: {m_latency: {relabel: {service: [service]}}}
- name: path
  scope: ENDPOINT
  operation: avg
  sources: {m_path: {relabel: {service: [service], endpoint: [path]}}}
";

/// A rule file for these targets.
fn rules(timeout: &str, targets: &[&str], rules: &str) -> String {
    let targets = targets.join(", ");
    format!(
        "fetcherInterval: PT1S\nfetcherTimeout: {timeout}\nmetricsPath: /metrics\nstaticConfig:\n  targets: [{targets}]\n  labels: {{service: shop}}\n{rules}"
    )
}

/// What the first target says in a run.
fn first_page(k: i64) -> String {
    format!(
        "# TYPE m_size gauge
m_size{{disk=\"a\"}} {}
m_size{{disk=\"b\"}} 1
# TYPE m_requests counter
m_requests {}
m_codes{{code=\"200\"}} 5
m_codes{{code=\"500\"}} 2
# TYPE m_latency histogram
m_latency_bucket{{le=\"0.1\"}} {}
m_latency_bucket{{le=\"0.5\"}} {}
m_latency_bucket{{le=\"+Inf\"}} {}
m_path{{path=\"/pay\"}} 7
",
        10 + k,
        100 * k,
        8 * k,
        9 * k,
        10 * k
    )
}

/// What the second one says: also lines that make no sense.
fn second_page(k: i64) -> String {
    format!(
        "m_size{{instance=\"own\"}} 100\nm_requests {}\nm_size{{\nm_codes{{code=\"200\"}} 1\nm_path{{path=\"/pay\"}} one\n",
        10 * k
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_become_metrics_in_the_embedded_store() -> Result<()> {
    pages_become_metrics("prom-embedded", Store::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_become_metrics_in_elasticsearch() -> Result<()> {
    pages_become_metrics("prom-es", Store::Elasticsearch).await
}

async fn pages_become_metrics(name: &str, store: Store) -> Result<()> {
    let now = Arc::new(AtomicI64::new(AT_MS));
    let clock = Arc::clone(&now);
    // The first target moves the clock on, so that every run has its own time.
    let first = PageTarget::start(move |k| {
        if k >= RUNS {
            return Answer::Status(503);
        }
        let at = AT_MS + STEP_MS * (k as i64 + 1);
        clock.store(at, Ordering::Relaxed);
        Answer::Page(first_page(k as i64))
    })
    .await?;
    let second = PageTarget::start(|k| match k < RUNS {
        true => Answer::Page(second_page(k as i64)),
        false => Answer::Status(503),
    })
    .await?;
    let failing = PageTarget::start(|_| Answer::Status(500)).await?;
    let absent = absent().await?;
    let folder = tempfile::tempdir()?;
    let rules_folder = folder.path().join("fetcher-prom-rules");
    std::fs::create_dir(&rules_folder)?;
    let targets = [first.name(), second.name(), failing.name(), &absent];
    let text = rules("PT30S", &targets, RULES);
    std::fs::write(rules_folder.join("shop.yaml"), text)?;

    let server = TestServer::builder(name, store)
        .clock(&now)
        .config_dir(folder.path())
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_PROMETHEUS_FETCHER_ACTIVE", "true")
        .start()
        .await?;
    wait_until("all runs are over", DEADLINE, async || {
        ensure!(first.asked() > RUNS, "{} runs", first.asked());
        Ok(())
    })
    .await?;
    server.flush().await?;
    let graphql = GraphQl::new(&server.http())?;
    let minutes = buckets_from(AT_MS, "UTC", "MINUTE")?;

    let service = json!({"scope": "Service", "serviceName": "shop", "normal": true});
    let of = |scope: &str, key: &str, name: &str| json!({"scope": scope, "serviceName": "shop", "normal": true, key: name});
    let instance = |name: &str| of("ServiceInstance", "serviceInstanceName", name);
    for (metric, entity, want) in [
        // 11 to 14, then 15 to 18.
        ("meter_size", instance(first.name()), [12, 16]),
        ("meter_size", instance(second.name()), [100, 100]),
        // Both targets together grow by 110 in a run: 0, 110, 220, 220, then always 220.
        ("meter_requests", service.clone(), [137, 220]),
        ("meter_path", of("Endpoint", "endpointName", "/pay"), [7, 7]),
    ] {
        let found = values(&graphql, metric, &entity, &minutes).await?;
        ensure!(found == want, "{metric} {entity}: {found:?}");
    }
    let found = labeled(&graphql, "meter_codes", &["200", "500"], &service, &minutes).await?;
    ensure!(found == [[6, 6], [2, 2]], "{found:?}");
    // In 30 s 16 of 20 took less than 100 ms, 2 more less than 500 ms. The upper edge of the last bucket is unknown.
    let ranks = ["50", "90", "99"];
    let found = labeled(&graphql, "meter_latency", &ranks, &service, &minutes).await?;
    ensure!(
        found == [[100, 100], [500, 500], [i64::MAX, i64::MAX]],
        "{found:?}"
    );
    check_heat_map(&graphql, &service, &minutes).await?;
    check_metadata(&graphql, &minutes, &[first.name(), second.name()]).await?;
    if let Some(console) = server.console() {
        let documents = console.documents().await?;
        let mut pings = documents
            .iter()
            .filter(|d| d.index.contains("instance_traffic"));
        let ping = pings.next().context("no instance")?;
        // Epoch milliseconds, as the original stores them here.
        let at = ping.source["last_ping"].as_i64().unwrap_or_default();
        ensure!((AT_MS..AT_MS + 600_000).contains(&at), "{at}");
    }
    server.stop().await
}

/// Values of the two minutes.
async fn values(
    graphql: &GraphQl,
    metric: &str,
    entity: &Value,
    minutes: &Value,
) -> Result<Vec<i64>> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
    let variables = json!({"c": {"name": metric, "entity": entity}, "d": minutes});
    Ok(numbers(&graphql.ask(query, variables).await?))
}

/// Values of the two minutes for each label.
async fn labeled(
    graphql: &GraphQl,
    metric: &str,
    labels: &[&str],
    entity: &Value,
    minutes: &Value,
) -> Result<Vec<Vec<i64>>> {
    let query = "query($c: MetricsCondition!, $l: [String!]!, $d: Duration!) {
        readLabeledMetricsValues(condition: $c, labels: $l, duration: $d) { label values { values { value } } } }";
    let condition = json!({"name": metric, "entity": entity});
    let variables = json!({"c": condition, "l": labels, "d": minutes});
    let answer = graphql.ask(query, variables).await?;
    let series = answer.as_array().context("no list")?;
    let of = |label: &&str| {
        let found = series.iter().find(|s| s["label"] == **label);
        found
            .map(numbers)
            .with_context(|| format!("{label}: {answer}"))
    };
    labels.iter().map(of).collect()
}

fn numbers(series: &Value) -> Vec<i64> {
    let values = series["values"]["values"].as_array();
    let values = values.into_iter().flatten();
    values.map(|v| v["value"].as_i64().unwrap_or(-1)).collect()
}

/// Counts of the first minute: on average of the runs 12 lie below 100 ms, and one in each of the other buckets.
async fn check_heat_map(graphql: &GraphQl, service: &Value, minutes: &Value) -> Result<()> {
    let query = "query($c: MetricsCondition!, $d: Duration!) {
        readHeatMap(condition: $c, duration: $d) { values { values } buckets { min max } } }";
    let variables = json!({"c": {"name": "meter_heat", "entity": service}, "d": minutes});
    let answer = graphql.ask(query, variables).await?;
    ensure!(
        answer["values"][0]["values"] == json!([12, 1, 1]),
        "{answer}"
    );
    let edges: Vec<&Value> = answer["buckets"]
        .as_array()
        .context("no buckets")?
        .iter()
        .map(|b| &b["min"])
        .collect();
    ensure!(edges == ["0", "100", "500"], "{answer}");
    Ok(())
}

/// The service, its instances and endpoints exist because they have values.
async fn check_metadata(graphql: &GraphQl, minutes: &Value, instances: &[&str]) -> Result<()> {
    let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    let services = graphql.ask(services, json!({"d": minutes})).await?;
    ensure!(services == json!([{"name": "shop"}]), "{services}");
    let id = oap::model::id::service_id("shop", true);
    let query = "query($s: ID!, $d: Duration!) { getServiceInstances(serviceId: $s, duration: $d) { name } }";
    let variables = json!({"s": id, "d": minutes});
    let found = graphql.ask(query, variables).await?;
    let mut names: Vec<&str> = found
        .as_array()
        .context("no instances")?
        .iter()
        .filter_map(|i| i["name"].as_str())
        .collect();
    names.sort_unstable();
    let mut wanted = instances.to_vec();
    wanted.sort_unstable();
    ensure!(names == wanted, "{found}");
    let query =
        "query($s: ID!) { searchEndpoint(keyword: \"\", serviceId: $s, limit: 100) { name } }";
    let endpoints = graphql.ask(query, json!({"s": id})).await?;
    ensure!(endpoints == json!([{"name": "/pay"}]), "{endpoints}");
    Ok(())
}

const UP: &str = "
metricsRules:
- {name: up, scope: SERVICE, operation: avg, sources: {up: {relabel: {service: [service]}}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_fetches_its_own_metrics_and_bad_targets_do_not_matter() -> Result<()> {
    let own = absent().await?;
    let (host, port) = own.split_once(':').context("no port")?;
    let good = PageTarget::start(|_| Answer::Page("up 1\nup{\n".to_owned())).await?;
    let failing = PageTarget::start(|_| Answer::Status(404)).await?;
    let slow = PageTarget::start(|_| Answer::Never).await?;
    let huge = PageTarget::start(|_| Answer::Page("up 1\n".repeat(2 << 20))).await?;
    let absent = absent().await?;
    let folder = tempfile::tempdir()?;
    let rules_folder = folder.path().join("config/fetcher-prom-rules");
    std::fs::create_dir_all(&rules_folder)?;
    let default = include_str!("../../config/fetcher-prom-rules/self.yaml");
    let faster = default
        .replace("localhost:1234", &own)
        .replace("PT15S", "PT1S");
    std::fs::write(rules_folder.join("self.yaml"), faster)?;
    let targets = [
        good.name(),
        failing.name(),
        slow.name(),
        huge.name(),
        &absent,
    ];
    std::fs::write(rules_folder.join("up.yaml"), rules("PT2S", &targets, UP))?;
    let process = OapCommand::new(folder.path())
        .env("SW_TELEMETRY", "prometheus")
        .env("SW_TELEMETRY_PROMETHEUS_HOST", host)
        .env("SW_TELEMETRY_PROMETHEUS_PORT", port)
        .env("SW_PROMETHEUS_FETCHER_ACTIVE", "true")
        .start()
        .await?;
    let graphql = GraphQl::new(process.http())?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let started_ms = Clock::System.now_ms();
    let minutes = buckets_from(started_ms, "UTC", "MINUTE")?;
    let hours = buckets_from(started_ms, "UTC", "HOUR")?;
    let instance = json!({
        "scope": "ServiceInstance", "serviceName": "oap-server", "normal": true,
        "serviceInstanceName": own,
    });
    let mut sent = 0;
    wait_until("metrics of the server itself", DEADLINE, async || {
        sent += 1;
        let segment = Served::new(sent.to_string(), "shop", Clock::System.now_ms(), 5);
        let sent = sender
            .call(COLLECT, Calling::ClientStream, vec![segment.bytes()])
            .await?;
        sent.map_err(|code| anyhow::anyhow!("{code:?}"))?;
        let found = values(&graphql, "meter_instance_trace_count", &instance, &hours).await?;
        ensure!(found.iter().any(|n| *n > 0), "{found:?}");
        let labels = ["50", "70", "90", "99"];
        let name = "meter_instance_trace_latency_percentile";
        let found = labeled(&graphql, name, &labels, &instance, &hours).await?;
        ensure!(found.iter().flatten().any(|n| *n > 0), "{found:?}");
        Ok(())
    })
    .await?;
    let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
    let services = graphql.ask(services, json!({"d": minutes})).await?;
    ensure!(
        services.to_string().contains("\"oap-server\""),
        "{services}"
    );

    let up = json!({"scope": "Service", "serviceName": "shop", "normal": true});
    wait_until("the good one of the bad targets", DEADLINE, async || {
        let found = values(&graphql, "meter_up", &up, &hours).await?;
        ensure!(found.contains(&1), "{found:?}");
        Ok(())
    })
    .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let page = client.get(format!("http://{own}/")).send().await?;
    let page = page.text().await?;
    for labels in [
        "prometheus_fetcher_failure_count{file=\"up.yaml\",reason=\"status\"",
        "prometheus_fetcher_failure_count{file=\"up.yaml\",reason=\"timeout\"",
        "prometheus_fetcher_failure_count{file=\"up.yaml\",reason=\"too_large\"",
        "prometheus_fetcher_failure_count{file=\"up.yaml\",reason=\"connect\"",
        "prometheus_fetcher_bad_line_count{file=\"up.yaml\"",
        "prometheus_fetcher_page_count{file=\"up.yaml\"",
        "prometheus_fetcher_page_count{file=\"self.yaml\"",
    ] {
        let (name, labels) = labels.split_once('{').context("no labels")?;
        let mut lines = page.lines().filter(|line| line.starts_with(name));
        let is_counted = lines.any(|line| line.contains(labels) && !line.ends_with(" 0"));
        ensure!(is_counted, "{name} {labels}: {page}");
    }
    let log = process.log();
    ensure!(log.contains("fetch failed"), "{log}");
    ensure!(
        log.contains("lines of a fetched page make no sense"),
        "{log}"
    );
    process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rule_file_is_refused_and_an_inactive_fetcher_reads_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rules_folder = folder.path().join("config/fetcher-prom-rules");
    std::fs::create_dir_all(&rules_folder)?;
    let wrong = rules("PT2S", &["a:1"], UP).replace("scope: SERVICE", "scope: SERVER");
    std::fs::write(rules_folder.join("up.yaml"), &wrong)?;
    std::fs::write(rules_folder.join("other.yaml"), "fetcherInterval: [")?;
    let command = OapCommand::new(folder.path()).env("SW_PROMETHEUS_FETCHER_ACTIVE", "true");
    let ended = command.run().await?;
    ensure!(!ended.status.success(), "{ended:?}");
    for text in [
        "fetcher-prom-rules/other.yaml:",
        "fetcher-prom-rules/up.yaml:9:21: unknown name `SERVER`, expected SERVICE, SERVICE_INSTANCE, ENDPOINT",
    ] {
        let output = ended.stdout.clone() + &ended.stderr;
        ensure!(output.contains(text), "{text}: {output}");
    }
    OapCommand::new(folder.path()).start().await?.stop().await
}
