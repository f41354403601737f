//! A hook: a queue and a task that sends what is in it, in order, again and again until it is taken or too old. One that is
//! dead keeps no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, IntCounterVec, IntGaugeVec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::message::AlarmMessage;
use super::target::{NotSent, Target};
use crate::telemetry::{Registry, Stay, Throttle};
use crate::util::clock::Clock;

/// A check is queued as a whole where fewer alarms wait. It has at most one for each entity that rules remember.
const MAX_QUEUED: usize = 10_000;
/// Alarms of one request. A check with more makes several.
const MAX_PER_REQUEST: usize = 1000;
/// Rough bytes of an alarm that waits, with its names and texts.
const BYTES_PER_ALARM: u64 = 1024;
/// Attempts to send the same alarms, which take about five minutes if they fail at once.
const ATTEMPTS: u32 = 11;
/// Attempts where the answer says that it will stay so: whoever answers may be about to be replaced.
const ATTEMPTS_REFUSED: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between attempts once it is to end.
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// How long what is queued may take once it is to end.
const GRACE: Duration = Duration::from_secs(3);

/// Counters of all hooks, by their names.
#[derive(Debug, Clone)]
pub struct HookMetrics {
    sent: IntCounterVec,
    failures: IntCounterVec,
    dropped: IntCounterVec,
    queued: IntGaugeVec,
    stay: Histogram,
}

impl HookMetrics {
    /// Fails if the names are taken.
    pub fn new(registry: &Registry) -> prometheus::Result<HookMetrics> {
        let hook = &["hook"];
        let metrics = HookMetrics {
            stay: registry.queue_stay("alarm-hooks")?,
            sent: registry.counters("alarm_hook_sent_total", "Alarms that a hook took", hook)?,
            failures: registry.counters(
                "alarm_hook_failures_total",
                "Attempts to send alarms that failed",
                hook,
            )?,
            dropped: registry.counters(
                "alarm_hook_dropped_total",
                "Alarms that were not sent, by reason",
                &["hook", "reason"],
            )?,
            queued: registry.gauges(
                "alarm_hook_queued",
                "Alarms that wait for a hook or are being sent",
                hook,
            )?,
        };
        let queued = metrics.queued.clone();
        registry.queue("alarm-hooks", "alarms", MAX_QUEUED as u64, move || {
            fullest(&queued)
        });
        let queued = metrics.queued.clone();
        // Hooks share the alarms of a check.
        registry.memory("alarm-hooks", move || fullest(&queued) * BYTES_PER_ALARM);
        Ok(metrics)
    }

    fn dropped(&self, hook: &str, reason: &str, count: usize) {
        let dropped = self.dropped.with_label_values(&[hook, reason]);
        dropped.inc_by(count as u64);
    }
}

/// What waits for the hook for which most does: each has a queue of its own.
fn fullest(queued: &IntGaugeVec) -> u64 {
    let families = queued.collect();
    let gauges = families.iter().flat_map(|family| family.get_metric());
    let waiting = gauges.map(|metric| metric.get_gauge().get_value());
    waiting.fold(0.0, f64::max) as u64
}

/// The alarms of a check.
#[derive(Debug)]
struct Order {
    messages: Arc<[AlarmMessage]>,
    /// How many of them, from the first on, are sent or given up.
    done: usize,
    /// All alarms that wait for the hook.
    waiting: Arc<AtomicUsize>,
    _stay: Stay,
}

impl Order {
    /// The next ones to send.
    fn next(&self) -> Option<Vec<AlarmMessage>> {
        let left = self.messages.get(self.done..)?;
        let next = left.chunks(MAX_PER_REQUEST).next()?;
        Some(next.to_vec())
    }

    fn left(&self) -> usize {
        self.messages.len().saturating_sub(self.done)
    }

    /// Says that some more do not wait any longer.
    fn advance(&mut self, count: usize) {
        self.done += count;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.advance(self.left());
    }
}

/// What came of trying to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Sent,
    /// Too often.
    Failed,
    Refused,
}

/// The way into a hook.
#[derive(Debug)]
pub struct Hook {
    name: String,
    orders: mpsc::Sender<Order>,
    waiting: Arc<AtomicUsize>,
    is_removed: Arc<AtomicBool>,
    metrics: HookMetrics,
    log: Throttle,
}

/// The other end: a task.
#[derive(Debug)]
pub struct HookTask {
    name: String,
    target: Target,
    orders: mpsc::Receiver<Order>,
    /// What is being sent.
    current: Option<Order>,
    is_removed: Arc<AtomicBool>,
    metrics: HookMetrics,
    log: Throttle,
    drop_log: Throttle,
}

impl Hook {
    /// A hook, with a name for counters and the log.
    pub fn new(
        name: String,
        target: Target,
        metrics: HookMetrics,
        clock: Clock,
    ) -> (Hook, HookTask) {
        let (sender, orders) = mpsc::channel(MAX_QUEUED);
        let is_removed = Arc::<AtomicBool>::default();
        let hook = Hook {
            name: name.clone(),
            orders: sender,
            waiting: Arc::default(),
            is_removed: Arc::clone(&is_removed),
            metrics: metrics.clone(),
            log: Throttle::new(clock.clone()),
        };
        let task = HookTask {
            name,
            target,
            orders,
            current: None,
            is_removed,
            metrics,
            log: Throttle::new(clock.clone()),
            drop_log: Throttle::new(clock),
        };
        (hook, task)
    }

    /// As counters and the log name it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Says that it ends because it is not wanted any more, not because the server ends.
    pub(super) fn removed(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
    }

    /// Queues the alarms of a check, all or none: if as many wait as may, they are dropped and counted. Never waits.
    pub fn queue(&self, messages: &Arc<[AlarmMessage]>) {
        let count = messages.len();
        if count == 0 {
            return;
        }
        let before = self.waiting.load(Ordering::Relaxed);
        let is_queued = before < MAX_QUEUED && {
            self.waiting.fetch_add(count, Ordering::Relaxed);
            let order = Order {
                messages: Arc::clone(messages),
                done: 0,
                waiting: Arc::clone(&self.waiting),
                _stay: Stay::begin(Some(&self.metrics.stay)),
            };
            self.orders.try_send(order).is_ok()
        };
        if is_queued {
            let queued = self.metrics.queued.with_label_values(&[&*self.name]);
            queued.add(i64::try_from(count).unwrap_or(i64::MAX));
        } else {
            self.metrics.dropped(&self.name, "queue_full", count);
            if let Some(held_back) = self.log.admit() {
                tracing::error!(
                    hook = self.name,
                    alarms = count,
                    waiting = before,
                    reason = "queue_full",
                    held_back,
                    "alarms were not sent"
                );
            }
        }
    }
}

impl HookTask {
    /// Works until the [`Hook`] is dropped and all is sent. What is left some seconds after `stop` is dropped and counted;
    /// until then it is sent again as often as it fails.
    pub async fn run(mut self, stop: CancellationToken) {
        let is_late = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = self.work(&stop) => {}
            () = is_late => self.orders.close(),
        }
        let reason = match self.is_removed.load(Ordering::Relaxed) {
            true => "removed",
            false => "shutdown",
        };
        let mut left = 0;
        if let Some(order) = self.current.take() {
            left += order.left();
        }
        while let Some(order) = self.orders.recv().await {
            left += order.left();
        }
        if left > 0 {
            self.give_up(left, reason);
            let hook = self.name.as_str();
            tracing::error!(hook, alarms = left, reason, "alarms were not sent");
        }
    }

    async fn work(&mut self, stop: &CancellationToken) {
        while let Some(order) = self.orders.recv().await {
            let mut next = order.next();
            self.current = Some(order);
            // The rest of a check has waited as long as what failed too often.
            let mut attempts = ATTEMPTS;
            while let Some(messages) = next {
                let delivery = self.deliver(&messages, attempts, stop).await;
                if delivery == Delivery::Failed {
                    attempts = 1;
                }
                next = self.current.as_mut().and_then(|order| {
                    order.advance(messages.len());
                    order.next()
                });
            }
            self.current = None;
        }
    }

    /// Sends alarms, with pauses that get longer, and counts what became of them. After `stop` it goes on until it is dropped:
    /// these alarms have not failed too often, their time is over.
    async fn deliver(
        &mut self,
        messages: &[AlarmMessage],
        attempts: u32,
        stop: &CancellationToken,
    ) -> Delivery {
        let count = messages.len();
        let mut pause = FIRST_PAUSE;
        let mut attempt: u32 = 0;
        loop {
            attempt += 1;
            let (error, is_refused) = match self.target.send(messages).await {
                Ok(()) => {
                    let sent = self.metrics.sent.with_label_values(&[&*self.name]);
                    sent.inc_by(count as u64);
                    self.left(count);
                    return Delivery::Sent;
                }
                Err(NotSent::Failed(error)) => (error, false),
                Err(NotSent::Refused(error)) => (error, true),
            };
            let failures = self.metrics.failures.with_label_values(&[&*self.name]);
            failures.inc();
            if is_refused && attempt >= ATTEMPTS_REFUSED.min(attempts) {
                self.drop_alarms(count, "refused", &error);
                return Delivery::Refused;
            }
            if attempt >= attempts && !stop.is_cancelled() {
                self.drop_alarms(count, "failed", &error);
                return Delivery::Failed;
            }
            if let Some(held_back) = self.log.admit() {
                let hook = self.name.as_str();
                tracing::warn!(
                    hook,
                    alarms = count,
                    attempt,
                    error,
                    held_back,
                    "alarms not sent yet"
                );
            }
            if stop.is_cancelled() {
                tokio::time::sleep(LAST_PAUSE).await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn drop_alarms(&self, count: usize, reason: &str, error: &str) {
        self.give_up(count, reason);
        let hook = self.name.as_str();
        if let Some(held_back) = self.drop_log.admit() {
            tracing::error!(
                hook,
                alarms = count,
                reason,
                error,
                held_back,
                "alarms were not sent"
            );
        }
    }

    fn give_up(&self, count: usize, reason: &str) {
        self.metrics.dropped(&self.name, reason, count);
        self.left(count);
    }

    fn left(&self, count: usize) {
        let queued = self.metrics.queued.with_label_values(&[&*self.name]);
        queued.sub(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
