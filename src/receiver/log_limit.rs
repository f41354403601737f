//! Keeps a failure that repeats from flooding the log: said at once, then every ten seconds with the number unsaid.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(10);

/// One limit per kind of log line.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
}

impl LogLimit {
    /// `Some(n)` when it is time to log, with `n` occurrences that were not logged before this one.
    pub(super) fn due(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let now = Instant::now();
        if state.said.is_some_and(|said| now - said < PAUSE) {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_counted_until_the_pause_is_over() {
        let limit = LogLimit::default();
        assert_eq!(limit.due(), Some(0));
        assert_eq!(limit.due(), None);
        assert_eq!(limit.due(), None);
        tokio::time::advance(PAUSE).await;
        assert_eq!(limit.due(), Some(2));
        assert_eq!(limit.due(), None);
    }
}
