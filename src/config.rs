//! Configuration: from `application.yml`, environment and `JAVA_OPTS` to typed settings.
//!
//! The only module that reads the environment. Nothing here opens a port or starts a task.

mod analyzer;
mod core;
mod receiver;
mod secret;
mod settings;
mod storage;
mod telemetry;

pub use analyzer::{AnalyzerSettings, SlowThresholds};
pub use core::{CoreSettings, Role, TlsSettings};
pub use receiver::{EnvoySettings, ReceiverSettings, SharingSettings};
pub use secret::Secret;
pub use settings::{ClusterSettings, QuerySettings, RunMode, Settings};
pub use storage::{EmbeddedSettings, EsProtocol, EsSettings, StorageSettings};
pub use telemetry::{LogFormat, LogSettings, TelemetrySettings};
