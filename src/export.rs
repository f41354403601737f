//! Minute values of metrics go to a receiver outside as they change (8.1.0 spec, J): what it subscribed to, in order, through a
//! bounded queue. A receiver that is away or slow loses values, counted, and never holds up anyone.

mod task;
mod value;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use oap_proto::export::ExportMetricValue;
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::mpsc;

use crate::config::ExporterSettings;
use crate::model::minute_value::MinuteValue;
use crate::telemetry::{Registry, Throttle};
use crate::util::clock::Clock;
pub use task::ExportTask;

/// Rough bytes of a value that waits, with its names.
const BYTES_PER_VALUE: u64 = 512;

/// What the exporter counts.
#[derive(Debug, Clone)]
pub struct ExportMetrics {
    sent: IntCounter,
    /// By reason.
    dropped: IntCounterVec,
    /// Failed calls, by their name.
    failures: IntCounterVec,
}

impl ExportMetrics {
    /// Fails if the names are taken.
    pub fn new(registry: &Registry) -> prometheus::Result<ExportMetrics> {
        let sent =
            registry.counters("exporter_sent_total", "Values that the receiver took", &[])?;
        Ok(ExportMetrics {
            sent: sent.with_label_values::<&str>(&[]),
            dropped: registry.counters(
                "exporter_dropped_total",
                "Values that were not sent, by reason",
                &["reason"],
            )?,
            failures: registry.counters(
                "exporter_failures_total",
                "Calls to the receiver that failed",
                &["call"],
            )?,
        })
    }

    fn drop_values(&self, values: u64, reason: &str) {
        self.dropped.with_label_values(&[reason]).inc_by(values);
    }
}

/// Which metrics the receiver wants.
#[derive(Debug, Default)]
struct Subscription(RwLock<Option<HashSet<String>>>);

impl Subscription {
    /// Everything until it is known, and if it names nothing.
    fn wants(&self, metric: &str) -> bool {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names
            .as_ref()
            .is_none_or(|names| names.is_empty() || names.contains(metric))
    }

    fn set(&self, names: Vec<String>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *all = Some(names.into_iter().collect());
    }
}

/// The way to the receiver.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Sender<ExportMetricValue>,
    subscription: Arc<Subscription>,
    metrics: ExportMetrics,
    log: Throttle,
}

impl Exporter {
    /// An exporter and the task that sends. Fails if the host is no name of one.
    pub fn new(
        settings: &ExporterSettings,
        metrics: ExportMetrics,
        clock: &Clock,
    ) -> Result<(Exporter, ExportTask), tonic::transport::Error> {
        let (queue, values) = mpsc::channel(settings.capacity);
        let subscription = Arc::<Subscription>::default();
        let task = ExportTask::new(
            settings,
            values,
            Arc::clone(&subscription),
            metrics.clone(),
            clock,
        )?;
        let exporter = Exporter {
            queue,
            subscription,
            metrics,
            log: Throttle::new(clock.clone()),
        };
        Ok((exporter, task))
    }

    /// Has it shown how full the queue is, and about how much it holds. Until the exporter is dropped.
    pub fn show(&self, registry: &Registry) {
        let capacity = self.queue.max_capacity() as u64;
        let waiting = {
            let queue = self.queue.downgrade();
            move || {
                let queue = queue.upgrade();
                queue.map_or(0, |queue| (queue.max_capacity() - queue.capacity()) as u64)
            }
        };
        let held = waiting.clone();
        registry.queue("exporter", "values", capacity, waiting);
        registry.memory("exporter", move || held() * BYTES_PER_VALUE);
    }

    /// Queues what the receiver wants; what finds no room is dropped and counted. Never waits.
    pub fn offer(&self, values: &[MinuteValue]) {
        let mut no_room = 0;
        for value in values {
            if !self.subscription.wants(&value.metric.name) {
                continue;
            }
            match value::encode(value) {
                None => self.metrics.drop_values(1, "undecodable_id"),
                Some(value) => no_room += u64::from(self.queue.try_send(value).is_err()),
            }
        }
        if no_room > 0 {
            self.metrics.drop_values(no_room, "queue_full");
            if let Some(held_back) = self.log.admit() {
                tracing::warn!(
                    values = no_room,
                    held_back,
                    "values are not exported, the receiver does not keep up"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_without_names_wants_everything() {
        let subscription = Subscription::default();
        assert!(subscription.wants("service_cpm"), "not known yet");
        subscription.set(vec![]);
        assert!(subscription.wants("service_cpm"));
        subscription.set(vec!["service_sla".to_owned()]);
        assert!(subscription.wants("service_sla"));
        assert!(!subscription.wants("service_cpm"));
    }
}
