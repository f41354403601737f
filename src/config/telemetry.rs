//! Settings of modules `telemetry` and `exporter`, and of the log, which come from the environment only (8.1.0 spec, J, K).

use super::section::Section;
use super::{Environment, Problem};
use crate::telemetry::log::check_filter;
use crate::telemetry::{LogFormat, LogSettings};

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

impl TelemetrySettings {
    /// Reads `telemetry.prometheus`.
    pub(super) fn read_prometheus(s: &mut Section<'_>) -> TelemetrySettings {
        TelemetrySettings::Prometheus {
            host: s.text("host", "0.0.0.0"),
            port: s.port("port", 1234),
        }
    }
}

/// `exporter.grpc`: minute values go to a receiver outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExporterSettings {
    pub host: String,
    pub port: u16,
    /// Values that may wait: `bufferChannelSize` times `bufferChannelNum`.
    pub capacity: usize,
}

impl ExporterSettings {
    /// Reads `exporter.grpc`.
    pub(super) fn read(s: &mut Section<'_>) -> ExporterSettings {
        let size: usize = s.number("bufferChannelSize", 20_000, 1..=1_000_000);
        let channels: usize = s.number("bufferChannelNum", 2, 1..=100);
        ExporterSettings {
            host: s.text("targetHost", "127.0.0.1"),
            port: s.port("targetPort", 9870),
            capacity: size * channels,
        }
    }
}

/// Reads how to log; what is wrong is a problem.
pub(super) fn read_log(environment: &Environment) -> (LogSettings, Vec<Problem>) {
    let mut log = LogSettings::default();
    let mut problems = Vec::new();
    let mut problem = |name: &str, value: &str, expected: &str| {
        problems.push(Problem {
            path: name.to_owned(),
            value: Some(value.to_owned()),
            origin: String::new(),
            expected: expected.to_owned(),
        });
    };
    let variable = |name| {
        environment
            .get(name)
            .map(str::trim)
            .filter(|v| !v.is_empty())
    };
    match variable("OAP_LOG_FORMAT") {
        None | Some("plain") => {}
        Some("json") => log.format = LogFormat::Json,
        Some(other) => problem("OAP_LOG_FORMAT", other, "plain or json"),
    }
    match variable("OAP_LOG") {
        None => {}
        Some(filter) if check_filter(filter).is_ok() => log.filter = filter.to_owned(),
        Some(other) => problem(
            "OAP_LOG",
            other,
            "levels as info or info,oap::storage=debug",
        ),
    }
    (log, problems)
}
