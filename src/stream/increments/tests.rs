//! What waits is bounded by bytes, which are right whatever comes and goes.

use super::*;
use crate::model::attr::Attr;
use crate::model::metrics::{Entrance, Function, Input, MetricDefinition};
use crate::model::schema::Schema;
use crate::model::scope::{NodeType, Scope};
use crate::stream::ApdexThresholds;

const MINUTE: u64 = 202_009_151_059;
const HISTOGRAM: Function = Function::Histogram {
    step: 100,
    max_steps: 50,
};

fn plan() -> Plan {
    let metrics = [MetricDefinition {
        name: "heatmap".to_owned(),
        scope: Scope::Service,
        filters: vec![],
        function: HISTOGRAM,
        entrance: Entrance::Long(Attr::Latency),
    }];
    let schema = Schema::build(&metrics, &[], &[], false);
    Plan::build(&metrics, &[], &schema, ApdexThresholds::new([]))
}

fn entity(scope: Scope, n: usize) -> Arc<Entity> {
    Arc::new(Entity::new(scope, NodeType::Normal, n.to_string(), []))
}

/// A service whose requests took from 0 to so many steps.
fn increment(n: usize, steps: i64) -> Increment {
    let mut value = HISTOGRAM.empty();
    for step in 0..steps {
        HISTOGRAM.accept(&mut value, Input::Long(step * 100));
    }
    Increment {
        entity: entity(Scope::Service, n),
        minute: MINUTE,
        values: [Some(value)].into(),
        is_seen: true,
    }
}

/// An instance that says so many bytes about itself, or nothing.
fn instance(n: usize, bytes: Option<usize>) -> Fact {
    Fact::Instance {
        entity: entity(Scope::ServiceInstance, n),
        minute: MINUTE,
        last_ping: MINUTE,
        properties: bytes.map(|bytes| "p".repeat(bytes).into()),
    }
}

#[test]
fn bytes_are_those_of_what_is_there() {
    let plan = plan();
    let mut waiting = Increments::new(usize::MAX);
    for round in 0..3 {
        for n in 0..40 {
            let steps = (n as i64 * 7 + round * 13) % 50;
            let portion = Portion {
                increments: vec![increment(n, steps)],
                known: vec![instance(n, Some(n * 10)), instance(n, None)],
            };
            waiting.merge(&plan, portion);
        }
        let limit = Limit {
            increments: 30,
            bytes: usize::MAX,
        };
        let before = waiting.bytes();
        let taken = waiting.take(limit, |partition| partition % 2 == 0);
        assert!(!taken.is_empty() && taken.len() <= 30);
        assert_eq!(waiting.bytes() + taken.bytes(), before);
    }
    let (all, few) = (waiting.bytes(), waiting.len());
    let limit = Limit {
        increments: usize::MAX,
        bytes: all / 2,
    };
    let half = waiting.take(limit, |_| true);
    assert!(half.bytes() >= all / 2 && half.len() < few);
    let rest = waiting.take(Limit::NONE, |_| true);
    assert_eq!(half.bytes() + rest.bytes(), all);
    assert_eq!((waiting.bytes(), waiting.len()), (0, 0));
}

#[test]
fn a_few_that_are_large_fill_it_and_what_is_there_goes_on() {
    const CAPACITY: usize = 100_000;
    let plan = plan();
    let mut waiting = Increments::new(CAPACITY);
    waiting.absorb(&plan, vec![instance(0, Some(CAPACITY))]);
    assert!(waiting.is_full());
    // Nothing new finds room, what is there is brought up to date.
    waiting.absorb(&plan, vec![instance(1, None), instance(0, Some(10))]);
    assert_eq!(waiting.take_lost(), (1, 0));
    assert!(!waiting.is_full() && waiting.len() == 1);
    waiting.absorb(&plan, vec![instance(1, Some(2 * CAPACITY))]);
    // Who was asked before to take it takes it.
    let portion = Portion {
        increments: vec![increment(0, 50)],
        known: vec![instance(2, None)],
    };
    waiting.merge(&plan, portion);
    assert_eq!((waiting.len(), waiting.take_lost()), (4, (0, 0)));
}
