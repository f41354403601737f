//! Gives connections of agents away while this node has more of them than the mean of all nodes.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Balance, Verdict};
use crate::receiver::Lines;

/// Between two looks at the numbers while there is nothing to do.
const LOOK: Duration = Duration::from_secs(1);
/// A connection is left alone until it is so old.
const MIN_AGE: Duration = Duration::from_secs(15);

/// Works until `stop`. `others` is what the other nodes have, while it is time to compare.
pub(super) async fn keep(
    lines: Lines,
    mut others: watch::Receiver<Option<Vec<u32>>>,
    stop: CancellationToken,
) {
    let mut balance = Balance::default();
    loop {
        let known = others.borrow_and_update().clone();
        let is_comparing = known.is_some();
        let pause = look(&lines, known, &mut balance);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Someone came or went, so a rest is over.
            _ = others.wait_for(Option::is_none), if is_comparing => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does what is to be done now; when to look again.
fn look(lines: &Lines, others: Option<Vec<u32>>, balance: &mut Balance) -> Duration {
    let Some(others) = others else {
        lines.ask_none();
        *balance = Balance::default();
        return LOOK;
    };
    lines.settle();
    let census = lines.census();
    let going = census.asked + census.told;
    match balance.judge(census.open, going, &others) {
        Verdict::Keep => LOOK,
        Verdict::Give(surplus) => {
            let random = RandomState::new().hash_one(surplus);
            if !lines.ask_one(MIN_AGE, random) {
                return LOOK;
            }
            balance.gave();
            tracing::debug!(
                own = census.open,
                ?others,
                surplus,
                "a connection is to go to another node"
            );
            let chance = (random >> 32) as f64 / f64::from(u32::MAX);
            Balance::pause(surplus, chance)
        }
        Verdict::Futile(rest) => {
            lines.ask_none();
            tracing::info!(
                own = census.open,
                ?others,
                pause_seconds = rest.as_secs(),
                "agents that were sent to other nodes came back to this one: they know only its address, or what is between \
                 brings nobody to the others"
            );
            rest
        }
    }
}
