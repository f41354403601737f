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

fn received(name: &str, data: Option<proto::RemoteData>) -> (bool, Portion) {
    let plan = plan(&["long_avg", "cpm", "percent", "percentile", "apdex"]);
    let mut portion = Portion::default();
    let message = proto::RemoteMessage {
        next_worker_name: name.to_owned(),
        remote_data: data,
    };
    let is_read = read(&plan, &mut Places::new(), message, &mut portion);
    (is_read, portion)
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
