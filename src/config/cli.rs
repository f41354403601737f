//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Run(Arguments),
    /// Print [`HELP`].
    Help,
    /// Print [`VERSION`].
    Version,
}

/// Arguments of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Looked in first for every configuration file.
    pub config_dir: Option<PathBuf>,
    /// Where the embedded store lives.
    pub data_dir: PathBuf,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            config_dir: None,
            data_dir: PathBuf::from("data"),
        }
    }
}

/// A command line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("unknown argument {0:?}, see oap --help")]
    Unknown(String),
    #[error("{0} needs a directory, see oap --help")]
    WithoutValue(&'static str),
}

/// Text of `oap --version`.
pub const VERSION: &str = concat!("oap ", env!("CARGO_PKG_VERSION"));

/// Text of `oap --help`.
pub const HELP: &str = "\
Observability analysis platform server, compatible with Apache SkyWalking OAP 8.1.0.

Usage: oap [--config DIR] [--data DIR]

  --config DIR   look here first for application.yml, oal/*.oal and the other configuration files;
                 each file that is not there is taken from ./config, else /skywalking/config, else
                 from the program itself
  --data DIR     where the embedded store keeps its files (default: ./data)
  --help         show this text
  --version      show the version

Agents report to port 11800 (gRPC) or 12800 (HTTP), the UI asks on port 12800 (/graphql).

Environment:
  SW_...           settings of application.yml, for example SW_STORAGE=elasticsearch7
  JAVA_OPTS        -Dmode=init|no-init, -Dmodule.provider.key=value and -DSW_...=value are understood
  TZ               time zone of minutes, hours and days
  OAP_LOG          log levels, for example info or info,oap::storage=debug (default: info)
  OAP_LOG_FORMAT   plain or json (default: plain)
";

/// Reads the arguments that follow the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut run = Arguments::default();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (&*text, None),
        };
        let mut dir = |name| {
            let value = inline.clone().or_else(|| rest.next());
            let value = value.filter(|v| !v.is_empty());
            value
                .map(PathBuf::from)
                .ok_or(UsageError::WithoutValue(name))
        };
        match (name, &inline) {
            ("--config", _) => run.config_dir = Some(dir("--config")?),
            ("--data", _) => run.data_dir = dir("--data")?,
            ("--help" | "-h", None) => return Ok(Command::Help),
            ("--version" | "-V", None) => return Ok(Command::Version),
            _ => return Err(UsageError::Unknown(text.into_owned())),
        }
    }
    Ok(Command::Run(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_understood_or_refused() {
        let run = |config: Option<&str>, data: &str| {
            Ok(Command::Run(Arguments {
                config_dir: config.map(PathBuf::from),
                data_dir: PathBuf::from(data),
            }))
        };
        let unknown = |text: &str| Err(UsageError::Unknown(text.to_owned()));
        for (line, want) in [
            ("", run(None, "data")),
            ("--config a --data=b=c", run(Some("a"), "b=c")),
            ("--config=a", run(Some("a"), "data")),
            ("--help --nonsense", Ok(Command::Help)),
            ("--data d -V", Ok(Command::Version)),
            ("--data", Err(UsageError::WithoutValue("--data"))),
            ("--config=", Err(UsageError::WithoutValue("--config"))),
            ("--nonsense", unknown("--nonsense")),
            ("--help=1", unknown("--help=1")),
            ("start", unknown("start")),
        ] {
            let arguments = line.split_whitespace().map(OsString::from);
            assert_eq!(parse(arguments), want, "{line}");
        }
    }
}
