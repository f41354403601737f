//! A hook: a queue and a task that sends what is in it, in order, again and again until it is taken or too old. One that is
//! dead keeps no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, IntCounterVec, IntGaugeVec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::message::AlarmMessage;
use super::target::Target;
use crate::telemetry::{Registry, Stay, Throttle};
use crate::util::clock::Clock;

/// Alarms that may wait for a hook.
const MAX_QUEUED: usize = 10_000;
/// Alarms of one request. A check with more makes several.
const MAX_PER_REQUEST: usize = 1000;
/// Attempts to send the same alarms, which take about five minutes if they fail at once.
const ATTEMPTS: u32 = 11;
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
        Ok(metrics)
    }
}

/// What waits for the hook for which most does: each has a queue of its own.
fn fullest(queued: &IntGaugeVec) -> u64 {
    let families = queued.collect();
    let gauges = families.iter().flat_map(|family| family.get_metric());
    let waiting = gauges.map(|metric| metric.get_gauge().get_value());
    waiting.fold(0.0, f64::max) as u64
}

/// Alarms, and the room that they take in the queue.
#[derive(Debug)]
struct Order {
    messages: Arc<[AlarmMessage]>,
    _room: OwnedSemaphorePermit,
    _stay: Stay,
}

/// The way into a hook.
#[derive(Debug)]
pub struct Hook {
    name: String,
    orders: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
    is_removed: Arc<AtomicBool>,
    metrics: HookMetrics,
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
            room: Arc::new(Semaphore::new(MAX_QUEUED)),
            is_removed: Arc::clone(&is_removed),
            metrics: metrics.clone(),
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

    /// Queues the alarms of a check; what finds no room is dropped and counted. Never waits.
    pub fn queue(&self, messages: &[AlarmMessage]) {
        for messages in messages.chunks(MAX_PER_REQUEST) {
            let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            let room = Arc::clone(&self.room).try_acquire_many_owned(count);
            let is_queued = room.is_ok_and(|room| {
                let order = Order {
                    messages: messages.into(),
                    _room: room,
                    _stay: Stay::begin(Some(&self.metrics.stay)),
                };
                self.orders.try_send(order).is_ok()
            });
            if is_queued {
                let queued = self.metrics.queued.with_label_values(&[&*self.name]);
                queued.add(count.into());
            } else {
                let dropped = &self.metrics.dropped;
                let dropped = dropped.with_label_values(&[&*self.name, "queue_full"]);
                dropped.inc_by(count.into());
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
        if let Some(order) = self.current.take() {
            self.drop_order(&order, reason);
        }
        while let Some(order) = self.orders.recv().await {
            self.drop_order(&order, reason);
        }
    }

    async fn work(&mut self, stop: &CancellationToken) {
        while let Some(order) = self.orders.recv().await {
            let messages = Arc::clone(&order.messages);
            self.current = Some(order);
            let is_sent = self.deliver(&messages, stop).await;
            if let Some(order) = self.current.take()
                && !is_sent
            {
                self.drop_order(&order, "failed");
            }
        }
    }

    /// Sends alarms, with pauses that get longer; says whether they were taken. After `stop` it goes on until it is dropped:
    /// these alarms have not failed too often, their time is over.
    async fn deliver(&mut self, messages: &[AlarmMessage], stop: &CancellationToken) -> bool {
        let count = messages.len();
        let mut pause = FIRST_PAUSE;
        let mut attempt: u32 = 0;
        loop {
            attempt += 1;
            let Err(error) = self.target.send(messages).await else {
                let sent = self.metrics.sent.with_label_values(&[&*self.name]);
                sent.inc_by(count as u64);
                self.left(count);
                return true;
            };
            let failures = self.metrics.failures.with_label_values(&[&*self.name]);
            failures.inc();
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
            if attempt >= ATTEMPTS {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn drop_order(&self, order: &Order, reason: &str) {
        let count = order.messages.len();
        let dropped = &self.metrics.dropped;
        let dropped = dropped.with_label_values(&[&*self.name, reason]);
        dropped.inc_by(count as u64);
        self.left(count);
        let hook = self.name.as_str();
        if let Some(held_back) = self.drop_log.admit() {
            tracing::error!(
                hook,
                alarms = count,
                reason,
                held_back,
                "alarms were not sent"
            );
        }
    }

    fn left(&self, count: usize) {
        let queued = self.metrics.queued.with_label_values(&[&*self.name]);
        queued.sub(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
