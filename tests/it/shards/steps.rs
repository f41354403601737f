//! Which precisions of a metric are stored (`core.default.downsampling`).

use super::*;

#[tokio::test(start_paused = true)]
async fn only_the_steps_that_are_on_are_stored() -> Result<()> {
    for (with_hours, with_days, expected) in [
        (true, true, vec![20_200_915, 2_020_091_510, 202_009_151_059]),
        (true, false, vec![2_020_091_510, 202_009_151_059]),
        (false, true, vec![20_200_915, 202_009_151_059]),
        (false, false, vec![202_009_151_059]),
    ] {
        let fixture = Fixture::new(NOW_MS);
        let options = StreamOptions {
            with_hours,
            with_days,
            ..StreamOptions::default()
        };
        let mut process = Aggregation::start(1, &fixture, options)?;
        process.report(&served(0, NOW_MS, 100)).await?;
        process.stop().await?;
        for model in ["service_cpm", "service_relation_server_side"] {
            let rows = fixture.store.rows().into_iter();
            let rows = rows.filter(|((name, ..), _)| name == model);
            let mut buckets: Vec<u64> = rows.map(|(_, row)| row.time_bucket).collect();
            buckets.sort_unstable();
            ensure!(
                buckets == expected,
                "{model}: {buckets:?}, not {expected:?}"
            );
        }
    }
    Ok(())
}
