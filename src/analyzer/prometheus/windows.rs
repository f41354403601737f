//! What counters said some time ago: how increases and rates are derived from numbers that only grow (8.1.0 spec, A.10, A.11).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Bounds of all windows together.
#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    pub series: usize,
    pub samples: usize,
    /// Milliseconds after which a series that says nothing more makes room for others.
    pub idle_ms: i64,
}

/// An earlier sample of a series: epoch milliseconds and value.
pub type Earlier = (i64, f64);

/// Recent samples by series.
#[derive(Debug)]
pub struct Windows<K> {
    series: HashMap<K, VecDeque<Earlier>>,
    samples: usize,
    limits: WindowLimits,
    forgotten: u64,
}

impl<K: Eq + Hash> Windows<K> {
    pub fn new(limits: WindowLimits) -> Windows<K> {
        Windows {
            series: HashMap::new(),
            samples: 0,
            limits,
            forgotten: 0,
        }
    }

    /// Takes a sample in and returns the oldest one of the window, which the new one is itself in the beginning. As in the
    /// original a sample that has reached the range is used once more and then goes, one at a time.
    pub fn oldest(&mut self, key: K, now_ms: i64, value: f64, range_ms: i64) -> Earlier {
        self.make_room(&key, now_ms);
        let samples = self.series.entry(key).or_default();
        samples.push_back((now_ms, value));
        self.samples += 1;
        let oldest = samples.front().copied().unwrap_or((now_ms, value));
        if now_ms.saturating_sub(oldest.0) >= range_ms {
            samples.pop_front();
            self.samples -= 1;
        }
        oldest
    }

    /// Takes a sample in and returns the one before it, or itself if it is the first.
    pub fn previous(&mut self, key: K, now_ms: i64, value: f64) -> Earlier {
        self.make_room(&key, now_ms);
        let samples = self.series.entry(key).or_default();
        let previous = samples.pop_front();
        self.samples += usize::from(previous.is_none());
        samples.push_back((now_ms, value));
        previous.unwrap_or((now_ms, value))
    }

    /// Series that were given up to make room, since this was asked last.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Makes sure that one more sample fits: idle series go first, then all, which begin anew.
    fn make_room(&mut self, key: &K, now_ms: i64) {
        let limits = self.limits;
        let is_full = |windows: &Windows<K>| {
            let is_new = !windows.series.contains_key(key);
            windows.samples >= limits.samples || (is_new && windows.series.len() >= limits.series)
        };
        if !is_full(self) {
            return;
        }
        let before = self.series.len();
        self.series.retain(|_, samples| {
            let last = samples.back();
            last.is_some_and(|(at, _)| now_ms.saturating_sub(*at) < limits.idle_ms)
        });
        self.samples = self.series.values().map(VecDeque::len).sum();
        if is_full(self) {
            self.series.clear();
            self.samples = 0;
        }
        self.forgotten += (before - self.series.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits {
        series: 2,
        samples: 6,
        idle_ms: 100,
    };

    #[test]
    fn the_oldest_sample_of_the_range_goes_after_it_was_used() {
        let mut windows = Windows::new(LIMITS);
        for (now, value, want) in [
            (0, 1.0, (0, 1.0)),
            (15, 2.0, (0, 1.0)),
            (30, 4.0, (0, 1.0)),
            (31, 5.0, (15, 2.0)),
            // After a gap only one goes at a time.
            (90, 9.0, (15, 2.0)),
            (91, 9.5, (30, 4.0)),
        ] {
            assert_eq!(windows.oldest("a", now, value, 30), want, "{now}");
        }
        assert_eq!(windows.take_forgotten(), 0);
    }

    #[test]
    fn the_previous_sample_is_the_last_one() {
        let mut windows = Windows::new(LIMITS);
        for (now, value, want) in [(0, 1.0, (0, 1.0)), (5, 3.0, (0, 1.0)), (9, 2.0, (5, 3.0))] {
            assert_eq!(windows.previous("a", now, value), want, "{now}");
        }
        assert_eq!(windows.samples, 1);
    }

    #[test]
    fn idle_series_make_room_then_all() {
        let mut windows = Windows::new(LIMITS);
        windows.previous("a", 0, 1.0);
        windows.previous("b", 50, 1.0);
        assert_eq!(windows.previous("c", 120, 1.0), (120, 1.0));
        assert_eq!(windows.take_forgotten(), 1);
        assert_eq!(windows.previous("b", 121, 2.0), (50, 1.0));
        windows.previous("d", 122, 1.0);
        assert_eq!(windows.take_forgotten(), 2);
        assert_eq!(windows.series.len(), 1);
        for now in 123..200 {
            windows.oldest("d", now, 1.0, 1_000);
            assert!(windows.samples <= LIMITS.samples);
        }
        assert!(windows.take_forgotten() > 0);
    }
}
