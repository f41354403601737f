//! Figures that are read when someone looks: how full queues are, and who holds how much memory.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

type Read = Box<dyn Fn() -> u64 + Send + Sync>;

struct Queue {
    name: &'static str,
    unit: &'static str,
    capacity: u64,
    depth: Read,
}

/// What is read. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Probes {
    queues: Arc<Mutex<Vec<Queue>>>,
    owners: Arc<Mutex<Vec<(&'static str, Read)>>>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

impl Probes {
    pub(super) fn queue(
        &self,
        name: &'static str,
        unit: &'static str,
        capacity: u64,
        depth: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let queue = Queue {
            name,
            unit,
            capacity,
            depth: Box::new(depth),
        };
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push(queue);
    }

    pub(super) fn memory(
        &self,
        owner: &'static str,
        bytes: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.push((owner, Box::new(bytes)));
    }

    /// Queues and owners of the same name count together.
    pub(super) fn families(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let of_queue = &["queue", "unit"];
        let depth = gauges("queue_depth", "What waits in a queue", of_queue)?;
        let capacity = gauges("queue_capacity", "What a queue has room for", of_queue)?;
        let help = "Estimated bytes held, by owner";
        let memory = gauges("memory_bytes", help, &["owner"])?;
        for queue in &*self.queues.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [queue.name, queue.unit];
            depth
                .with_label_values(&labels)
                .add(signed((queue.depth)()));
            let room = signed(queue.capacity);
            capacity.with_label_values(&labels).add(room);
        }
        for (owner, bytes) in &*self.owners.lock().unwrap_or_else(PoisonError::into_inner) {
            memory.with_label_values(&[owner]).add(signed(bytes()));
        }
        let mut families = depth.collect();
        families.extend(capacity.collect());
        families.extend(memory.collect());
        Ok(families)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_same_name_counts_together() {
        let probes = Probes::default();
        probes.queue("shards", "batches", 32, || 3);
        probes.queue("shards", "batches", 32, || 4);
        probes.memory("rows", || 7);
        let families = probes.families().unwrap();
        let value = |at: usize| families[at].get_metric()[0].get_gauge().get_value();
        assert_eq!((value(0), value(1), value(2)), (7.0, 64.0, 7.0));
    }
}
