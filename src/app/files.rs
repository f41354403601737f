//! The configuration files beside `application.yml` and the scripts: read together, so that all their mistakes come at once.

use std::sync::Arc;

use crate::analyzer::gateways::Gateways;
use crate::analyzer::grouping::EndpointGrouping;
use crate::config::{ConfigError, ConfigFile, Configuration, Place, Problem, Report};
use crate::query::Components;
use crate::stream::ApdexThresholds;

/// What the files say.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) grouping: Arc<EndpointGrouping>,
    pub(super) gateways: Gateways,
    pub(super) thresholds: ApdexThresholds,
    pub(super) components: Arc<Components>,
    /// What in them has no effect, a line for each file.
    pub(super) notes: Vec<String>,
}

/// What a file is read into, with notes about what in it has no effect.
pub(super) type Parsed<T> = Result<(T, Vec<String>), Vec<Problem>>;

/// Reads every file, or says everything that is wrong with them.
pub(super) fn read(configuration: &Configuration) -> Result<Files, ConfigError> {
    let mut reader = Reader {
        configuration,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let grouping = reader.read("endpoint-name-grouping.yml", EndpointGrouping::parse);
    let gateways = reader.read("gateways.yml", Gateways::parse);
    let thresholds = reader.read("service-apdex-threshold.yml", thresholds);
    let components = reader.read("component-libraries.yml", Components::parse);
    match (grouping, gateways, thresholds, components) {
        (Some(grouping), Some(gateways), Some(thresholds), Some(components)) => Ok(Files {
            grouping: Arc::new(grouping),
            gateways,
            thresholds,
            components: Arc::new(components),
            notes: reader.notes,
        }),
        _ => Err(ConfigError::Invalid(reader.problems)),
    }
}

struct Reader<'a> {
    configuration: &'a Configuration,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&ConfigFile) -> Parsed<T>) -> Option<T> {
        let file = self.configuration.file(name)?;
        match parse(file) {
            Ok((value, ignored)) => {
                if !ignored.is_empty() {
                    let ignored = ignored.join("; ");
                    let note = format!("{name} ({}): {ignored}", file.source);
                    self.notes.push(note);
                }
                Some(value)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }
}

/// Milliseconds by service.
pub(super) fn thresholds(file: &ConfigFile) -> Parsed<ApdexThresholds> {
    let (mut report, value) = Report::open(file);
    let mut thresholds = Vec::new();
    for (service, place) in Place::root(&value).entries(&mut report) {
        match place.whole_number(&mut report) {
            Some(ms) => thresholds.push((service, ms)),
            None => report.ignore(&place, "has no milliseconds"),
        }
    }
    report.finish(ApdexThresholds::new(thresholds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arguments, ConfigDirs, Environment};

    fn configuration(files: &[(&str, &str)]) -> Configuration {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let dirs = ConfigDirs::only(vec![folder.path().to_owned()]);
        Configuration::load_from(&dirs, &Arguments::default(), &Environment::default()).unwrap()
    }

    #[test]
    fn the_shipped_files_can_be_read() {
        assert!(read(&configuration(&[])).is_ok());
    }

    #[test]
    fn the_mistakes_of_all_files_come_at_once() {
        let wrong = configuration(&[
            ("endpoint-name-grouping.yml", "grouping:\n- rules: []"),
            ("gateways.yml", "gateways:\n- instances: [{port: 1}]"),
            ("service-apdex-threshold.yml", "default: fast"),
        ]);
        let message = read(&wrong).unwrap_err().to_string();
        for part in [
            "3 problems",
            "endpoint-name-grouping.yml)), expected the name of a service",
            "gateways[0].instances[0].host is missing",
            "default is \"fast\"",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let no_yaml = configuration(&[("gateways.yml", "gateways: [\n  {host: a\n")]);
        let message = read(&no_yaml).unwrap_err().to_string();
        assert!(message.contains("gateways.yml"), "{message}");
        assert!(message.contains("line "), "{message}");
    }
}
