//! Configuration: from `application.yml`, environment and `JAVA_OPTS` to typed settings.
//!
//! Three steps: [`raw`] selects providers and replaces placeholders in a tree of texts, [`section`] gives each key its type,
//! [`build`] puts [`Settings`] together and reports every problem at once. The only module that reads the environment.
//! Nothing here opens a port or starts a task.

pub mod cli;
pub mod reference;

mod analyzer;
mod build;
mod cluster;
mod core;
mod document;
mod dynamic;
mod environment;
mod error;
mod files;
mod java_opts;
mod modules;
mod placeholder;
mod raw;
mod receiver;
mod secret;
mod section;
mod servers;
mod setting;
mod settings;
mod storage;
mod telemetry;
#[cfg(test)]
mod tests;
mod zone;

use std::path::PathBuf;

pub use analyzer::{AnalyzerSettings, SlowThresholds};
pub use cli::{
    AlarmSelection, Arguments, Command, ConfigCommand, Selection, StorageCommand, UsageError,
};
pub use cluster::{ClusterSettings, CoordinatorSettings, OwnAddress};
pub use core::{CoreSettings, Role, TlsSettings};
pub use document::{Place, Report, first_line};
pub use dynamic::{CenterSettings, DynamicSettings, EtcdApi};
pub use environment::Environment;
pub use error::{ConfigError, Notice, Problem};
pub use files::{ALARM_RULES, ConfigDirs, ConfigFile, FETCHER_RULES, FileSource, METER_RULES};
pub use java_opts::JavaOpts;
pub use receiver::{EnvoySettings, ReceiverSettings, SharingSettings};
pub use secret::{Secret, TOKEN_KEY};
pub use setting::Setting;
pub use settings::{DEFAULT_BUDGET, QuerySettings, RunMode, Settings};
pub use storage::{EmbeddedSettings, EsProtocol, EsSettings, StorageSettings};
pub use telemetry::{ExporterSettings, TelemetrySettings};
pub use zone::time_zone;

use crate::telemetry::LogSettings;

/// Everything a start needs to know.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub settings: Settings,
    /// The files that were read, with their sources, for the start log.
    pub files: Vec<ConfigFile>,
    /// What to tell the operator once.
    pub notices: Vec<Notice>,
    /// Every setting as the server has it: those of the process, then those of `application.yml`, sorted by path.
    pub effective: Vec<Setting>,
}

impl Configuration {
    /// Loads from the usual places.
    pub fn load(
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<Configuration, ConfigError> {
        Configuration::load_without(arguments, environment, &[])
    }

    /// [`Configuration::load`] as if some files were not there.
    pub fn load_without(
        arguments: &Arguments,
        environment: &Environment,
        passed_over: &[PathBuf],
    ) -> Result<Configuration, ConfigError> {
        let dirs = ConfigDirs::usual(arguments.config_dir.as_deref())?.without(passed_over);
        Configuration::load_from(&dirs, arguments, environment)
    }

    /// The files of the usual places with the settings that are built in, this environment, and without some files: what is left to look at if
    /// `application.yml` cannot be used.
    pub fn of_files(
        arguments: &Arguments,
        environment: &Environment,
        passed_over: &[PathBuf],
    ) -> Result<Configuration, ConfigError> {
        let dirs = ConfigDirs::usual(arguments.config_dir.as_deref())?.without(passed_over);
        dirs.settled(|| {
            let built_in = ConfigDirs::only(Vec::new());
            let application = built_in.read(|name| name == files::APPLICATION)?;
            Configuration::with(&dirs, application, arguments, environment)
        })
    }

    /// Loads from given directories.
    pub fn load_from(
        dirs: &ConfigDirs,
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<Configuration, ConfigError> {
        dirs.settled(|| {
            let application = dirs.read(|name| name == files::APPLICATION)?;
            Configuration::with(dirs, application, arguments, environment)
        })
    }

    /// `files` holds `application.yml`.
    fn with(
        dirs: &ConfigDirs,
        mut files: Vec<ConfigFile>,
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<Configuration, ConfigError> {
        let java = JavaOpts::of(environment);
        let (label, text) = match files.first() {
            Some(file) => (
                format!("{} ({})", file.name, file.source),
                file.text.as_str(),
            ),
            None => (files::APPLICATION.to_owned(), ""),
        };
        let raw = raw::read(&label, text, environment, &java)?;
        let build::Built {
            settings,
            mut notices,
            effective: of_modules,
        } = build::settings(&raw, &java, environment, arguments)?;
        if !arguments.ignored.is_empty() {
            notices.push(Notice::ArgumentsWithoutEffect(arguments.ignored.clone()));
        }
        let unusable = dirs.unusable()?;
        if !unusable.is_empty() {
            notices.push(Notice::UnusableFiles(unusable));
        }
        let unread = dirs.unread()?;
        if !unread.is_empty() {
            notices.push(Notice::UnreadFiles(unread));
        }
        let mut effective = setting::of_process(&settings, &java, environment, arguments);
        effective.extend(of_modules);
        let scripts = settings.oal_scripts();
        files.extend(dirs.read(|name| match oal_script(name) {
            Some(script) => scripts.contains(&script),
            None => name != files::APPLICATION,
        })?);
        if settings.receivers.meter {
            files.extend(dirs.read_folder(files::METER_RULES)?);
        }
        if settings.prometheus_fetcher {
            files.extend(dirs.read_folder(files::FETCHER_RULES)?);
        }
        Ok(Configuration {
            settings,
            files,
            notices,
            effective,
        })
    }

    /// Text of a file by its path below the configuration directory; `None` if the settings do not need it.
    pub fn file(&self, name: &str) -> Option<&ConfigFile> {
        self.files.iter().find(|f| f.name == name)
    }

    /// Name and text of the OAL scripts that the selected modules need.
    pub fn oal_scripts(&self) -> Vec<(String, String)> {
        self.files
            .iter()
            .filter(|f| oal_script(&f.name).is_some())
            .map(|f| (f.name.clone(), f.text.clone()))
            .collect()
    }

    /// Name and text of the rules of the meter receiver; none if it is off.
    pub fn meter_rules(&self) -> Vec<(String, String)> {
        self.folder(files::METER_RULES)
    }

    /// Name and text of the rules of the Prometheus fetcher; none if it is not active.
    pub fn fetcher_rules(&self) -> Vec<(String, String)> {
        self.folder(files::FETCHER_RULES)
    }

    /// The rules of alarms; `None` if the module is off.
    pub fn alarm_rules(&self) -> Option<&ConfigFile> {
        self.file(files::ALARM_RULES)
            .filter(|_| self.settings.alarm)
    }

    fn folder(&self, folder: &str) -> Vec<(String, String)> {
        self.files
            .iter()
            .filter(|f| {
                f.name
                    .strip_prefix(folder)
                    .is_some_and(|f| f.starts_with('/'))
            })
            .map(|f| (f.name.clone(), f.text.clone()))
            .collect()
    }
}

/// Settings of the log, for the time before everything else is loaded; wrong ones are left at their defaults and are among
/// the problems of [`Configuration::load`].
pub fn log_settings(environment: &Environment) -> LogSettings {
    telemetry::read_log(environment).0
}

/// `core` of `oal/core.oal`; `None` for other files.
fn oal_script(file: &str) -> Option<&str> {
    file.strip_prefix("oal/")?.strip_suffix(".oal")
}
