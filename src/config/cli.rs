//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::model::time_bucket::{day_of, start_of};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Run(Arguments),
    Storage(Arguments, StorageCommand),
    /// Say what is wrong with the configuration, or what it comes to.
    Config(Arguments, ConfigCommand),
    /// Say whether the server that runs here is well.
    Health(Arguments),
    /// Say when rules of alarms would have fired.
    ExplainAlarms(Arguments, AlarmSelection),
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
    /// What was not understood, with `--lenient`.
    pub ignored: Vec<String>,
}

/// What to do with the configuration instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigCommand {
    Check,
    Print,
    /// Print the page that describes every setting.
    Docs,
}

/// What to do with the store instead of running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageCommand {
    /// Say what is in it and what is wrong with it.
    Check,
    /// Write its rows to the standard output.
    Export(Selection),
    /// Store the rows of an export, read from the standard input.
    Import,
}

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All if there is none.
    pub models: Vec<String>,
    /// First day, `yyyyMMdd`.
    pub from: Option<u64>,
    /// Last day, `yyyyMMdd`.
    pub to: Option<u64>,
}

/// Which rules and days to explain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmSelection {
    /// All if there is none.
    pub rules: Vec<String>,
    /// First day, `yyyyMMdd`.
    pub from: Option<u64>,
    /// Last day, `yyyyMMdd`.
    pub to: Option<u64>,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            config_dir: None,
            data_dir: PathBuf::from("data"),
            ignored: Vec::new(),
        }
    }
}

/// A command line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("unknown argument {0:?}, see oap --help")]
    Unknown(String),
    #[error("{0} needs a {1}, see oap --help")]
    WithoutValue(&'static str, &'static str),
    #[error("{0:?} is no day such as 2026-09-15, see oap --help")]
    NoDay(String),
    #[error("oap storage needs one of check, export, import, see oap --help")]
    NoStorageCommand,
    #[error("oap config needs one of check, print, docs, see oap --help")]
    NoConfigCommand,
    #[error("oap alarm needs explain, see oap --help")]
    NoAlarmCommand,
    #[error("{0} goes with {1} only, see oap --help")]
    Misplaced(&'static str, &'static str),
}

/// Text of `oap --version`.
pub const VERSION: &str = concat!("oap ", env!("CARGO_PKG_VERSION"));

/// Text of `oap --help`.
pub const HELP: &str = "\
Observability analysis platform server, compatible with Apache SkyWalking OAP 8.1.0.

Usage: oap [--config DIR] [--data DIR]
       oap [--config DIR] [--data DIR] storage check
       oap [--config DIR] [--data DIR] storage export [--model NAME]... [--from DAY] [--to DAY] > FILE
       oap [--config DIR] [--data DIR] storage import < FILE
       oap [--config DIR] [--data DIR] alarm explain [--rule NAME]... [--from DAY] [--to DAY]
       oap [--config DIR] [--data DIR] config check|print|docs
       oap [--config DIR] health

  --config DIR   look here first for application.yml, oal/*.oal and the other configuration files;
                 each file that is not there is taken from ./ext-config, ./config, else
                 /skywalking/ext-config, /skywalking/config, else from the program itself
  --data DIR     where the embedded store keeps its files (default: ./data)
  --lenient      (first) name arguments that make no sense in the log instead of ending
  --help         show this text
  --version      show the version

  storage check  say what is in the store that is configured, and what is wrong with it; ends with 2 if
                 something is
  storage export write rows as lines of JSON: every model and day, or those of --model NAME (repeatable)
                 and from --from DAY to --to DAY (2026-09-15)
  storage import store the lines of an export, in any store, also again
                 Both end with 2 if something is left out because the scripts do not define its model, or
                 because the store refuses it; they say what. An embedded store must not be in use by a server meanwhile.
  alarm explain  say when the rules of alarm-settings.yml, or those of --rule NAME (repeatable), would have
                 fired on what is stored of the days from --from DAY to --to DAY, and why not in between; a server
                 may go on meanwhile, also with an embedded store
  config check   say everything that is wrong with all configuration files and variables; ends with 1 if
                 something is
  config print   print every setting as it is in effect and where its value comes from; secrets are masked
  config docs    print the page that describes every setting
  health         end with 0 if the server with this configuration answers and its store does, else with 1
                 and the reason; so does this program under the name swctl

Agents report to port 11800 (gRPC) or 12800 (HTTP), the UI asks on port 12800 (/graphql).

Environment:
  SW_...           settings of application.yml, for example SW_STORAGE=elasticsearch7
  JAVA_OPTS        -Dmode=init|no-init, -Dmodule.provider.key=value and -DSW_...=value are understood
  TZ               time zone of minutes, hours and days
  OAP_LOG          log levels, for example info or info,oap::storage=debug (default: info)
  OAP_LOG_FORMAT   plain or json (default: plain)

Log levels of a running server: write them into the file log-levels beside application.yml (in ./config, for
example); it is read every ten seconds, and at once after SIGHUP. Without the file those of OAP_LOG hold.
";

/// The name under which the image of the original has its command line client, which probes call (deployment spec, A5).
const HEALTH_PROGRAM: &str = "swctl";

const EXPORT: &str = "oap storage export";
const COMMANDS: [&str; 4] = ["storage", "alarm", "config", "health"];
const EXPLAIN: &str = "oap alarm explain";
const EXPORT_OR_EXPLAIN: &str = "oap storage export or oap alarm explain";

/// Reads the whole command line, the program's name included.
pub fn command(line: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut line = line.into_iter();
    let program = line.next().map(PathBuf::from);
    if program.is_some_and(|p| p.file_name().is_some_and(|name| name == HEALTH_PROGRAM)) {
        return Ok(Command::Health(Arguments::default()));
    }
    parse(line)
}

/// Reads the arguments that follow the program's name.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut run = Arguments::default();
    let mut words = Vec::new();
    let mut selection = Selection::default();
    let mut rules = Vec::new();
    let mut rest = arguments.into_iter().peekable();
    let is_lenient = rest.next_if(|first| first == "--lenient").is_some();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (&*text, None),
        };
        let mut value = |name, what| {
            let value = inline.clone().or_else(|| rest.next());
            let value = value.filter(|v| !v.is_empty());
            value.ok_or(UsageError::WithoutValue(name, what))
        };
        match (name, &inline) {
            ("--config", _) => run.config_dir = Some(value("--config", "directory")?.into()),
            ("--data", _) => run.data_dir = value("--data", "directory")?.into(),
            ("--model", _) => {
                let model = value("--model", "name")?;
                selection.models.push(model.to_string_lossy().into_owned());
            }
            ("--rule", _) => {
                let rule = value("--rule", "name")?;
                rules.push(rule.to_string_lossy().into_owned());
            }
            ("--from", _) => selection.from = Some(day(value("--from", "day")?)?),
            ("--to", _) => selection.to = Some(day(value("--to", "day")?)?),
            ("--help" | "-h", None) => return Ok(Command::Help),
            ("--version" | "-V", None) => return Ok(Command::Version),
            (word, None)
                if words.len() < 2
                    && (words.len() == 1 || COMMANDS.contains(&word))
                    && !word.starts_with('-') =>
            {
                words.push(word.to_owned());
            }
            _ if is_lenient => run.ignored.push(text.into_owned()),
            _ => return Err(UsageError::Unknown(text.into_owned())),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Selection { models, from, to } = &selection;
    let mut misplaced = Vec::new();
    if words != ["storage", "export"] {
        misplaced.extend((!models.is_empty()).then_some(("--model", EXPORT)));
        if words != ["alarm", "explain"] {
            misplaced.extend(from.map(|_| ("--from", EXPORT_OR_EXPLAIN)));
            misplaced.extend(to.map(|_| ("--to", EXPORT_OR_EXPLAIN)));
        }
    }
    if words != ["alarm", "explain"] {
        misplaced.extend((!rules.is_empty()).then_some(("--rule", EXPLAIN)));
    }
    let command = match words[..] {
        ["storage", "export"] => Command::Storage(run, StorageCommand::Export(selection)),
        ["alarm", "explain"] => {
            let (from, to) = (*from, *to);
            Command::ExplainAlarms(run, AlarmSelection { rules, from, to })
        }
        [] => Command::Run(run),
        ["storage", "check"] => Command::Storage(run, StorageCommand::Check),
        ["storage", "import"] => Command::Storage(run, StorageCommand::Import),
        ["config", "check"] => Command::Config(run, ConfigCommand::Check),
        ["config", "print"] => Command::Config(run, ConfigCommand::Print),
        ["config", "docs"] => Command::Config(run, ConfigCommand::Docs),
        ["health"] => Command::Health(run),
        ["config", ..] => return Err(UsageError::NoConfigCommand),
        ["storage", ..] => return Err(UsageError::NoStorageCommand),
        ["alarm", ..] => return Err(UsageError::NoAlarmCommand),
        [.., other] => return Err(UsageError::Unknown(other.to_owned())),
    };
    match misplaced.first() {
        Some((option, place)) => Err(UsageError::Misplaced(option, place)),
        None => Ok(command),
    }
}

/// `2026-09-15` or `20260915` as `yyyyMMdd`.
fn day(text: OsString) -> Result<u64, UsageError> {
    let text = text.to_string_lossy();
    let digits = text.replace('-', "");
    let day = digits
        .parse()
        .ok()
        .filter(|day| digits.len() == 8 && day_of(*day) == *day && start_of(*day).is_some());
    day.ok_or_else(|| UsageError::NoDay(text.into_owned()))
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
                ignored: Vec::new(),
            }))
        };
        let lenient = |ignored: &[&str]| {
            Ok(Command::Run(Arguments {
                ignored: ignored.iter().map(|i| (*i).to_owned()).collect(),
                ..Arguments::default()
            }))
        };
        let config = |command| Ok(Command::Config(Arguments::default(), command));
        let storage = |data: &str, command| {
            let arguments = Arguments {
                data_dir: PathBuf::from(data),
                ..Arguments::default()
            };
            Ok(Command::Storage(arguments, command))
        };
        let export = |models: &[&str], from, to| {
            let models = models.iter().map(|m| (*m).to_owned()).collect();
            let selection = Selection { models, from, to };
            storage("data", StorageCommand::Export(selection))
        };
        let unknown = |text: &str| Err(UsageError::Unknown(text.to_owned()));
        let no_day = |text: &str| Err(UsageError::NoDay(text.to_owned()));
        let without = |name, what| Err(UsageError::WithoutValue(name, what));
        for (line, want) in [
            ("", run(None, "data")),
            ("--config a --data=b=c", run(Some("a"), "b=c")),
            ("--config=a", run(Some("a"), "data")),
            ("--help --nonsense", Ok(Command::Help)),
            ("--data d -V", Ok(Command::Version)),
            ("--data", without("--data", "directory")),
            ("--config=", without("--config", "directory")),
            ("--nonsense", unknown("--nonsense")),
            ("--help=1", unknown("--help=1")),
            ("start", unknown("start")),
            ("storage", Err(UsageError::NoStorageCommand)),
            ("storage compact", Err(UsageError::NoStorageCommand)),
            ("storage check twice", unknown("twice")),
            (
                "storage check --data d",
                storage("d", StorageCommand::Check),
            ),
            (
                "--data d storage import",
                storage("d", StorageCommand::Import),
            ),
            ("storage export", export(&[], None, None)),
            (
                "storage --model a export --from 2026-09-15 --model=b --to=20260916",
                export(&["a", "b"], Some(20_260_915), Some(20_260_916)),
            ),
            ("storage export --model", without("--model", "name")),
            ("storage export --to=", without("--to", "day")),
            ("storage export --from 2026-13-01", no_day("2026-13-01")),
            ("storage export --from 202609151059", no_day("202609151059")),
            (
                "storage import --model a",
                Err(UsageError::Misplaced("--model", EXPORT)),
            ),
            (
                "--from 20260915",
                Err(UsageError::Misplaced("--from", EXPORT_OR_EXPLAIN)),
            ),
            (
                "storage export --rule a",
                Err(UsageError::Misplaced("--rule", EXPLAIN)),
            ),
            ("config", Err(UsageError::NoConfigCommand)),
            ("config show", Err(UsageError::NoConfigCommand)),
            ("config check", config(ConfigCommand::Check)),
            ("config print", config(ConfigCommand::Print)),
            ("config docs", config(ConfigCommand::Docs)),
            ("health", Ok(Command::Health(Arguments::default()))),
            ("health now", unknown("now")),
            ("--lenient", lenient(&[])),
            (
                "--lenient start -x --y=1",
                lenient(&["start", "-x", "--y=1"]),
            ),
            ("--lenient config check", config(ConfigCommand::Check)),
            ("--data d --lenient", unknown("--lenient")),
            ("alarm", Err(UsageError::NoAlarmCommand)),
            (
                "alarm explain --rule a_rule --to 2026-09-15",
                Ok(Command::ExplainAlarms(
                    Arguments::default(),
                    AlarmSelection {
                        rules: vec!["a_rule".to_owned()],
                        from: None,
                        to: Some(20_260_915),
                    },
                )),
            ),
        ] {
            let arguments = line.split_whitespace().map(OsString::from);
            assert_eq!(parse(arguments), want, "{line}");
        }
    }

    #[test]
    fn under_another_name_it_is_the_probe() {
        let health = Ok(Command::Health(Arguments::default()));
        for (line, want) in [
            ("/skywalking/bin/swctl", health.clone()),
            ("swctl service ls", health),
            ("/bin/oap --version", Ok(Command::Version)),
            ("", Ok(Command::Run(Arguments::default()))),
        ] {
            let line = line.split_whitespace().map(OsString::from);
            assert_eq!(command(line), want);
        }
    }
}
