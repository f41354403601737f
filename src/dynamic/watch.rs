//! The loop: looks at the centre, finds out what is new, hands it on, and says what came of it.

use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec};
use tokio_util::sync::CancellationToken;

use super::center::{Center, Values};
use super::key::Key;
use crate::cluster::clients::CenterError;
use crate::telemetry::Registry;
use crate::util::clock::Clock;

/// After a failure; doubles up to the period.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// What is said of a value that is refused.
const MAX_MISTAKES: usize = 10;
/// Bytes of a value that the log names.
const MAX_SHOWN: usize = 200;
/// After so long a failure is said again while it lasts.
const SAY_AGAIN_MS: i64 = 10 * 60 * 1000;

/// Knows what values mean.
pub trait Apply {
    /// Has everyone go on with this value, or with what the files say if there is none. Returns what in it has no effect.
    /// If it makes no sense nothing changes, and all mistakes are returned.
    fn apply(&mut self, key: Key, value: Option<&str>) -> Result<Vec<String>, Vec<String>>;
}

/// Counters of the watch.
#[derive(Debug, Clone)]
pub struct DynamicMetrics {
    reads: IntCounterVec,
    last_success: IntGaugeVec,
    changes: IntCounterVec,
    in_use: IntGaugeVec,
    refused: IntGaugeVec,
}

impl DynamicMetrics {
    /// Fails if the names are taken.
    pub fn new(registry: &Registry) -> prometheus::Result<DynamicMetrics> {
        let key = &["key"];
        Ok(DynamicMetrics {
            reads: registry.counters(
                "dynamic_configuration_reads_total",
                "Looks at the configuration centre, by outcome",
                &["provider", "outcome"],
            )?,
            last_success: registry.gauges(
                "dynamic_configuration_last_success_seconds",
                "Epoch seconds when the configuration centre was read last; 0 if never",
                &["provider"],
            )?,
            changes: registry.counters(
                "dynamic_configuration_changes_total",
                "Values of the configuration centre that were new, by outcome",
                &["key", "outcome"],
            )?,
            in_use: registry.gauges(
                "dynamic_configuration_in_use",
                "1 if a value of the configuration centre is in use, 0 if that of the files is",
                key,
            )?,
            refused: registry.gauges(
                "dynamic_configuration_refused",
                "1 if the configuration centre has a value that makes no sense and is not used",
                key,
            )?,
        })
    }
}

/// A key with what was seen of it.
#[derive(Debug)]
struct Item {
    key: Key,
    /// The value in use; `None` if that of the files is.
    current: Option<String>,
    /// The value that the centre has and that was refused.
    refused: Option<Vec<u8>>,
}

/// A failure that was said.
#[derive(Debug)]
struct Said {
    reason: String,
    /// Epoch milliseconds.
    at_ms: i64,
    /// How often it came since and was not said.
    held_back: u64,
}

/// Watches the keys of one centre.
#[derive(Debug)]
pub struct Watch<A> {
    center: Center,
    period: Duration,
    items: Vec<Item>,
    apply: A,
    metrics: DynamicMetrics,
    clock: Clock,
    has_read: bool,
    /// `None` after a look that succeeded.
    said: Option<Said>,
}

impl<A: Apply> Watch<A> {
    /// A watch that has seen nothing yet; the values of the files are in use.
    pub fn new(
        center: Center,
        period: Duration,
        keys: &[Key],
        apply: A,
        metrics: DynamicMetrics,
        clock: Clock,
    ) -> Watch<A> {
        for key in keys {
            metrics.in_use.with_label_values(&[key.name()]).set(0);
            metrics.refused.with_label_values(&[key.name()]).set(0);
        }
        let provider = center.provider();
        metrics.last_success.with_label_values(&[provider]).set(0);
        let item = |key: &Key| Item {
            key: *key,
            current: None,
            refused: None,
        };
        Watch {
            center,
            period,
            items: keys.iter().map(item).collect(),
            apply,
            metrics,
            clock,
            has_read: false,
            said: None,
        }
    }

    /// Looks until `stop`: at once, then every period, sooner after a failure.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE.min(self.period);
        loop {
            let is_read = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                is_read = self.look() => is_read,
            };
            let wait = match is_read {
                true => {
                    pause = FIRST_PAUSE.min(self.period);
                    self.period
                }
                false => {
                    let wait = pause;
                    pause = (pause * 2).min(self.period);
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether the centre could be read.
    async fn look(&mut self) -> bool {
        let keys: Vec<Key> = self.items.iter().map(|item| item.key).collect();
        let reading = tokio::time::timeout(LOOK_TIMEOUT, self.center.read(&keys));
        let read = reading.await.unwrap_or_else(|_| {
            let seconds = LOOK_TIMEOUT.as_secs();
            Err(CenterError(format!("no answer within {seconds} s")))
        });
        let provider = self.center.provider();
        let outcome = if read.is_ok() { "ok" } else { "failed" };
        let reads = &self.metrics.reads;
        reads.with_label_values(&[provider, outcome]).inc();
        match read {
            Ok(values) => {
                let last = self.metrics.last_success.with_label_values(&[provider]);
                last.set(self.clock.now_ms() / 1000);
                if self.said.take().is_some() || !self.has_read {
                    tracing::info!(
                        provider,
                        keys = values.len(),
                        "the configuration centre is read"
                    );
                }
                self.has_read = true;
                self.take(values);
                true
            }
            Err(error) => {
                let reason = error.to_string();
                if let Some(held_back) = self.admit(&reason) {
                    tracing::warn!(
                        provider,
                        reason,
                        held_back,
                        "the configuration centre cannot be read, what is in use stays"
                    );
                }
                false
            }
        }
    }

    /// Whether a failure is to be said, which it then counts as: if it is another one, or the last time is long ago. Then how
    /// many were not said since.
    fn admit(&mut self, reason: &str) -> Option<u64> {
        let at_ms = self.clock.now_ms();
        let mut held_back = 0;
        if let Some(said) = &mut self.said {
            let is_old = at_ms.abs_diff(said.at_ms) >= SAY_AGAIN_MS.unsigned_abs();
            if said.reason == reason && !is_old {
                said.held_back += 1;
                return None;
            }
            held_back = said.held_back;
        }
        self.said = Some(Said {
            reason: reason.to_owned(),
            at_ms,
            held_back: 0,
        });
        Some(held_back)
    }

    /// A blank value is as none: nobody means one.
    fn take(&mut self, mut values: Values) {
        for item in &mut self.items {
            let value = values.remove(&item.key);
            let value = value.filter(|value| !value.trim_ascii().is_empty());
            if value.as_deref() == item.current.as_deref().map(str::as_bytes) {
                item.refused = None;
            } else if value.is_none() || value != item.refused {
                self.metrics.take(item, value, &mut self.apply);
            }
            let name = &[item.key.name()];
            let is_in_use = i64::from(item.current.is_some());
            self.metrics.in_use.with_label_values(name).set(is_in_use);
            let is_refused = i64::from(item.refused.is_some());
            self.metrics.refused.with_label_values(name).set(is_refused);
        }
    }
}

/// A value as the log may have it. Addresses of hooks hold secrets, so of such a file only the size is said.
fn shown(key: Key, value: Option<&str>) -> String {
    let Some(value) = value else {
        return "that of the files".to_owned();
    };
    let value = value.trim();
    let lines = value.lines().count();
    match key {
        Key::AlarmSettings => format!("{lines} lines, {} bytes", value.len()),
        _ if value.len() <= MAX_SHOWN => value.to_owned(),
        _ => {
            let end = value.floor_char_boundary(MAX_SHOWN);
            let head = value.get(..end).unwrap_or_default();
            format!("{head}… ({lines} lines, {} bytes)", value.len())
        }
    }
}

impl DynamicMetrics {
    /// Applies a value that is new and says what came of it.
    fn take(&self, item: &mut Item, value: Option<Vec<u8>>, apply: &mut impl Apply) {
        let key = item.key.name();
        let text = value.as_deref().map(str::from_utf8).transpose();
        let applied = match text {
            Ok(text) => apply.apply(item.key, text),
            Err(error) => Err(vec![format!("it is not UTF-8: {error}")]),
        };
        let outcome = match (applied, &value) {
            (Ok(notes), Some(_)) => {
                let without_effect = notes.join("; ");
                let from = shown(item.key, item.current.as_deref());
                let to = shown(item.key, text.unwrap_or_default());
                tracing::info!(key, from, to, without_effect, "a setting is changed");
                "taken"
            }
            (Ok(_), None) => {
                tracing::info!(key, "a setting is removed, that of the files is in use");
                "removed"
            }
            (Err(mistakes), _) => {
                let more = mistakes.len().saturating_sub(MAX_MISTAKES);
                let first: Vec<String> = mistakes.into_iter().take(MAX_MISTAKES).collect();
                let mistakes = first.join("; ");
                tracing::error!(
                    key,
                    mistakes,
                    more,
                    "a setting is refused, what is in use stays"
                );
                "refused"
            }
        };
        if outcome == "refused" {
            item.refused = value;
        } else {
            item.current = text.unwrap_or_default().map(str::to_owned);
            item.refused = None;
        }
        self.changes.with_label_values(&[key, outcome]).inc();
    }
}

#[cfg(test)]
mod tests;
