//! `oap config check` and `oap config print`: what is wrong with a configuration, all of it at once, and what it comes to.

use std::fmt::Write as _;

use anyhow::bail;

use super::stages::Program;
use super::{answers, files, store};
use crate::config::{Arguments, ConfigError, Configuration, Environment};
use crate::receiver::grpc::check_tls;

/// Says that the configuration can be used and what is worth knowing about it; the error is everything that is wrong. If
/// `application.yml` or a variable is, the other files are looked at with the settings that are built in. Opens no port and asks no
/// store. Needs a runtime.
pub fn check(arguments: &Arguments, environment: &Environment) -> anyhow::Result<String> {
    let mut mistakes = Vec::new();
    let configuration = match Configuration::load(arguments, environment) {
        Ok(configuration) => Some(configuration),
        Err(error) => {
            let is_readable = matches!(error, ConfigError::Invalid(_) | ConfigError::Syntax { .. });
            let is_syntax = matches!(error, ConfigError::Syntax { .. });
            mistakes.push(anyhow::Error::new(error));
            // What variables say is as wrong or right whatever the file says.
            let with_variables = is_syntax.then(|| Configuration::of_files(arguments, environment));
            if let Some(Err(error @ ConfigError::Invalid(_))) = with_variables {
                mistakes.push(error.into());
            }
            match Configuration::of_files(arguments, &Environment::default()) {
                Ok(configuration) => Some(configuration),
                Err(error) if is_readable => {
                    mistakes.push(error.into());
                    None
                }
                // The same file cannot be read.
                Err(_) => None,
            }
        }
    };
    if let Some(configuration) = &configuration {
        mistakes.extend(mistakes_of(configuration));
    }
    let (Some(configuration), true) = (configuration, mistakes.is_empty()) else {
        let lines: Vec<String> = mistakes.iter().map(|e| format!("{e:#}")).collect();
        bail!("{}", lines.join("\n"));
    };
    let mut report = String::new();
    for notice in &configuration.notices {
        writeln!(report, "{notice}")?;
    }
    write!(
        report,
        "the configuration is well: {} files",
        configuration.files.len()
    )?;
    Ok(report)
}

/// What would keep a server from starting although the settings have their types.
fn mistakes_of(configuration: &Configuration) -> Vec<anyhow::Error> {
    let settings = &configuration.settings;
    let mut mistakes = Vec::new();
    mistakes.extend(Program::compile(configuration).err());
    mistakes.extend(files::read(configuration).err().map(Into::into));
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
