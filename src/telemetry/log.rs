//! The log, on standard output or beside it. Set up before any file is read, from the environment only.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `OAP_LOG`: levels as `info` or `info,oap::storage=debug`.
    pub filter: String,
    /// `OAP_LOG_FORMAT`: `plain` or `json`.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            filter: "info".to_owned(),
            format: LogFormat::Plain,
        }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Plain,
    /// One JSON object per line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter {filter:?} is not understood")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the process already has a log")]
    AlreadySet,
}

/// Checks a filter without using it.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(|_| ())
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    Stdout,
    /// For commands whose answer is on the standard output.
    Stderr,
}

/// Starts the log of the process. Works once.
pub fn init(settings: &LogSettings, output: LogOutput) -> Result<(), LogError> {
    let (writer, is_terminal) = match output {
        LogOutput::Stdout => (
            BoxMakeWriter::new(std::io::stdout),
            std::io::stdout().is_terminal(),
        ),
        LogOutput::Stderr => (
            BoxMakeWriter::new(std::io::stderr),
            std::io::stderr().is_terminal(),
        ),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(parse(&settings.filter)?)
        .with_writer(writer)
        .with_ansi(is_terminal);
    match settings.format {
        LogFormat::Plain => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::AlreadySet)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter {
            filter: filter.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for (filter, is_valid) in [
            ("info", true),
            ("warn,oap::storage=debug", true),
            ("oap=loud", false),
            ("a=b=c", false),
        ] {
            assert_eq!(check_filter(filter).is_ok(), is_valid, "{filter}");
        }
    }
}
