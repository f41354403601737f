//! How long a lane waits between two attempts to write the same rows.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{FIRST_PAUSE, LONGEST_PAUSE};

/// The longest pause while the server stops, which has seconds only.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Longer each time, until the server is to stop.
#[derive(Debug)]
pub(super) struct Patience {
    pause: Duration,
    stop: CancellationToken,
}

impl Patience {
    pub(super) fn new(stop: CancellationToken) -> Patience {
        Patience {
            pause: FIRST_PAUSE,
            stop,
        }
    }

    /// Waits until the next attempt.
    pub(super) async fn rest(&mut self) {
        if self.stop.is_cancelled() {
            tokio::time::sleep(self.pause.min(LAST_PAUSE)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = self.stop.cancelled() => self.pause = FIRST_PAUSE,
            }
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_the_server_is_to_stop() {
        let stop = CancellationToken::new();
        let mut patience = Patience::new(stop.clone());
        let start = Instant::now();
        for _ in 0..7 {
            patience.rest().await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(12_700));
        // It would be ten seconds now.
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.cancel();
        };
        let start = Instant::now();
        tokio::join!(patience.rest(), stopping);
        assert_eq!(start.elapsed(), Duration::from_millis(300));
        for pause in [200, 400, 500, 500] {
            let start = Instant::now();
            patience.rest().await;
            assert_eq!(start.elapsed(), Duration::from_millis(pause));
        }
    }
}
