//! Reads the template file (`ui-initialized-templates.yml`, query spec 2.11).

use std::collections::HashSet;

use serde::Deserialize;
use serde_norway::Value;

use crate::config::first_line;
use crate::storage::UiTemplate;

/// Types of dashboards that the protocol has.
const TYPES: [&str; 6] = [
    "DASHBOARD",
    "TOPOLOGY_SERVICE",
    "TOPOLOGY_INSTANCE",
    "TOPOLOGY_ENDPOINT",
    "TOPOLOGY_SERVICE_RELATION",
    "TOPOLOGY_SERVICE_INSTANCE_RELATION",
];

/// Why the template file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateFileError {
    #[error("templates are not of the expected form")]
    Yaml(#[from] serde_norway::Error),
    #[error(
        "line {0}: expected the key templates with a list of dashboards, each with name, type and configuration"
    )]
    Form(usize),
    #[error("template {0:?} occurs twice")]
    Twice(String),
    #[error("template {name:?} has the unknown type {ty:?}, expected one of {}", TYPES.join(", "))]
    Type { name: String, ty: String },
    #[error("configuration of template {name:?} is no JSON")]
    Configuration {
        name: String,
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct File {
    templates: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(expecting = "a map with name, type and configuration")]
struct Entry {
    name: String,
    #[serde(rename = "type", default = "dashboard")]
    ty: String,
    configuration: String,
    #[serde(default)]
    activated: bool,
    #[serde(default)]
    disabled: bool,
}

fn dashboard() -> String {
    "DASHBOARD".to_owned()
}

/// The dashboards of a file, in its order.
pub fn parse(text: &str) -> Result<Vec<UiTemplate>, TemplateFileError> {
    let value: Value = serde_norway::from_str(text)?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    let has_list = value.get("templates").is_some_and(Value::is_sequence);
    if !has_list {
        return Err(TemplateFileError::Form(first_line(text)));
    }
    // Read from the text once more: only so do mistakes have their line.
    let file: File = serde_norway::from_str(text)?;
    let mut names = HashSet::new();
    let mut templates = Vec::with_capacity(file.templates.len());
    for entry in file.templates {
        let Entry { name, ty, .. } = entry;
        if !names.insert(name.clone()) {
            return Err(TemplateFileError::Twice(name));
        }
        if !TYPES.contains(&ty.as_str()) {
            return Err(TemplateFileError::Type { name, ty });
        }
        if let Err(source) = serde_json::from_str::<serde::de::IgnoredAny>(&entry.configuration) {
            return Err(TemplateFileError::Configuration { name, source });
        }
        templates.push(UiTemplate {
            name,
            ty,
            configuration: entry.configuration,
            is_activated: entry.activated,
            is_disabled: entry.disabled,
        });
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_the_known_dashboards() {
        let text = include_str!("../../../config/ui-initialized-templates.yml");
        let templates = parse(text).unwrap();
        let seen: Vec<_> = templates
            .iter()
            .map(|t| (&*t.name, &*t.ty, t.is_activated))
            .collect();
        for want in [
            ("APM", "DASHBOARD", true),
            ("Database", "DASHBOARD", true),
            ("Topology Instance", "TOPOLOGY_INSTANCE", true),
            ("Topology Endpoint", "TOPOLOGY_ENDPOINT", true),
            ("SelfObservability", "DASHBOARD", true),
            ("Spring-Sleuth", "DASHBOARD", false),
        ] {
            assert!(seen.contains(&want), "{want:?}");
        }
    }

    #[test]
    fn faults_name_the_template() {
        let one = |rest: &str| parse(&format!("templates:\n- {{name: A, {rest}}}\n"));
        assert_eq!(one("configuration: '[]'").unwrap()[0].ty, "DASHBOARD");
        for (rest, want) in [
            (
                "configuration: '[', activated: true",
                "configuration of template \"A\" is no JSON",
            ),
            (
                "type: X, configuration: '[]'",
                "template \"A\" has the unknown type \"X\", expected one of DASHBOARD, TOPOLOGY_SERVICE, \
                 TOPOLOGY_INSTANCE, TOPOLOGY_ENDPOINT, TOPOLOGY_SERVICE_RELATION, TOPOLOGY_SERVICE_INSTANCE_RELATION",
            ),
            ("activated: true", "templates are not of the expected form"),
        ] {
            assert_eq!(one(rest).unwrap_err().to_string(), want);
        }
        assert!(parse("").unwrap().is_empty() && parse("# none\n").unwrap().is_empty());
        for text in ["\n- name: A\n", "# a\nboards: []\n", "\ntemplates: 5"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("line 2: expected the key templates"),
                "{error}"
            );
        }
        let TemplateFileError::Yaml(error) = parse("templates:\n- name: A\n- 7\n").unwrap_err()
        else {
            panic!("another error")
        };
        let error = error.to_string();
        assert!(
            error.contains("a map with name") || error.contains("missing field"),
            "{error}"
        );
        assert!(error.contains("line "), "{error}");
    }
}
