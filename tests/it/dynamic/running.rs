//! Every key changed at run time, with a real etcd: what the server then does; and ConfigMaps of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::dynamic::Key;
use oap::model::id::service_id;
use oap_proto::agent::{KeyStringValuePair, SpanLayer};
use serde_json::{Value, json};

use super::centers::Peer;
use crate::alarms::receivers::Webhook;
use crate::graphql::GraphQl;
use crate::kubernetes::{Cluster, Double, config_map};
use crate::oap_process::{OapCommand, OapProcess};
use crate::prometheus::targets::absent;
use crate::questions::trace_count;
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

/// 2020-09-15 10:59:00 UTC.
const START_MS: i64 = 1_600_167_540_000;
const MINUTE_MS: i64 = 60_000;
/// Of the segments of a service.
const NUMBERS: [u8; 4] = [1, 22, 3, 4];
const DEADLINE: Duration = Duration::from_secs(60);

const GROUPING: &str = r"
grouping:
  - service-name: SERVICE
    rules:
      - endpoint-name: /orders/{id}
        regex: \/orders\/\d+
";

/// A server that follows an etcd, at a time that the test decides.
struct Scene {
    server: TestServer,
    etcd: Peer,
    clock_ms: Arc<AtomicI64>,
    webhook: Webhook,
    /// `host:port` of the metrics of the server itself.
    metrics: String,
    minute: i64,
    /// Keeps the folder with the files of the server.
    _config: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Result<Scene> {
        let config = tempfile::tempdir()?;
        std::fs::write(config.path().join("alarm-settings.yml"), "rules:\n")?;
        let etcd = Peer::etcd(false, false)?;
        let metrics = absent().await?;
        let (host, port) = metrics.split_once(':').context("no port")?;
        let clock_ms = Arc::new(AtomicI64::new(START_MS));
        let server = TestServer::builder("dynamic", Store::Embedded)
            .config_dir(config.path())
            .env("TZ", "UTC")
            .env("SW_CORE_METRICS_DATA_TTL", "36500")
            .env("SW_CORE_RECORD_DATA_TTL", "36500")
            .env("SW_TELEMETRY", "prometheus")
            .env("SW_TELEMETRY_PROMETHEUS_HOST", host)
            .env("SW_TELEMETRY_PROMETHEUS_PORT", port)
            .env("SW_CONFIGURATION", "etcd")
            .env("SW_CONFIG_ETCD_SERVER_ADDR", &etcd.address())
            .env("SW_CONFIG_ETCD_GROUP", "/team/skywalking")
            .env("SW_CONFIG_ETCD_PERIOD", "1")
            .clock(&clock_ms);
        Ok(Scene {
            server: server.start().await?,
            etcd,
            clock_ms,
            webhook: Webhook::refusing(0).await?,
            metrics,
            minute: 0,
            _config: config,
        })
    }

    /// Values that change what is done with everyone's segments.
    fn good(&self, services: &[&str]) -> [(Key, String); 6] {
        let grouping = services.iter().map(|service| {
            let rules = GROUPING.replace("\ngrouping:", "");
            rules.replace("SERVICE", service)
        });
        let url = self.webhook.url();
        [
            (Key::SampleRate, "0".to_owned()),
            (
                Key::SlowDbAccessThreshold,
                "default:10,mysql:1000".to_owned(),
            ),
            (
                Key::UninstrumentedGateways,
                "gateways: [{name: edge, instances: [{host: edge, port: 8080}]}]".to_owned(),
            ),
            (Key::ApdexThreshold, "default: 100".to_owned()),
            (
                Key::EndpointNameGrouping,
                format!("grouping:{}", grouping.collect::<String>()),
            ),
            (
                Key::AlarmSettings,
                format!(
                    "rules:\n  a_rule: {{metrics-name: service_cpm, op: '>=', threshold: 1}}\nwebhooks: ['{url}']"
                ),
            ),
        ]
    }

    async fn put<V: AsRef<str>>(&self, values: &[(Key, V)]) -> Result<()> {
        for (key, value) in values {
            self.etcd.put(key.name(), value.as_ref()).await?;
        }
        Ok(())
    }

    /// Waits until a metric has a value for every key.
    async fn until(&self, metric: &str, value: u8) -> Result<()> {
        let url = format!("http://{}/metrics", self.metrics);
        wait_until(metric, DEADLINE, async || {
            let client = reqwest::Client::builder().no_proxy().build()?;
            let text = client.get(&url).send().await?.text().await?;
            for key in Key::ALL {
                let end = format!("key=\"{}\"}} {value}", key.name());
                let mut lines = text.lines();
                let is_there = lines.any(|l| l.starts_with(metric) && l.ends_with(&end));
                ensure!(is_there, "{metric} {end}: {text}");
            }
            Ok(())
        })
        .await
    }

    /// What becomes of the same traffic of a service, each time in another minute.
    async fn observe(&mut self, service: &str) -> Result<Value> {
        let at_ms = START_MS + self.minute * MINUTE_MS;
        self.minute += 1;
        self.clock_ms.store(at_ms + 10_000, Ordering::Relaxed);
        let served = |number: u8| Served::new(format!("{service}-{number}"), service, at_ms, 300);
        let mut segments = vec![];
        for number in &NUMBERS[..2] {
            let mut segment = served(*number).segment();
            segment.spans[0].operation_name = format!("/orders/{number}");
            segments.push(bytes(&segment));
        }
        segments.push(bytes(&served(NUMBERS[2]).called_at("edge:8080")));
        let database = format!("db-{service}:3306");
        let mut calling = served(NUMBERS[3]).calling(&database);
        let span = &mut calling.spans[0];
        span.set_span_layer(SpanLayer::Database);
        for (key, value) in [("db.type", "mysql"), ("db.statement", "select 1")] {
            span.tags.push(KeyStringValuePair {
                key: key.into(),
                value: value.into(),
            });
        }
        segments.push(bytes(&calling));
        let sender = Sender::connect(&self.server.grpc(), &self.server.http()).await?;
        let sent = sender
            .call(COLLECT, Calling::ClientStream, segments)
            .await?;
        ensure!(sent.is_ok(), "{sent:?}");
        self.server.flush().await?;

        let graphql = GraphQl::new(&self.server.http())?;
        let hour = json!({"start": "2020-09-15 1050", "end": "2020-09-15 1130", "step": "MINUTE"});
        let id = service_id(service, true);
        let query =
            "query($id: ID!) { searchEndpoint(keyword: \"\", serviceId: $id, limit: 9) { name } }";
        let endpoints = graphql.ask(query, json!({"id": id})).await?;
        let query = "query($c: MetricsCondition!, $d: Duration!) {
            readMetricsValue(condition: $c, duration: $d) }";
        let entity = json!({"scope": "Service", "serviceName": service, "normal": true});
        let condition = json!({"name": "service_apdex", "entity": entity});
        let apdex = graphql
            .ask(query, json!({"c": condition, "d": hour}))
            .await?;
        let query =
            "query($c: TopNRecordsCondition!) { getTopNRecords(condition: $c) { statement } }";
        let condition = json!({
            "serviceId": service_id(&database, false), "metricName": "top_n_database_statement",
            "topN": 9, "order": "DES", "duration": hour,
        });
        let slow = graphql.ask(query, json!({"c": condition})).await?;
        let query = "query($id: ID!, $d: Duration!) {
            getServiceTopology(serviceId: $id, duration: $d) { nodes { id name } calls { source } } }";
        let topology = graphql.ask(query, json!({"id": id, "d": hour})).await?;
        let callers = callers(&topology, service)?;
        Ok(json!({
            "endpoints": sorted(&endpoints, "name"), "apdex": apdex, "slow": sorted(&slow, "statement"),
            "traces": match trace_count(&graphql, service, &hour).await? {
                4 => "all",
                count if count == negative_hashes(service) => "sampled",
                _ => "some",
            },
            "callers": callers,
        }))
    }

    /// The services that alarms name after the check of the last minute, which must raise some.
    async fn alarms(&self) -> Result<Vec<String>> {
        let seen = self.webhook.posted().len();
        let check_ms = START_MS + (self.minute - 1) * MINUTE_MS + 16_000;
        self.clock_ms.store(check_ms, Ordering::Relaxed);
        wait_until("alarms", DEADLINE, async || {
            let posted = self.webhook.posted();
            let mut names = vec![];
            for posted in &posted[seen..] {
                for alarm in serde_json::from_str::<Vec<Value>>(&posted.body)? {
                    names.push(alarm["name"].as_str().unwrap_or_default().to_owned());
                }
            }
            ensure!(!names.is_empty(), "none yet");
            names.sort();
            Ok(names)
        })
        .await
    }
}

/// How many of the four segments of a service have an id whose hash in Java is negative: no rate leaves them out (8.1.0
/// spec, B.9).
fn negative_hashes(service: &str) -> u64 {
    let hash = |id: String| {
        id.encode_utf16().fold(0_i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(unit.into())
        })
    };
    let hashes = NUMBERS.map(|number| hash(format!("segment-{service}-{number}")));
    hashes.iter().filter(|hash| **hash < 0).count() as u64
}

fn sorted(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    let mut texts: Vec<String> = items
        .filter_map(|item| item[field].as_str().map(str::to_owned))
        .collect();
    texts.sort();
    texts
}

/// Names of the nodes that call a service.
fn callers(topology: &Value, service: &str) -> Result<Vec<String>> {
    let nodes = topology["nodes"].as_array().context("no nodes")?;
    let calls = topology["calls"].as_array().context("no calls")?;
    let name = |call: &Value| {
        let node = nodes.iter().find(|node| node["id"] == call["source"]);
        node.and_then(|node| node["name"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let mut names: Vec<String> = calls
        .iter()
        .map(name)
        .filter(|name| name != service)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_changes_what_the_server_does_and_what_is_wrong_or_away_changes_nothing()
-> Result<()> {
    let mut scene = Scene::start().await?;
    let by_files = json!({
        "endpoints": ["/order", "/orders/1", "/orders/22"], "apdex": 10_000, "slow": ["select 1"],
        "traces": "all", "callers": ["User", "web"],
    });
    let by_center = json!({
        "endpoints": ["/order", "/orders/{id}"], "apdex": 5_000, "slow": [],
        "traces": "sampled", "callers": ["User", "edge:8080"],
    });
    let observed = scene.observe("before").await?;
    ensure!(observed == by_files, "{observed}");

    let good = scene.good(&["after", "still", "away", "again"]);
    scene.put(&good).await?;
    scene.until("dynamic_configuration_in_use", 1).await?;
    let observed = scene.observe("after").await?;
    ensure!(observed == by_center, "{observed}");
    let alarms = scene.alarms().await?;
    ensure!(alarms == ["after"], "{alarms:?}");

    // Wrong values are refused, the last good ones stay.
    let wrong = [
        (Key::SampleRate, "many"),
        (Key::SlowDbAccessThreshold, "default:fast"),
        (Key::UninstrumentedGateways, "gateways: 7"),
        (Key::ApdexThreshold, "default: fast"),
        (
            Key::EndpointNameGrouping,
            "grouping: [{service-name: a, rules: [{endpoint-name: b, regex: '('}]}]",
        ),
        (
            Key::AlarmSettings,
            "rules: {a_rule: {metrics-name: service_cpm, op: less, threshold: 1}}",
        ),
    ];
    scene.put(&wrong).await?;
    scene.until("dynamic_configuration_refused", 1).await?;
    scene.until("dynamic_configuration_in_use", 1).await?;
    let observed = scene.observe("still").await?;
    ensure!(observed == by_center, "{observed}");
    let alarms = scene.alarms().await?;
    ensure!(alarms == ["still"], "{alarms:?}");

    // A centre that is away changes nothing.
    scene.etcd.pause().await?;
    let observed = scene.observe("away").await?;
    ensure!(observed == by_center, "{observed}");
    let alarms = scene.alarms().await?;
    ensure!(alarms == ["away"], "{alarms:?}");
    scene.etcd.resume().await?;

    // A key that is deleted leaves what the files say.
    for key in Key::ALL {
        scene.etcd.delete(key.name()).await?;
    }
    scene.until("dynamic_configuration_refused", 0).await?;
    scene.until("dynamic_configuration_in_use", 0).await?;
    let observed = scene.observe("back").await?;
    ensure!(observed == by_files, "{observed}");
    scene.put(&good).await?;
    scene.until("dynamic_configuration_in_use", 1).await?;
    let observed = scene.observe("again").await?;
    ensure!(observed == by_center, "{observed}");
    // None was raised in between.
    let alarms = scene.alarms().await?;
    ensure!(alarms == ["again"], "{alarms:?}");

    // Neither the start nor the end needs the centre.
    scene.etcd.pause().await?;
    scene.server = scene.server.restart(|builder| builder).await?;
    let observed = scene.observe("alone").await?;
    ensure!(observed == by_files, "{observed}");
    scene.server.stop().await
}

async fn logged(process: &OapProcess, line: &str, part: &str) -> Result<()> {
    wait_until(line, DEADLINE, async || {
        let log = process.log();
        let mut lines = log.lines();
        ensure!(
            lines.any(|l| l.contains(line) && l.contains(part)),
            "{part}: {log}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_of_the_cluster_are_followed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let usual = "skywalking-dynamic-config";
    let rate = Key::SampleRate.name();
    let mut double = Double::start(Cluster {
        token: "secret".to_owned(),
        config_maps: vec![
            config_map("oap-cm-override", &json!({rate: "1", "other": "x"})),
            config_map(usual, &json!({Key::ApdexThreshold.name(): "default: 1"})),
        ],
        page: Some(1),
        ..Cluster::default()
    })
    .await?;
    double.write_kubeconfig(&kubeconfig, "secret")?;
    let process = OapCommand::new(folder.path())
        .env("KUBECONFIG", &kubeconfig.to_string_lossy())
        .env("SW_CONFIGURATION", "k8s-configmap")
        .env("SW_CLUSTER_K8S_LABEL", "app=oap,release=sw")
        .env("SW_CONFIG_CONFIGMAP_PERIOD", "1")
        .start()
        .await?;
    logged(&process, "the configuration centre is read", "keys=1").await?;
    logged(&process, "a setting is changed", Key::ApdexThreshold.name()).await?;
    // Without the map of the usual name the others count.
    double.cluster().config_maps.pop();
    logged(&process, "a setting is removed", Key::ApdexThreshold.name()).await?;
    logged(&process, "a setting is changed", rate).await?;
    // No map at all is no reason to change anything.
    double.cluster().config_maps.clear();
    let none = "there is no ConfigMap with labels app=oap,release=sw in namespace default";
    logged(&process, "the configuration centre cannot be read", none).await?;
    double.cluster().config_maps = vec![config_map(usual, &json!({rate: "-1"}))];
    logged(&process, "a setting is refused", "from 0 to 2147483647").await?;
    double.pause();
    logged(
        &process,
        "the configuration centre cannot be read",
        "onnection refused",
    )
    .await?;
    ensure!(double.cluster().wrong.is_empty(), "{:?}", double.cluster());
    Ok(())
}
