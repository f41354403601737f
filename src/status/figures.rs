//! The figures of one moment, read from the metrics.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::telemetry::ledger::Account;

/// What one look at the metrics shows; counters since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Messages by kind and protocol.
    pub received: BTreeMap<(String, String), f64>,
    pub ledger: BTreeMap<String, Account>,
    pub queues: Vec<Queue>,
    /// Lanes that the store takes nothing from.
    pub away: Vec<String>,
    pub stored_rows: f64,
    pub writes: f64,
    pub write_seconds: f64,
    pub write_errors: f64,
    /// Rows that the store refused for good.
    pub dead_letters: f64,
    /// Alarms that were not sent, by hook and reason.
    pub unsent_alarms: BTreeMap<(String, String), f64>,
    /// Seconds that analyzers worked.
    pub busy_seconds: f64,
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    /// Estimated bytes by owner.
    pub memory: BTreeMap<String, f64>,
    /// Epoch seconds.
    pub started: f64,
    pub cluster_size: f64,
    /// In a cluster, by address.
    pub members: Vec<Member>,
}

/// A server of the cluster, as this one sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Member {
    pub address: String,
    pub state: String,
    /// Partitions that it should write.
    pub partitions: f64,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Queue {
    pub name: String,
    pub unit: String,
    pub depth: f64,
    pub capacity: f64,
    /// Seconds that whoever fills it waited for room.
    pub waited: f64,
}

impl Queue {
    /// How full it is, from 0 to 1 and beyond.
    pub(super) fn fill(&self) -> f64 {
        if self.capacity > 0.0 {
            self.depth / self.capacity
        } else {
            0.0
        }
    }
}

impl Figures {
    /// Messages of all kinds.
    pub(super) fn messages(&self) -> f64 {
        self.received.values().sum()
    }
}

/// Reads what the page shows.
pub(super) fn read(families: &[MetricFamily], ledger: BTreeMap<String, Account>) -> Figures {
    let metrics = |name: &str| {
        let family = families.iter().find(|family| family.name() == name);
        let kind = family.map_or(MetricType::UNTYPED, MetricFamily::get_field_type);
        let metrics = family.map_or(&[][..], MetricFamily::get_metric);
        metrics
            .iter()
            .map(move |metric| (metric, value(kind, metric)))
    };
    let sum = |name: &str| metrics(name).map(|(_, value)| value).sum::<f64>();
    let received = metrics("receiver_in_count");
    let received =
        received.map(|(metric, value)| ((label(metric, "kind"), label(metric, "protocol")), value));
    let waited = |queue: &str| {
        let mut waits = metrics("queue_wait_seconds");
        let wait = waits.find(|(metric, _)| label(metric, "queue") == queue);
        wait.map_or(0.0, |(metric, _)| metric.get_histogram().get_sample_sum())
    };
    let capacities: Vec<f64> = metrics("queue_capacity").map(|(_, value)| value).collect();
    let queues = metrics("queue_depth").zip(capacities);
    let queues = queues.map(|((metric, depth), capacity)| {
        let name = label(metric, "queue");
        Queue {
            unit: label(metric, "unit"),
            depth,
            capacity,
            waited: waited(&name),
            name,
        }
    });
    let mut queues: Vec<Queue> = queues.collect();
    // As data flows through them.
    let order = ["analyzers", "shards", "metrics-writer", "records-writer"];
    queues.sort_by_key(|queue| {
        let place = order.iter().position(|name| *name == queue.name);
        (place.unwrap_or(order.len()), queue.name.clone())
    });
    let away = metrics("storage_away").filter(|(_, value)| *value > 0.0);
    let execute = "persistence_timer_bulk_execute_latency";
    let execute = metrics(execute)
        .next()
        .map(|(metric, _)| metric.get_histogram());
    let memory = metrics("memory_bytes");
    let unsent_alarms = metrics("alarm_hook_dropped_total");
    let unsent_alarms = unsent_alarms
        .map(|(metric, value)| ((label(metric, "hook"), label(metric, "reason")), value));
    let members = metrics("cluster_member_partitions");
    let members = members.map(|(metric, partitions)| Member {
        address: label(metric, "member"),
        state: label(metric, "state"),
        partitions,
    });
    let mut members: Vec<Member> = members.collect();
    members.sort_by(|a, b| a.address.cmp(&b.address));
    Figures {
        received: received.collect(),
        ledger,
        queues,
        away: away.map(|(metric, _)| label(metric, "lane")).collect(),
        stored_rows: sum("storage_stored_rows_total"),
        writes: execute.map_or(0.0, |h| h.get_sample_count() as f64),
        write_seconds: execute.map_or(0.0, |h| h.get_sample_sum()),
        dead_letters: sum("storage_dead_letters_total"),
        unsent_alarms: unsent_alarms.collect(),
        write_errors: sum("persistence_timer_bulk_error_count"),
        busy_seconds: sum("analyzer_busy_seconds_total"),
        cpu_seconds: sum("process_cpu_seconds_total"),
        resident_bytes: sum("process_resident_memory_bytes"),
        memory: memory
            .map(|(metric, value)| (label(metric, "owner"), value))
            .collect(),
        started: sum("uptime"),
        cluster_size: sum("cluster_size"),
        members,
    }
}

fn value(kind: MetricType, metric: &Metric) -> f64 {
    match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        MetricType::HISTOGRAM => metric.get_histogram().get_sample_count() as f64,
        _ => 0.0,
    }
}

fn label(metric: &Metric, name: &str) -> String {
    let mut labels = metric.get_label().iter();
    let found = labels.find(|label| label.name() == name);
    found.map_or_else(String::new, |label| label.value().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    #[test]
    fn figures_come_from_the_metrics() {
        let registry = Registry::new("h", 1);
        let received = registry
            .counters("receiver_in_count", "m", &["kind", "protocol"])
            .unwrap();
        received.with_label_values(&["segment", "grpc"]).inc_by(3);
        received.with_label_values(&["jvm", "grpc"]).inc_by(4);
        registry.queue("shards", "batches", 64, || 16);
        registry.queue("analyzers", "bytes", 100, || 1);
        registry.queue_wait("shards").unwrap().observe(1.5);
        let away = registry.gauges("storage_away", "a", &["lane"]).unwrap();
        away.with_label_values(&["metrics-writer"]).set(1);
        away.with_label_values(&["records-writer"]).set(0);
        let of_hook = &["hook", "reason"];
        let unsent = registry.counters("alarm_hook_dropped_total", "u", of_hook);
        let unsent = unsent.unwrap();
        unsent.with_label_values(&["h", "failed"]).inc_by(5);
        let letters = registry.counters("storage_dead_letters_total", "l", &["outcome"]);
        let letters = letters.unwrap();
        letters.with_label_values(&["kept"]).inc_by(2);
        letters.with_label_values(&["lost"]).inc_by(1);
        registry.gauge("uptime", "u").unwrap().set(7.0);
        registry.memory("rows", || 9);
        let of_member = ["member", "state"];
        let shares = registry.gauges("cluster_member_partitions", "p", &of_member);
        let shares = shares.unwrap();
        shares.with_label_values(&["b:2", "self"]).set(24);
        shares.with_label_values(&["a:1", "alive"]).set(1000);
        let figures = read(&registry.gather().unwrap(), BTreeMap::new());
        assert_eq!(figures.messages(), 7.0);
        let shards = &figures.queues[1];
        assert_eq!((shards.fill(), shards.waited), (0.25, 1.5));
        assert_eq!(figures.queues.len(), 2);
        assert_eq!(figures.away, ["metrics-writer"]);
        let members = figures.members.iter();
        let members = members.map(|m| (&*m.address, &*m.state, m.partitions));
        let members: Vec<_> = members.collect();
        assert_eq!(members, [("a:1", "alive", 1000.0), ("b:2", "self", 24.0)]);
        assert_eq!((figures.started, figures.memory["rows"]), (7.0, 9.0));
        assert!(figures.resident_bytes > 0.0);
        let key = ("h".to_owned(), "failed".to_owned());
        assert_eq!(figures.unsent_alarms, BTreeMap::from([(key, 5.0)]));
        assert_eq!(figures.dead_letters, 3.0);
    }
}
