//! Batches come back as they went, also between nodes with other scripts.

use std::collections::BTreeSet;

use super::*;
use crate::model::attr::Attr;
use crate::model::metrics::{Entrance, Input, MetricDefinition, PERCENTILE_RANKS};
use crate::model::schema::Schema;
use crate::stream::ApdexThresholds;

pub(in crate::cluster) const MINUTE: u64 = 202_009_151_059;

fn functions() -> Vec<(&'static str, Function, Vec<Input>)> {
    let longs = [5, 12, 430, -7].map(Input::Long).to_vec();
    let doubles = [0.1, 2.5].map(Input::Double).to_vec();
    let apdex = Input::Apdex {
        latency: 100,
        is_ok: true,
        threshold: 500,
    };
    let matches = [true, false].map(Input::Match).to_vec();
    let (step, max_steps, precision) = (100, 20, 10);
    vec![
        ("long_avg", Function::LongAvg, longs.clone()),
        ("double_avg", Function::DoubleAvg, doubles.clone()),
        ("sum", Function::Sum, longs.clone()),
        ("count", Function::Count, longs.clone()),
        ("max", Function::Max, longs.clone()),
        ("min", Function::Min, longs.clone()),
        ("max_double", Function::MaxDouble, doubles.clone()),
        ("min_double", Function::MinDouble, doubles),
        ("cpm", Function::Cpm, vec![Input::One; 3]),
        ("percent", Function::Percent, matches),
        ("apdex", Function::Apdex, vec![apdex]),
        (
            "histogram",
            Function::Histogram { step, max_steps },
            longs.clone(),
        ),
        (
            "percentile",
            Function::Percentile { precision },
            longs.clone(),
        ),
        (
            "p99",
            Function::Rank {
                rank: PERCENTILE_RANKS[4],
                precision,
            },
            longs,
        ),
    ]
}

/// The plan of a node that has these metrics of services.
pub(in crate::cluster) fn plan(names: &[&str]) -> Plan {
    let chosen = functions()
        .into_iter()
        .filter(|(name, ..)| names.contains(name));
    let metrics: Vec<MetricDefinition> = chosen
        .map(|(name, function, _)| MetricDefinition {
            name: name.to_owned(),
            scope: Scope::Service,
            filters: vec![],
            function,
            entrance: Entrance::Long(Attr::Latency),
        })
        .collect();
    let schema = Schema::build(&metrics, &[], &[], false);
    Plan::build(&metrics, &[], &schema, ApdexThresholds::new([]))
}

fn shop() -> Arc<Entity> {
    let fields = vec![(EntityField::Name, "shop".into())];
    Arc::new(Entity::new(
        Scope::Service,
        NodeType::Cache,
        "c2hvcA==.0",
        fields,
    ))
}

fn filled(plan: &Plan) -> Increment {
    let functions = functions();
    let value = |item: &crate::stream::plan::Item| {
        let (_, function, inputs) = functions.iter().find(|f| f.0 == item.model.name)?;
        let mut value = function.empty();
        inputs
            .iter()
            .for_each(|input| function.accept(&mut value, *input));
        Some(value)
    };
    Increment {
        entity: shop(),
        minute: MINUTE,
        values: plan.items(Scope::Service).iter().map(value).collect(),
        is_seen: true,
    }
}

#[test]
fn values_of_every_function_come_back() {
    let names: Vec<&str> = functions().iter().map(|f| f.0).collect();
    let plan = plan(&names);
    let sent = filled(&plan);
    let portion = Portion {
        increments: vec![sent.clone()],
        known: vec![],
    };
    let (got, foreign) = decode(&plan, encode(&plan, &portion));
    assert_eq!((got.increments.len(), foreign), (1, 0));
    let got = &got.increments[0];
    assert!(got.entity.is_like(&sent.entity));
    assert_eq!((got.minute, got.is_seen), (MINUTE, true));
    assert_eq!(got.values.iter().flatten().count(), names.len());
    assert_eq!(got.values, sent.values);
}

#[test]
fn a_node_with_other_metrics_takes_those_it_has() {
    let (sender, receiver) = (plan(&["sum", "max", "cpm"]), plan(&["cpm", "min", "sum"]));
    let portion = Portion {
        increments: vec![filled(&sender)],
        known: vec![],
    };
    let (got, foreign) = decode(&receiver, encode(&sender, &portion));
    assert_eq!(foreign, 1);
    let items = receiver.items(Scope::Service).iter();
    let values = items.zip(&got.increments[0].values);
    let there = values.filter(|(_, value)| value.is_some());
    let names: BTreeSet<&str> = there.map(|(item, _)| item.model.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["cpm", "sum"]));
}

#[test]
fn what_is_known_comes_back() {
    let plan = plan(&[]);
    let member = |scope| {
        let fields = vec![
            (EntityField::Name, "n".into()),
            (EntityField::ServiceId, "s".into()),
        ];
        Arc::new(Entity::new(scope, NodeType::Normal, "i", fields))
    };
    let alias = AddressAlias {
        address: "10.0.0.1:80".into(),
        service_id: "s".into(),
        instance_id: "i".into(),
        last_update: MINUTE,
    };
    let instance = |properties: Option<&str>| Fact::Instance {
        entity: member(Scope::ServiceInstance),
        minute: MINUTE,
        last_ping: 7,
        properties: properties.map(Arc::from),
    };
    let known = vec![
        Fact::Service {
            entity: shop(),
            minute: MINUTE,
        },
        Fact::Endpoint {
            entity: member(Scope::Endpoint),
            minute: MINUTE,
        },
        instance(Some("{}")),
        instance(None),
        Fact::Address {
            alias: Arc::new(alias),
            minute: MINUTE,
        },
    ];
    let portion = Portion {
        increments: vec![],
        known,
    };
    let (got, foreign) = decode(&plan, encode(&plan, &portion));
    assert_eq!(foreign, 0);
    assert_eq!(format!("{:?}", got.known), format!("{:?}", portion.known));
}

#[test]
fn nonsense_is_counted_and_does_no_harm() {
    let plan = plan(&["sum"]);
    let entity = |scope| proto::Entity {
        scope,
        ..proto::Entity::default()
    };
    let increment = |scope, minute, slots: Vec<proto::Slot>| proto::Increment {
        entity: Some(entity(scope)),
        minute,
        slots,
        is_seen: true,
    };
    let slot = |metric, longs| proto::Slot {
        metric,
        longs,
        ..proto::Slot::default()
    };
    let batch = proto::Batch {
        metrics: vec!["sum".into()],
        increments: vec![
            increment(77, MINUTE, vec![]),
            increment(1, 0, vec![]),
            increment(1, MINUTE, vec![slot(0, vec![]), slot(9, vec![1])]),
            proto::Increment::default(),
        ],
        known: vec![proto::Known::default()],
        ..proto::Batch::default()
    };
    let (got, foreign) = decode(&plan, batch);
    assert_eq!((got.len(), foreign), (1, 6));
    assert!(got.increments[0].values.iter().all(Option::is_none));
}
