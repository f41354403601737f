//! A setting as the server has it, and where its value comes from.

use std::fmt;

use super::raw::Origin;
use super::{Arguments, DEFAULT_BUDGET, Environment, JavaOpts, RunMode, Settings};
use crate::telemetry::LogFormat;

/// One key of the selected providers, or a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `module.provider.key` or `module.selector`.
    pub path: String,
    /// As text; secrets are masked.
    pub value: String,
    /// `None`: the default of the server, nothing else says it.
    pub(super) origin: Option<Origin>,
    /// Whether this server does anything with it.
    pub has_effect: bool,
}

impl Setting {
    /// Where the value comes from, in words.
    pub fn source(&self) -> String {
        match &self.origin {
            None => "default".to_owned(),
            Some(Origin::File) => "application.yml".to_owned(),
            Some(Origin::Default) => "default in application.yml".to_owned(),
            Some(Origin::Property(name)) => format!("-D{name}"),
            Some(Origin::Variable(name)) => format!("variable {name}"),
            Some(Origin::Sibling(name)) => format!("key {name} beside it"),
            Some(Origin::Argument(name)) => name.clone(),
            Some(Origin::SecretsFile(path)) => path.display().to_string(),
        }
    }
}

/// `path = value  # where it comes from`; a value of several lines is escaped.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} =", self.path)?;
        if !self.value.is_empty() {
            write!(f, " {}", self.value.replace('\n', "\\n"))?;
        }
        write!(f, "  # {}", self.source())?;
        if !self.has_effect {
            f.write_str("; no effect")?;
        }
        Ok(())
    }
}

/// What is decided outside of `application.yml`.
pub(super) fn of_process(
    settings: &Settings,
    java: &JavaOpts,
    environment: &Environment,
    arguments: &Arguments,
) -> Vec<Setting> {
    let property = |name: &str| {
        java.property(name)
            .map(|_| Origin::Property(name.to_owned()))
    };
    let variable = |name: &str| {
        let value = environment.get(name).filter(|v| !v.trim().is_empty());
        value.map(|_| Origin::Variable(name.to_owned()))
    };
    let argument = |is_given: bool, name: &str| is_given.then(|| Origin::Argument(name.to_owned()));
    let mode = match settings.mode {
        RunMode::Normal => "normal",
        RunMode::Init => "init",
        RunMode::NoInit => "no-init",
    };
    let format = match settings.log.format {
        LogFormat::Plain => "plain",
        LogFormat::Json => "json",
    };
    let zone = settings.time_zone.as_deref();
    let budget = settings.memory_budget;
    let data = Arguments::default().data_dir != arguments.data_dir;
    let all = [
        ("mode", mode.to_owned(), property("mode")),
        (
            "time-zone",
            zone.unwrap_or("that of the machine").to_owned(),
            property("user.timezone").or_else(|| variable("TZ")),
        ),
        (
            "memory-budget-bytes",
            budget.unwrap_or(DEFAULT_BUDGET).to_string(),
            budget.and(Some(Origin::Argument("-Xmx in JAVA_OPTS".to_owned()))),
        ),
        ("log", settings.log.filter.clone(), variable("OAP_LOG")),
        ("log-format", format.to_owned(), variable("OAP_LOG_FORMAT")),
        (
            "data",
            arguments.data_dir.display().to_string(),
            argument(data, "--data"),
        ),
    ];
    let all = all.map(|(path, value, origin)| Setting {
        path: path.to_owned(),
        value,
        origin,
        has_effect: true,
    });
    all.into()
}
