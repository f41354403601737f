//! How rows become requests, without a server.

use std::sync::Arc;

use super::*;
use crate::model::row::Cell;
use crate::model::schema::Schema;
use crate::model::time_bucket::Zone;
use crate::storage::elasticsearch::ElasticsearchOptions;
use crate::util::clock::Clock;

fn store(options: ElasticsearchOptions) -> Elasticsearch {
    Elasticsearch::new(options, Zone::utc(), Clock::System).unwrap()
}

fn endpoint(id: &str, time_bucket: u64) -> Row {
    let schema = Schema::build(&[], &[], &[], false);
    Row {
        model: Arc::clone(schema.model("endpoint_traffic").unwrap()),
        id: id.to_owned(),
        time_bucket,
        cells: vec![Cell::text("b3JkZXI=.1"), Cell::text("/a")],
    }
}

fn batches(options: ElasticsearchOptions, rows: &[Row]) -> Vec<(Vec<usize>, String)> {
    let store = store(options);
    store
        .batches(rows, (0..rows.len()).collect(), false)
        .map(|b| (b.positions, String::from_utf8(b.lines).unwrap()))
        .collect()
}

#[test]
fn a_row_is_an_action_and_a_document_in_the_index_of_its_day() {
    let options = ElasticsearchOptions {
        name_space: "SW".to_owned(),
        ..ElasticsearchOptions::default()
    };
    let rows = [
        endpoint("a\"b", 202_009_151_059),
        endpoint("c", 2_020_091_610),
    ];
    assert_eq!(
        batches(options, &rows),
        [(
            vec![0, 1],
            concat!(
                r#"{"index":{"_index":"sw_endpoint_traffic-20200915","_id":"a\"b"}}"#,
                "\n",
                r#"{"service_id":"b3JkZXI=.1","name":"/a","time_bucket":202009151059}"#,
                "\n",
                r#"{"index":{"_index":"sw_endpoint_traffic-20200916","_id":"c"}}"#,
                "\n",
                r#"{"service_id":"b3JkZXI=.1","name":"/a","time_bucket":2020091610}"#,
                "\n",
            )
            .to_owned()
        )]
    );
}

#[test]
fn requests_are_bounded_by_count_and_by_bytes() {
    let rows: Vec<Row> = (0..5)
        .map(|i| endpoint(&format!("id{i}"), 202_009_151_059))
        .collect();
    let by_count = ElasticsearchOptions {
        bulk_actions: 2,
        ..ElasticsearchOptions::default()
    };
    let positions = |batches: Vec<(Vec<usize>, String)>| -> Vec<Vec<usize>> {
        batches.into_iter().map(|(p, _)| p).collect()
    };
    assert_eq!(
        positions(batches(by_count, &rows)),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
    let by_bytes = ElasticsearchOptions {
        bulk_bytes: 300,
        ..ElasticsearchOptions::default()
    };
    let made = batches(by_bytes, &rows);
    assert!(made.iter().all(|(_, lines)| lines.len() <= 300), "{made:?}");
    assert_eq!(positions(made), [vec![0, 1], vec![2, 3], vec![4]]);
    let too_small_for_one = ElasticsearchOptions {
        bulk_bytes: 1,
        ..ElasticsearchOptions::default()
    };
    assert_eq!(batches(too_small_for_one, &rows).len(), 5);
}

#[test]
fn more_requests_go_at_a_time_when_little_time_is_left() {
    let store = store(ElasticsearchOptions::default());
    assert_eq!(store.slots(), 2);
    store.hasten();
    assert_eq!(store.slots(), 8);
}

#[test]
fn rows_that_would_spoil_a_request_are_kept_out() {
    assert_eq!(unfit(&endpoint(&"x".repeat(512), 202_009_151_059)), None);
    assert_eq!(unfit(&endpoint(&"x".repeat(513), 202_009_151_059)), None);
    for row in [endpoint("", 202_009_151_059), endpoint("x", 0)] {
        assert!(unfit(&row).is_some(), "{row:?}");
    }
}

#[test]
fn of_several_versions_of_a_document_the_last_is_sent() {
    let rows = [
        endpoint("a", 202_009_151_059),
        endpoint("b", 202_009_151_059),
        endpoint("a", 202_009_151_101),
        endpoint("a", 202_009_161_101),
    ];
    let newest = newest_versions(&rows);
    let mut positions: Vec<usize> = newest.into_values().collect();
    positions.sort_unstable();
    assert_eq!(positions, [1, 2, 3]);
}
