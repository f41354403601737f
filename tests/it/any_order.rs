//! What real agents sent, in any order, in any lots, by any number of shards: the rows are the same, and hours and days are
//! their minutes, merged.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use oap::model::message::Message;
use oap::model::metrics::{Function, Value};
use oap::model::row::{Cell, Row};
use oap::model::scope::Scope;
use oap::model::time_bucket::Downsampling;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::aggregation::Fixture;
use crate::captures::captures;
use crate::every_metric::compiled;
use crate::memory_store::MemoryStore;

/// A day after the recordings.
const NOW_MS: i64 = 1_795_400_000_000;
/// Messages of one agent that are taken, spread over all that it sent.
const MESSAGES: usize = 120;

/// What the agents sent that is analysed.
fn recorded(agent: &str) -> Result<Vec<Message>> {
    let capture = captures()?.remove(agent).context("no such capture")?;
    let mut messages = Vec::new();
    for (method, sent) in capture.calls {
        let kind = match method
            .rsplit_once('.')
            .map_or(&*method, |(_, last)| last)
            .trim_start_matches('/')
        {
            "TraceSegmentReportService/collect" => Message::Segment,
            "JVMMetricReportService/collect" => Message::JvmMetrics,
            "ManagementService/reportInstanceProperties" => Message::InstanceProperties,
            "ManagementService/keepAlive" => Message::KeepAlive,
            _ => continue,
        };
        messages.extend(sent.into_iter().map(kind));
    }
    let step = messages.len().div_ceil(MESSAGES);
    Ok(messages.into_iter().step_by(step).collect())
}

/// What a shuffle, a number of shards and cuts between lots come to.
#[derive(Debug, Clone)]
struct Delivery {
    seed: u64,
    shards: usize,
    lot: usize,
    /// Every so many lots what is there is written, and forgotten.
    forget_after: usize,
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (any::<u64>(), 1..=4_usize, 1..60_usize, 1..10_usize).prop_map(
        |(seed, shards, lot, forget_after)| Delivery {
            seed,
            shards,
            lot,
            forget_after,
        },
    )
}

impl Delivery {
    /// As recorded, all at once, by one shard.
    const PLAIN: Delivery = Delivery {
        seed: 0,
        shards: 1,
        lot: usize::MAX,
        forget_after: usize::MAX,
    };

    fn order(&self, messages: &[Message]) -> Vec<Message> {
        let mut messages: Vec<(u64, Message)> = (1..).zip(messages.iter().cloned()).collect();
        // Multiples of an odd number are all different; the high bits of those of a large one are in no order.
        messages.sort_by_key(|(n, _)| match self.seed {
            0 => *n,
            seed => n.wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        });
        messages.into_iter().map(|(_, message)| message).collect()
    }
}

/// Delivers; `fixture` knows already who answers where, since what is unknown then is a matter of order.
async fn deliver(messages: &[Message], fixture: &Fixture, delivery: &Delivery) -> Result<()> {
    let mut process = fixture.start(delivery.shards)?;
    let ordered = delivery.order(messages);
    for (n, lot) in (1..).zip(ordered.chunks(delivery.lot)) {
        process.report(lot).await?;
        if n % delivery.forget_after == 0 {
            process.forget().await?;
        }
    }
    process.stop().await
}

type Stored = BTreeMap<(String, String), Vec<Cell>>;

/// Leaves out what depends on the order by its meaning: who came last, and whose component came first.
fn comparable(store: &MemoryStore) -> Stored {
    let rows = store.rows().into_iter().map(|((model, id, _), mut row)| {
        for column in ["last_ping", "last_update_time_bucket", "component_id"] {
            if let Some(at) = row.model.column_index(column) {
                row.cells[at] = Cell::Null;
            }
        }
        ((model, id), row.cells)
    });
    rows.collect()
}

/// Sums of doubles depend on the order in their last digits.
fn is_same(a: &[Cell], b: &[Cell]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Cell::Double(a), Cell::Double(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            (a, b) => a == b,
        })
}

fn ensure_same(found: &Stored, wanted: &Stored) -> Result<()> {
    for (key, wanted) in wanted {
        let found = found.get(key).with_context(|| format!("no {key:?}"))?;
        ensure!(is_same(found, wanted), "{key:?}: {found:?}, not {wanted:?}");
    }
    ensure!(
        found.len() == wanted.len(),
        "{} rows, not {}",
        found.len(),
        wanted.len()
    );
    Ok(())
}

fn functions() -> Result<HashMap<String, Function>> {
    let plan = &compiled()?.plan;
    let items = Scope::SOURCES
        .iter()
        .flat_map(|(_, scope)| plan.items(*scope));
    Ok(items
        .map(|item| (item.model.name.clone(), item.function))
        .collect())
}

fn value(function: Function, row: &Row) -> Result<Value> {
    let cells = row.cells.get(row.model.entity_columns.len()..);
    let value = cells.and_then(|cells| function.from_cells(cells));
    value.with_context(|| format!("{} {}: {:?}", row.model.name, row.id, row.cells))
}

/// Every hour and every day row is what its minute rows come to; how many there are.
fn ensure_coarse_rows_are_merged_minutes(store: &MemoryStore) -> Result<usize> {
    let functions = functions()?;
    let mut merged: BTreeMap<(String, u64, String), Value> = BTreeMap::new();
    let mut coarse = Vec::new();
    for ((model, ..), row) in store.rows() {
        let Some(function) = functions.get(&model).copied() else {
            continue;
        };
        let entity = row
            .id
            .split_once('_')
            .map_or("", |(_, entity)| entity)
            .to_owned();
        if Downsampling::of(row.time_bucket) != Some(Downsampling::Minute) {
            coarse.push((function, entity, row));
            continue;
        }
        let minute = value(function, &row)?;
        for divisor in [100, 10_000] {
            let key = (model.clone(), row.time_bucket / divisor, entity.clone());
            let all = merged.entry(key).or_insert_with(|| function.empty());
            ensure!(function.merge(all, &minute), "{model}: {minute:?}");
        }
    }
    ensure!(
        merged.len() == coarse.len(),
        "{} of {}",
        coarse.len(),
        merged.len()
    );
    for (function, entity, row) in &coarse {
        let key = (row.model.name.clone(), row.time_bucket, entity.clone());
        let wanted = merged
            .get(&key)
            .with_context(|| format!("no minutes of {key:?}"))?;
        let cells = &row.cells[row.model.entity_columns.len()..];
        let wanted = function.to_cells(wanted, row.time_bucket);
        let is_first_one = *function == Function::Component;
        ensure!(
            is_first_one || is_same(cells, &wanted),
            "{key:?}: {cells:?}, minutes {wanted:?}"
        );
    }
    Ok(coarse.len())
}

/// So many deliveries of what an agent sent.
fn check(agent: &str, cases: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    let messages = recorded(agent)?;
    let plain = runtime.block_on(async {
        let first = Fixture::new(NOW_MS);
        deliver(&messages, &first, &Delivery::PLAIN).await?;
        let plain = first.again(NOW_MS);
        deliver(&messages, &plain, &Delivery::PLAIN).await?;
        anyhow::Ok(plain)
    })?;
    let rows = ensure_coarse_rows_are_merged_minutes(&plain.store)?;
    ensure!(rows > 100, "only {rows} rows");
    let wanted = comparable(&plain.store);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 50,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&delivery(), |delivery| {
        let delivered = runtime.block_on(async {
            let fixture = plain.again(NOW_MS);
            deliver(&messages, &fixture, &delivery).await?;
            ensure_same(&comparable(&fixture.store), &wanted)?;
            ensure_coarse_rows_are_merged_minutes(&fixture.store)
        });
        let failed = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        delivered.map(drop).map_err(failed)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => bail!("{agent}: {error}"),
    }
}

#[test]
fn java_agents_of_two_services() -> Result<()> {
    check("java-8.1.0-core", 6)
}

#[test]
fn a_java_agent_with_a_database() -> Result<()> {
    check("java-8.1.0-agent", 6)
}

#[test]
fn python_agents() -> Result<()> {
    check("python-1.2.0-grpc", 6)
}
