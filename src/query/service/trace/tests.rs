//! The list of traces and one whole trace.

use super::*;
use crate::query::service::fake::{FakeStore, context};

fn stored(data: Vec<u8>) -> SegmentData {
    SegmentData {
        start_time: 0,
        segment_id: "s".into(),
        service_id: "YQ==.1".into(),
        instance_id: "YQ==.1_aQ==".into(),
        data: data.into(),
    }
}

#[tokio::test]
async fn an_unreadable_segment_costs_only_its_own_spans() {
    let segment = SegmentObject {
        trace_id: "t".into(),
        trace_segment_id: "s".into(),
        spans: vec![SpanObject {
            parent_span_id: -1,
            component_id: 1,
            span_type: 1,
            span_layer: 99,
            ..SpanObject::default()
        }],
        service: "a".into(),
        ..SegmentObject::default()
    };
    let cx = context(FakeStore {
        segments: vec![stored(vec![0xff, 0xff]), stored_as("other", &segment)],
        ..FakeStore::default()
    });
    let spans = trace(&cx, &Cuts::default(), "t").await.unwrap().spans;
    assert_eq!(spans.len(), 1);
    let span = &spans[0];
    assert_eq!((span.ty, span.layer), ("Exit", UNRECOGNIZED));
    assert_eq!((&*span.component, &*span.service_code), ("Tomcat", "a"));
    assert_eq!(cx.metrics.undecodable_segments.get(), 1);
}

fn segment(spans: usize, service: usize) -> SegmentObject {
    SegmentObject {
        trace_id: "t".into(),
        spans: vec![SpanObject::default(); spans],
        service: "x".repeat(service),
        ..SegmentObject::default()
    }
}

fn stored_as(id: impl ToString, segment: &SegmentObject) -> SegmentData {
    SegmentData {
        start_time: 0,
        segment_id: id.to_string(),
        ..stored(segment.encode_to_vec())
    }
}

#[tokio::test]
async fn a_trace_that_would_fill_the_memory_is_cut() {
    for (segment, count, want) in [
        (segment(50_000, 16 << 10), 1, None),
        (segment(50_000, 10), 200, Some(2..10)),
        (segment(1000, 10), 2, Some(2..3)),
    ] {
        let cx = context(FakeStore {
            segments: (0..count).map(|i| stored_as(i, &segment)).collect(),
            ..FakeStore::default()
        });
        let cuts = Cuts::default();
        let found = trace(&cx, &cuts, "t").await;
        let Some(want) = want else {
            assert!(found.unwrap_err().to_string().contains("64 MiB"));
            continue;
        };
        let shown = found.unwrap().spans.len() / segment.spans.len();
        assert!(want.contains(&shown), "{shown}");
        let is_cut = shown < count;
        let said = is_cut.then_some((shown as u64, count as u64));
        assert_eq!(cuts.sums(), said);
        assert_eq!(
            cx.metrics.cut_answers.with_label_values(&["trace"]).get(),
            u64::from(is_cut)
        );
    }
}

#[tokio::test]
async fn a_trace_of_many_segments_is_read_in_pages_up_to_the_window() {
    for (count, window, shown) in [(200, 10_000, 200), (1001, 10_000, 1001), (1001, 500, 500)] {
        let small = segment(1, 1);
        let mut cx = context(FakeStore {
            segments: (0..count).map(|i| stored_as(i, &small)).collect(),
            ..FakeStore::default()
        });
        cx.limits.result_window = window;
        let cuts = Cuts::default();
        let found = trace(&cx, &cuts, "t").await.unwrap();
        assert_eq!(found.spans.len(), shown);
        let said = (shown < count).then_some((shown as u64, count as u64));
        assert_eq!(cuts.sums(), said);
    }
}

#[tokio::test]
async fn a_trace_outside_of_the_days_of_its_id_is_found_all_the_same() {
    let id = "078df4de18504da5787a1845b3d965d3.1.16001676085020235";
    let cx = context(FakeStore {
        segments: vec![stored_as("s", &segment(1, 1))],
        is_found_on_any_day: true,
        ..FakeStore::default()
    });
    assert!(days(id, &cx.zone, cx.clock.now_ms()).is_some());
    let found = trace(&cx, &Cuts::default(), id).await.unwrap();
    assert_eq!(found.spans.len(), 1);
}

#[test]
fn the_time_in_an_id_bounds_the_days() {
    let utc = Zone::utc();
    // 2020-09-15 11:00:08.502 and 2020-09-18 00:00.
    let (made, now) = ("16001676085020235", 1_600_387_200_000);
    let days = |id: &str| days(id, &utc, now).map(|d| (d.start / 1_000_000, d.end / 1_000_000));
    let whole = format!("a1.33.{made}");
    assert_eq!(days(&whole), Some((20_200_914, 20_200_919)));
    for other in [
        "",
        "..",
        "a.b.c",
        "trace-1",
        "a.1.99999999999999999",
        "a.1.-5",
        "a.1.99999999999999999999999",
        &format!("a.{made}"),
        &format!("a.b.{made}.1"),
    ] {
        assert_eq!(days(other), None, "{other}");
    }
}

#[test]
fn a_list_needs_a_duration_or_a_trace_and_a_page_in_reach() {
    let condition = |trace_id: Option<&str>, page_num| TraceQueryCondition {
        service_id: Some(String::new()),
        service_instance_id: None,
        trace_id: trace_id.map(str::to_owned),
        endpoint_id: None,
        endpoint_name: None,
        query_duration: None,
        min_trace_duration: None,
        max_trace_duration: Some(5),
        trace_state: TraceState::Error,
        query_order: QueryOrder::ByDuration,
        paging: Pagination {
            page_num: Some(page_num),
            page_size: 10,
        },
    };
    let found = filter(condition(Some("t"), 2), 10_000).unwrap();
    assert_eq!(
        (found.range, found.service_id, found.is_error),
        (None, None, Some(true))
    );
    assert_eq!(
        (found.min_duration, found.max_duration, found.offset),
        (0, 5, 10)
    );
    assert!(filter(condition(None, 1), 10_000).is_err());
    assert!(filter(condition(Some(""), 1), 10_000).is_err());
    assert!(filter(condition(Some("t"), 1001), 10_000).is_err());
}
