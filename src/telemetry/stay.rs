//! How long something is in a queue, measured wherever it leaves it: taken out, given up, or dropped with the queue.

use prometheus::Histogram;
use tokio::time::Instant;

/// Goes with what is queued; tells how long that was when it is dropped.
#[derive(Debug)]
pub struct Stay {
    since: Instant,
    seconds: Option<Histogram>,
}

impl Stay {
    /// From now on. Without a histogram nothing is measured.
    pub fn begin(seconds: Option<&Histogram>) -> Stay {
        Stay {
            since: Instant::now(),
            seconds: seconds.cloned(),
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(seconds) = &self.seconds {
            seconds.observe(self.since.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::HistogramOpts;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stay_lasts_until_it_is_dropped() {
        let seconds = Histogram::with_opts(HistogramOpts::new("stay", "s")).unwrap();
        let stay = Stay::begin(Some(&seconds));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seconds.get_sample_count(), 0);
        drop(stay);
        drop(Stay::begin(None));
        assert_eq!(
            (seconds.get_sample_count(), seconds.get_sample_sum()),
            (1, 3.0)
        );
    }
}
