//! Messages as nodes of 8.1.0 send them (8.1.0 spec, G.1).

use super::super::codec::tests::{MINUTE, plan};
use super::*;
use crate::model::metrics::Function;

const TB: i64 = MINUTE as i64;

fn data(
    strings: &[&str],
    longs: &[i64],
    ints: &[i32],
    objects: &[&str],
) -> Option<proto::RemoteData> {
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    Some(proto::RemoteData {
        data_strings: texts(strings),
        data_longs: longs.to_vec(),
        data_doubles: vec![],
        data_integers: ints.to_vec(),
        data_object_strings: texts(objects),
    })
}

fn message(name: &str, data: Option<proto::RemoteData>) -> proto::RemoteMessage {
    proto::RemoteMessage {
        next_worker_name: name.to_owned(),
        remote_data: data,
    }
}

fn read(name: &str, data: Option<proto::RemoteData>) -> (Outcome, Portion) {
    let plan = plan(&["long_avg", "cpm", "percent", "percentile", "apdex"]);
    let mut lot = Lot::default();
    let outcome = lot.read(&plan, &mut Places::default(), message(name, data));
    (outcome, lot.portion)
}

fn received(name: &str, data: Option<proto::RemoteData>) -> (bool, Portion) {
    let (outcome, portion) = read(name, data);
    (outcome == Outcome::Read, portion)
}

#[test]
fn metrics_are_read_in_the_order_of_their_fields() {
    let shop = "c2hvcA==.1";
    for (name, data, function, columns) in [
        (
            "long_avg_rec",
            data(&[shop], &[30, 3, 10, TB], &[], &[]),
            Function::LongAvg,
            vec![30, 3, 10],
        ),
        (
            "cpm_rec",
            data(&[shop], &[4, 4, TB], &[], &[]),
            Function::Cpm,
            vec![4, 4],
        ),
        (
            "percent_rec",
            data(&[shop], &[4, 3, TB], &[7500], &[]),
            Function::Percent,
            vec![4, 7500, 3],
        ),
        (
            "apdex_rec",
            data(&[shop], &[4, 1, 2, TB], &[5000], &[]),
            Function::Apdex,
            vec![4, 1, 2, 5000],
        ),
    ] {
        let (is_read, portion) = received(name, data);
        assert!(is_read, "{name}");
        let increment = &portion.increments[0];
        assert_eq!(
            (&*increment.entity.id, increment.minute),
            (shop, MINUTE),
            "{name}"
        );
        assert!(!increment.is_seen);
        let value = increment.values.iter().flatten().next().unwrap();
        let cells: Vec<Cell> = columns.into_iter().map(Cell::Long).collect();
        assert_eq!(Some(value), function.from_cells(&cells).as_ref(), "{name}");
    }
    let objects = ["0,10|1,90|2,430|3,430|4,430", "0,1|1,2|9,1|43,1"];
    let (is_read, portion) = received("percentile_rec", data(&[shop], &[TB], &[10], &objects));
    assert!(is_read);
    let value = portion.increments[0]
        .values
        .iter()
        .flatten()
        .next()
        .unwrap();
    let Value::Table(table) = value else {
        panic!("{value:?}")
    };
    assert_eq!(table.to_text(), objects[1]);
}

#[test]
fn relations_and_what_is_known_are_read() {
    let (is_read, portion) = received(
        "service_relation_server_side_rec",
        data(&["a.1-b.1", "a.1", "b.1"], &[TB], &[5], &[]),
    );
    assert!(is_read);
    let relation = &portion.increments[0];
    assert_eq!(relation.entity.field(EntityField::DestServiceId), "b.1");
    let value = relation.values.iter().flatten().next();
    assert_eq!(value, Some(&Value::Component(Some(5))));

    for (name, data, want) in [
        (
            "service_traffic_rec",
            data(&["shop"], &[TB], &[0], &[]),
            "c2hvcA==.1",
        ),
        (
            "service_traffic_rec",
            data(&["shop"], &[TB], &[1], &[]),
            "c2hvcA==.0",
        ),
        (
            "endpoint_traffic_rec",
            data(&["s.1", "/a"], &[TB], &[], &[]),
            "s.1_L2E=",
        ),
        (
            "instance_traffic_rec",
            data(&["s.1", "i", "{\"a\":\"b\"}"], &[7, TB], &[], &[]),
            "s.1_aQ==",
        ),
    ] {
        let (is_read, portion) = received(name, data);
        assert!(is_read, "{name}");
        let entity = match &portion.known[0] {
            Fact::Service { entity, minute }
            | Fact::Endpoint { entity, minute }
            | Fact::Instance { entity, minute, .. } => (&*entity.id, *minute),
            other => panic!("{other:?}"),
        };
        assert_eq!(entity, (want, MINUTE), "{name}");
    }
    let strings = ["10.0.0.1:80", "s.1", "s.1_aQ=="];
    let (is_read, portion) = received(
        "network_address_alias_rec",
        data(&strings, &[TB, TB], &[], &[]),
    );
    assert!(is_read && matches!(&portion.known[0], Fact::Address { .. }));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (name, data) in [
        ("cpm", data(&["s.1"], &[4, 4, TB], &[], &[])),
        ("unknown_rec", data(&["s.1"], &[4, 4, TB], &[], &[])),
        ("cpm_rec", None),
        ("cpm_rec", data(&[], &[4, 4, TB], &[], &[])),
        ("cpm_rec", data(&["s.1"], &[4, 4], &[], &[])),
        ("cpm_rec", data(&["s.1"], &[4, 4, 2_020_091_510], &[], &[])),
        ("cpm_rec", data(&["s.1"], &[], &[], &[])),
    ] {
        let (is_read, portion) = received(name, data.clone());
        assert!(!is_read && portion.is_empty(), "{name} {data:?}");
    }
    let (is_read, portion) = received("service_traffic_rec", data(&["shop"], &[], &[0], &[]));
    assert!(is_read && portion.is_empty());
}

#[test]
fn names_that_are_no_names_are_refused() {
    let long = |bytes: usize| "n".repeat(bytes);
    for (name, strings, longs, want) in [
        (
            "cpm_rec",
            vec![long(8 << 10)],
            vec![4, 4, TB],
            Outcome::Read,
        ),
        (
            "cpm_rec",
            vec![long((8 << 10) + 1)],
            vec![4, 4, TB],
            Outcome::TooLong,
        ),
        (
            "endpoint_traffic_rec",
            vec![long(8 << 10), long(1)],
            vec![TB],
            Outcome::TooLong,
        ),
        (
            "network_address_alias_rec",
            vec![long(900_000), long(1), long(1)],
            vec![TB, TB],
            Outcome::TooLong,
        ),
        (
            "instance_traffic_rec",
            vec![long(4000), long(4000), long(64 << 10)],
            vec![7, TB],
            Outcome::Read,
        ),
        (
            "instance_traffic_rec",
            vec![long(1), long(1), long((64 << 10) + 1)],
            vec![7, TB],
            Outcome::TooLong,
        ),
        ("unknown_rec", vec![long(1)], vec![TB], Outcome::Unknown),
    ] {
        let texts: Vec<&str> = strings.iter().map(String::as_str).collect();
        let (outcome, portion) = read(name, data(&texts, &longs, &[], &[]));
        let lengths: Vec<usize> = strings.iter().map(String::len).collect();
        assert_eq!(outcome, want, "{name} {lengths:?}");
        assert_eq!(portion.len(), usize::from(want == Outcome::Read), "{name}");
    }
}

#[test]
fn what_waits_to_be_handed_on_is_bounded_in_rows_and_bytes() {
    let plan = plan(&["cpm", "percentile"]);
    let table = "1,1|".repeat(250_000);
    for (name, data, want) in [
        ("cpm_rec", data(&["s.1"], &[4, 4, TB], &[], &[]), LOT),
        (
            "service_traffic_rec",
            data(&["s".repeat(8000).as_str()], &[TB], &[0], &[]),
            261,
        ),
        (
            "percentile_rec",
            data(&["s.1"], &[TB], &[10], &[&table, &table]),
            2,
        ),
    ] {
        let mut lot = Lot::default();
        let mut places = Places::default();
        let mut rows = 0;
        while !lot.is_full() {
            let outcome = lot.read(&plan, &mut places, message(name, data.clone()));
            assert_eq!(outcome, Outcome::Read, "{name}");
            rows += 1;
        }
        assert_eq!(rows, want, "{name}");
        assert!(lot.bytes < LOT_BYTES + MAX_MESSAGE_BYTES, "{name}");
    }
}

#[test]
fn streams_without_a_place_take_no_more_room_than_a_thousand() {
    let plan = plan(&["cpm"]);
    let mut lot = Lot::default();
    let mut places = Places::default();
    for n in 0..2 * MAX_PLACES {
        for pad in [0, 60_000] {
            let name = format!("{n}{}_rec", "x".repeat(pad));
            let row = message(&name, data(&["s.1"], &[4, 4, TB], &[], &[]));
            assert_eq!(lot.read(&plan, &mut places, row), Outcome::Unknown);
        }
    }
    assert_eq!(places.0.len(), MAX_PLACES);
    assert!(places.0.keys().all(|name| name.len() <= MAX_STREAM_BYTES));
    assert!(lot.portion.is_empty());
    let row = message("cpm_rec", data(&["s.1"], &[4, 4, TB], &[], &[]));
    assert_eq!(lot.read(&plan, &mut places, row), Outcome::Read);
}
