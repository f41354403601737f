//! Meaning: a protocol message becomes facts (sources and metadata) and records. Same bytes in, same facts out.
//!
//! Nothing is aggregated, stored or awaited here. A message that makes no sense is rejected whole, with a reason.

mod access_log;
mod bounds;
mod by_names;
pub mod clr;
pub mod entities;
mod envoy;
pub mod facts;
pub mod gateways;
pub mod grouping;
mod istio;
pub mod jvm;
pub mod known;
pub mod management;
pub mod mesh;
pub mod meter;
pub mod naming;
pub mod pods;
mod profile;
pub mod prometheus;
mod request;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod trace;

use std::sync::Arc;

pub use facts::Facts;
pub use known::Known;
pub use settings::AnalyzerSettings;

use crate::model::fact::Fact;
use crate::model::message::Message;
use crate::model::profile::TaskOperation;
use crate::model::schema::{Model, Schema};
use crate::model::time_bucket::{DAY_MS, Zone};
use crate::stream::{AddressBook, TaskBook};
use crate::util::clock::Clock;
use entities::Entities;
use meter::Meters;
use naming::EndpointNames;
use prometheus::PrometheusRules;

/// Why a message was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.reason())]
pub enum Reject {
    Undecodable,
    MissingId,
    /// A part of a message does not say what has to be known.
    MissingDimension,
    IdTooLong,
    /// A name so long that it is no name; shorter ones are cut to the limits of the settings.
    NameTooLong,
    TimeOutOfRange,
    TooLarge,
    /// Traffic that says only addresses, while no pod is known.
    NoPods,
}

impl Reject {
    /// Name in counters and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Reject::Undecodable => "undecodable",
            Reject::MissingId => "missing_id",
            Reject::MissingDimension => "missing_dimension",
            Reject::IdTooLong => "id_too_long",
            Reject::NameTooLong => "name_too_long",
            Reject::TimeOutOfRange => "time_out_of_range",
            Reject::TooLarge => "too_large",
            Reject::NoPods => "no_pods",
        }
    }
}

/// A clock that is further ahead is wrong, and every day has files or indices of its own, which would stay until then.
const MAX_AHEAD_MS: i64 = DAY_MS;

/// Analyses messages one after another. Not shared: each analyzer task owns one, with its own caches.
#[derive(Debug)]
pub struct Analyzer {
    settings: Arc<AnalyzerSettings>,
    zone: Zone,
    clock: Clock,
    addresses: Arc<AddressBook>,
    entities: Entities,
    endpoints: EndpointNames,
    segment_model: Option<Arc<Model>>,
    statement_model: Option<Arc<Model>>,
    tasks: Arc<TaskBook>,
    snapshot_model: Option<Arc<Model>>,
    task_log_model: Option<Arc<Model>>,
    /// `None` if the meter receiver is off.
    meters: Option<Arc<Meters>>,
    prometheus: Option<Arc<PrometheusRules>>,
}

impl Analyzer {
    pub fn new(
        settings: Arc<AnalyzerSettings>,
        schema: &Schema,
        zone: Zone,
        clock: Clock,
        addresses: Arc<AddressBook>,
    ) -> Analyzer {
        Analyzer {
            endpoints: EndpointNames::new(Arc::clone(&settings.grouping)),
            settings,
            zone,
            clock,
            addresses,
            entities: Entities::new(),
            segment_model: schema.model("segment").cloned(),
            statement_model: schema.model("top_n_database_statement").cloned(),
            tasks: Arc::default(),
            snapshot_model: schema.model("profile_task_segment_snapshot").cloned(),
            task_log_model: schema.model("profile_task_log").cloned(),
            meters: None,
            prometheus: None,
        }
    }

    /// Goes on with other settings.
    pub fn adopt(&mut self, settings: Arc<AnalyzerSettings>) {
        if !Arc::ptr_eq(&self.settings.grouping, &settings.grouping) {
            self.endpoints = EndpointNames::new(Arc::clone(&settings.grouping));
        }
        self.settings = settings;
    }

    /// Also makes meters of the pages of Prometheus targets.
    pub fn with_prometheus(self, rules: Arc<PrometheusRules>) -> Analyzer {
        Analyzer {
            prometheus: Some(rules),
            ..self
        }
    }

    /// Also evaluates rules of meters.
    pub fn with_meters(self, meters: Arc<Meters>) -> Analyzer {
        Analyzer {
            meters: Some(meters),
            ..self
        }
    }

    /// Shares entities with other analyzers.
    pub fn sharing(self, known: &Arc<Known>) -> Analyzer {
        Analyzer {
            entities: Entities::sharing(Arc::clone(known)),
            ..self
        }
    }

    /// The same, logging what happens to these profile tasks.
    pub fn knowing_tasks(self, tasks: Arc<TaskBook>) -> Analyzer {
        Analyzer { tasks, ..self }
    }

    /// Adds what a message means to `facts`; on rejection nothing of it is added. If only parts of it make no sense, the
    /// others are added and `facts.rejected` tells why.
    pub fn analyze(&mut self, message: &Message, facts: &mut Facts) -> Result<(), Reject> {
        bounds::check(message)?;
        match message {
            Message::Segment(bytes) => self.segment(bytes, facts),
            Message::JvmMetrics(bytes) => self.jvm_metrics(bytes, facts),
            Message::ClrMetrics(bytes) => self.clr_metrics(bytes, facts),
            Message::InstanceProperties(bytes) => self.instance_properties(bytes, facts),
            Message::KeepAlive(bytes) => self.keep_alive(bytes, facts),
            Message::Mesh(bytes) => self.mesh(bytes, facts),
            Message::Mixer(bytes) => self.mixer(bytes, facts),
            Message::ProfileSnapshot(bytes) => self.profile_snapshot(bytes, facts),
            Message::ProfileTaskNotified(bytes) => {
                self.profile_task_event(TaskOperation::Notified, bytes, facts)
            }
            Message::ProfileTaskFinished(bytes) => {
                self.profile_task_event(TaskOperation::Finished, bytes, facts)
            }
            Message::Meters(bytes) => self.meters(bytes, facts),
            Message::EnvoyMetrics { identifier, body } => {
                self.envoy_metrics(identifier, body, facts)
            }
            Message::EnvoyAccessLogs { identifier, body } => {
                self.access_logs(identifier, body, facts)
            }
            Message::Prometheus(bytes) => self.scrape(bytes, facts),
        }
    }

    /// Second bucket of an instant that an agent reports.
    fn second(&self, epoch_ms: i64) -> Result<u64, Reject> {
        let now = self.clock.now_ms();
        let earliest = now.saturating_sub(self.settings.max_age_ms);
        let latest = now.saturating_add(MAX_AHEAD_MS);
        let second = (earliest..=latest)
            .contains(&epoch_ms)
            .then(|| self.zone.second(epoch_ms));
        second.flatten().ok_or(Reject::TimeOutOfRange)
    }
}
