//! `application.yml` as a tree of texts: providers selected, placeholders replaced, properties applied (8.1.0 spec, K).
//!
//! Types come later, when a setting is read and it is known what it should be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_norway::Value;

use super::modules::{Support, choices, providers};
use super::placeholder::{Lookup, resolve};
use super::{ConfigError, Environment, JavaOpts, Problem};
use crate::model::yaml;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Written in the file.
    File,
    /// The default of a placeholder in the file.
    Default,
    /// A Java system property.
    Property(String),
    /// An environment variable.
    Variable(String),
    /// Another key of the same provider.
    Sibling(String),
    /// An option of the command line or of the JVM.
    Argument(String),
    /// A file that a setting names.
    SecretsFile(PathBuf),
}

impl Origin {
    /// For messages; `""` where the path of the setting says enough.
    pub fn describe(&self) -> String {
        match self {
            Origin::File | Origin::Default => String::new(),
            Origin::Property(name) => format!("-D{name}"),
            Origin::Variable(name) | Origin::Argument(name) => name.clone(),
            Origin::Sibling(name) => format!("key {name}"),
            Origin::SecretsFile(path) => path.display().to_string(),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    pub data: RawData,
    pub origin: Origin,
}

/// The text of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawData {
    Scalar(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

/// A module with its selected provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawModule {
    pub provider: String,
    /// Where the choice of the provider comes from.
    pub selected_by: Origin,
    pub keys: BTreeMap<String, RawValue>,
}

/// The modules that are on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RawConfig {
    pub modules: BTreeMap<String, RawModule>,
    /// The modules that are switched off, and by what.
    pub off: BTreeMap<String, Origin>,
    /// What is wrong with the tree itself; the modules concerned are left out.
    pub problems: Vec<Problem>,
    /// Options in `JAVA_OPTS` that nothing here used; of properties only the names.
    pub unused_java_opts: Vec<String>,
}

/// Turns the module off.
pub const OFF: &str = "-";

/// Reads the text of `application.yml`; `file` names it in errors. Fails only if it is no YAML.
pub fn read(
    file: &str,
    text: &str,
    environment: &Environment,
    java: &JavaOpts,
) -> Result<RawConfig, ConfigError> {
    let tree = yaml::parse(text).map_err(|e| ConfigError::Syntax {
        file: file.to_owned(),
        message: e.to_string(),
    })?;
    let mut reader = Reader {
        environment,
        java,
        used: RefCell::new(BTreeSet::from([
            "mode".to_owned(),
            "user.timezone".to_owned(),
        ])),
        problems: Vec::new(),
        off: BTreeMap::new(),
    };
    let mut config = RawConfig::default();
    match tree {
        Value::Mapping(modules) => {
            for (name, providers) in &modules {
                let name = scalar(name);
                if let Some(module) = reader.module(&name, providers) {
                    config.modules.insert(name, module);
                }
            }
        }
        Value::Null => {}
        _ => reader.problem(
            file,
            None,
            "modules, each with a selector and its providers",
        ),
    }
    reader.apply_properties(&mut config);
    config.unused_java_opts = reader.unused_java_opts();
    config.problems = reader.problems;
    config.off = reader.off;
    Ok(config)
}

struct Reader<'a> {
    environment: &'a Environment,
    java: &'a JavaOpts,
    /// Properties that something asked for.
    used: RefCell<BTreeSet<String>>,
    problems: Vec<Problem>,
    off: BTreeMap<String, Origin>,
}

/// What to select instead of a provider that has no section in the file.
fn expected(module: &str, provider: &str, sections: &[String]) -> String {
    let Some(known) = providers(module) else {
        return format!("one of {}, or - for none", sections.join(", "));
    };
    let is_usable =
        |(name, support): &(&str, Support)| *name == provider && *support != Support::Missing;
    match known.iter().any(is_usable) {
        true => format!("a section {module}.{provider} in the file, be it empty"),
        false => choices(known),
    }
}

impl Reader<'_> {
    fn module(&mut self, name: &str, providers: &Value) -> Option<RawModule> {
        let providers = match providers {
            Value::Mapping(providers) => providers,
            Value::Null => return None,
            _ => {
                self.problem(name, None, "a selector and providers");
                return None;
            }
        };
        let named = |wanted: &str| providers.iter().find(|(n, _)| scalar(n) == wanted);
        let (provider, selected_by) = match named("selector") {
            Some((_, selector)) => {
                self.resolved(&format!("{name}.selector"), &scalar(selector), &|_| None)?
            }
            None => match providers.iter().next() {
                Some((only, _)) if providers.len() == 1 => (scalar(only), Origin::File),
                _ => {
                    self.problem(
                        &format!("{name}.selector"),
                        None,
                        "the name of one provider, or - for none",
                    );
                    return None;
                }
            },
        };
        if provider == OFF {
            self.off.insert(name.to_owned(), selected_by);
            return None;
        }
        let Some((_, keys)) = named(&provider).filter(|_| provider != "selector") else {
            let sections = providers.iter().map(|(n, _)| scalar(n));
            let sections: Vec<String> = sections.filter(|n| n != "selector").collect();
            self.problems.push(Problem {
                path: format!("{name}.selector"),
                expected: expected(name, &provider, &sections),
                value: Some(provider),
                origin: selected_by.describe(),
            });
            return None;
        };
        let keys = self.keys(&format!("{name}.{provider}"), keys);
        Some(RawModule {
            provider,
            selected_by,
            keys,
        })
    }

    fn keys(&mut self, path: &str, keys: &Value) -> BTreeMap<String, RawValue> {
        let keys = match keys {
            Value::Mapping(keys) => keys,
            Value::Null => return BTreeMap::new(),
            _ => {
                self.problem(path, None, "keys with values");
                return BTreeMap::new();
            }
        };
        let sibling = |name: &str| {
            keys.iter()
                .find(|(n, v)| scalar(n) == name && matches!(v, Value::String(_)))
                .map(|(_, v)| scalar(v))
        };
        let mut read = BTreeMap::new();
        for (name, value) in keys {
            let name = scalar(name);
            let path = format!("{path}.{name}");
            let mut origin = Origin::File;
            let mut text = |reader: &mut Self, value: &Value| {
                let (text, from) = reader.resolved(&path, &scalar(value), &sibling)?;
                if origin == Origin::File {
                    origin = from;
                }
                Some(text)
            };
            let data = match value {
                Value::Sequence(items) => items
                    .iter()
                    .map(|v| text(self, v))
                    .collect::<Option<_>>()
                    .map(RawData::List),
                Value::Mapping(map) => map
                    .iter()
                    .map(|(k, v)| Some((scalar(k), text(self, v)?)))
                    .collect::<Option<_>>()
                    .map(RawData::Map),
                value => text(self, value).map(RawData::Scalar),
            };
            if let Some(data) = data {
                read.insert(name, RawValue { data, origin });
            }
        }
        read
    }

    fn resolved(
        &mut self,
        path: &str,
        text: &str,
        sibling: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(String, Origin)> {
        let names = Names {
            reader: self,
            sibling,
        };
        match resolve(text, &names) {
            Ok(resolved) => Some(resolved),
            Err(e) => {
                self.problem(
                    path,
                    Some(text),
                    &format!("a value that can be resolved: {e}"),
                );
                None
            }
        }
    }

    /// `-Dmodule.provider.key=value` for the selected providers.
    fn apply_properties(&self, config: &mut RawConfig) {
        for (name, value) in &self.java.properties {
            let mut parts = name.splitn(3, '.');
            let (Some(module), Some(provider), Some(key)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let Some(module) = config
                .modules
                .get_mut(module)
                .filter(|m| m.provider == provider)
            else {
                continue;
            };
            self.used.borrow_mut().insert(name.clone());
            module.keys.insert(
                key.to_owned(),
                RawValue {
                    data: RawData::Scalar(value.clone()),
                    origin: Origin::Property(name.clone()),
                },
            );
        }
    }

    fn unused_java_opts(&self) -> Vec<String> {
        let used = self.used.borrow();
        let properties = self.java.properties.iter().map(|(name, _)| name);
        let properties = properties
            .filter(|n| !used.contains(*n))
            .map(|n| format!("-D{n}"));
        self.java.others.iter().cloned().chain(properties).collect()
    }

    fn problem(&mut self, path: &str, value: Option<&str>, expected: &str) {
        self.problems.push(Problem {
            path: path.to_owned(),
            value: value.map(str::to_owned),
            origin: String::new(),
            expected: expected.to_owned(),
        });
    }
}

/// The order in which the original looks a name up.
struct Names<'a> {
    reader: &'a Reader<'a>,
    sibling: &'a dyn Fn(&str) -> Option<String>,
}

impl Lookup for Names<'_> {
    fn find(&self, name: &str) -> Option<(String, Origin)> {
        let owned = || name.to_owned();
        if let Some(value) = self.reader.java.property(name) {
            self.reader.used.borrow_mut().insert(owned());
            return Some((value.to_owned(), Origin::Property(owned())));
        }
        if let Some(value) = self.reader.environment.get(name) {
            return Some((value.to_owned(), Origin::Variable(owned())));
        }
        (self.sibling)(name).map(|value| (value, Origin::Sibling(owned())))
    }
}

/// A scalar as text, as it would be written.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        other => serde_norway::to_string(other)
            .map(|s| s.trim_end().to_owned())
            .unwrap_or_default(),
    }
}
