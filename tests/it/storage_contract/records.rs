//! Segments, traces and alarms.

use anyhow::{Result, ensure};
use bytes::Bytes;
use oap::model::row::{Cell, Row};
use oap::storage::{
    AlarmFilter, Backend, BucketRange, Order, SegmentFilter, TopNFilter, TraceFilter, TraceOrder,
};
use oap::storage::{RelationFilter, ServiceFilter};

use super::{DAY, MINUTE, NEXT_DAY, Store, ensure_invalid, text};

/// Start of the day of [`DAY`] in epoch milliseconds, UTC.
const MIDNIGHT_MS: i64 = 1_600_128_000_000;

struct Segment<'a> {
    id: &'a str,
    trace: &'a str,
    service: &'a str,
    instance: &'a str,
    endpoint: &'a str,
    /// Seconds of the first minute of the day; above 59 it is the next day.
    at: i64,
    latency: i64,
    is_error: bool,
}

const SEGMENTS: [Segment<'static>; 5] = [
    Segment {
        id: "seg1",
        trace: "t1",
        service: "s1",
        instance: "s1_i1",
        endpoint: "/api/v1/create/order",
        at: 10,
        latency: 50,
        is_error: false,
    },
    Segment {
        id: "seg2",
        trace: "t1",
        service: "s2",
        instance: "s2_i1",
        endpoint: "/stock/the/list",
        at: 11,
        latency: 30,
        is_error: true,
    },
    Segment {
        id: "seg3",
        trace: "t2",
        service: "s1",
        instance: "s1_i2",
        endpoint: "/order/create",
        at: 20,
        latency: 500,
        is_error: true,
    },
    Segment {
        id: "seg4",
        trace: "t3",
        service: "s1",
        instance: "s1_i1",
        endpoint: "/stock/list",
        at: 30,
        latency: 0,
        is_error: false,
    },
    Segment {
        id: "seg5",
        trace: "t4",
        service: "s3",
        instance: "s3_i1",
        endpoint: "/late",
        at: 86_400,
        latency: 70,
        is_error: false,
    },
];

impl Segment<'_> {
    fn second(&self) -> u64 {
        let (day, second) = (self.at / 86_400, self.at % 60);
        (DAY + day as u64) * 1_000_000 + second as u64
    }

    fn start_ms(&self) -> i64 {
        MIDNIGHT_MS + self.at * 1000
    }

    fn data(&self) -> Bytes {
        Bytes::from(format!("\u{0}bytes of {}", self.id))
    }

    fn row<B: Backend>(&self, store: &Store<B>) -> Result<Row> {
        store.row(
            "segment",
            self.id,
            self.second(),
            &[
                ("segment_id", text(self.id)),
                ("trace_id", text(self.trace)),
                ("statement", text(self.endpoint)),
                ("service_id", text(self.service)),
                ("service_instance_id", text(self.instance)),
                ("endpoint_name", text(self.endpoint)),
                (
                    "endpoint_id",
                    text(&format!("{}_{}", self.service, self.endpoint)),
                ),
                ("start_time", Cell::Long(self.start_ms())),
                ("end_time", Cell::Long(self.start_ms() + self.latency)),
                ("latency", Cell::Long(self.latency)),
                ("is_error", Cell::Long(self.is_error.into())),
                ("data_binary", Cell::Bytes(self.data())),
                ("version", Cell::Long(3)),
            ],
        )
    }
}

/// Everything of the first minute, newest first.
fn everything() -> SegmentFilter {
    SegmentFilter {
        range: Some(BucketRange {
            start: DAY * 1_000_000,
            end: DAY * 1_000_000 + 99,
        }),
        min_duration: 0,
        max_duration: 0,
        endpoint_name: None,
        service_id: None,
        instance_id: None,
        endpoint_id: None,
        trace_id: None,
        is_error: None,
        order: TraceOrder::ByStartTime,
        offset: 0,
        limit: 100,
    }
}

async fn write<B: Backend>(store: &Store<B>) -> Result<()> {
    let rows: Result<Vec<Row>> = SEGMENTS.iter().map(|s| s.row(store)).collect();
    store.write(&rows?).await
}

pub async fn segments_are_filtered_sorted_and_paged<B: Backend>(store: &Store<B>) -> Result<()> {
    write(store).await?;
    let some = |text: &str| Some(text.to_owned());
    type Change<'a> = Box<dyn Fn(&mut SegmentFilter) + 'a>;
    let cases: Vec<(&str, Change<'_>, &[&str], i64)> = vec![
        (
            "newest first",
            Box::new(|_| {}),
            &["seg4", "seg3", "seg2", "seg1"],
            4,
        ),
        (
            "longest first",
            Box::new(|f| f.order = TraceOrder::ByDuration),
            &["seg3", "seg1", "seg2", "seg4"],
            4,
        ),
        (
            "every day",
            Box::new(|f| f.range = None),
            &["seg5", "seg4", "seg3", "seg2", "seg1"],
            5,
        ),
        (
            "two days, longest first",
            Box::new(|f| {
                f.order = TraceOrder::ByDuration;
                f.range = Some(BucketRange {
                    start: DAY * 1_000_000 + 11,
                    end: (DAY + 1) * 1_000_000,
                });
            }),
            &["seg3", "seg5", "seg2", "seg4"],
            4,
        ),
        (
            "at least",
            Box::new(|f| f.min_duration = 50),
            &["seg3", "seg1"],
            2,
        ),
        (
            "at most",
            Box::new(|f| f.max_duration = 50),
            &["seg4", "seg2", "seg1"],
            3,
        ),
        (
            "between",
            Box::new(|f| (f.min_duration, f.max_duration) = (40, 60)),
            &["seg1"],
            1,
        ),
        (
            "service",
            Box::new(|f| f.service_id = some("s1")),
            &["seg4", "seg3", "seg1"],
            3,
        ),
        (
            "instance",
            Box::new(|f| f.instance_id = some("s1_i1")),
            &["seg4", "seg1"],
            2,
        ),
        (
            "endpoint",
            Box::new(|f| f.endpoint_id = some("s1_/stock/list")),
            &["seg4"],
            1,
        ),
        (
            "trace",
            Box::new(|f| f.trace_id = some("t1")),
            &["seg2", "seg1"],
            2,
        ),
        (
            "failed",
            Box::new(|f| f.is_error = Some(true)),
            &["seg3", "seg2"],
            2,
        ),
        (
            "succeeded",
            Box::new(|f| f.is_error = Some(false)),
            &["seg4", "seg1"],
            2,
        ),
        (
            "several conditions",
            Box::new(|f| {
                f.service_id = some("s1");
                f.is_error = Some(true);
            }),
            &["seg3"],
            1,
        ),
        (
            "phrase",
            Box::new(|f| f.endpoint_name = some("create order")),
            &["seg1"],
            1,
        ),
        (
            "one word",
            Box::new(|f| f.endpoint_name = some("ORDER")),
            &["seg3", "seg1"],
            2,
        ),
        (
            "not a word",
            Box::new(|f| f.endpoint_name = some("ord")),
            &[],
            0,
        ),
        (
            "stop word between",
            Box::new(|f| f.endpoint_name = some("stock list")),
            &["seg4"],
            1,
        ),
        (
            "stop word in both",
            Box::new(|f| f.endpoint_name = some("/stock/a/list")),
            &["seg2"],
            1,
        ),
        (
            "no words",
            Box::new(|f| f.endpoint_name = some("/1/2")),
            &[],
            0,
        ),
        (
            "first page",
            Box::new(|f| f.limit = 3),
            &["seg4", "seg3", "seg2"],
            4,
        ),
        (
            "second page",
            Box::new(|f| (f.offset, f.limit) = (3, 3)),
            &["seg1"],
            4,
        ),
        ("past the end", Box::new(|f| f.offset = 50), &[], 4),
        ("nobody", Box::new(|f| f.service_id = some("s9")), &[], 0),
    ];
    for (name, change, expected, total) in cases {
        let mut filter = everything();
        change(&mut filter);
        let page = store.backend.segments(&filter).await?;
        let ids: Vec<&str> = page.items.iter().map(|s| s.segment_id.as_str()).collect();
        ensure!(ids == expected, "{name}: {ids:?}");
        ensure!(page.total == total, "{name}: total {}", page.total);
        for brief in page.items {
            let Some(of) = SEGMENTS.iter().find(|s| s.id == brief.segment_id) else {
                anyhow::bail!("{name}: {brief:?}");
            };
            let is_same = brief.trace_id == of.trace
                && brief.endpoint_name == of.endpoint
                && brief.start_time == of.start_ms()
                && brief.latency == of.latency
                && brief.is_error == of.is_error;
            ensure!(is_same, "{name}: {brief:?}");
        }
    }
    Ok(())
}

pub async fn impossible_pages_are_errors<B: Backend>(store: &Store<B>) -> Result<()> {
    write(store).await?;
    for (offset, limit) in [(-1, 10), (9_991, 10), (i64::MAX, 10)] {
        let filter = SegmentFilter {
            offset,
            limit,
            ..everything()
        };
        let name = format!("{offset} and {limit}");
        ensure_invalid(&name, store.backend.segments(&filter).await)?;
    }
    let filter = SegmentFilter {
        offset: 9_990,
        limit: 10,
        ..everything()
    };
    ensure!(store.backend.segments(&filter).await?.items.is_empty());
    Ok(())
}

pub async fn a_trace_has_all_its_segments_with_bytes<B: Backend>(store: &Store<B>) -> Result<()> {
    write(store).await?;
    let find = |filter: TraceFilter| async move { store.backend.trace(&filter).await };
    let first = |id: &str, limit| find(TraceFilter::first(id, limit));
    let mut trace = first("t1", 100).await?.items;
    trace.sort_by(|a, b| a.segment_id.cmp(&b.segment_id));
    ensure!(trace.len() == 2, "{trace:?}");
    for (found, of) in trace.iter().zip(&SEGMENTS) {
        let is_same = found.segment_id == of.id
            && found.service_id == of.service
            && found.instance_id == of.instance
            && found.data == of.data();
        ensure!(is_same, "{found:?}");
    }
    let mut pages = vec![];
    for offset in 0..3 {
        let filter = TraceFilter {
            offset,
            ..TraceFilter::first("t1", 1)
        };
        let page = find(filter).await?;
        ensure!(page.total == 2, "{page:?}");
        pages.extend(page.items.into_iter().map(|segment| segment.segment_id));
    }
    pages.sort();
    let ids: Vec<String> = trace.into_iter().map(|s| s.segment_id).collect();
    ensure!(pages == ids, "{pages:?}");
    ensure!(first("t", 100).await?.items.is_empty());
    // Days without an index or file are no error.
    for (days, total) in [
        ((DAY, NEXT_DAY), 2),
        ((DAY - 2, DAY - 1), 0),
        ((DAY - 2, DAY), 2),
    ] {
        let days = BucketRange {
            start: days.0 * 1_000_000,
            end: days.1 * 1_000_000,
        };
        let filter = TraceFilter {
            days: Some(days),
            ..TraceFilter::first("t1", 10)
        };
        let page = find(filter).await?;
        ensure!(page.total == total, "{days:?}: {page:?}");
    }
    Ok(())
}

pub async fn alarms_are_filtered_and_paged<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    for (second, scope, message) in [
        (10, 1, "Response time of service order is more than 1000ms"),
        (20, 2, "Response time of instance a is slow"),
        (30, 1, "Success rate of service stock is low"),
    ] {
        rows.push(store.row(
            "alarm_record",
            &format!("alarm {second}"),
            DAY * 1_000_000 + second,
            &[
                ("scope", Cell::Long(scope)),
                ("name", text("name")),
                ("id0", text(&format!("id {second}"))),
                ("id1", text("")),
                ("start_time", Cell::Long(MIDNIGHT_MS + second as i64 * 1000)),
                ("alarm_message", text(message)),
            ],
        )?);
    }
    store.write(&rows).await?;
    let filter = |scope, keyword: Option<&str>, offset, limit| AlarmFilter {
        range: BucketRange {
            start: DAY * 1_000_000 + 10,
            end: DAY * 1_000_000 + 99,
        },
        scope,
        keyword: keyword.map(str::to_owned),
        offset,
        limit,
    };
    for (filter, expected, total) in [
        (
            filter(None, None, 0, 10),
            vec!["id 30", "id 20", "id 10"],
            3,
        ),
        (filter(Some(1), None, 0, 10), vec!["id 30", "id 10"], 2),
        (filter(Some(3), None, 0, 10), vec![], 0),
        (
            filter(None, Some("response TIME"), 0, 10),
            vec!["id 20", "id 10"],
            2,
        ),
        (filter(None, Some("time response"), 0, 10), vec![], 0),
        (filter(None, None, 1, 1), vec!["id 20"], 3),
    ] {
        let page = store.backend.alarms(&filter).await?;
        let ids: Vec<&str> = page.items.iter().map(|a| a.id0.as_str()).collect();
        ensure!(ids == expected, "{filter:?}: {ids:?}");
        ensure!(page.total == total, "{filter:?}: total {}", page.total);
    }
    let last = store.backend.alarms(&filter(Some(2), None, 0, 10)).await?;
    let alarm = &last.items[0];
    ensure!(
        alarm.scope == 2
            && alarm.message == "Response time of instance a is slow"
            && alarm.start_time == MIDNIGHT_MS + 20_000,
        "{alarm:?}"
    );
    Ok(())
}

pub async fn an_empty_store_answers<B: Backend>(store: &Store<B>) -> Result<()> {
    let backend = &store.backend;
    let services = ServiceFilter {
        node_type: 0,
        name: None,
        keyword: None,
    };
    ensure!(backend.services(&services, 10).await?.items.is_empty());
    ensure!(backend.instances("s1", 0, 10).await?.items.is_empty());
    ensure!(backend.endpoints("s1", "", 10).await?.is_empty());
    ensure!(backend.address_aliases(0, 10).await?.is_empty());
    let trace = backend.trace(&TraceFilter::first("t1", 10)).await?;
    ensure!(trace.items.is_empty() && trace.total == 0, "{trace:?}");
    let page = backend.segments(&everything()).await?;
    ensure!(page.items.is_empty() && page.total == 0, "{page:?}");
    let range = BucketRange {
        start: MINUTE,
        end: MINUTE + 5,
    };
    let relations = store.model("service_relation_server_side")?;
    let edges = backend
        .relations(relations, range, &RelationFilter::All)
        .await?;
    ensure!(edges.items.is_empty() && edges.total == 0);
    let metric = store.model("service_cpm")?;
    ensure!(backend.aggregate(metric, "s1", range).await?.is_none());
    let top = TopNFilter {
        service_id: None,
        range,
        limit: 5,
        order: Order::Descending,
    };
    ensure!(backend.top_n(metric, &top).await?.is_empty());
    ensure!(
        store
            .load("service_cpm", "x", Some(MINUTE))
            .await?
            .is_none()
    );
    ensure!(store.load("service_traffic", "x", None).await?.is_none());
    Ok(())
}
