//! Meters from a generated client through rules and stores to answers, with a restart in between.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use oap_proto::RawMessage;
use oap_proto::agent::meter_data::Metric;
use oap_proto::agent::{
    Label, MeterBucketValue, MeterData, MeterDataCollection, MeterHistogram, MeterSingleValue,
};
use oap_proto::{legacy, v3};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::es_console::EsConsole;
use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, OapProcess};
use crate::peers::Elasticsearch;
use crate::questions::{buckets_from, ensure_writable};
use crate::waiting::wait_until;

/// Far above what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
meters:
  - name: load
    scope: {type: SERVICE_INSTANCE}
    meter: {operation: avg, value: 'meter["load"].tagFilter("kind", "one").scale(2)'}
  - name: all_load
    scope: {type: SERVICE}
    meter: {operation: avg, value: 'meter["load"]'}
  - name: sizes
    scope: {type: ENDPOINT, endpoint: /pay}
    meter: {operation: avgHistogram, value: 'meter["sizes"]'}
  - name: size_ranks
    scope: {type: SERVICE_INSTANCE}
    meter: {operation: avgHistogramPercentile, value: 'meter["sizes"]', percentile: [50, 90]}
  - name: unheard
    scope: {type: SERVICE}
    meter: {operation: avg, value: 'meter["nobody reports this"]'}
"#;

/// In a folder with these rules and without scripts, which keeps it short.
fn command(folder: &Path, rules: &str) -> Result<OapCommand> {
    for (file, text) in [
        ("oal/core.oal", "// nothing\n"),
        ("oal/java-agent.oal", "// nothing\n"),
        ("oal/dotnet-agent.oal", "// nothing\n"),
        ("oal/envoy.oal", "// nothing\n"),
        ("meter-receive-config/mine.yaml", rules),
    ] {
        let path = folder.join("config").join(file);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(OapCommand::new(folder).env("SW_RECEIVER_METER", "default"))
}

fn load(kind: &str, value: f64) -> MeterData {
    let label = Label {
        name: "kind".into(),
        value: kind.into(),
    };
    let single = MeterSingleValue {
        name: "load".into(),
        labels: vec![label],
        value,
    };
    MeterData {
        metric: Some(Metric::SingleValue(single)),
        ..MeterData::default()
    }
}

/// Counts below 10, below 50 and above.
fn sizes(counts: [i64; 3]) -> MeterData {
    let bucket = |bucket, count, is_negative_infinity| MeterBucketValue {
        bucket,
        count,
        is_negative_infinity,
    };
    let histogram = MeterHistogram {
        name: "sizes".into(),
        labels: vec![],
        values: vec![
            bucket(0.0, counts[0], true),
            bucket(10.0, counts[1], false),
            bucket(50.0, counts[2], false),
        ],
    };
    MeterData {
        metric: Some(Metric::Histogram(histogram)),
        ..MeterData::default()
    }
}

/// A report; only its first message says of whom and when.
fn report(instance: &str, at_ms: i64, one: f64, two: f64, counts: [i64; 3]) -> Vec<MeterData> {
    let first = MeterData {
        service: "shop".into(),
        service_instance: instance.into(),
        timestamp: at_ms,
        ..load("one", one)
    };
    vec![first, load("two", two), sizes(counts)]
}

fn stream(data: Vec<MeterData>) -> impl futures_util::Stream<Item = RawMessage> {
    let encoded = data
        .into_iter()
        .map(|d| RawMessage(d.encode_to_vec().into()));
    tokio_stream::iter(encoded.collect::<Vec<_>>())
}

async fn channel(process: &OapProcess) -> Result<Channel> {
    let endpoint = Endpoint::new(format!("http://{}", process.grpc()))?;
    Ok(endpoint.connect().await?)
}

/// Two processes take a report each, a third answers.
async fn reported_and_read(command: &OapCommand) -> Result<()> {
    let at_ms = Timestamp::now().as_millisecond();
    let process = command.start().await?;
    let mut client = legacy::meter_report_service_client::MeterReportServiceClient::new(
        channel(&process).await?,
    );
    let data = report("pod", at_ms, 0.07, 4.0, [1, 2, 1]);
    client.collect(stream(data)).await?;
    stored(process).await?;

    let process = command.start().await?;
    let mut client =
        v3::meter_report_service_client::MeterReportServiceClient::new(channel(&process).await?);
    let data = report("pod", at_ms, 0.04, 10.0, [3, 2, 3]);
    client.collect(stream(data)).await?;
    let meter_data = report("batch", at_ms, 5.0, 0.0, [0, 0, 1]);
    let batch = RawMessage(MeterDataCollection { meter_data }.encode_to_vec().into());
    client.collect_batch(tokio_stream::iter([batch])).await?;
    stored(process).await?;

    let process = command.start().await?;
    let graphql = GraphQl::new(process.http())?;
    wait_until("the values are there", DEADLINE, async || {
        read(&graphql, at_ms).await
    })
    .await?;
    process.stop().await
}

/// Ends a process once its store is there, so that it can store what it took.
async fn stored(process: OapProcess) -> Result<()> {
    let graphql = GraphQl::new(process.http())?;
    wait_until("the store is ready", DEADLINE, async || {
        ensure_writable(&graphql).await
    })
    .await?;
    process.stop().await
}

async fn read(graphql: &GraphQl, at_ms: i64) -> Result<()> {
    let service = json!({"scope": "Service", "serviceName": "shop", "normal": true});
    let with = |field: &str, name: &str, scope: &str| {
        let mut entity = service.clone();
        entity["scope"] = scope.into();
        entity[field] = name.into();
        entity
    };
    let pod = with("serviceInstanceName", "pod", "ServiceInstance");
    let batch = with("serviceInstanceName", "batch", "ServiceInstance");
    let pay = with("endpointName", "/pay", "Endpoint");
    for step in ["MINUTE", "HOUR", "DAY"] {
        let duration = buckets_from(at_ms, "UTC", step)?;
        let variables = |name: &str, entity: &Value| {
            let condition = json!({"name": name, "entity": entity});
            json!({"c": condition, "d": duration})
        };
        let values = "query($c: MetricsCondition!, $d: Duration!) {
            readMetricsValues(condition: $c, duration: $d) { values { values { value } } } }";
        for (name, entity, want) in [
            // (7 + 4) / 2, (4 + 10 + 5) / 3.
            ("meter_load", &pod, 5),
            ("meter_load", &batch, 500),
            ("meter_all_load", &service, 6),
            ("meter_unheard", &service, 0),
        ] {
            let answer = graphql.ask(values, variables(name, entity)).await?;
            let found = &answer["values"]["values"][0]["value"];
            ensure!(*found == want, "{step} {name}: {answer}");
        }
        let labeled = "query($c: MetricsCondition!, $d: Duration!) {
            readLabeledMetricsValues(condition: $c, labels: [\"50\", \"90\"], duration: $d) {
                label values { values { value } } } }";
        let variables = |name, entity| variables(name, entity);
        let answer = graphql
            .ask(labeled, variables("meter_size_ranks", &pod))
            .await?;
        // 2 of each, so the roofs are 3 and 5.
        let found = [0, 1].map(|i| &answer[i]["values"]["values"][0]["value"]);
        ensure!(found == [&json!(50), &json!(i64::MAX)], "{step}: {answer}");
        let heat_map = "query($c: MetricsCondition!, $d: Duration!) {
            readHeatMap(condition: $c, duration: $d) { values { values } buckets { min max } } }";
        let answer = graphql
            .ask(heat_map, variables("meter_sizes", &pay))
            .await?;
        // (1 + 3 + 0) / 3, (2 + 2 + 0) / 3, (1 + 3 + 1) / 3.
        ensure!(
            answer["values"][0]["values"] == json!([1, 1, 1]),
            "{step}: {answer}"
        );
        let edges = json!([
            {"min": "infinite-", "max": "10"}, {"min": "10", "max": "50"}, {"min": "50", "max": "infinite+"},
        ]);
        ensure!(answer["buckets"] == edges, "{step}: {answer}");
    }
    for (name, want) in [
        ("meter_load", "REGULAR_VALUE"),
        ("meter_sizes", "HEATMAP"),
        ("meter_size_ranks", "LABELED_VALUE"),
        ("meter_jvm_threads_live", "UNKNOWN"),
    ] {
        let query = "query($n: String!) { typeOfMetrics(name: $n) }";
        let answer = graphql.ask(query, json!({"n": name})).await?;
        ensure!(answer == want, "{name}: {answer}");
    }
    let query = "query($c: TopNCondition!, $d: Duration!) {
        sortMetrics(condition: $c, duration: $d) { name value } }";
    let condition = json!({"name": "meter_load", "parentService": "shop", "normal": true,
        "scope": "ServiceInstance", "topN": 5, "order": "DES"});
    let duration = buckets_from(at_ms, "UTC", "MINUTE")?;
    let answer = graphql
        .ask(query, json!({"c": condition, "d": duration}))
        .await?;
    let want = json!([{"name": "batch", "value": "500"}, {"name": "pod", "value": "5"}]);
    ensure!(answer == want, "{answer}");
    Ok(())
}

#[tokio::test]
async fn meters_are_stored_and_read_on_embedded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    reported_and_read(&command(folder.path(), RULES)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_are_stored_and_read_on_elasticsearch() -> Result<()> {
    const NAMESPACE: &str = "meters";
    let node = tokio::task::block_in_place(Elasticsearch::shared);
    let (user, password) = node.credentials().context("the shared node is open")?;
    let folder = tempfile::tempdir()?;
    let command = command(folder.path(), RULES)?
        .env("SW_STORAGE", "elasticsearch7")
        .env("SW_NAMESPACE", NAMESPACE)
        .env("SW_STORAGE_ES_CLUSTER_NODES", &node.address())
        .env("SW_ES_USER", user)
        .env("SW_ES_PASSWORD", password);
    let read = reported_and_read(&command).await;
    let console = EsConsole::new(NAMESPACE)?;
    let templates = console.templates().await?;
    console.clean().await?;
    read?;
    let keyword = json!({"type": "keyword"});
    let long = json!({"type": "long"});
    let quiet = json!({"type": "long", "index": false});
    let properties = &templates["meters_meter_load"]["mappings"]["properties"];
    let want = json!({"entity_id": keyword, "service_id": keyword, "summation": quiet, "count": quiet,
        "value": long, "time_bucket": long});
    ensure!(*properties == want, "{properties}");
    let table = json!({"type": "text", "index": false});
    let properties = &templates["meters_meter_size_ranks"]["mappings"]["properties"];
    let want = json!({"entity_id": keyword, "value": table, "summation": table, "count": table,
        "dataset": table, "ranks": table, "time_bucket": long});
    ensure!(*properties == want, "{properties}");
    Ok(())
}

#[tokio::test]
async fn without_the_receiver_there_are_no_meters() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Rules that nobody needs are not read.
    let command = command(folder.path(), "no rules")?.env("SW_RECEIVER_METER", "-");
    let process = command.start().await?;
    let mut client = legacy::meter_report_service_client::MeterReportServiceClient::new(
        channel(&process).await?,
    );
    let data = report("pod", Timestamp::now().as_millisecond(), 1.0, 1.0, [1; 3]);
    let refused = client.collect(stream(data)).await.err();
    ensure!(refused.is_some_and(|status| status.code() == Code::Unimplemented));
    process.stop().await
}

#[tokio::test]
async fn wrong_rules_and_scripts_are_named_together() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rules = "meters:\n- name: a\n  scope: {type: SERVICE}\n  meter: {operation: top, value: 'meter[\"a\"].sum()'}\n";
    let command = command(folder.path(), rules)?;
    std::fs::write(
        folder.path().join("config/oal/core.oal"),
        "a = from(Service.nothing).longAvg();\n",
    )?;
    let ended = command.run().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    for text in [
        "core.oal:1:18",
        "meter-receive-config/mine.yaml:4:22: unknown name `top`, expected avg, avgHistogram, avgHistogramPercentile",
        "meter-receive-config/mine.yaml:4:46: unknown function `sum`, expected tagFilter",
    ] {
        ensure!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    Ok(())
}
