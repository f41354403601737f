//! Names of components by number, and what a client library talks to (`component-libraries.yml`).
//!
//! Only names: what a component means for analysis is not decided here.

use std::collections::HashMap;

use serde_norway::Value;

/// Name of a component number that the file does not have, if it has no number 0 either.
const UNKNOWN_COMPONENT: &str = "N/A";
/// Server of a component without a mapping.
const UNKNOWN_SERVER: &str = "Unknown";
/// The one top-level key that is no component.
const MAPPINGS: &str = "Component-Server-Mappings";

/// Why the component file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("component libraries are no YAML")]
    Yaml(#[from] serde_norway::Error),
    #[error("component libraries: {0} must be a map")]
    NotAMap(String),
    #[error("component {0:?} has no number in \"id\"")]
    NoId(String),
    #[error("components {first:?} and {second:?} have the same id {id}")]
    SameId {
        first: String,
        second: String,
        id: i64,
    },
    #[error("server mapping of {0:?} is no text")]
    NoServer(String),
    #[error("server mapping names {0:?}, which is no component")]
    UnknownComponent(String),
}

/// The parsed file.
#[derive(Debug, Clone, Default)]
pub struct Components {
    name_by_id: HashMap<i64, String>,
    id_by_name: HashMap<String, i64>,
    /// By the name of the client component.
    server_by_name: HashMap<String, String>,
}

impl Components {
    /// Reads the text of a component file.
    pub fn parse(text: &str) -> Result<Components, ComponentError> {
        let root: Value = serde_norway::from_str(text)?;
        let Value::Mapping(root) = root else {
            return Err(ComponentError::NotAMap("the file".to_owned()));
        };
        let mut components = Components::default();
        let mut mappings = None;
        for (key, value) in &root {
            let name = text_of(key).unwrap_or_default();
            if name == MAPPINGS {
                mappings = Some(value);
            } else {
                components.add(name, value)?;
            }
        }
        if let Some(mappings) = mappings {
            components.add_mappings(mappings)?;
        }
        Ok(components)
    }

    fn add(&mut self, name: String, value: &Value) -> Result<(), ComponentError> {
        let Some(id) = value.get("id").and_then(Value::as_i64) else {
            return Err(ComponentError::NoId(name));
        };
        if let Some(first) = self.name_by_id.get(&id) {
            return Err(ComponentError::SameId {
                first: first.clone(),
                second: name,
                id,
            });
        }
        self.name_by_id.insert(id, name.clone());
        self.id_by_name.insert(name, id);
        Ok(())
    }

    fn add_mappings(&mut self, mappings: &Value) -> Result<(), ComponentError> {
        let Value::Mapping(mappings) = mappings else {
            return Err(ComponentError::NotAMap(MAPPINGS.to_owned()));
        };
        for (key, value) in mappings {
            let name = text_of(key).unwrap_or_default();
            let Some(server) = text_of(value) else {
                return Err(ComponentError::NoServer(name));
            };
            if !self.id_by_name.contains_key(&name) {
                return Err(ComponentError::UnknownComponent(name));
            }
            self.server_by_name.insert(name, server);
        }
        Ok(())
    }

    /// Name of a number; an unknown number has the name of number 0, which is `Unknown` in the shipped file.
    pub fn name(&self, id: i64) -> &str {
        let name = self.name_by_id.get(&id).or_else(|| self.name_by_id.get(&0));
        name.map_or(UNKNOWN_COMPONENT, |n| n)
    }

    /// Number of a name.
    pub fn id(&self, name: &str) -> Option<i64> {
        self.id_by_name.get(name).copied()
    }

    /// What the component with this number talks to, `Unknown` if that is not said.
    pub fn server(&self, id: i64) -> &str {
        self.name_by_id
            .get(&id)
            .and_then(|name| self.server_by_name.get(name))
            .map_or(UNKNOWN_SERVER, |s| s)
    }
}

/// Keys and values may look like numbers or booleans in YAML.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../config/component-libraries.yml");

    #[test]
    fn the_shipped_file_answers_names_and_servers() {
        let components = Components::parse(SHIPPED).unwrap();
        assert_eq!(components.name(1), "Tomcat");
        assert_eq!(components.name(0), "Unknown");
        assert_eq!(components.name(999_999), "Unknown");
        assert_eq!(Components::default().name(999_999), "N/A");
        let mysql = components.id("mysql-connector-java").unwrap();
        assert_eq!(components.server(mysql), "Mysql");
        assert_eq!(components.server(1), "Unknown");
        assert_eq!(components.server(999_999), "Unknown");
    }

    #[test]
    fn faults_name_the_component() {
        for (text, want) in [
            ("[]", "component libraries: the file must be a map"),
            ("A:\n  name: 1", "component \"A\" has no number in \"id\""),
            (
                "A: {id: 1}\nB: {id: 1}",
                "components \"A\" and \"B\" have the same id 1",
            ),
            (
                "A: {id: 1}\nComponent-Server-Mappings: {B: C}",
                "server mapping names \"B\", which is no component",
            ),
        ] {
            let fault = Components::parse(text).unwrap_err();
            assert_eq!(fault.to_string(), want);
        }
    }
}
