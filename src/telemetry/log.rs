//! The log, on standard output or beside it. Set up before any file is read, from the environment only; its levels can be
//! changed later, by a file.

mod levels;

use std::fmt;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use levels::LevelFile;

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
    #[error("{word:?} is no level; use off, error, warn, info, debug, trace, or module=level")]
    NoLevel { word: String },
    #[error("the process already has a log")]
    AlreadySet,
    #[error("the levels of the log cannot be changed")]
    Fixed(#[source] reload::Error),
}

type Change = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Changes the levels of the log that is there.
pub struct LogControl {
    /// Those of the start.
    filter: String,
    change: Change,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl LogControl {
    /// From now on these levels hold; `None` for those of the start.
    pub fn set(&self, filter: Option<&str>) -> Result<(), LogError> {
        let filter = parse(filter.unwrap_or(&self.filter))?;
        (self.change)(filter).map_err(LogError::Fixed)
    }
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
pub fn init(settings: &LogSettings, output: LogOutput) -> Result<LogControl, LogError> {
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
    let (filter, handle) = reload::Layer::new(parse(&settings.filter)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(is_terminal);
    let log = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Plain => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| LogError::AlreadySet)?;
    Ok(LogControl {
        filter: settings.filter.clone(),
        change: Box::new(move |filter| handle.reload(filter)),
    })
}

/// What may stand alone: a word that is no level would be taken for the one module that is logged.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The clients of Kubernetes and ZooKeeper say every failure themselves, again and again, beside what their callers make of it.
/// HTTP/2 says what others do to a connection without saying who they are. Whoever wants to see everything sees them too.
pub(super) const QUIET: &str = "zookeeper_client=off,kube_client=off,h2=off";

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let is_sensible = |part: &str| {
        let part = part.trim();
        // Two on one line are the name of a module that does not exist, and would leave no line of any other.
        if part.contains(char::is_whitespace) && !part.contains(['[', '{']) {
            return false;
        }
        part.contains(['=', ':', '['])
            || part.is_empty()
            || part == "oap"
            || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
    };
    if let Some(word) = filter.split(',').find(|part| !is_sensible(part)) {
        return Err(LogError::NoLevel {
            word: word.trim().to_owned(),
        });
    }
    let is_all = |part: &&str| {
        let mut all = ["debug", "trace"].iter();
        all.any(|level| part.eq_ignore_ascii_case(level))
    };
    let parts = filter.split(',').map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let own = parts.join(",");
    let whole = match parts.is_empty() || parts.iter().any(is_all) {
        true => own,
        false => format!("{QUIET},{own}"),
    };
    EnvFilter::builder()
        .parse(whole)
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
            ("inof", false),
            ("info\noap::storage=debug", false),
            ("info oap::storage=debug", false),
            ("info, oap::storage=debug", true),
            ("oap::storage", true),
            ("Warn,oap::query[question]=trace", true),
        ] {
            assert_eq!(check_filter(filter).is_ok(), is_valid, "{filter}");
        }
    }

    #[test]
    fn some_clients_are_quiet_unless_they_are_named() {
        for (filter, want) in [
            ("info", "zookeeper_client=off,kube_client=off,h2=off,info"),
            (
                "info,kube_client=debug",
                "zookeeper_client=off,kube_client=debug,h2=off,info",
            ),
            (
                "info,h2=warn",
                "zookeeper_client=off,kube_client=off,h2=warn,info",
            ),
            (
                "info,oap::query=trace",
                "zookeeper_client=off,kube_client=off,oap::query=trace,h2=off,info",
            ),
            ("Trace", "trace"),
            ("oap::query=info,debug", "oap::query=info,debug"),
            ("", ""),
        ] {
            let parsed = parse(filter).map(|filter| filter.to_string());
            assert_eq!(parsed.unwrap(), want, "{filter}");
        }
    }
}
