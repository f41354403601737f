//! What a node counts about the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use crate::telemetry::Registers;
use crate::telemetry::registry::LATENCY_BUCKETS;

/// Counters and gauges of the exchange with other nodes.
#[derive(Debug, Clone)]
pub struct ClusterMetrics {
    /// Members as this node sees them, itself among them.
    pub(super) members: IntGauge,
    /// Partitions that it writes.
    pub(super) partitions: IntGauge,
    /// Whether another node answers at the address of this one.
    pub(super) address_taken: IntGauge,
    /// Increments that wait for their owner.
    pub(super) waiting: IntGauge,
    /// Bytes of those that have not been sent yet.
    pub(super) waiting_bytes: Arc<AtomicU64>,
    /// The same with those on their way to other nodes and into the own shards.
    pub(super) held_bytes: Arc<AtomicU64>,
    /// Increments that an owner took, and that were taken from others.
    pub(super) exchanged: IntCounterVec,
    /// Values given up, by reason.
    pub(super) shed: IntCounterVec,
    /// Batches sent again although the first may have been taken, because the other process ended.
    pub(super) uncertain: IntCounter,
    /// Members that went without handing over.
    pub(super) lost_members: IntCounter,
    /// Times that others took this node for gone.
    pub(super) begun_anew: IntCounter,
    /// Calls that failed.
    pub(super) failures: IntCounterVec,
    /// Whether the coordinator has this node.
    pub(super) registered: IntGauge,
    /// Times that this node announced itself.
    pub(super) registrations: IntCounter,
    coordinator_failures: IntCounterVec,
    strange_entries: IntGauge,
    /// Partitions of each member, by its address and state.
    pub(super) shares: IntGaugeVec,
    pub(super) remote: RemoteMetrics,
}

/// What is exchanged, under the names of the original (8.1.0 spec, J). Values are increments here, those of one entity and
/// minute together.
#[derive(Debug, Clone)]
pub(super) struct RemoteMetrics {
    /// Sent to a member, by its address; what stays here has `Y` as `self`.
    pub(super) sent: IntCounterVec,
    /// Batches that a member did not answer.
    pub(super) send_errors: IntCounterVec,
    pub(super) received: IntCounter,
    /// Streams of nodes of the original that broke.
    pub(super) receive_errors: IntCounter,
    /// Values of metrics that this server does not have.
    pub(super) unknown: IntCounter,
    /// Seconds to take a batch in.
    pub(super) latency: Histogram,
}

impl RemoteMetrics {
    fn new() -> prometheus::Result<RemoteMetrics> {
        let of_member = &["dest", "self"];
        let vec = |name, help| IntCounterVec::new(Opts::new(name, help), of_member);
        let latency =
            HistogramOpts::new("remote_in_latency", "Seconds to take a batch of others in")
                .buckets(LATENCY_BUCKETS.to_vec());
        Ok(RemoteMetrics {
            sent: vec(
                "remote_out_count",
                "Increments sent to members, and facts that stay here (self is Y)",
            )?,
            send_errors: vec("remote_out_error_count", "Batches that were not answered")?,
            received: IntCounter::new("remote_in_count", "Increments that others sent")?,
            receive_errors: IntCounter::new(
                "remote_in_error_count",
                "Streams of nodes of the original that broke",
            )?,
            unknown: IntCounter::new(
                "remote_in_target_not_found_count",
                "Values that others sent of metrics that are not here",
            )?,
            latency: Histogram::with_opts(latency)?,
        })
    }

    fn register(&self, registry: &impl Registers) -> prometheus::Result<()> {
        registry.register(Box::new(self.sent.clone()))?;
        registry.register(Box::new(self.send_errors.clone()))?;
        registry.register(Box::new(self.received.clone()))?;
        registry.register(Box::new(self.receive_errors.clone()))?;
        registry.register(Box::new(self.unknown.clone()))?;
        registry.register(Box::new(self.latency.clone()))
    }
}

impl ClusterMetrics {
    pub fn new(registry: &impl Registers) -> prometheus::Result<ClusterMetrics> {
        let metrics = ClusterMetrics {
            // The name of the original.
            members: IntGauge::new("cluster_size", "Servers of the cluster, this one included")?,
            partitions: IntGauge::new(
                "cluster_partitions_held",
                "Partitions of all entities, of 1024, whose rows this node writes",
            )?,
            address_taken: IntGauge::new(
                "cluster_address_taken",
                "Whether another node answers at the address of this one, so that it writes nothing",
            )?,
            waiting: IntGauge::new(
                "cluster_increments_waiting",
                "Increments that wait until the node that writes them can take them",
            )?,
            waiting_bytes: Arc::default(),
            held_bytes: Arc::default(),
            exchanged: IntCounterVec::new(
                Opts::new(
                    "cluster_increments_total",
                    "Increments exchanged with other nodes, by direction (sent, taken, of_java)",
                ),
                &["direction"],
            )?,
            shed: IntCounterVec::new(
                Opts::new(
                    "cluster_shed_total",
                    "Values given up on their way to other nodes, by reason",
                ),
                &["reason"],
            )?,
            uncertain: IntCounter::new(
                "cluster_uncertain_batches_total",
                "Batches sent again that the process which ended may have stored",
            )?,
            begun_anew: IntCounter::new(
                "cluster_begun_anew_total",
                "Times that others took this node for gone, so that it took its share over anew",
            )?,
            lost_members: IntCounter::new(
                "cluster_lost_members_total",
                "Members that went without handing over what they held",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "cluster_failures_total",
                    "Failed calls of other nodes, by call",
                ),
                &["call"],
            )?,
            registered: IntGauge::new(
                "cluster_registered",
                "Whether this node is announced at the coordinator",
            )?,
            registrations: IntCounter::new(
                "cluster_registrations_total",
                "Times that this node announced itself at the coordinator",
            )?,
            coordinator_failures: IntCounterVec::new(
                Opts::new(
                    "cluster_coordinator_failures_total",
                    "Calls of the coordinator that failed, by call (register, renew, list, leave)",
                ),
                &["call"],
            )?,
            strange_entries: IntGauge::new(
                "cluster_strange_entries",
                "Entries of the coordinator's list that are no nodes and are passed over",
            )?,
            shares: IntGaugeVec::new(
                Opts::new(
                    "cluster_member_partitions",
                    "Partitions that each member should write, by its address and state",
                ),
                &["member", "state"],
            )?,
            remote: RemoteMetrics::new()?,
        };
        for call in ["register", "renew", "list", "leave"] {
            metrics.coordinator_failures.with_label_values(&[call]);
        }
        metrics.remote.register(registry)?;
        registry.register(Box::new(metrics.shares.clone()))?;
        registry.register(Box::new(metrics.members.clone()))?;
        registry.register(Box::new(metrics.partitions.clone()))?;
        registry.register(Box::new(metrics.address_taken.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.exchanged.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        registry.register(Box::new(metrics.uncertain.clone()))?;
        registry.register(Box::new(metrics.lost_members.clone()))?;
        registry.register(Box::new(metrics.begun_anew.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.registered.clone()))?;
        registry.register(Box::new(metrics.registrations.clone()))?;
        registry.register(Box::new(metrics.coordinator_failures.clone()))?;
        registry.register(Box::new(metrics.strange_entries.clone()))?;
        Ok(metrics)
    }

    /// Bytes that wait for other members, read when asked.
    pub fn waiting_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let bytes = Arc::clone(&self.waiting_bytes);
        move || bytes.load(Ordering::Relaxed)
    }

    /// The same with what is on its way to them, or from them into the own shards.
    pub fn held_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let bytes = Arc::clone(&self.held_bytes);
        move || bytes.load(Ordering::Relaxed)
    }

    /// How many entries of the last list are no nodes.
    pub(super) fn pass_over(&self, entries: usize) {
        self.strange_entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Counts a call of the coordinator that failed.
    pub(super) fn coordinator_failed(&self, call: &str) {
        self.coordinator_failures.with_label_values(&[call]).inc();
    }
}
