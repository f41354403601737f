//! The rows of segments and slow statements (8.1.0 spec, B.5, B.9, E; traps 4, 6, 7, 26).

use super::*;
use crate::model::id::java_hash;
use crate::model::row::Cell;

fn text(row: &Row, column: &str) -> Option<String> {
    row.cell(column).as_text().map(str::to_owned)
}

/// A span with a number and a name.
fn numbered(number: i32, ty: SpanType, name: &str) -> SpanObject {
    SpanObject {
        span_id: number,
        ..span(ty, name)
    }
}

#[test]
fn a_segment_is_stored_with_what_the_trace_list_filters_by() {
    let mut failed = numbered(1, SpanType::Local, "job");
    (failed.start_time, failed.end_time) = (AT - 1_500, AT + 700);
    failed.is_error = true;
    let segment = segment(vec![failed, numbered(0, SpanType::Entry, "/7")]);
    let mut analyzer = analyzer(settings(), AddressBook::new(10));
    let (_, rows) = analyze(&mut analyzer, &segment);
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (row.id.as_str(), row.time_bucket),
        ("segment", 20_200_915_105_928)
    );
    for (column, want) in [
        ("segment_id", Cell::text("segment")),
        ("trace_id", Cell::text("trace")),
        ("statement", Cell::text("/{id} - trace")),
        ("service_id", Cell::text("c2hvcA==.1")),
        ("service_instance_id", Cell::text("c2hvcA==.1_c2hvcC0x")),
        ("endpoint_name", Cell::text("/{id}")),
        ("endpoint_id", Cell::text("c2hvcA==.1_L3tpZH0=")),
        ("start_time", Cell::Long(AT - 1_500)),
        ("end_time", Cell::Long(AT + 700)),
        ("latency", Cell::Long(2_200)),
        ("is_error", Cell::Long(1)),
        ("data_binary", Cell::Bytes(segment.encode_to_vec().into())),
        ("version", Cell::Long(3)),
    ] {
        assert_eq!(row.cell(column), &want, "{column}");
    }
}

#[test]
fn the_last_span_that_names_an_endpoint_wins() {
    use SpanType::{Entry, Exit, Local};
    for (spans, want) in [
        (vec![(0, Entry, "/a")], Some("/a")),
        (vec![(1, Entry, "/b"), (0, Local, "root")], Some("root")),
        (vec![(0, Local, "root"), (1, Entry, "/b")], Some("/b")),
        (vec![(0, Exit, "root"), (1, Local, "c")], Some("root")),
        (vec![(2, Entry, "/c"), (1, Entry, "/b")], Some("/b")),
        // Without a root or an entry there is no endpoint, but there is a row.
        (vec![(1, Local, "c"), (2, Exit, "d")], None),
        // Grouped also where the endpoint itself is not.
        (vec![(0, Entry, "/12")], Some("/{id}")),
    ] {
        let spans = spans.iter().map(|(n, ty, name)| SpanObject {
            refs: vec![reference(RefType::CrossProcess)],
            skip_analysis: true,
            ..numbered(*n, *ty, name)
        });
        let rows = records(spans.collect());
        assert_eq!(rows.len(), 1);
        assert_eq!(text(&rows[0], "endpoint_name").as_deref(), want);
        assert_eq!(text(&rows[0], "segment_id").as_deref(), Some("segment"));
    }
}

#[test]
fn a_segment_without_spans_is_ignored() {
    assert!(of(vec![]).is_empty() && records(vec![]).is_empty());
}

#[test]
fn half_of_all_segments_pass_every_sampling_rate() {
    let negative = "3f2a1c5b6d7e4f80a9b0c1d2e3f40516.40.15979245600010001";
    assert_eq!(java_hash("abc") % 10_000, 6354);
    for (id, rate, is_kept) in [
        ("abc", 10_000, true),
        ("abc", 6355, true),
        ("abc", 6354, false),
        ("abc", 0, false),
        (negative, 0, true),
    ] {
        let settings = AnalyzerSettings {
            sample_rate: rate,
            ..settings()
        };
        let mut analyzer = analyzer(settings, AddressBook::new(10));
        let mut segment = segment(vec![span(SpanType::Entry, "/a")]);
        segment.trace_segment_id = id.to_owned();
        let (facts, rows) = analyze(&mut analyzer, &segment);
        assert_eq!(rows.len(), usize::from(is_kept), "{id} {rate}");
        assert_eq!(facts.len(), 7, "metrics are never sampled");
    }
}

#[test]
fn without_trace_analysis_only_the_row_is_left() {
    let settings = AnalyzerSettings {
        is_trace_analysis_on: false,
        ..settings()
    };
    let mut analyzer = analyzer(settings, AddressBook::new(10));
    let (facts, rows) = analyze(&mut analyzer, &segment(vec![span(SpanType::Entry, "/a")]));
    assert_eq!((facts.len(), rows.len()), (0, 1));
}

#[test]
fn a_statement_is_slow_above_the_threshold_of_its_type() {
    type Tags = &'static [(&'static str, &'static str)];
    let long = "s".repeat(2001);
    for (latency, tags, want) in [
        (
            201,
            &[("db.type", "sql"), ("db.statement", "a")] as Tags,
            Some(Some("a")),
        ),
        (200, &[("db.type", "sql"), ("db.statement", "a")], None),
        (
            101,
            &[("db.type", "MongoDB"), ("db.statement", "a")],
            Some(Some("a")),
        ),
        (100, &[("db.type", "mongodb")], None),
        (201, &[("db.type", "sql")], Some(None)),
        (201, &[("db.type", "")], Some(None)),
        (
            201,
            &[("db.type", "sql"), ("db.statement", "")],
            Some(Some("[No statement]/null")),
        ),
        (201, &[("db.statement", "a")], None),
        // Each type is looked at, the last statement counts.
        (
            150,
            &[("db.type", "mongodb"), ("db.type", "sql")],
            Some(None),
        ),
        (
            201,
            &[
                ("db.statement", "a"),
                ("db.type", "sql"),
                ("db.statement", "b"),
            ],
            Some(Some("b")),
        ),
        (-5, &[("db.type", "sql")], None),
    ] {
        let rows = slow(latency, tags.iter().map(|(k, v)| tag(k, v)).collect());
        let got = rows.first().map(|row| text(row, "statement"));
        let want = want.map(|statement| statement.map(str::to_owned));
        assert_eq!(got, want, "{latency} {tags:?}");
    }
    let rows = slow(300, vec![tag("db.statement", &long), tag("db.type", "sql")]);
    let row = &rows[0];
    assert_eq!(text(row, "statement"), Some("s".repeat(2000)));
    assert_eq!(
        (row.id.as_str(), row.time_bucket),
        ("segment-4", 20_200_915_105_930)
    );
    assert_eq!(row.cell("latency"), &Cell::Long(300));
    assert_eq!(text(row, "trace_id").as_deref(), Some("trace"));
    // The peer is not cut here.
    let service = text(row, "service_id").unwrap();
    assert_eq!(decoded(&service), format!("{}.0", "d".repeat(80)));
}

/// Slow statements of a call to a database with a long name.
fn slow(latency: i64, tags: Vec<KeyStringValuePair>) -> Vec<Row> {
    let mut call = exit(&"d".repeat(80), SpanLayer::Database);
    (call.span_id, call.end_time, call.tags) = (4, AT + latency, tags);
    let mut rows = records(vec![call]);
    rows.retain(|row| row.model.name == "top_n_database_statement");
    rows
}
