//! What active endpoints take: every endpoint of a shop is asked every ten seconds, for some virtual minutes.

use std::time::Duration;

use oap::storage::Backend;

use crate::START_MS;
use crate::input::{Input, Traffic};
use crate::pipeline::Pipeline;
use crate::process::{Cost, Memory, runtime};
use crate::shop::Shop;

/// Endpoints of one service.
const PER_SERVICE: usize = 50;
/// Requests to one endpoint are so far apart.
const EVERY_SECONDS: usize = 10;
const MIB: f64 = (1 << 20) as f64;

/// Plays `minutes` of traffic to `endpoints` and prints what the process holds after each.
pub(crate) fn run<S: Backend + 'static>(
    store: S,
    endpoints: usize,
    minutes: usize,
) -> anyhow::Result<()> {
    let shop = Shop {
        services: endpoints.div_ceil(PER_SERVICE),
        endpoints: PER_SERVICE,
        instances: 2,
    };
    let endpoints = shop.services * shop.endpoints;
    let traffic = Traffic {
        input: Input::Shop(shop),
        per_second: endpoints.div_ceil(EVERY_SECONDS),
        start_ms: START_MS,
    };
    let before = Memory::now()?;
    let cost = Cost::start()?;
    println!(
        "{endpoints} endpoints of {} services, {} segments/s; {:.0} MiB before",
        shop.services,
        traffic.per_second,
        before.resident as f64 / MIB
    );
    runtime()?.block_on(async {
        let mut pipeline = Pipeline::start(store, START_MS).await?;
        for minute in 0..minutes {
            for second in minute * 60..(minute + 1) * 60 {
                pipeline.accept(&traffic.second(second)).await?;
                pipeline.pass(Duration::from_secs(1)).await;
            }
            let now = Memory::now()?;
            println!(
                "minute {:2}: {:4.0} MiB resident, {:4.0} MiB at most, {} rows",
                minute + 1,
                now.resident as f64 / MIB,
                now.peak as f64 / MIB,
                pipeline.rows()
            );
        }
        pipeline.finish().await
    })?;
    let peak = Memory::now()?.peak;
    println!(
        "{:.0} bytes per endpoint at most; {:.2} CPU seconds per 100,000 segments, making them included",
        (peak - before.resident) as f64 / endpoints as f64,
        cost.end()?.per_100_000(minutes * 60 * traffic.per_second)
    );
    Ok(())
}
