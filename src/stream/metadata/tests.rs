//! The life of services, endpoints, instances and addresses (8.1.0 spec, E; traps 13, 23; corrections 1, 2).

use super::*;
use crate::model::scope::NodeType;

const TODAY: u64 = 20_200_915;
const MINUTE: u64 = 202_009_151_059;
/// The same time on the day before and the day after.
const YESTERDAY: u64 = 202_009_141_059;
const TOMORROW: u64 = 202_009_161_059;

fn metadata() -> Metadata {
    Metadata::new(&Schema::build(&[], &[], &[], false), 1000)
}

fn entity(scope: Scope) -> Arc<Entity> {
    let fields = vec![
        (EntityField::ServiceId, "shop.1".into()),
        (EntityField::Name, "name".into()),
    ];
    Arc::new(Entity::new(scope, NodeType::Normal, "id", fields))
}

fn text(row: &Row) -> String {
    let cells = row.cells.iter().map(|cell| match cell {
        Cell::Long(n) => n.to_string(),
        cell => cell.as_text().unwrap().to_owned(),
    });
    let cells = cells.collect::<Vec<_>>().join(" ");
    format!("{} {} {cells}", row.model.name, row.time_bucket)
}

/// Reads what is missing from `stored`, and writes what changed there; returns that.
fn write(metadata: &mut Metadata, stored: &mut Vec<Row>) -> Vec<String> {
    let keys = metadata.missing(100);
    let find = |key: &RowKey| {
        let is_it = |row: &&Row| row.id == key.id && row.model.name == key.model.name;
        Found::from(stored.iter().find(is_it).cloned())
    };
    let found = keys.iter().map(find).collect();
    metadata.complete(keys, found);
    let rows = metadata.take_changed(100);
    for row in &rows {
        stored.retain(|old| old.id != row.id || old.model.name != row.model.name);
        stored.push(row.clone());
    }
    rows.iter().map(text).collect()
}

#[test]
fn services_and_endpoints_are_inserted_once_and_again_when_the_store_forgot_them() {
    for (scope, model, cells) in [
        (Scope::Service, SERVICE, "name 0"),
        (Scope::Endpoint, ENDPOINT, "shop.1 name"),
    ] {
        let (mut metadata, mut stored) = (metadata(), vec![]);
        let mut report = |minute, today, stored: &mut Vec<Row>| {
            assert!(metadata.touch(&entity(scope), minute, today));
            write(&mut metadata, stored)
        };
        let inserted = |bucket: u64| [format!("{model} {bucket} {cells}")];
        assert_eq!(report(MINUTE, TODAY, &mut stored), inserted(MINUTE));
        // Earlier and later ones say nothing new, nor do those of the next day.
        for (minute, today) in [
            (MINUTE - 5, TODAY),
            (MINUTE + 1, TODAY),
            (TOMORROW, TODAY + 1),
        ] {
            assert!(report(minute, today, &mut stored).is_empty(), "{minute}");
        }
        stored.clear();
        assert!(report(TOMORROW + 1, TODAY + 1, &mut stored).is_empty());
        let later = TOMORROW + 10_000;
        assert_eq!(report(later, TODAY + 2, &mut stored), inserted(later));
        // Another process finds it there.
        let mut other = self::metadata();
        assert!(other.touch(&entity(scope), MINUTE, TODAY));
        assert!(write(&mut other, &mut stored).is_empty());
    }
}

/// When it was seen, when it was alive, what it said.
type Report = (u64, u64, Option<&'static str>);

#[test]
fn an_instance_is_kept_up_to_date_where_it_lives() {
    let report: fn(&mut Metadata, Report) = |metadata, (minute, ping, properties)| {
        let entity = entity(Scope::ServiceInstance);
        let properties = properties.map(Arc::from);
        assert!(metadata.instance(&entity, minute, ping, properties, TODAY));
    };
    let row = |bucket: u64, ping: u64, properties: &str| {
        format!("instance_traffic {bucket} shop.1 name {ping} {properties}")
    };
    for (what, before, reports, want) in [
        (
            "new",
            None,
            vec![(MINUTE, MINUTE, None)],
            row(MINUTE, MINUTE, ""),
        ),
        (
            "alive again",
            None,
            vec![
                (MINUTE, MINUTE, Some("{a}")),
                (MINUTE + 1, MINUTE + 1, None),
            ],
            row(MINUTE, MINUTE + 1, "{a}"),
        ),
        (
            "late news count as the newest",
            None,
            vec![(MINUTE, MINUTE, None), (MINUTE - 5, MINUTE - 5, None)],
            row(MINUTE - 5, MINUTE - 5, ""),
        ),
        (
            "says something else",
            Some((MINUTE - 1, MINUTE - 1, Some("{a}"))),
            vec![(MINUTE, MINUTE, Some("{b}"))],
            row(MINUTE - 1, MINUTE, "{b}"),
        ),
        (
            "says nothing",
            Some((MINUTE - 1, MINUTE - 1, Some("{a}"))),
            vec![(MINUTE, MINUTE, None)],
            row(MINUTE - 1, MINUTE, "{a}"),
        ),
        (
            "an earlier bucket of the day",
            Some((MINUTE, MINUTE, None)),
            vec![(MINUTE - 9, MINUTE - 9, None)],
            row(MINUTE - 9, MINUTE - 9, ""),
        ),
        (
            "lives in an earlier day",
            Some((YESTERDAY, YESTERDAY, Some("{a}"))),
            vec![(MINUTE, MINUTE, None)],
            row(YESTERDAY, MINUTE, "{a}"),
        ),
        (
            "an earlier day does not move it",
            Some((MINUTE, MINUTE, None)),
            vec![(YESTERDAY, YESTERDAY, None)],
            row(MINUTE, YESTERDAY, ""),
        ),
        (
            "an earlier day is where a new one lives",
            None,
            vec![(MINUTE, MINUTE, None), (YESTERDAY, YESTERDAY, None)],
            row(YESTERDAY, YESTERDAY, ""),
        ),
    ] {
        // By one process from the beginning, and by one that finds what another stored.
        for is_new_process in [false, true] {
            let (mut metadata, mut stored) = (metadata(), vec![]);
            if let Some(before) = before {
                report(&mut metadata, before);
                write(&mut metadata, &mut stored);
            }
            if is_new_process {
                metadata = self::metadata();
            }
            for one in &reports {
                report(&mut metadata, *one);
            }
            let written = write(&mut metadata, &mut stored);
            assert_eq!(written, [want.as_str()], "{what} {is_new_process}");
            assert!(write(&mut metadata, &mut stored).is_empty(), "{what}");
        }
    }
}

#[test]
fn an_instance_that_the_store_forgot_comes_back_on_the_next_day() {
    let (mut metadata, mut stored) = (metadata(), vec![]);
    let mut report = |minute, today, stored: &mut Vec<Row>| {
        let entity = entity(Scope::ServiceInstance);
        assert!(metadata.instance(&entity, minute, minute, None, today));
        write(&mut metadata, stored)
    };
    let row = |bucket: u64, ping: u64| format!("instance_traffic {bucket} shop.1 name {ping} ");
    assert_eq!(report(MINUTE, TODAY, &mut stored), [row(MINUTE, MINUTE)]);
    let known = report(TOMORROW, TODAY + 1, &mut stored);
    assert_eq!(known, [row(MINUTE, TOMORROW)]);
    stored.clear();
    let later = TOMORROW + 10_000;
    assert_eq!(report(later, TODAY + 2, &mut stored), [row(later, later)]);
}

#[test]
fn an_address_belongs_to_whoever_answered_there_last() {
    let (mut metadata, mut stored) = (metadata(), vec![]);
    let mut report = |minute: u64, instance: &str, stored: &mut Vec<Row>| {
        let alias = AddressAlias {
            address: "shop:80".to_owned(),
            service_id: "shop.1".to_owned(),
            instance_id: instance.to_owned(),
            last_update: minute,
        };
        assert!(metadata.address(Arc::new(alias), minute, TODAY));
        write(&mut metadata, stored)
    };
    let row = |bucket: u64, instance: &str, update: u64| {
        [format!(
            "network_address_alias {bucket} shop:80 shop.1 {instance} {update}"
        )]
    };
    assert_eq!(report(MINUTE, "i", &mut stored), row(MINUTE, "i", MINUTE));
    assert!(report(MINUTE, "i", &mut stored).is_empty());
    let next = MINUTE + 1;
    assert_eq!(report(next, "j", &mut stored), row(MINUTE, "j", next));
    let early = MINUTE - 1;
    assert_eq!(report(early, "i", &mut stored), row(early, "i", early));
    assert_eq!(stored[0].id, id::encode("shop:80"));
}

#[test]
fn properties_have_a_bound_of_bytes() {
    let schema = Schema::build(&[], &[], &[], false);
    let mut metadata = Metadata::new(&schema, (64 << 20) / BYTES_PER_METADATA);
    let text: Arc<str> = "x".repeat(1 << 20).into();
    let mut report = |id: usize| {
        let id = id.to_string();
        let entity = Entity::new(Scope::ServiceInstance, NodeType::Normal, id, vec![]);
        let text = Some(Arc::clone(&text));
        metadata.instance(&Arc::new(entity), MINUTE, MINUTE, text, TODAY)
    };
    assert!((0..32).all(&mut report) && !report(32));
    assert_eq!(metadata.property_bytes, 32 << 20);
    let keys = metadata.missing(1000);
    let found = keys.iter().map(|_| Found::Nothing).collect();
    metadata.complete(keys, found);
    assert_eq!(metadata.take_changed(1000).len(), 32);
    // What is stored can be forgotten.
    let entity = Entity::new(Scope::ServiceInstance, NodeType::Normal, "new", vec![]);
    assert!(metadata.instance(&Arc::new(entity), MINUTE, MINUTE, Some(text), TODAY));
    assert_eq!((metadata.len(), metadata.property_bytes), (1, 1 << 20));
}
