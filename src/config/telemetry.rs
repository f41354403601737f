//! Settings of module `telemetry` and of the log (8.1.0 spec, J, K).

/// `telemetry`: metrics of the server about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelemetrySettings {
    /// Measured, but not served.
    None,
    Prometheus {
        host: String,
        port: u16,
    },
}

/// How the log is written. Comes from the environment only, so that it works before any file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `OAP_LOG`: levels as `info` or `info,oap::storage=debug`.
    pub filter: String,
    /// `OAP_LOG_FORMAT`: `plain` or `json`.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Plain,
    Json,
}
