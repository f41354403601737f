//! Keeps a failure that repeats from flooding the log: the first, then one every ten seconds with a count.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::util::clock::Clock;

/// One kind of message.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    /// Epoch milliseconds of the last message, [`NEVER`] before the first.
    last_ms: AtomicI64,
    held_back: AtomicU64,
}

const NEVER: i64 = i64::MIN;
const PAUSE_MS: i64 = 10_000;

impl Throttle {
    pub fn new(clock: Clock) -> Throttle {
        Throttle {
            clock,
            last_ms: AtomicI64::new(NEVER),
            held_back: AtomicU64::new(0),
        }
    }

    /// Whether to write the message now; if so, how many were held back since the last one.
    pub fn admit(&self) -> Option<u64> {
        let now = self.clock.now_ms();
        let last = self.last_ms.load(Ordering::Relaxed);
        let is_due = last == NEVER || now.abs_diff(last) >= PAUSE_MS.unsigned_abs();
        let is_ours = is_due
            && self
                .last_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_first_is_written_then_one_every_ten_seconds() {
        let now = Arc::new(AtomicI64::new(0));
        let throttle = Throttle::new(Clock::Fixed(Arc::clone(&now)));
        for (at, want) in [
            (0, Some(0)),
            (1, None),
            (9_999, None),
            (10_000, Some(2)),
            (10_001, None),
            (50_000, Some(1)),
            // The clock was set back.
            (20_000, Some(0)),
        ] {
            now.store(at, Ordering::Relaxed);
            assert_eq!(throttle.admit(), want, "{at}");
        }
    }
}
