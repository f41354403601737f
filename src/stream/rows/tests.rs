//! What is handed on of watched metrics, and when.

use std::collections::HashSet;

use super::*;
use crate::model::metrics::{Entrance, Function, MetricDefinition};
use crate::model::row::Cell;
use crate::model::schema::Schema;
use crate::model::scope::{NodeType, Scope};
use crate::storage::Reach;
use crate::stream::ApdexThresholds;
use crate::stream::read_back::Found;

const MINUTE: u64 = 202_009_151_059;

fn horizon(minute: u64) -> Horizon {
    Horizon {
        minute,
        hour: minute / 100,
        day: minute / 10_000,
    }
}

fn now(ms: i64) -> Now {
    Now { ms, uptime_ms: ms }
}

/// `sum` is watched, `cpm` is not.
fn plan() -> Plan {
    let metric = |name: &str, function| MetricDefinition {
        name: name.to_owned(),
        scope: Scope::Service,
        filters: vec![],
        function,
        entrance: Entrance::One,
    };
    let metrics = [metric("sum", Function::Sum), metric("cpm", Function::Cpm)];
    let schema = Schema::build(&metrics, &[], &[], false);
    let thresholds = ApdexThresholds::new([]);
    let watched = HashSet::from(["sum".to_owned()]);
    let plan = Plan::build(&metrics, &[], &schema, thresholds);
    plan.watch(&watched);
    plan
}

/// Nothing is stored.
fn fresh() -> Rows {
    let mut rows = Rows::new(100);
    rows.learn_earlier(&plan(), Arc::default());
    rows
}

/// The minute is stored already.
fn after_restart() -> Rows {
    let mut rows = Rows::new(100);
    let mut reach = Reach::since(MINUTE);
    reach.add_days("sum", 20_200_915, 20_200_915);
    reach.add_bucket("sum", MINUTE);
    rows.learn_earlier(&plan(), Arc::new(reach));
    rows
}

fn entity(id: &str) -> Arc<Entity> {
    Arc::new(Entity::new(Scope::Service, NodeType::Normal, id, []))
}

fn increments(sum: Option<i64>) -> [Option<Value>; 2] {
    [sum.map(Value::Long), Some(Value::Cpm { total: 1 })]
}

fn news(rows: &mut Rows, plan: &Plan, limit: usize) -> Vec<(String, u64, Calculated)> {
    let values = rows.take_news(plan, limit).into_iter();
    let values = values.map(|v| {
        assert_eq!(v.metric.name, "sum");
        (v.entity.id.to_string(), v.minute, v.value)
    });
    values.collect()
}

fn number(id: &str, minute: u64, value: f64) -> (String, u64, Calculated) {
    (id.to_owned(), minute, Calculated::Number(value))
}

#[test]
fn a_changed_minute_is_handed_on_once_as_it_is_by_then() {
    let plan = plan();
    let mut rows = fresh();
    for sum in [Some(2), Some(3), None] {
        for bucket in [MINUTE, MINUTE / 100, MINUTE / 10_000] {
            assert!(
                rows.merge(&plan, &entity("a"), bucket, &increments(sum), now(0))
                    .is_ok()
            );
        }
    }
    assert_eq!(news(&mut rows, &plan, 9), [number("a", MINUTE, 5.0)]);
    assert_eq!(news(&mut rows, &plan, 9), []);
    // A change of another metric of the row is no news.
    assert!(
        rows.merge(&plan, &entity("a"), MINUTE, &increments(None), now(0))
            .is_ok()
    );
    assert_eq!(news(&mut rows, &plan, 9), []);
    assert!(
        rows.merge(&plan, &entity("a"), MINUTE, &increments(Some(1)), now(0))
            .is_ok()
    );
    for id in ["b", "c"] {
        assert!(
            rows.merge(&plan, &entity(id), MINUTE, &increments(Some(1)), now(0))
                .is_ok()
        );
    }
    let first = news(&mut rows, &plan, 2);
    assert_eq!(first, [number("a", MINUTE, 6.0), number("b", MINUTE, 1.0)]);
    assert_eq!(news(&mut rows, &plan, 2), [number("c", MINUTE, 1.0)]);
}

#[test]
fn what_has_a_stored_part_waits_for_it() {
    let plan = plan();
    let mut rows = after_restart();
    assert!(
        rows.merge(&plan, &entity("a"), MINUTE, &increments(Some(2)), now(0))
            .is_ok()
    );
    assert!(
        rows.merge(
            &plan,
            &entity("a"),
            MINUTE + 1,
            &increments(Some(9)),
            now(0)
        )
        .is_ok()
    );
    assert_eq!(news(&mut rows, &plan, 9), [number("a", MINUTE + 1, 9.0)]);
    let (missing, keys) = rows.missing(&plan, 100);
    let stored = keys.iter().map(|key| {
        (key.model.name == "sum").then(|| Row {
            model: Arc::clone(&key.model),
            id: key.id.clone(),
            time_bucket: MINUTE,
            cells: vec![Cell::text("a"), Cell::Long(40)],
        })
    });
    let stored = stored.map(Found::from).collect();
    rows.complete(&plan, missing, stored);
    assert_eq!(news(&mut rows, &plan, 9), [number("a", MINUTE, 42.0)]);
}

#[test]
fn a_row_stays_until_its_news_is_taken() {
    let plan = plan();
    let mut rows = fresh();
    assert!(
        rows.merge(&plan, &entity("a"), MINUTE, &increments(Some(2)), now(0))
            .is_ok()
    );
    let mut keys = rows.changed(Due::ALL).into_iter();
    assert_eq!(rows.take_changed(&plan, &mut keys, 9, 1).len(), 2);
    let later = 60_000;
    rows.evict(horizon(MINUTE + 1), later, 1);
    assert_eq!(rows.len(), 1);
    assert_eq!(news(&mut rows, &plan, 9), [number("a", MINUTE, 2.0)]);
    rows.evict(horizon(MINUTE + 1), later, 1);
    assert_eq!(rows.len(), 0);
}
