//! What samples were before: for each sample of an instance a queue of times and values (8.1.0 spec, A.10).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::MeterMetrics;
use crate::dsl::meter::WindowFunction;
use crate::telemetry::Throttle;
use crate::util::clock::Clock;

/// Memory that all windows may take, roughly, in bytes.
const MAX_BYTES: usize = 32 << 20;
/// Of a window without its key and samples.
const WINDOW_BYTES: usize = 160;
const SAMPLE_BYTES: usize = 16;
/// Samples of one window; an hour of one per second.
const MAX_SAMPLES: usize = 3600;
/// How long a window stays at least after it was last looked at.
const MIN_IDLE_MS: i64 = 10 * 60 * 1000;
/// Between two searches for idle windows.
const SWEEP_MS: i64 = 60 * 1000;
/// The same when there is no room.
const URGENT_SWEEP_MS: i64 = 1000;

#[derive(Debug)]
struct Window {
    /// Epoch milliseconds and value.
    samples: VecDeque<(i64, f64)>,
    touched_ms: i64,
}

/// All windows.
#[derive(Debug)]
pub(super) struct Windows {
    windows: HashMap<Box<[u8]>, Window>,
    bytes: usize,
    max_bytes: usize,
    idle_ms: i64,
    swept_ms: i64,
    metrics: MeterMetrics,
    log: Throttle,
}

impl Windows {
    /// Windows that are looked at again within `longest_range_ms` stay.
    pub(super) fn new(longest_range_ms: i64, metrics: MeterMetrics, clock: Clock) -> Windows {
        Windows {
            windows: HashMap::new(),
            bytes: 0,
            max_bytes: MAX_BYTES,
            idle_ms: longest_range_ms.saturating_mul(2).max(MIN_IDLE_MS),
            swept_ms: i64::MIN,
            metrics,
            log: Throttle::new(clock),
        }
    }

    /// Remembers a sample and compares it with an earlier one: the first is compared with itself. Where there is no room,
    /// every sample is a first one.
    pub(super) fn apply(
        &mut self,
        key: &[u8],
        function: WindowFunction,
        range_ms: i64,
        value: f64,
        now_ms: i64,
    ) -> f64 {
        self.sweep(SWEEP_MS, now_ms);
        let (then_ms, before) = self
            .earlier(key, function, range_ms, value, now_ms)
            .unwrap_or((now_ms, value));
        let increase = value - before;
        match function {
            WindowFunction::Increase => increase,
            WindowFunction::Rate | WindowFunction::Irate => {
                let rate = increase / ((now_ms - then_ms) as f64 / 1000.0);
                if rate.is_nan() { 0.0 } else { rate }
            }
        }
    }

    fn earlier(
        &mut self,
        key: &[u8],
        function: WindowFunction,
        range_ms: i64,
        value: f64,
        now_ms: i64,
    ) -> Option<(i64, f64)> {
        if !self.windows.contains_key(key) {
            self.add(key, now_ms)?;
        }
        let is_full = self.bytes > self.max_bytes;
        let window = self.windows.get_mut(key)?;
        let before = window.samples.len();
        window.touched_ms = now_ms;
        let earlier = match function {
            WindowFunction::Irate => window.last_two(now_ms, value),
            WindowFunction::Increase | WindowFunction::Rate => {
                window.since(range_ms, now_ms, value)
            }
        };
        if window.samples.len() > before
            && (is_full || window.samples.len() > MAX_SAMPLES)
            && before > 0
        {
            window.samples.pop_front();
            self.no_room("samples");
        }
        let after = self.windows.get(key).map_or(0, |w| w.samples.len());
        self.bytes = (self.bytes + after * SAMPLE_BYTES).saturating_sub(before * SAMPLE_BYTES);
        self.count();
        earlier
    }

    /// `None` if there is no room.
    fn add(&mut self, key: &[u8], now_ms: i64) -> Option<()> {
        if self.bytes > self.max_bytes {
            self.sweep(URGENT_SWEEP_MS, now_ms);
        }
        if self.bytes > self.max_bytes {
            self.no_room("full");
            return None;
        }
        let window = Window {
            samples: VecDeque::new(),
            touched_ms: now_ms,
        };
        self.windows.insert(key.into(), window);
        self.bytes += WINDOW_BYTES + key.len();
        self.count();
        Some(())
    }

    /// Forgets idle windows, unless it looked for them less than `pause_ms` ago.
    fn sweep(&mut self, pause_ms: i64, now_ms: i64) {
        if now_ms.saturating_sub(self.swept_ms) < pause_ms {
            return;
        }
        self.swept_ms = now_ms;
        let before = self.windows.len();
        let idle_ms = self.idle_ms;
        self.windows
            .retain(|_, window| now_ms - window.touched_ms <= idle_ms);
        let windows = self.windows.iter();
        self.bytes = windows
            .map(|(key, window)| WINDOW_BYTES + key.len() + window.samples.len() * SAMPLE_BYTES)
            .sum();
        self.forgotten("idle", (before - self.windows.len()) as u64);
        self.count();
    }

    fn count(&self) {
        self.metrics.windows.set(self.windows.len() as i64);
        let bytes = &self.metrics.window_bytes;
        bytes.store(self.bytes as u64, Ordering::Relaxed);
    }

    fn no_room(&self, reason: &str) {
        self.forgotten(reason, 1);
        if let Some(held_back) = self.log.admit() {
            tracing::warn!(
                reason,
                held_back,
                "no room to remember samples of meters, increases are too small"
            );
        }
    }

    fn forgotten(&self, reason: &str, count: u64) {
        let counter = self.metrics.forgotten.with_label_values(&[reason]);
        counter.inc_by(count);
    }
}

impl Window {
    /// The oldest sample, which then goes if the range has passed since: one with each look, as in the original.
    fn since(&mut self, range_ms: i64, now_ms: i64, value: f64) -> Option<(i64, f64)> {
        self.samples.push_back((now_ms, value));
        let oldest = self.samples.front().copied()?;
        if now_ms - oldest.0 >= range_ms {
            self.samples.pop_front();
        }
        Some(oldest)
    }

    /// The sample before this one; several looks at one time are one.
    fn last_two(&mut self, now_ms: i64, value: f64) -> Option<(i64, f64)> {
        if self.samples.back().is_some_and(|last| last.0 == now_ms) {
            self.samples.pop_back();
        }
        self.samples.push_back((now_ms, value));
        if self.samples.len() > 2 {
            self.samples.pop_front();
        }
        self.samples.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn windows(max_bytes: usize) -> (Windows, Registry) {
        let registry = Registry::new();
        let metrics = MeterMetrics::new(&registry).unwrap();
        let windows = Windows {
            max_bytes,
            ..Windows::new(60_000, metrics, Clock::System)
        };
        (windows, registry)
    }

    fn increase(windows: &mut Windows, key: &[u8], value: f64, now_ms: i64) -> f64 {
        windows.apply(key, WindowFunction::Increase, 60_000, value, now_ms)
    }

    fn forgotten(windows: &Windows, reason: &str) -> u64 {
        let counter = windows.metrics.forgotten.with_label_values(&[reason]);
        counter.get()
    }

    #[test]
    fn idle_windows_are_forgotten() {
        let (mut windows, _registry) = windows(MAX_BYTES);
        increase(&mut windows, b"idle", 1.0, 0);
        increase(&mut windows, b"busy", 1.0, 0);
        assert_eq!(increase(&mut windows, b"busy", 3.0, MIN_IDLE_MS), 2.0);
        increase(&mut windows, b"busy", 4.0, MIN_IDLE_MS + SWEEP_MS);
        assert_eq!(windows.windows.len(), 1);
        assert_eq!(forgotten(&windows, "idle"), 1);
        assert_eq!(windows.metrics.windows.get(), 1);
        let again = increase(&mut windows, b"idle", 9.0, MIN_IDLE_MS + SWEEP_MS);
        assert_eq!(again, 0.0, "a first sample again");
    }

    #[test]
    fn without_room_every_sample_is_a_first_one_and_counted() {
        let room_for_two = 2 * (WINDOW_BYTES + 1 + SAMPLE_BYTES) - 1;
        let (mut windows, _registry) = windows(room_for_two);
        for (key, value, now_ms) in [
            (b"a", 1.0, 0),
            (b"b", 1.0, 0),
            (b"c", 1.0, 0),
            (b"c", 5.0, 1),
        ] {
            assert_eq!(increase(&mut windows, key, value, now_ms), 0.0);
        }
        assert_eq!(forgotten(&windows, "full"), 2);
        // Those that are there go on with the sample before.
        assert_eq!(increase(&mut windows, b"a", 4.0, 1000), 3.0);
        assert_eq!(increase(&mut windows, b"a", 9.0, 2000), 5.0);
        assert_eq!(forgotten(&windows, "samples"), 2);
        assert!(windows.bytes <= room_for_two + 1);
        let later = MIN_IDLE_MS + 10_000;
        increase(&mut windows, b"c", 6.0, later);
        assert_eq!(increase(&mut windows, b"c", 8.0, later + 1), 2.0);
    }

    #[test]
    fn a_window_has_an_end() {
        let (mut windows, _registry) = windows(MAX_BYTES);
        for n in 0..MAX_SAMPLES + 10 {
            increase(&mut windows, b"a", n as f64, 0);
        }
        let samples = windows.windows.values().map(|w| w.samples.len());
        assert_eq!(samples.sum::<usize>(), MAX_SAMPLES);
        assert_eq!(forgotten(&windows, "samples"), 10);
        let bytes = WINDOW_BYTES + 1 + MAX_SAMPLES * SAMPLE_BYTES;
        assert_eq!(windows.bytes, bytes);
    }
}
