//! Lists of records over two days.

use super::super::testing::{Store, row};
use super::*;
use crate::model::row::{Cell, Row};
use crate::storage::BucketRange;

const DAY_1: u64 = 20_200_914_000_000;
const DAY_2: u64 = 20_200_915_000_000;

/// Segment `n` starts at `n` and belongs to the trace, service … that its parts name.
fn segment(store: &Store, n: i64, day: u64, parts: [&str; 5], latency: i64, is_error: bool) -> Row {
    let [trace, service, instance, endpoint, name] = parts;
    let id = format!("s{n}");
    let cells = [
        ("segment_id", Cell::text(id.as_str())),
        ("trace_id", Cell::text(trace)),
        ("service_id", Cell::text(service)),
        ("service_instance_id", Cell::text(instance)),
        ("endpoint_id", Cell::text(endpoint)),
        ("endpoint_name", Cell::text(name)),
        ("start_time", Cell::Long(n)),
        ("latency", Cell::Long(latency)),
        ("is_error", Cell::Long(is_error.into())),
        ("data_binary", Cell::Bytes(Bytes::from(id.clone()))),
    ];
    row(&store.model("segment"), &id, day + n.unsigned_abs(), &cells)
}

fn store() -> Store {
    let store = Store::new();
    let users = ["t1", "a", "a1", "a-users", "/api/users/{id}"];
    let orders = ["t2", "a", "a2", "a-orders", "/api/orders"];
    let web = ["t1", "b", "b1", "b-web", "web: the users"];
    store.write(&[
        segment(&store, 1, DAY_1, users, 100, false),
        segment(&store, 2, DAY_1, orders, 50, true),
        segment(&store, 3, DAY_2, web, 70, false),
        segment(&store, 5, DAY_2, orders, 10, false),
        segment(&store, 4, DAY_2, users, 70, true),
    ]);
    store
}

fn filter() -> SegmentFilter {
    SegmentFilter {
        range: Some(BucketRange {
            start: DAY_1,
            end: DAY_2 + 99,
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
        limit: 10,
    }
}

#[test]
fn segments_by_every_condition() {
    let store = store();
    let some = |text: &str| Some(text.to_owned());
    type Change<'a> = &'a dyn Fn(&mut SegmentFilter);
    let cases: [(&str, Change<'_>, &[&str], i64); 18] = [
        ("all", &|_| {}, &["s5", "s4", "s3", "s2", "s1"], 5),
        ("first page", &|f| f.limit = 2, &["s5", "s4"], 5),
        (
            "second page",
            &|f| (f.offset, f.limit) = (2, 2),
            &["s3", "s2"],
            5,
        ),
        ("beyond", &|f| f.offset = 5, &[], 5),
        ("no lines", &|f| f.limit = 0, &[], 5),
        (
            "by duration",
            &|f| f.order = TraceOrder::ByDuration,
            &["s1", "s3", "s4", "s2", "s5"],
            5,
        ),
        (
            "one day",
            &|f| {
                f.range = Some(BucketRange {
                    start: DAY_2,
                    end: DAY_2 + 4,
                })
            },
            &["s4", "s3"],
            2,
        ),
        (
            "no range",
            &|f| f.range = None,
            &["s5", "s4", "s3", "s2", "s1"],
            5,
        ),
        (
            "trace",
            &|f| (f.trace_id, f.range) = (some("t1"), None),
            &["s4", "s3", "s1"],
            3,
        ),
        (
            "service",
            &|f| f.service_id = some("a"),
            &["s5", "s4", "s2", "s1"],
            4,
        ),
        (
            "instance",
            &|f| f.instance_id = some("a2"),
            &["s5", "s2"],
            2,
        ),
        (
            "endpoint",
            &|f| f.endpoint_id = some("a-users"),
            &["s4", "s1"],
            2,
        ),
        (
            "service and trace",
            &|f| (f.service_id, f.trace_id) = (some("b"), some("t1")),
            &["s3"],
            1,
        ),
        ("errors", &|f| f.is_error = Some(true), &["s4", "s2"], 2),
        (
            "no errors",
            &|f| f.is_error = Some(false),
            &["s5", "s3", "s1"],
            3,
        ),
        (
            "durations",
            &|f| (f.min_duration, f.max_duration) = (50, 70),
            &["s4", "s3", "s2"],
            3,
        ),
        (
            "phrase",
            &|f| f.endpoint_name = some("api users"),
            &["s4", "s1"],
            2,
        ),
        (
            "no phrase",
            &|f| f.endpoint_name = some("users api"),
            &[],
            0,
        ),
    ];
    for (name, change, want, total) in cases {
        let mut filter = filter();
        change(&mut filter);
        let page = segments(&store.pool, &filter).unwrap();
        let ids: Vec<_> = page.items.iter().map(|s| s.segment_id.as_str()).collect();
        assert_eq!((&ids[..], page.total), (want, total), "{name}");
    }
    for (offset, limit) in [(-1, 10), (9_995, 10)] {
        let error = segments(
            &store.pool,
            &SegmentFilter {
                offset,
                limit,
                ..filter()
            },
        );
        assert!(
            matches!(error, Err(StorageError::InvalidQuery(_))),
            "{offset} {limit}"
        );
    }
}

#[test]
fn a_line_of_the_list_has_the_stored_values() {
    let page = segments(
        &store().pool,
        &SegmentFilter {
            limit: 2,
            ..filter()
        },
    )
    .unwrap();
    let want = SegmentBrief {
        segment_id: "s4".to_owned(),
        trace_id: "t1".to_owned(),
        endpoint_name: "/api/users/{id}".to_owned(),
        start_time: 4,
        latency: 70,
        is_error: true,
    };
    assert_eq!(page.items.last(), Some(&want));
}

#[test]
fn a_list_without_names_reads_only_an_index() {
    let store = store();
    let plan = |change: &dyn Fn(&mut SegmentFilter)| {
        let mut filter = filter();
        change(&mut filter);
        let conditions = segment_conditions(&filter);
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT rowid, start_time, NULL FROM segment{}",
            conditions.sql()
        );
        let file = store.files.days(Family::Records, None)[0];
        let params = rusqlite::params_from_iter(&conditions.values);
        let plan = store.pool.query(file, |conn| {
            conn.query_row(&sql, params, |r| r.get::<_, String>(3))
        });
        plan.unwrap().unwrap()
    };
    for (name, change, want) in [
        (
            "time",
            (&|_: &mut SegmentFilter| {}) as &dyn Fn(&mut SegmentFilter),
            "COVERING INDEX segment_by_time_bucket",
        ),
        (
            "service",
            &|f| f.service_id = Some("a".into()),
            "COVERING INDEX segment_by_service_id (<expr>=? AND service_id=? AND time_bucket>? AND time_bucket<?)",
        ),
        (
            "instance",
            &|f| f.instance_id = Some("a_1".into()),
            "COVERING INDEX segment_by_service_id (<expr>=? AND service_id=? AND time_bucket>? AND time_bucket<?)",
        ),
        (
            "endpoint",
            &|f| (f.endpoint_id, f.is_error) = (Some("a_1".into()), Some(true)),
            "COVERING INDEX segment_by_service_id (<expr>=? AND service_id=? AND time_bucket>? AND time_bucket<?)",
        ),
        (
            "trace",
            &|f| (f.trace_id, f.range) = (Some("a".into()), None),
            "INDEX segment_by_trace_id",
        ),
    ] {
        let plan = plan(change);
        assert!(plan.contains(want), "{name}: {plan}");
    }
}

#[test]
fn a_trace_has_the_bytes_of_its_segments() {
    let store = store();
    let day_2 = BucketRange {
        start: DAY_2,
        end: DAY_2 + 235_959,
    };
    for (trace_id, days, offset, limit, want, total) in [
        ("t1", None, 0, 10, vec!["s1", "s3", "s4"], 3),
        ("t1", None, 0, 2, vec!["s1", "s3"], 3),
        ("t1", None, 2, 2, vec!["s4"], 3),
        ("t1", None, 3, 2, vec![], 3),
        ("t1", Some(day_2), 0, 10, vec!["s3", "s4"], 2),
        ("t1", Some(day_2), 1, 10, vec!["s4"], 2),
        ("t3", None, 0, 10, vec![], 0),
        ("t1", None, 0, 0, vec![], 3),
    ] {
        let filter = TraceFilter {
            days,
            offset,
            ..TraceFilter::first(trace_id, limit)
        };
        let found = trace(&store.pool, &filter).unwrap();
        let data: Vec<_> = found.items.iter().map(|s| s.data.as_ref()).collect();
        let want: Vec<_> = want.iter().map(|w| w.as_bytes()).collect();
        assert_eq!((data, found.total), (want, total), "{filter:?}");
    }
    let found = trace(&store.pool, &TraceFilter::first("t2", 1))
        .unwrap()
        .items;
    assert_eq!(
        (found[0].service_id.as_str(), found[0].instance_id.as_str()),
        ("a", "a2")
    );
}

#[test]
fn alarms_newest_first() {
    let store = Store::new();
    let alarm = |n: i64, day, scope, message: &str| {
        let cells = [
            ("scope", Cell::Long(scope)),
            ("id0", Cell::text(format!("id{n}"))),
            ("start_time", Cell::Long(n)),
            ("alarm_message", Cell::text(message)),
        ];
        row(&store.model(ALARM), &format!("a{n}"), day, &cells)
    };
    store.write(&[
        alarm(1, DAY_1, 1, "Response time of service a is high"),
        alarm(2, DAY_2, 1, "Response time of service b is high"),
        alarm(3, DAY_2, 2, "Success rate of instance c is low"),
    ]);
    let range = BucketRange {
        start: DAY_1,
        end: DAY_2,
    };
    let cases: [(_, _, _, _, &[&str], _); 6] = [
        (None, None, 0, 10, &["id3", "id2", "id1"], 3),
        (None, None, 1, 1, &["id2"], 3),
        (Some(1), None, 0, 10, &["id2", "id1"], 2),
        (None, Some("response time"), 0, 10, &["id2", "id1"], 2),
        (None, Some("time response"), 0, 10, &[], 0),
        (Some(2), Some("LOW"), 0, 10, &["id3"], 1),
    ];
    for (scope, keyword, offset, limit, want, total) in cases {
        let keyword = keyword.map(str::to_owned);
        let filter = AlarmFilter {
            range,
            scope,
            keyword,
            offset,
            limit,
        };
        let page = alarms(&store.pool, &filter).unwrap();
        let ids: Vec<_> = page.items.iter().map(|a| a.id0.as_str()).collect();
        assert_eq!((&ids[..], page.total), (want, total), "{filter:?}");
        assert!(page.items.iter().all(|a| a.message.contains(" of ")));
    }
}

#[test]
fn sampled_records_by_latency() {
    let store = store();
    let model = store.model("top_n_database_statement");
    let statement = |n: i64, day, service: &str, latency| {
        let cells = [
            (
                "statement",
                if n == 2 {
                    Cell::Null
                } else {
                    Cell::text(format!("q{n}"))
                },
            ),
            ("trace_id", Cell::text("t")),
            ("service_id", Cell::text(service)),
            ("latency", Cell::Long(latency)),
        ];
        row(&model, &format!("r{n}"), day, &cells)
    };
    store.write(&[
        statement(1, DAY_1, "a", 30),
        statement(2, DAY_2, "a", 50),
        statement(3, DAY_2, "b", 40),
        statement(4, DAY_2, "a", 30),
    ]);
    let ask = |model: &Model, service: Option<&str>, order, limit| {
        let range = BucketRange {
            start: DAY_1,
            end: DAY_2 + 99,
        };
        let service_id = service.map(str::to_owned);
        sampled(
            &store.pool,
            model,
            &TopNFilter {
                service_id,
                range,
                limit,
                order,
            },
        )
    };
    use Order::{Ascending, Descending};
    let cases: [(_, _, _, &[Option<&str>]); 4] = [
        (
            None,
            Descending,
            9,
            &[None, Some("q3"), Some("q1"), Some("q4")],
        ),
        (None, Ascending, 2, &[Some("q1"), Some("q4")]),
        (Some("a"), Descending, 2, &[None, Some("q1")]),
        (Some("c"), Descending, 2, &[]),
    ];
    for (service, order, limit, want) in cases {
        let got = ask(&model, service, order, limit).unwrap();
        let got: Vec<_> = got.iter().map(|r| r.statement.as_deref()).collect();
        assert_eq!(got, want, "{service:?} {order:?} {limit}");
    }
    let slowest = ask(&store.model("segment"), None, Descending, 1).unwrap();
    assert_eq!(
        (slowest[0].latency, slowest[0].trace_id.as_deref()),
        (100, Some("t1"))
    );
    for (model, limit) in [("top_n_database_statement", 0), ("service_cpm", 5)] {
        let error = ask(&store.model(model), None, Descending, limit);
        assert!(
            matches!(error, Err(StorageError::InvalidQuery(_))),
            "{model} {limit}"
        );
    }
}

#[test]
fn lists_and_traces_look_into_every_region() {
    let store = store();
    let file = store.files.days(Family::Records, None)[1];
    let conn = Connection::open(store.files.path(file)).unwrap();
    // As if many segments had arrived in between.
    let moved = conn.execute("UPDATE segment SET seq = seq + 200000 WHERE id = 's4'", []);
    assert_eq!(moved.unwrap(), 1);
    let by_trace = SegmentFilter {
        trace_id: Some("t1".to_owned()),
        range: None,
        ..filter()
    };
    assert_eq!(segments(&store.pool, &by_trace).unwrap().total, 3);
    let by_service = SegmentFilter {
        service_id: Some("a".to_owned()),
        ..filter()
    };
    assert_eq!(segments(&store.pool, &by_service).unwrap().total, 4);
    let found = trace(&store.pool, &TraceFilter::first("t1", 2)).unwrap();
    assert_eq!((found.items.len(), found.total), (2, 3));
}

#[test]
fn a_segment_written_again_replaces_the_first() {
    let store = store();
    let again = ["t9", "a", "a1", "a-users", "/api/other"];
    store.write(&[segment(&store, 4, DAY_2, again, 1, false)]);
    let page = segments(&store.pool, &filter()).unwrap();
    assert_eq!((page.total, page.items[1].trace_id.as_str()), (5, "t9"));
}
