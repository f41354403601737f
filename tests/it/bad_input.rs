//! Reports that make no sense, in the midst of good ones: each is rejected and counted with its reason, and nothing else suffers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use oap_proto::agent::{
    InstancePingPkg, InstanceProperties, JvmMetric, JvmMetricCollection, KeyStringValuePair,
    SegmentObject, ServiceMeshMetric, SpanObject, SpanType,
};
use oap_proto::istio::{HandleMetricRequest, InstanceMsg};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, OapProcess};
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

/// 2020-09-15 10:59:30 UTC.
const AT_MS: i64 = 1_600_167_570_000;
const DEADLINE: Duration = Duration::from_secs(30);

/// The program with its own metrics on a port.
struct Running {
    process: OapProcess,
    sender: Sender,
    graphql: GraphQl,
    metrics_url: String,
}

async fn start(folder: &tempfile::TempDir) -> Result<Running> {
    let process = OapCommand::new(folder.path())
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
        .with_metrics()
        .start()
        .await?;
    Ok(Running {
        sender: Sender::connect(process.grpc(), process.http()).await?,
        graphql: GraphQl::new(process.http())?,
        metrics_url: process.metrics_url()?,
        process,
    })
}

impl Running {
    /// Its own metrics as text.
    async fn metrics(&self) -> Result<String> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(&self.metrics_url).send().await?;
        Ok(answer.text().await?)
    }

    /// Samples of a counter by kind and reason.
    async fn counts(&self, metric: &str) -> Result<BTreeMap<(String, String), u64>> {
        let text = self.metrics().await?;
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let Some(labels) = line.strip_prefix(&format!("{metric}{{")) else {
                continue;
            };
            let (labels, value) = labels.split_once("} ").context("no value")?;
            let label = |name: &str| {
                let (_, value) = labels.split_once(&format!("{name}=\""))?;
                Some(value.split('"').next()?.to_owned())
            };
            let key = (label("kind"), label("reason"));
            let key = (key.0.context("no kind")?, key.1.context("no reason")?);
            counts.insert(key, value.parse()?);
        }
        Ok(counts)
    }

    async fn rejected(&self, expected: &[(&str, &str, u64)]) -> Result<()> {
        let expected = expected
            .iter()
            .map(|(kind, reason, n)| ((kind.to_string(), reason.to_string()), *n));
        let expected: BTreeMap<_, _> = expected.collect();
        wait_until("rejections are counted", DEADLINE, async || {
            let seen = self.counts("analyzer_rejected_messages_total").await?;
            ensure!(seen == expected, "{seen:?}");
            Ok(())
        })
        .await
    }

    /// The good ones are there, whole, and nobody else is.
    async fn only_good_ones_are_stored(&self, count: u64) -> Result<()> {
        let minute = buckets_from(AT_MS, "UTC", "MINUTE")?;
        let services = "query($d: Duration!) { getAllServices(duration: $d) { name } }";
        // Rows of each model are written by themselves: those of the service may come last.
        wait_until("the good ones are stored", DEADLINE, async || {
            let traces = trace_count(&self.graphql, "shop", &minute).await?;
            ensure!(traces == count, "{traces} traces");
            let calls = service_value(&self.graphql, "service_cpm", "shop", &minute).await?;
            ensure!(calls == i64::try_from(count)?, "{calls} calls");
            let services = self.graphql.ask(services, json!({"d": minute})).await?;
            ensure!(services == json!([{"name": "shop"}]), "{services}");
            Ok(())
        })
        .await
    }

    /// Ends it; it must not have panicked on the way.
    async fn stop(self) -> Result<String> {
        self.process.terminate()?;
        let ended = self.process.ended().await?;
        ensure!(ended.status.success(), "{ended:?}");
        ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ensure!(!ended.stdout.contains("panicked"), "{}", ended.stdout);
        Ok(ended.stdout)
    }
}

/// One that is spoilt by a change.
fn spoilt(change: impl FnOnce(&mut SegmentObject)) -> SegmentObject {
    let mut segment = Served::new("spoilt", "spoilt", AT_MS, 20).segment();
    change(&mut segment);
    segment
}

fn spoilt_span(change: impl FnOnce(&mut SpanObject)) -> SegmentObject {
    spoilt(|segment| change(&mut segment.spans[0]))
}

const MIB: usize = 1024 * 1024;

/// Each with the reason of its rejection.
fn bad_segments() -> Vec<(&'static str, SegmentObject)> {
    let day_after_tomorrow = jiff::Timestamp::now().as_millisecond() + 48 * 3_600_000;
    vec![
        ("missing_id", spoilt(|s| s.trace_id.clear())),
        ("missing_id", spoilt(|s| s.trace_segment_id.clear())),
        ("missing_id", spoilt(|s| s.service.clear())),
        ("missing_id", spoilt(|s| s.service_instance.clear())),
        (
            "time_out_of_range",
            spoilt_span(|s| s.start_time = i64::MAX),
        ),
        ("time_out_of_range", spoilt_span(|s| s.start_time = -1)),
        (
            "time_out_of_range",
            spoilt_span(|s| s.start_time = i64::MIN),
        ),
        (
            "time_out_of_range",
            spoilt_span(|s| s.start_time = day_after_tomorrow),
        ),
        (
            "too_large",
            spoilt_span(|s| s.operation_name = "x".repeat(5 * MIB)),
        ),
        (
            "too_large",
            spoilt(|s| s.spans = vec![SpanObject::default(); 60_000]),
        ),
        (
            "name_too_long",
            spoilt_span(|s| s.operation_name = "x".repeat(MIB)),
        ),
        ("name_too_long", spoilt(|s| s.service = "x".repeat(MIB))),
        (
            "id_too_long",
            spoilt(|s| s.trace_segment_id = "x".repeat(600)),
        ),
        ("id_too_long", spoilt(|s| s.trace_id = "x".repeat(600))),
    ]
}

/// Odd, but no reason to reject: what is odd about it is cut or ignored.
fn odd_but_good(id: usize) -> SegmentObject {
    let mut segment = Served::new(id.to_string(), "shop", AT_MS, 20).segment();
    let pair = |key: &str, value: &str| KeyStringValuePair {
        key: key.into(),
        value: value.into(),
    };
    segment.spans[0].tags = vec![
        pair("status_code", "99999999999999999999"),
        pair("x-le", "{\"name\":"),
        pair("", "\u{0}"),
    ];
    segment.spans.push(SpanObject {
        span_id: i32::MIN,
        parent_span_id: i32::MAX,
        start_time: AT_MS,
        end_time: i64::MIN,
        operation_name: "💥".repeat(1000),
        peer: "\u{0}".repeat(100),
        span_type: SpanType::Exit.into(),
        span_layer: 4711,
        component_id: i32::MIN,
        ..SpanObject::default()
    });
    segment
}

/// How many of each reason.
fn tally<'a>(reasons: impl Iterator<Item = &'a str>) -> Vec<(&'static str, &'a str, u64)> {
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in reasons {
        *tally.entry(reason).or_default() += 1;
    }
    let counted = tally.into_iter();
    counted.map(|(reason, n)| ("segment", reason, n)).collect()
}

#[tokio::test]
async fn a_stream_goes_on_past_bad_segments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(&folder).await?;
    let bad = bad_segments();
    let mut stream = vec![Served::new("first", "shop", AT_MS, 20).bytes()];
    stream.extend([&b"\xff\xff\xff"[..], b"\x1a\x05no"].map(Bytes::from_static));
    stream.extend(bad.iter().map(|(_, segment)| bytes(segment)));
    stream.push(bytes(&odd_but_good(1)));
    // Twice: the log must not repeat itself.
    for round in ["first", "second"] {
        let outcome = running
            .sender
            .call(COLLECT, Calling::ClientStream, stream.clone())
            .await?;
        ensure!(outcome.is_ok(), "{round}: {outcome:?}");
    }
    let reasons = bad.iter().map(|(reason, _)| *reason);
    let once = tally(reasons.chain(["undecodable", "undecodable"]));
    let twice: Vec<_> = once
        .iter()
        .map(|(kind, reason, n)| (*kind, *reason, 2 * n))
        .collect();
    running.rejected(&twice).await?;
    let minute = buckets_from(AT_MS, "UTC", "MINUTE")?;
    wait_until("both good ones are stored", DEADLINE, async || {
        let traces = trace_count(&running.graphql, "shop", &minute).await?;
        ensure!(traces == 2, "{traces} traces");
        let calls = service_value(&running.graphql, "service_cpm", "shop", &minute).await?;
        ensure!(calls == 4, "{calls} calls");
        Ok(())
    })
    .await?;
    let log = running.stop().await?;
    for (_, reason, _) in once {
        let is_about = |line: &&str| line.contains("message rejected") && line.contains(reason);
        let lines = log.lines().filter(is_about).count();
        ensure!(lines == 1, "{lines} lines about {reason}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn calls_that_carry_one_message_are_judged_alike() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(&folder).await?;
    let property = KeyStringValuePair::default();
    let jvm = |time| JvmMetricCollection {
        metrics: vec![JvmMetric {
            time,
            ..JvmMetric::default()
        }],
        service: "spoilt".into(),
        service_instance: "i".into(),
    };
    let nameless = InstancePingPkg::default().encode_to_vec();
    let crowded = InstanceProperties {
        service: "spoilt".into(),
        service_instance: "i".into(),
        properties: vec![property; 60_000],
    };
    let mesh = ServiceMeshMetric {
        start_time: i64::MAX,
        dest_service_name: "spoilt".into(),
        ..ServiceMeshMetric::default()
    };
    let mixer = HandleMetricRequest {
        instances: vec![InstanceMsg::default()],
    };
    let calls = [
        ("/ServiceMeshMetricService/collect", mesh.encode_to_vec()),
        (
            "/metric.HandleMetricService/HandleMetric",
            mixer.encode_to_vec(),
        ),
        ("/ManagementService/keepAlive", nameless),
        ("/ManagementService/keepAlive", b"\xff".to_vec()),
        (
            "/ManagementService/reportInstanceProperties",
            crowded.encode_to_vec(),
        ),
        (
            "/JVMMetricReportService/collect",
            jvm(i64::MAX).encode_to_vec(),
        ),
        ("/JVMMetricReportService/collect", jvm(-1).encode_to_vec()),
        ("/CLRMetricReportService/collect", b"\x0a\xff".to_vec()),
    ];
    for (path, message) in calls {
        let outcome = running
            .sender
            .call(path, Calling::Unary, vec![message.into()])
            .await?;
        ensure!(outcome.is_ok(), "{path}: {outcome:?}");
    }
    let seen = wait_until("rejections are counted", DEADLINE, async || {
        let seen = running.counts("analyzer_rejected_messages_total").await?;
        ensure!(seen.values().sum::<u64>() == 8, "{seen:?}");
        Ok(seen)
    })
    .await?;
    let reasons: Vec<&str> = seen.keys().map(|(_, reason)| reason.as_str()).collect();
    for reason in [
        "missing_id",
        "missing_dimension",
        "undecodable",
        "too_large",
        "time_out_of_range",
    ] {
        ensure!(reasons.contains(&reason), "{reason}: {seen:?}");
    }
    let metrics = running.metrics().await?;
    let is_count = |line: &&str| line.starts_with("mesh_analysis_latency_count{");
    let analysed = metrics.lines().find(is_count).unwrap_or_default();
    ensure!(analysed.ends_with(" 2"), "{analysed}");
    // More than the transport takes: this call fails, the connection stays.
    let huge = vec![Bytes::from(vec![0; 51 * MIB])];
    let outcome = running
        .sender
        .call(COLLECT, Calling::ClientStream, huge)
        .await?;
    ensure!(outcome == Err(Code::OutOfRange), "{outcome:?}");
    let good = Served::new("1", "shop", AT_MS, 20).bytes();
    let outcome = running
        .sender
        .call(COLLECT, Calling::ClientStream, vec![good])
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    running.only_good_ones_are_stored(1).await?;
    running.stop().await.map(drop)
}

/// The JSON form of a segment.
fn as_json(segment: &SegmentObject) -> Value {
    let spans = segment.spans.iter().map(|span| {
        json!({
            "spanId": span.span_id, "parentSpanId": span.parent_span_id, "startTime": span.start_time,
            "endTime": span.end_time, "operationName": span.operation_name, "spanType": "Entry",
        })
    });
    json!({
        "traceId": segment.trace_id, "traceSegmentId": segment.trace_segment_id, "service": segment.service,
        "serviceInstance": segment.service_instance, "spans": spans.collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn http_agents_are_told_no_more_and_harm_no_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(&folder).await?;
    let bad = bad_segments();
    let first = Served::new("first", "shop", AT_MS, 20).segment();
    let last = Served::new("last", "shop", AT_MS, 20).segment();
    let segments = [&first]
        .into_iter()
        .chain(bad.iter().map(|(_, s)| s))
        .chain([&last]);
    let mut posts: Vec<(&str, Bytes, u16)> = segments
        .map(|segment| ("/v3/segment", as_json(segment).to_string().into(), 200))
        .collect();
    let nested = "[".repeat(100_000);
    for text in ["", "no json", "{", "[]", "\u{0}", &nested] {
        posts.push(("/v3/segment", Bytes::from(text.to_owned()), 200));
        posts.push((
            "/v3/management/keepAlive",
            Bytes::from(text.to_owned()),
            400,
        ));
    }
    posts.push(("/v3/segment", Bytes::from_static(b"{\"spans\": 3}"), 200));
    posts.push(("/v3/segments", Bytes::from_static(b"\xff\xfe[{}]"), 200));
    posts.push(("/v3/segments", Bytes::from(vec![b' '; 17 * MIB]), 413));
    for (path, body, status) in posts {
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = running.sender.http("POST", path, Some(body)).await?;
        ensure!(
            reply.status == status,
            "{path} {start}: {} {}",
            reply.status,
            reply.body
        );
    }
    running
        .rejected(&tally(bad.iter().map(|(reason, _)| *reason)))
        .await?;
    let refused = running.counts("receiver_refused_count").await?;
    let count = |reason: &str| {
        refused
            .get(&("segment".to_owned(), reason.to_owned()))
            .copied()
    };
    ensure!(count("bad_json") == Some(8), "{refused:?}");
    ensure!(count("too_large") == Some(1), "{refused:?}");
    running.only_good_ones_are_stored(2).await?;
    running.stop().await.map(drop)
}

#[tokio::test]
async fn noise_on_a_port_is_survived() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(&folder).await?;
    let noise: [&[u8]; 5] = [
        b"\x00\x00\x00\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for address in [running.process.grpc(), running.process.http()] {
        for bytes in noise {
            let mut stream = TcpStream::connect(address).await?;
            // It may be closed while we write.
            stream.write_all(bytes).await.ok();
            stream.shutdown().await.ok();
            let mut answer = vec![];
            let reading = stream.read_to_end(&mut answer);
            let ended = tokio::time::timeout(DEADLINE, reading).await;
            ensure!(ended.is_ok(), "{address} keeps {bytes:?}");
        }
    }
    let good = Served::new("1", "shop", AT_MS, 20).bytes();
    let outcome = running
        .sender
        .call(COLLECT, Calling::ClientStream, vec![good])
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    running.only_good_ones_are_stored(1).await?;
    running.stop().await.map(drop)
}
