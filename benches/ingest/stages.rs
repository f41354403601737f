//! The stages by themselves. What one works on is prepared before, and half of the traffic is played before as well,
//! so that caches are warm; only what runs inside [`measured`] counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use oap::analyzer::Facts;
use oap::analyzer::trace::segment::Segment;
use oap::journal::Message;
use oap::model::fact::Fact;
use oap::model::metrics::Value;
use oap::model::source::Source;
use oap::stream::{AddressBook, Plan};
use oap::util::clock::Clock;

use crate::input::Traffic;
use crate::null_store::NullStore;
use crate::pipeline::{BATCH, Pipeline, analyzer, schema_and_plan};
use crate::process::{Cost, runtime};

/// Pause between two flushes of a shard.
pub(crate) const FLUSH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bytes to a message.
    Decode,
    /// Bytes to facts and records; begins with what `Decode` does.
    Analysis,
    /// Sources to the increments of their metrics.
    Dispatch,
    /// Facts to stored rows; begins with what `Dispatch` does.
    Aggregation,
    /// Bytes to stored rows.
    Whole,
}

impl Stage {
    pub(crate) const ALL: [(&str, Stage); 5] = [
        ("decode", Stage::Decode),
        ("analysis", Stage::Analysis),
        ("dispatch", Stage::Dispatch),
        ("aggregation", Stage::Aggregation),
        ("whole", Stage::Whole),
    ];

    /// Measures the second half of `segments`, rounded up to whole flushes; returns how many those are and their cost.
    pub(crate) fn run(self, traffic: &Traffic, segments: usize) -> anyhow::Result<(usize, Cost)> {
        let seconds = FLUSH.as_secs() as usize;
        let per_flush = traffic.per_second * seconds;
        let flushes = (segments / 2).div_ceil(per_flush);
        let load: Vec<Vec<Message>> = (0..2 * flushes)
            .map(|i| {
                (i * seconds..(i + 1) * seconds)
                    .flat_map(|s| traffic.second(s))
                    .collect()
            })
            .collect();
        let (before, counted) = load.split_at(flushes);
        let cost = match self {
            Stage::Decode => decode(counted),
            Stage::Analysis => analysis(before, counted),
            Stage::Dispatch => dispatch(counted),
            Stage::Aggregation => aggregation(traffic.start_ms, before, counted),
            Stage::Whole => whole(traffic.start_ms, before, counted),
        };
        Ok((flushes * per_flush, cost?))
    }
}

/// Callgrind counts inside of this.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    std::hint::black_box(work())
}

fn decode(load: &[Vec<Message>]) -> anyhow::Result<Cost> {
    let cost = Cost::start()?;
    measured(|| {
        for message in load.iter().flatten() {
            std::hint::black_box(Segment::decode(message.bytes())?);
        }
        anyhow::Ok(())
    })?;
    cost.end()
}

fn analysis(before: &[Vec<Message>], load: &[Vec<Message>]) -> anyhow::Result<Cost> {
    let mut analysis = Analysis::new()?;
    for messages in before {
        analysis.facts(messages)?;
    }
    let cost = Cost::start()?;
    measured(|| {
        for batch in load.iter().flat_map(|messages| messages.chunks(BATCH)) {
            drop(analysis.batch(batch)?);
        }
        anyhow::Ok(())
    })?;
    cost.end()
}

fn dispatch(load: &[Vec<Message>]) -> anyhow::Result<Cost> {
    let (_, plan) = schema_and_plan()?;
    let mut analysis = Analysis::new()?;
    let mut lots = Vec::new();
    for messages in load {
        lots.push(Increments::of(analysis.facts(messages)?, &plan));
    }
    let cost = Cost::start()?;
    measured(|| {
        for lot in &mut lots {
            let thresholds = plan.thresholds();
            for (at, source) in &lot.sources {
                plan.apply(source, &thresholds, &mut lot.values[*at]);
            }
        }
    });
    cost.end()
}

/// The sources between two flushes, each with the place of its increments.
struct Increments {
    sources: Vec<(usize, Source)>,
    values: Vec<Box<[Option<Value>]>>,
}

impl Increments {
    fn of(facts: Vec<Vec<Vec<Fact>>>, plan: &Plan) -> Increments {
        let mut places = HashMap::new();
        let mut lot = Increments {
            sources: Vec::new(),
            values: Vec::new(),
        };
        for fact in facts.into_iter().flatten().flatten() {
            let Fact::Source(source) = fact else { continue };
            let entity = &source.entity;
            let key = (entity.scope, Arc::clone(&entity.id), source.minute);
            let place = *places.entry(key).or_insert_with(|| {
                lot.values.push(
                    std::iter::repeat_with(|| None)
                        .take(plan.items(entity.scope).len())
                        .collect(),
                );
                lot.values.len() - 1
            });
            lot.sources.push((place, source));
        }
        lot
    }
}

fn aggregation(
    start_ms: i64,
    before: &[Vec<Message>],
    load: &[Vec<Message>],
) -> anyhow::Result<Cost> {
    let mut analysis = Analysis::new()?;
    let mut facts = |load: &[Vec<Message>]| {
        let lots = load.iter().map(|messages| analysis.facts(messages));
        lots.collect::<anyhow::Result<Vec<_>>>()
    };
    let (before, load) = (facts(before)?, facts(load)?);
    let runtime = runtime()?;
    let pipeline = runtime.block_on(Pipeline::start(NullStore, start_ms))?;
    let play = |lots: Vec<Vec<Vec<Vec<Fact>>>>| {
        runtime.block_on(async {
            for lot in lots {
                for facts in lot {
                    pipeline.aggregate(facts).await?;
                }
                pipeline.pass(FLUSH).await;
            }
            anyhow::Ok(())
        })
    };
    play(before)?;
    let cost = Cost::start()?;
    measured(|| play(load))?;
    cost.end()
}

fn whole(start_ms: i64, before: &[Vec<Message>], load: &[Vec<Message>]) -> anyhow::Result<Cost> {
    let runtime = runtime()?;
    let mut pipeline = runtime.block_on(Pipeline::start(NullStore, start_ms))?;
    let mut play = |lots: &[Vec<Message>]| {
        runtime.block_on(async {
            for messages in lots {
                pipeline.accept(messages).await?;
                pipeline.pass(FLUSH).await;
            }
            anyhow::Ok(())
        })
    };
    play(before)?;
    let cost = Cost::start()?;
    measured(|| play(load))?;
    cost.end()
}

/// An analyzer with what it needs.
struct Analysis {
    analyzer: oap::analyzer::Analyzer,
    facts: Facts,
}

impl Analysis {
    fn new() -> anyhow::Result<Analysis> {
        let (schema, _) = schema_and_plan()?;
        let addresses = Arc::new(AddressBook::new(1_000_000));
        Ok(Analysis {
            analyzer: analyzer(&schema, &addresses, Clock::System),
            facts: Facts::new(2),
        })
    }

    /// Facts by shard of one batch; drops its records.
    fn batch(&mut self, batch: &[Message]) -> anyhow::Result<Vec<Vec<Fact>>> {
        for message in batch {
            self.analyzer.analyze(message, &mut self.facts)?;
        }
        self.facts.records.clear();
        Ok(self.facts.take_shards().collect())
    }

    /// Facts of messages by batch and shard.
    fn facts(&mut self, messages: &[Message]) -> anyhow::Result<Vec<Vec<Vec<Fact>>>> {
        messages.chunks(BATCH).map(|b| self.batch(b)).collect()
    }
}
