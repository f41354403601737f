//! Messages of agents, from the bytes to the cells that would be stored.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::{Result, ensure};
use bytes::Bytes;
use oap::analyzer::{Analyzer, Facts};
use oap::model::entity::Entity;
use oap::model::fact::Fact;
use oap::model::message::Message;
use oap::model::metrics::Value;
use oap::model::row::{Cell, Row};
use oap::stream::AddressBook;
use oap::util::clock::Clock;
use oap_proto::agent::meter_data::Metric;
use oap_proto::agent::{
    ClrGc, ClrMetric, ClrMetricCollection, ClrThread, Cpu, Label, MeterBucketValue, MeterData,
    MeterHistogram, MeterPart, MeterSingleValue, SegmentObject, SpanLayer, SpanObject, SpanType,
};
use oap_proto::istio::{self, HandleMetricRequest};
use prost::Message as _;

use super::{Form, Target, recorded};
use crate::every_metric::{analyzer, compiled};
use crate::mesh;
use crate::segments::Served;

/// A day after the recordings.
pub(super) const NOW_MS: i64 = 1_795_400_000_000;

fn new_analyzer() -> Result<Analyzer> {
    let clock = Clock::Fixed(Arc::new(AtomicI64::new(NOW_MS)));
    analyzer(clock, Arc::new(AddressBook::new(10)))
}

/// Facts in shard order and records.
type Analysed = (Vec<Fact>, Vec<Row>);

fn analysed(analyzer: &mut Analyzer, message: &Message) -> Result<Analysed> {
    let mut facts = Facts::new(3);
    let verdict = analyzer.analyze(message, &mut facts);
    let records = std::mem::take(&mut facts.records);
    let facts: Vec<Fact> = facts.take_shards().flatten().collect();
    let is_empty = facts.is_empty() && records.is_empty();
    ensure!(
        verdict.is_ok() || is_empty,
        "{verdict:?}, but something is left"
    );
    Ok((facts, records))
}

/// Sends inputs as messages of one kind to an analyzer that has seen those before.
pub(super) fn check(target: Target, kind: fn(Bytes) -> Message) -> Result<()> {
    let seasoned = RefCell::new(new_analyzer()?);
    target.check(|input| {
        let message = kind(Bytes::copy_from_slice(input));
        let (facts, records) = analysed(&mut seasoned.borrow_mut(), &message)?;
        let fresh = analysed(&mut new_analyzer()?, &message)?;
        let (found, wanted) = (
            format!("{facts:?}{records:?}"),
            format!("{:?}{:?}", fresh.0, fresh.1),
        );
        ensure!(
            found == wanted,
            "depends on what came before: {found}\n{wanted}"
        );
        // A part of a message has two bytes, and stands for ten facts at most.
        ensure!(facts.len() <= 5 * input.len(), "{} facts", facts.len());
        ensure!(records.len() <= input.len(), "{} records", records.len());
        let bytes: usize = records.iter().map(bytes_of).sum();
        let most = 4 * input.len() + 2000 * records.len();
        ensure!(bytes <= most, "{bytes} bytes in records");
        facts.iter().try_for_each(can_be_aggregated)
    })
}

fn bytes_of(row: &Row) -> usize {
    let cells = row.cells.iter().map(|cell| match cell {
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
        Cell::Null | Cell::Long(_) | Cell::Double(_) => 8,
    });
    row.id.len() + cells.sum::<usize>()
}

fn can_be_aggregated(fact: &Fact) -> Result<()> {
    match fact {
        Fact::Source(source) => values_can_be_stored(&source.entity, source.minute, |values| {
            let plan = &compiled()?.plan;
            plan.apply(source, &plan.thresholds(), values);
            Ok(())
        }),
        Fact::Meter(value) => values_can_be_stored(&value.entity, value.minute, |values| {
            ensure!(compiled()?.plan.apply_meter(value, values), "{value:?}");
            Ok(())
        }),
        Fact::Service { entity, .. }
        | Fact::Instance { entity, .. }
        | Fact::Endpoint { entity, .. } => {
            ensure!(!entity.id.is_empty());
            Ok(())
        }
        Fact::Address { alias, .. } => {
            ensure!(!alias.address.is_empty() && !alias.instance_id.is_empty());
            Ok(())
        }
    }
}

/// What a fact gives, together with itself, comes back from the cells as it was.
fn values_can_be_stored(
    entity: &Entity,
    minute: u64,
    apply: impl FnOnce(&mut [Option<Value>]) -> Result<()>,
) -> Result<()> {
    let items = compiled()?.plan.items(entity.scope);
    let mut values = vec![None; items.len()];
    apply(&mut values)?;
    for (item, value) in items.iter().zip(values) {
        let Some(mut value) = value else { continue };
        let once = value.clone();
        ensure!(item.function.merge(&mut value, &once));
        let cells = item.function.to_cells(&value, minute);
        let columns = item.model.columns.len() - item.model.entity_columns.len();
        ensure!(cells.len() == columns, "{}: {cells:?}", item.model.name);
        let read = item.function.from_cells(&cells);
        ensure!(
            read.as_ref() == Some(&value),
            "{}: {read:?} {value:?}",
            item.model.name
        );
    }
    Ok(())
}

/// A database, a queue, a logic endpoint: not all of them were recorded.
fn made_segments() -> Vec<Vec<u8>> {
    let served = Served::new("1", "shop", NOW_MS - 1000, 500);
    let tag = |key: &str, value: &str| oap_proto::agent::KeyStringValuePair {
        key: key.into(),
        value: value.into(),
    };
    let mut database = served.calling("db:3306");
    let span = &mut database.spans[0];
    span.set_span_layer(SpanLayer::Database);
    span.tags = vec![tag("db.type", "sql"), tag("db.statement", "select 1")];
    let mut queue = served.called_at("mq:9092");
    queue.spans[0].set_span_layer(SpanLayer::Mq);
    let mut logic = served.segment();
    logic.spans[0].tags = vec![tag("status_code", "200")];
    logic.spans.push(SpanObject {
        span_id: 1,
        span_type: SpanType::Local.into(),
        start_time: NOW_MS - 900,
        end_time: NOW_MS - 800,
        operation_name: "calculate".into(),
        tags: vec![
            tag("x-le", "{\"logic-span\":true}"),
            tag("x-le", "{\"name\":\"price\",\"latency\":7,\"status\":true}"),
        ],
        ..SpanObject::default()
    });
    let segments = [database, queue, logic, SegmentObject::default()];
    segments.iter().map(SegmentObject::encode_to_vec).collect()
}

#[test]
fn segment() -> Result<()> {
    let mut seeds = recorded::messages("TraceSegmentReportService/collect")?;
    seeds.extend(made_segments().into_iter().map(Bytes::from));
    check(
        Target::of(Form::Message, "segment").seeds(seeds),
        Message::Segment,
    )
}

#[test]
fn jvm_metrics() -> Result<()> {
    let seeds = recorded::messages("JVMMetricReportService/collect")?;
    check(
        Target::of(Form::Message, "jvm-metrics").seeds(seeds),
        Message::JvmMetrics,
    )
}

#[test]
fn clr_metrics() -> Result<()> {
    let metrics = ClrMetricCollection {
        metrics: vec![ClrMetric {
            time: NOW_MS,
            cpu: Some(Cpu {
                usage_percent: 12.5,
            }),
            gc: Some(ClrGc {
                gen0_collect_count: 1,
                gen1_collect_count: 2,
                gen2_collect_count: 3,
                heap_memory: 1 << 30,
            }),
            thread: Some(ClrThread {
                available_completion_port_threads: 1,
                available_worker_threads: 2,
                max_completion_port_threads: 3,
                max_worker_threads: 4,
            }),
        }],
        service: "shop".into(),
        service_instance: "shop-1".into(),
    };
    let target = Target::of(Form::Message, "clr-metrics").seeds([metrics.encode_to_vec()]);
    check(target, Message::ClrMetrics)
}

#[test]
fn meters() -> Result<()> {
    let label = Label {
        name: "k".into(),
        value: "v".into(),
    };
    let single = |name: &str, value| {
        Metric::SingleValue(MeterSingleValue {
            name: name.into(),
            labels: vec![label.clone()],
            value,
        })
    };
    let bucket = |bucket, count, is_negative_infinity| MeterBucketValue {
        bucket,
        count,
        is_negative_infinity,
    };
    let histogram = Metric::Histogram(MeterHistogram {
        name: "buckets".into(),
        labels: vec![label.clone()],
        values: vec![
            bucket(0.0, 1, true),
            bucket(0.5, 2, false),
            bucket(7.0, 3, false),
        ],
    });
    let data = |metric| MeterData {
        metric: Some(metric),
        service: "shop".into(),
        service_instance: "shop-1".into(),
        timestamp: NOW_MS,
    };
    let metrics = [single("one", 1.5), single("two", -2.0), histogram];
    let report = MeterPart {
        meter_data: metrics.map(data).into(),
        first: Some(MeterData::default()),
    };
    let target = Target::of(Form::Message, "meters").seeds([report.encode_to_vec()]);
    check(target, Message::Meters)
}

#[test]
fn instance_properties() -> Result<()> {
    let seeds = recorded::messages("ManagementService/reportInstanceProperties")?;
    let target = Target::of(Form::Message, "instance-properties").seeds(seeds);
    check(target, Message::InstanceProperties)
}

#[test]
fn keep_alive() -> Result<()> {
    let seeds = recorded::messages("ManagementService/keepAlive")?;
    check(
        Target::of(Form::Message, "keep-alive").seeds(seeds),
        Message::KeepAlive,
    )
}

#[test]
fn mesh_metrics() -> Result<()> {
    let seeds = mesh::calls(NOW_MS).map(|call| call.encode_to_vec());
    let target = Target::of(Form::Message, "mesh").seeds(seeds);
    check(target, Message::Mesh)
}

#[test]
fn mixer_instances() -> Result<()> {
    let of_one = mesh::instance(NOW_MS);
    let mut of_client = of_one.clone();
    let reporter = istio::Value {
        value: Some(istio::value::Value::StringValue("source".into())),
    };
    of_client.dimensions.insert("reporter".into(), reporter);
    let calls = [vec![], vec![of_one.clone()], vec![of_one, of_client]];
    let seeds = calls.map(|instances| HandleMetricRequest { instances }.encode_to_vec());
    let target = Target::of(Form::Message, "mixer").seeds(seeds);
    check(target, Message::Mixer)
}
