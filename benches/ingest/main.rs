//! What ingest costs, by stage and as a whole: CPU time here, instructions and allocations with `count.sh` beside this
//! file, and memory. `docs/performance.md` says how to read it.
//!
//! - `cargo bench --bench ingest`: CPU seconds per 100,000 segments of every stage and of all of them
//! - `… -- stage NAME INPUT SEGMENTS`: one stage, for a profiler
//! - `… -- memory STORE ENDPOINTS MINUTES`: what active endpoints take with the store `null` or `embedded`
//! - `… -- active STORE SERVICES ENDPOINTS SECONDS MINUTES [DELAY_MS]`: what the real server takes with so many endpoints per
//!   service, each asked every so many seconds; the store is `embedded`, an Elasticsearch at `HOST:PORT`, or `null`, one that
//!   keeps nothing and takes `DELAY_MS` for each bulk request
//! - `… -- pages STORE SERVICES ENDPOINTS SEGMENTS ROUNDS [FOLDER]`: how long the pages of the user interface take with the
//!   store `embedded` or an Elasticsearch at `HOST:PORT`, with so many endpoints per service, each page opened so often; what
//!   was filled stays in the folder, and a further run asks it again
//! - `… -- served SEGMENTS`: segments per second that the real server stores, embedded, and what they take on disk
//!
//! CPU time is that of the whole process, so that a busy machine changes little. Time to make the input does not count.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod active;
mod bulk_sink;
mod counting_proxy;
mod history;
mod input;
mod memory;
mod null_store;
mod pages;
mod pipeline;
mod process;
mod served;
mod shop;
mod stages;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use oap::storage::embedded::Embedded;

use active::Active;
use input::{Input, Traffic};
use null_store::NullStore;
use pages::Pages;
use pipeline::Pipeline;
use process::{Cost, runtime};
use shop::Shop;
use stages::{FLUSH, Stage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2020-09-15 10:59:30 UTC: minutes and an hour end on the way.
const START_MS: i64 = 1_600_167_570_000;
const PER_SECOND: usize = 1000;
/// The generated shop has 200 endpoints.
const SHOP: Shop = Shop {
    services: 20,
    endpoints: 10,
    instances: 2,
};
const SEGMENTS: usize = 200_000;

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => everything(),
        ["stage", stage, input, segments] => {
            let (_, stage) = Stage::ALL
                .into_iter()
                .find(|(name, _)| *name == stage)
                .context("the stages are decode, analysis, dispatch, aggregation, whole")?;
            let (counted, cost) = stage.run(&traffic(input)?, segments.parse()?)?;
            println!("{counted} segments: {:.3}", cost.per_100_000(counted));
            Ok(())
        }
        [
            "pages",
            store,
            services,
            endpoints,
            segments,
            rounds,
            ref folder @ ..,
        ] if folder.len() <= 1 => Pages {
            elasticsearch: (store != "embedded").then_some(store),
            services: services.parse()?,
            endpoints: endpoints.parse()?,
            segments: segments.parse()?,
            rounds: rounds.parse()?,
            kept: folder.first().map(Path::new),
        }
        .run(),
        [
            "active",
            store,
            services,
            endpoints,
            every_seconds,
            minutes,
            ref delay @ ..,
        ] => Active {
            store,
            services: services.parse()?,
            endpoints: endpoints.parse()?,
            every_seconds: every_seconds.parse()?,
            minutes: minutes.parse()?,
            delay: Duration::from_millis(delay.first().map_or(Ok(0), |ms| ms.parse())?),
        }
        .run(),
        ["served", segments] => served::run(segments.parse()?),
        ["memory", "null", endpoints, minutes] => {
            memory::run(NullStore, endpoints.parse()?, minutes.parse()?)
        }
        ["memory", "embedded", endpoints, minutes] => {
            let dir = tempfile::tempdir()?;
            let store = Embedded::open(dir.path())?;
            memory::run(store, endpoints.parse()?, minutes.parse()?)
        }
        _ => bail!("see the head of benches/ingest/main.rs for the arguments"),
    }
}

fn traffic(name: &str) -> anyhow::Result<Traffic> {
    let input = match name {
        "recorded" => Input::recorded()?,
        "five-span" => Input::Shop(SHOP),
        _ => bail!("the inputs are recorded, five-span"),
    };
    Ok(Traffic {
        input,
        per_second: PER_SECOND,
        start_ms: START_MS,
    })
}

fn everything() -> anyhow::Result<()> {
    for input in ["recorded", "five-span"] {
        let traffic = traffic(input)?;
        let sample = traffic.second(0);
        let bytes: usize = sample.iter().map(|m| m.bytes().len()).sum();
        println!("{input}: {} bytes on average", bytes / sample.len());
        for (name, stage) in Stage::ALL {
            let (counted, cost) = stage.run(&traffic, SEGMENTS)?;
            println!(
                "  {name}: {:.2} CPU seconds per 100,000 segments",
                cost.per_100_000(counted)
            );
        }
        let cost = embedded(&traffic)?.per_100_000(SEGMENTS / 2);
        println!("  with the embedded store: {cost:.2} CPU seconds per 100,000 segments");
    }
    Ok(())
}

/// Bytes to rows in the embedded store, until the last one is written.
fn embedded(traffic: &Traffic) -> anyhow::Result<Cost> {
    let dir = tempfile::tempdir()?;
    let seconds = SEGMENTS / 2 / traffic.per_second;
    let load: Vec<_> = (0..seconds).map(|s| traffic.second(s)).collect();
    runtime()?.block_on(async {
        let mut pipeline = Pipeline::start(Embedded::open(dir.path())?, START_MS).await?;
        let cost = Cost::start()?;
        for lot in load.chunks(FLUSH.as_secs() as usize) {
            for messages in lot {
                pipeline.accept(messages).await?;
            }
            pipeline.pass(FLUSH).await;
        }
        pipeline.finish().await?;
        cost.end()
    })
}
