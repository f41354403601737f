//! Settings of module `telemetry` and of the log (8.1.0 spec, J, K).

use super::section::Section;
use super::{Environment, Problem};

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

impl TelemetrySettings {
    /// Reads `telemetry.prometheus`.
    pub(super) fn read_prometheus(s: &mut Section<'_>) -> TelemetrySettings {
        TelemetrySettings::Prometheus {
            host: s.text("host", "0.0.0.0"),
            port: s.port("port", 1234),
        }
    }
}

impl LogSettings {
    /// Reads the two variables; an unknown format is a problem.
    pub fn read(environment: &Environment) -> Result<LogSettings, Problem> {
        let variable = |name| {
            environment
                .get(name)
                .map(str::trim)
                .filter(|v| !v.is_empty())
        };
        let format = match variable("OAP_LOG_FORMAT") {
            None | Some("plain") => LogFormat::Plain,
            Some("json") => LogFormat::Json,
            Some(other) => {
                return Err(Problem {
                    path: "OAP_LOG_FORMAT".to_owned(),
                    value: Some(other.to_owned()),
                    origin: String::new(),
                    expected: "plain or json".to_owned(),
                });
            }
        };
        Ok(LogSettings {
            filter: variable("OAP_LOG").unwrap_or("info").to_owned(),
            format,
        })
    }
}
