//! All settings of a process in one tree, checked and typed.

use std::time::Duration;

use super::{
    AnalyzerSettings, ClusterSettings, CoreSettings, DynamicSettings, ExporterSettings,
    ReceiverSettings, SharingSettings, StorageSettings, TelemetrySettings,
};
use crate::telemetry::LogSettings;

/// Bytes that one process may hold if nothing else is said.
pub const DEFAULT_BUDGET: u64 = 256 << 20;

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub mode: RunMode,
    /// `-Duser.timezone`, else `TZ`; `None` is the zone of the machine. Decides every time bucket.
    /// [`super::time_zone`] knows it.
    pub time_zone: Option<String>,
    /// `-Xmx` in bytes: what all queues, values and caches together may take.
    pub memory_budget: Option<u64>,
    pub log: LogSettings,
    pub cluster: ClusterSettings,
    pub core: CoreSettings,
    pub storage: StorageSettings,
    /// `None` if the module is off.
    pub agent_analyzer: Option<AnalyzerSettings>,
    /// `None` if the module is off, and then no receiver is on.
    pub receiver_sharing: Option<SharingSettings>,
    pub receivers: ReceiverSettings,
    /// Whether module `prometheus-fetcher` is on and active.
    pub prometheus_fetcher: bool,
    /// `None` if the module is off.
    pub query: Option<QuerySettings>,
    /// Whether module `alarm` is on.
    pub alarm: bool,
    pub telemetry: TelemetrySettings,
    /// `None` if settings stay as they are.
    pub dynamic: Option<DynamicSettings>,
    /// `None` if the module is off.
    pub exporter: Option<ExporterSettings>,
    /// Between two checks of module `health-checker`; `None` if it is off.
    pub health_checker: Option<Duration>,
}

/// `-Dmode` of `JAVA_OPTS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    Normal,
    /// Create the storage structures, then exit.
    Init,
    /// Never create them, wait until they exist.
    NoInit,
}

/// `query.graphql`.
#[derive(Debug, Clone)]
pub struct QuerySettings {
    /// Below the context path of core.
    pub path: String,
}

impl Settings {
    /// Names of the OAL scripts that the selected modules need, without directory and extension (8.1.0 spec, D.2).
    pub fn oal_scripts(&self) -> Vec<&'static str> {
        let receivers = &self.receivers;
        let accepts_envoy = receivers
            .envoy
            .as_ref()
            .is_some_and(|e| e.accept_metrics_service);
        [
            ("core", self.agent_analyzer.is_some() || receivers.mesh),
            ("java-agent", receivers.jvm),
            ("dotnet-agent", receivers.clr),
            ("envoy", accepts_envoy),
        ]
        .into_iter()
        .filter(|(_, is_needed)| *is_needed)
        .map(|(name, _)| name)
        .collect()
    }
}
