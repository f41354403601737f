//! The figures of the last minutes, and rates between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::figures::Figures;

/// Looks that are remembered: ten minutes of one every five seconds.
const LENGTH: usize = 120;
/// Rates are over at least this time, if there is as much.
const WINDOW: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    figures: Figures,
}

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

/// What the last looks show.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    pub now: Figures,
    /// Per second and in the order of time, oldest first: messages and stored rows.
    pub messages: Vec<f64>,
    pub rows: Vec<f64>,
    /// Figures some seconds ago, and how many; without them there are no rates yet.
    before: Option<(Figures, f64)>,
}

impl History {
    pub(super) fn add(&self, figures: Figures) {
        let at = Instant::now();
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample { at, figures });
        if samples.len() > LENGTH {
            samples.pop_front();
        }
    }

    pub(super) fn recent(&self) -> Recent {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = samples.back() else {
            return Recent::default();
        };
        let age = |sample: &Sample| last.at.duration_since(sample.at);
        let before = samples.iter().rev().find(|sample| age(sample) >= WINDOW);
        let before = before.or(samples.front());
        let before = before.filter(|sample| age(sample) >= Duration::from_secs(1));
        let mut recent = Recent {
            now: last.figures.clone(),
            before: before.map(|sample| (sample.figures.clone(), age(sample).as_secs_f64())),
            ..Recent::default()
        };
        for (earlier, later) in samples.iter().zip(samples.iter().skip(1)) {
            let seconds = later.at.duration_since(earlier.at).as_secs_f64();
            // The looks for a page come in between the regular ones.
            if seconds >= 1.0 {
                let messages = later.figures.messages() - earlier.figures.messages();
                recent.messages.push(messages / seconds);
                let rows = later.figures.stored_rows - earlier.figures.stored_rows;
                recent.rows.push(rows / seconds);
            }
        }
        recent
    }
}

impl Recent {
    /// Two looks, for tests.
    #[cfg(test)]
    pub(super) fn between(before: Figures, now: Figures, seconds: f64) -> Recent {
        Recent {
            now,
            before: Some((before, seconds)),
            ..Recent::default()
        }
    }

    /// How much a counter grew per second; `None` without an earlier look.
    pub(super) fn rate(&self, counter: impl Fn(&Figures) -> f64) -> Option<f64> {
        let (before, seconds) = self.before.as_ref()?;
        Some((counter(&self.now) - counter(before)) / seconds)
    }

    /// Milliseconds that a write took lately, on average; `None` if there was none.
    pub(super) fn write_ms(&self) -> Option<f64> {
        let writes = self.rate(|figures| figures.writes)?;
        let seconds = self.rate(|figures| figures.write_seconds)?;
        (writes > 0.0).then(|| seconds / writes * 1000.0)
    }

    /// Units dropped per second lately, by kind and reason.
    pub(super) fn drops(&self) -> BTreeMap<(String, String), f64> {
        let mut drops = BTreeMap::new();
        for (kind, account) in &self.now.ledger {
            for reason in account.dropped.keys() {
                let dropped = |figures: &Figures| {
                    let account = figures.ledger.get(kind);
                    let dropped = account.and_then(|account| account.dropped.get(reason));
                    dropped.map_or(0.0, |units| *units as f64)
                };
                if let Some(rate) = self.rate(dropped).filter(|rate| *rate > 0.0) {
                    drops.insert((kind.clone(), reason.clone()), rate);
                }
            }
        }
        drops
    }

    /// The hook that lost most alarms per second lately, with the reason and how many.
    pub(super) fn unsent_alarms(&self) -> Option<(&str, &str, f64)> {
        let rates = self.now.unsent_alarms.keys().filter_map(|key| {
            let count = |figures: &Figures| figures.unsent_alarms.get(key).copied();
            let rate = self.rate(|figures| count(figures).unwrap_or_default())?;
            Some((key.0.as_str(), key.1.as_str(), rate))
        });
        rates.max_by(|a, b| a.2.total_cmp(&b.2))
    }

    /// The part of the time that whoever fills a queue waited for room.
    pub(super) fn waiting(&self, queue: &str) -> f64 {
        let waited = |figures: &Figures| {
            let queue = figures.queues.iter().find(|other| other.name == queue);
            queue.map_or(0.0, |queue| queue.waited)
        };
        self.rate(waited).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: f64) -> Figures {
        Figures {
            stored_rows: rows,
            ..Figures::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_over_some_seconds() {
        let history = History::default();
        assert_eq!(history.recent().rate(|f| f.stored_rows), None);
        history.add(figures(0.0));
        assert_eq!(history.recent().rate(|f| f.stored_rows), None);
        for rows in [10.0, 20.0, 30.0, 130.0] {
            tokio::time::advance(Duration::from_secs(5)).await;
            history.add(figures(rows));
        }
        let recent = history.recent();
        assert_eq!(recent.rate(|f| f.stored_rows), Some(8.0));
        assert_eq!(recent.rows, [2.0, 2.0, 2.0, 20.0]);
        for _ in 0..LENGTH {
            history.add(figures(130.0));
        }
        assert!(history.recent().rows.len() < LENGTH);
    }
}
