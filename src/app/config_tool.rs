//! `oap config check` and `oap config print`: what is wrong with a configuration, all of it at once, and what it comes to.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::stages::Program;
use super::{alarms, answers, files, store};
use crate::config::{ALARM_RULES, Arguments, ConfigError, Configuration, Environment};
use crate::receiver::grpc::check_tls;

/// Says that the configuration can be used and what is worth knowing about it; the error is everything that is wrong. If
/// `application.yml` or a variable is, the other files are looked at with the settings that are built in. Opens no port and asks no
/// store. Needs a runtime.
pub fn check(arguments: &Arguments, environment: &Environment) -> anyhow::Result<String> {
    let mut mistakes = Vec::new();
    let mut notes = Vec::new();
    let configuration = load(arguments, environment, &mut mistakes);
    if let Some(configuration) = &configuration {
        mistakes.extend(mistakes_of(configuration, &mut notes));
    }
    let (Some(configuration), true) = (configuration, mistakes.is_empty()) else {
        let lines: Vec<String> = mistakes.iter().map(|e| format!("{e:#}")).collect();
        bail!("{}", lines.join("\n"));
    };
    let mut report = String::new();
    for notice in &configuration.notices {
        writeln!(report, "{notice}")?;
    }
    for note in notes {
        writeln!(report, "without effect: {note}")?;
    }
    write!(
        report,
        "the configuration is well: {} files",
        configuration.files.len()
    )?;
    Ok(report)
}

/// Why a start failed, with everything else that is wrong with the configuration: a start ends at the first mistake, who mends it wants to
/// know them all. Needs a runtime.
pub fn with_all_mistakes(
    error: anyhow::Error,
    arguments: &Arguments,
    environment: &Environment,
) -> anyhow::Error {
    let Err(all) = check(arguments, environment) else {
        return error;
    };
    match all.to_string().contains(&format!("{error:#}")) {
        true => all,
        false => anyhow!("{error:#}\n{all:#}"),
    }
}

/// As much of the configuration as can be had, with everything that is wrong with the rest: what variables say is as wrong or right
/// whatever `application.yml` says, and other files are whatever one says that cannot be read.
fn load(
    arguments: &Arguments,
    environment: &Environment,
    mistakes: &mut Vec<anyhow::Error>,
) -> Option<Configuration> {
    let none = Environment::default();
    let mut environment = environment;
    // Whether application.yml is the one that is built in, and whether variables are left out as well.
    let mut is_built_in = false;
    let mut is_alone = false;
    let mut passed_over: Vec<PathBuf> = Vec::new();
    loop {
        let loaded = match is_built_in {
            false => Configuration::load_without(arguments, environment, &passed_over),
            true => Configuration::of_files(arguments, environment, &passed_over),
        };
        let error = match loaded {
            Ok(configuration) => return Some(configuration),
            Err(error) => error,
        };
        let unreadable = error.unreadable().map(Path::to_owned);
        let can_go_on = match (&error, unreadable) {
            (_, Some(path)) => {
                let is_new = !passed_over.contains(&path);
                passed_over.push(path);
                if !is_new {
                    return None;
                }
                true
            }
            (ConfigError::Syntax { .. }, None) => !std::mem::replace(&mut is_built_in, true),
            (ConfigError::Invalid(_), None) => {
                is_built_in = true;
                environment = &none;
                !std::mem::replace(&mut is_alone, true)
            }
            _ => false,
        };
        mistakes.push(error.into());
        if !can_go_on {
            return None;
        }
    }
}

/// What would keep a server from starting although the settings have their types; what in the files has no effect goes to `notes`.
fn mistakes_of(configuration: &Configuration, notes: &mut Vec<String>) -> Vec<anyhow::Error> {
    let settings = &configuration.settings;
    let mut mistakes = Vec::new();
    match Program::compile(configuration) {
        Ok(program) => {
            let of_alarms = program.alarms.notes.iter();
            notes.extend(of_alarms.map(|note| format!("{ALARM_RULES}, {note}")));
            mistakes.extend(alarms::program(&program.alarms).err());
        }
        Err(error) => mistakes.push(error),
    }
    match files::read(configuration) {
        Ok(files) => notes.extend(files.notes),
        Err(error) => mistakes.push(error.into()),
    }
    mistakes.extend(answers::templates(configuration).err());
    mistakes.extend(store::check(settings).err());
    let sharing = settings.receiver_sharing.as_ref();
    let sharing = sharing.filter(|sharing| sharing.grpc_port != 0);
    let certificates = [
        settings.core.grpc_ssl.as_ref(),
        sharing.and_then(|s| s.grpc_ssl.as_ref()),
    ];
    for files in certificates.into_iter().flatten() {
        mistakes.extend(check_tls(files).err().map(Into::into));
    }
    mistakes
}

/// Every setting as it is in effect with its origin, and every file.
pub fn effective(configuration: &Configuration) -> String {
    let settings = configuration.effective.iter().map(|s| format!("{s}\n"));
    let files = configuration.files.iter();
    let files = files.map(|file| format!("file {} = {}\n", file.name, file.source));
    settings.chain(files).collect()
}
