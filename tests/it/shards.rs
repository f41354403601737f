//! Aggregation with everything that can come between: late data, restarts, a store that cannot be read, many shards.
//!
//! The measure is always the same: what is stored must be what one undisturbed shard stores. Time is virtual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::analyzer::Facts;
use oap::analyzer::entities::Entities;
use oap::model::fact::{Fact, MeterValue};
use oap::model::message::Message;
use oap::model::metrics::{MeterInput, MeterScope};
use oap::model::row::{Cell, Row};
use oap::model::time_bucket::Downsampling;
use oap::stream::StreamOptions;
use oap_proto::agent::{
    Cpu, DetectPoint, Gc, InstanceProperties, JvmMetric, JvmMetricCollection, KeyStringValuePair,
    SegmentObject, ServiceMeshMetric, SpanLayer,
};
use proptest::prelude::*;
use prost::Message as _;

use crate::aggregation::{Aggregation, Fixture};
use crate::lanes::count;
use crate::memory_store::MemoryStore;
use crate::segments::{Served, bytes};

mod blocked;
mod steps;

/// 2020-09-15 10:59:30 UTC: the next minutes are in another hour.
const NOW_MS: i64 = 1_600_167_570_000;
const MINUTE_MS: i64 = 60_000;
const SHOP: &str = "c2hvcA==.1";

fn cell(store: &MemoryStore, model: &str, id: &str, column: &str) -> Result<Option<i64>> {
    let row = store
        .row(model, id)
        .with_context(|| format!("no {model} {id}"))?;
    Ok(row.cell(column).as_long())
}

fn served(number: usize, at_ms: i64, latency_ms: i64) -> [Message; 1] {
    [Message::Segment(
        Served::new(number.to_string(), "shop", at_ms, latency_ms).bytes(),
    )]
}

#[tokio::test(start_paused = true)]
async fn late_data_of_a_forgotten_minute_adds_up() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(2)?;
    for number in 0..3 {
        process.report(&served(number, NOW_MS, 100)).await?;
    }
    process.forget().await?;
    let before = process.gauge("stream_rows");
    // Only the day is not over.
    ensure!(before < 100.0, "{before} rows are still held");
    ensure!(count(&process.registry, "stream_read_back_rows_total") == 0);
    for number in 3..5 {
        process.report(&served(number, NOW_MS, 400)).await?;
    }
    process.flush().await?;
    ensure!(count(&process.registry, "stream_read_back_rows_total") > 0);
    process.stop().await?;
    let cell =
        |model, bucket, column| cell(&fixture.store, model, &format!("{bucket}_{SHOP}"), column);
    for bucket in ["202009151059", "2020091510", "20200915"] {
        ensure!(cell("service_cpm", bucket, "total")? == Some(5), "{bucket}");
        ensure!(
            cell("service_resp_time", bucket, "summation")? == Some(1100),
            "{bucket}"
        );
        ensure!(
            cell("service_resp_time", bucket, "value")? == Some(220),
            "{bucket}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn shards_share_a_lane_that_has_room_for_one() -> Result<()> {
    const SERVICES: usize = 20;
    let fixture = Fixture {
        // Any order fills it.
        lane_bytes: 1,
        ..Fixture::new(NOW_MS)
    };
    let mut process = fixture.start(2)?;
    for second in 0..30 {
        for service in 0..SERVICES {
            let (id, name) = (format!("{second}.{service}"), format!("shop-{service}"));
            let segment = Served::new(id, &name, NOW_MS, 100).bytes();
            process.report(&[Message::Segment(segment)]).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let stored = fixture.store.rows();
    let minutes = stored
        .keys()
        .filter(|(model, id, _)| model == "service_cpm" && id.starts_with("202009151059_"));
    ensure!(minutes.count() == SERVICES, "shards wait for each other");
    process.stop().await
}

#[tokio::test(start_paused = true)]
async fn meters_add_up_after_a_restart_and_drop_what_does_not_fit() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let entity = Entities::new().metered(MeterScope::Instance, "shop", "pod");
    let mut dropped = 0;
    // The third process sends other buckets.
    for (load, edge) in [(7, 10), (4, 10), (100, 20)] {
        let process = fixture.start(2)?;
        let mut facts = Facts::new(2);
        for (name, input) in [
            ("meter_load", MeterInput::Long(load)),
            (
                "meter_latency",
                MeterInput::Buckets(vec![(0, 1), (edge, 1)]),
            ),
        ] {
            facts.push(Fact::Meter(MeterValue {
                entity: Arc::clone(&entity),
                minute: 202_009_151_059,
                name: name.into(),
                input,
            }));
        }
        process.send(facts).await?;
        process.flush().await?;
        dropped += count(&process.registry, "stream_shed_total");
        process.stop().await?;
    }
    ensure!(
        dropped == 3,
        "one for each of minute, hour and day, {dropped}"
    );
    for bucket in ["202009151059", "2020091510", "20200915"] {
        let id = format!("{bucket}_{SHOP}_cG9k");
        let row = |model| fixture.store.row(model, &id).context("no row");
        let load = row("meter_load")?;
        let numbers = ["summation", "count", "value"].map(|c| load.cell(c).as_long());
        ensure!(numbers == [111, 3, 37].map(Some), "{numbers:?}");
        ensure!(load.cell("service_id").as_text() == Some(SHOP));
        let latency = row("meter_latency")?;
        let texts = ["count", "value", "ranks"].map(|c| latency.cell(c).as_text());
        let want = ["0,2|10,2", "50,10|90,9223372036854775807", "50|90"];
        ensure!(texts == want.map(Some), "{texts:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_delays_and_loses_nothing() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(1)?;
    process.report(&served(0, NOW_MS, 100)).await?;
    process.stop().await?;
    let mut process = fixture.start(1)?;
    fixture.store.fail_loads(30);
    process.report(&served(1, NOW_MS, 100)).await?;
    // What is stored stays until it could be read.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let id = format!("202009151059_{SHOP}");
    ensure!(cell(&fixture.store, "service_cpm", &id, "total")? == Some(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    ensure!(cell(&fixture.store, "service_cpm", &id, "total")? == Some(2));
    process.stop().await
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_read_keeps_no_other() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(1)?;
    process.report(&served(0, NOW_MS, 100)).await?;
    process.stop().await?;
    let mut process = fixture.start(1)?;
    fixture.store.set_unreadable(Some("service_cpm"));
    process.report(&served(1, NOW_MS, 100)).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let id = format!("202009151059_{SHOP}");
    let calls = || cell(&fixture.store, "service_cpm", &id, "total");
    ensure!(cell(&fixture.store, "service_resp_time", &id, "count")? == Some(2));
    ensure!(calls()? == Some(1));
    fixture.store.set_unreadable(None);
    process.stop().await?;
    ensure!(calls()? == Some(2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_the_rest_is_exact() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let options = StreamOptions {
        max_rows: 60,
        ..StreamOptions::default()
    };
    let store = &fixture.store;
    let mut process = Aggregation::start(1, &fixture, options)?;
    store.set_away(true);
    for number in 0..50 {
        // New rows each minute, while nothing can be written.
        let at_ms = NOW_MS - (number as i64 % 25) * MINUTE_MS;
        process.report(&served(number, at_ms, 100)).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(process.gauge("stream_rows") <= 60.0);
    }
    ensure!(count(&process.registry, "stream_shed_total") > 0);
    store.set_away(false);
    process.stop().await?;
    // A row that was held has every call of its bucket.
    let minutes = store.rows().into_iter().filter(|((model, ..), row)| {
        let is_minute = Downsampling::of(row.time_bucket) == Some(Downsampling::Minute);
        model == "service_cpm" && is_minute
    });
    let totals: Vec<Option<i64>> = minutes
        .map(|(_, row)| row.cell("total").as_long())
        .collect();
    ensure!(
        !totals.is_empty() && totals.iter().all(|n| *n == Some(2)),
        "{totals:?}"
    );
    Ok(())
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
enum About {
    Served,
    /// Served, and the caller says at which address.
    Called,
    /// A call to somebody who does not report.
    Calling,
    Database,
    Queue,
    Runtime,
    Properties,
    Mesh,
}

/// What happens to a server.
#[derive(Debug, Clone)]
enum Event {
    Message {
        about: About,
        service: &'static str,
        /// Minutes from now.
        minute: i64,
        latency_ms: i64,
        is_error: bool,
    },
    Flush,
    /// Time passes and quiet rows are forgotten.
    Forget,
    Restart,
    /// So many reads fail.
    Unreadable(u32),
}

fn event() -> impl Strategy<Value = Event> {
    use About::*;
    let message = (
        prop::sample::select(vec![
            Served, Served, Called, Calling, Database, Queue, Runtime, Properties, Mesh,
        ]),
        prop::sample::select(vec!["shop", "stock", "web"]),
        // Until tomorrow, so that days end, too.
        prop_oneof![9 => -3..=8_i64, 1 => prop::sample::select(vec![-2000, -60, 790, 1300])],
        prop::sample::select(vec![0, 7, 99, 101, 2500, 70_000_i64]),
        any::<bool>(),
    );
    let message =
        message.prop_map(
            |(about, service, minute, latency_ms, is_error)| Event::Message {
                about,
                service,
                minute,
                latency_ms,
                is_error,
            },
        );
    prop_oneof![
        8 => message,
        1 => Just(Event::Flush),
        1 => Just(Event::Forget),
        1 => Just(Event::Restart),
        1 => (1..3_u32).prop_map(Event::Unreadable),
    ]
}

/// An address is called or answered at, never both: who answers where is known only from then on.
fn message(about: About, served: &Served) -> Message {
    let segment = |segment: SegmentObject| Message::Segment(bytes(&segment));
    let (service, service_instance) = (served.service.clone(), format!("{}-1", served.service));
    match about {
        About::Served => segment(served.segment()),
        About::Called => segment(served.called_at(&format!("{service}:80"))),
        About::Calling => segment(served.calling("mail:25")),
        About::Database => {
            let mut calling = served.calling("db:3306");
            let span = &mut calling.spans[0];
            span.set_span_layer(SpanLayer::Database);
            span.tags.push(KeyStringValuePair {
                key: "db.type".into(),
                value: "sql".into(),
            });
            segment(calling)
        }
        About::Queue => {
            let mut called = served.called_at("mq:9092");
            called.spans[0].set_span_layer(SpanLayer::Mq);
            segment(called)
        }
        About::Runtime => {
            let metric = JvmMetric {
                time: served.start_ms,
                cpu: Some(Cpu {
                    // Sums of these are exact.
                    usage_percent: served.latency_ms as f64 / 4.0,
                }),
                gc: vec![Gc {
                    time: served.latency_ms,
                    count: 1,
                    ..Gc::default()
                }],
                ..JvmMetric::default()
            };
            let collection = JvmMetricCollection {
                metrics: vec![metric],
                service,
                service_instance,
            };
            Message::JvmMetrics(collection.encode_to_vec().into())
        }
        About::Properties => {
            let properties = InstanceProperties {
                service,
                service_instance,
                properties: vec![KeyStringValuePair {
                    key: "latency".into(),
                    value: served.latency_ms.to_string(),
                }],
            };
            Message::InstanceProperties(properties.encode_to_vec().into())
        }
        About::Mesh => {
            let metric = ServiceMeshMetric {
                start_time: served.start_ms,
                source_service_name: "edge".into(),
                source_service_instance: "edge-1".into(),
                dest_service_name: service,
                dest_service_instance: service_instance,
                endpoint: "/mesh".into(),
                latency: served.latency_ms as i32,
                status: !served.is_error,
                detect_point: DetectPoint::Server.into(),
                ..ServiceMeshMetric::default()
            };
            Message::Mesh(metric.encode_to_vec().into())
        }
    }
}

type Stored = BTreeMap<(String, String), (u64, Vec<Cell>)>;

/// What a server with so many shards stores; an undisturbed one knows only requests.
async fn outcome(events: &[Event], shards: usize, is_disturbed: bool) -> Result<Stored> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(shards)?;
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Message {
                about,
                service,
                minute,
                latency_ms,
                is_error,
            } => {
                let at_ms = NOW_MS + minute * MINUTE_MS;
                let served = Served {
                    is_error: *is_error,
                    ..Served::new(number.to_string(), service, at_ms, *latency_ms)
                };
                process.report(&[message(*about, &served)]).await?;
            }
            _ if !is_disturbed => {}
            Event::Flush => process.flush().await?,
            Event::Forget => process.forget().await?,
            Event::Restart => {
                process.stop().await?;
                process = fixture.start(shards)?;
            }
            Event::Unreadable(reads) => fixture.store.fail_loads(*reads),
        }
    }
    process.stop().await?;
    let stored = fixture.store.rows().into_iter();
    Ok(stored
        .map(|((model, id, _), row)| ((model, id), comparable(row)))
        .collect())
}

/// What must be the same. An instance's last ping is that of the last arrival that was looked at: of several in one minute
/// the first. The bucket of metadata is that of the first arrival since the start.
fn comparable(mut row: Row) -> (u64, Vec<Cell>) {
    let last_ping = row.model.column_index("last_ping");
    if let Some(cell) = last_ping.and_then(|at| row.cells.get_mut(at)) {
        *cell = Cell::Null;
    }
    let is_metadata = !row.model.is_downsampled;
    let bucket = if is_metadata { 0 } else { row.time_bucket };
    (bucket, row.cells)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_changes_what_is_stored(
        events in prop::collection::vec(event(), 1..40),
        shards in 1..=4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let compared = runtime.block_on(async {
            let expected = outcome(&events, 1, false).await?;
            let stored = outcome(&events, shards, true).await?;
            for (key, wanted) in &expected {
                let found = stored.get(key);
                ensure!(found == Some(wanted), "{key:?}: {found:?}, undisturbed {wanted:?}");
            }
            ensure!(stored.len() == expected.len());
            Ok(())
        });
        if let Err(difference) = compared {
            prop_assert!(false, "{difference:#}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hours_and_days_are_the_sum_of_their_minutes() -> Result<()> {
    let fixture = Fixture::new(NOW_MS);
    let mut process = fixture.start(3)?;
    for number in 0..200 {
        // Around the end of an hour, in no order.
        let at_ms = NOW_MS + ((number * 7) % 11 - 5) * MINUTE_MS;
        process
            .report(&served(usize::try_from(number)?, at_ms, number))
            .await?;
        if number % 50 == 49 {
            process.flush().await?;
        }
    }
    process.stop().await?;
    let mut sums: BTreeMap<(String, u64), i64> = BTreeMap::new();
    let mut coarse: BTreeMap<(String, u64), i64> = BTreeMap::new();
    for ((model, ..), row) in fixture.store.rows() {
        let Some(total) = row.cell("total").as_long() else {
            continue;
        };
        match Downsampling::of(row.time_bucket) {
            Some(Downsampling::Minute) => {
                for divisor in [100, 10_000] {
                    let bucket = row.time_bucket / divisor;
                    *sums.entry((model.clone(), bucket)).or_default() += total;
                }
            }
            _ => *coarse.entry((model, row.time_bucket)).or_default() += total,
        }
    }
    ensure!(coarse.contains_key(&("service_cpm".to_owned(), 2_020_091_511)));
    ensure!(coarse == sums, "{coarse:?}\nminutes: {sums:?}");
    Ok(())
}
