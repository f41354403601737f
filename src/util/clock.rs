//! The clock, handed in so that tests decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells wall-clock time.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    /// Epoch milliseconds that a test sets.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// Epoch milliseconds.
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Clock::Fixed(now) => now.load(Ordering::Relaxed),
        }
    }
}
