//! Finds the configuration files: `--config DIR`, else `./ext-config`, `./config`, else `/skywalking/ext-config`,
//! `/skywalking/config`, else built in. For each file anew. Links are followed, as those of a mounted ConfigMap.

mod settled;

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::ConfigError;
use crate::util::file;

/// Every file of the configuration with its built-in text.
const BUILT_IN: &[(&str, &str)] = &[
    (APPLICATION, include_str!("../../config/application.yml")),
    ("oal/core.oal", include_str!("../../config/oal/core.oal")),
    (
        "oal/java-agent.oal",
        include_str!("../../config/oal/java-agent.oal"),
    ),
    (
        "oal/dotnet-agent.oal",
        include_str!("../../config/oal/dotnet-agent.oal"),
    ),
    ("oal/envoy.oal", include_str!("../../config/oal/envoy.oal")),
    (
        "component-libraries.yml",
        include_str!("../../config/component-libraries.yml"),
    ),
    (
        "service-apdex-threshold.yml",
        include_str!("../../config/service-apdex-threshold.yml"),
    ),
    (
        "endpoint-name-grouping.yml",
        include_str!("../../config/endpoint-name-grouping.yml"),
    ),
    ("gateways.yml", include_str!("../../config/gateways.yml")),
    (ALARM_RULES, include_str!("../../config/alarm-settings.yml")),
    (
        "ui-initialized-templates.yml",
        include_str!("../../config/ui-initialized-templates.yml"),
    ),
];

/// Folders with rules, any number of files each, and what is built in for when there is no such folder.
const BUILT_IN_FOLDERS: &[(&str, &[(&str, &str)])] = &[
    (
        METER_RULES,
        &[(
            "spring-sleuth.yaml",
            include_str!("../../config/meter-receive-config/spring-sleuth.yaml"),
        )],
    ),
    (
        FETCHER_RULES,
        &[(
            "self.yaml",
            include_str!("../../config/fetcher-prom-rules/self.yaml"),
        )],
    ),
];

/// The folder with the rules of the meter receiver.
pub const METER_RULES: &str = "meter-receive-config";
/// The folder with the rules of the Prometheus fetcher.
pub const FETCHER_RULES: &str = "fetcher-prom-rules";
/// The file with the rules of alarms.
pub const ALARM_RULES: &str = "alarm-settings.yml";
/// The file with the settings.
pub const APPLICATION: &str = "application.yml";
/// Lies in the image of the original to be read by people.
const SAMPLE: &str = "alarm-settings-sample.yml";
/// Of files that nobody reads.
const MAX_NAMED: usize = 10;
const LINK_TO_NOTHING: &str = "it is a link to nothing: mend or remove it";

/// Where a file was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    Disk(PathBuf),
    BuiltIn,
    /// The provider of a configuration centre.
    Center(&'static str),
}

impl std::fmt::Display for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileSource::Disk(path) => path.display().fmt(f),
            FileSource::BuiltIn => f.write_str("built in"),
            FileSource::Center(provider) => f.write_str(provider),
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Path below the configuration directory.
    pub name: String,
    pub source: FileSource,
    pub text: String,
}

impl ConfigFile {
    /// Whether it says what the program has built in.
    pub fn is_as_shipped(&self) -> bool {
        let in_folders = BUILT_IN_FOLDERS.iter().flat_map(|(folder, files)| {
            files
                .iter()
                .map(move |(name, text)| (format!("{folder}/{name}"), *text))
        });
        let mut all = BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), *text))
            .chain(in_folders);
        all.any(|(name, text)| name == self.name && text == self.text)
    }

    /// A file that is part of the program.
    pub fn built_in(name: impl Into<String>, text: &str) -> ConfigFile {
        ConfigFile {
            name: name.into(),
            source: FileSource::BuiltIn,
            text: text.to_owned(),
        }
    }
}

/// The directories to look in, in order.
#[derive(Debug, Clone)]
pub struct ConfigDirs {
    layers: Vec<Layer>,
    /// Files that are looked at as if they were not there.
    passed_over: Vec<PathBuf>,
}

/// Directories that the original merges before it starts, and a folder of its plug-ins.
#[derive(Debug, Clone, Default)]
struct Layer {
    /// The first one with a file has it.
    dirs: Vec<PathBuf>,
    libraries: Option<PathBuf>,
}

impl ConfigDirs {
    /// The directory that the user names, which must exist, and the usual ones. As in the image of the original, files in
    /// `ext-config` win over those in the `config` beside it (deployment spec, A5).
    pub fn usual(named: Option<&Path>) -> Result<ConfigDirs, ConfigError> {
        if let Some(path) = named.filter(|p| !p.is_dir()) {
            return Err(ConfigError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let mut homes = vec![Path::new("")];
        let image = Path::new("/skywalking");
        if std::env::current_dir().is_ok_and(|here| here != image) {
            homes.push(image);
        }
        let mut dirs = ConfigDirs::only(named.map(Path::to_owned).into_iter().collect());
        dirs.layers.extend(homes.into_iter().map(Layer::of_home));
        Ok(dirs)
    }

    /// Only these.
    pub fn only(dirs: Vec<PathBuf>) -> ConfigDirs {
        let layers = dirs.into_iter().map(|dir| Layer {
            dirs: vec![dir],
            libraries: None,
        });
        ConfigDirs {
            layers: layers.collect(),
            passed_over: Vec::new(),
        }
    }

    /// The same without some files.
    pub fn without(self, files: &[PathBuf]) -> ConfigDirs {
        ConfigDirs {
            passed_over: files.to_vec(),
            ..self
        }
    }

    /// Where a file may be that the server looks for while it runs, in order.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        let dirs = self.layers.iter().flat_map(|layer| &layer.dirs);
        dirs.map(|dir| dir.join(name)).collect()
    }

    /// Reads every file for which `is_wanted` holds. One that exists but cannot be read is an error, never passed over.
    pub fn read(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<ConfigFile>, ConfigError> {
        BUILT_IN
            .iter()
            .filter(|(name, _)| is_wanted(name))
            .map(|(name, built_in)| self.file(name, built_in))
            .collect()
    }

    /// Reads the YAML files of a folder of rules, all from the first place that has the folder, in the order of their
    /// names.
    pub fn read_folder(&self, folder: &str) -> Result<Vec<ConfigFile>, ConfigError> {
        for layer in &self.layers {
            let mut found = BTreeMap::new();
            let mut has_folder = false;
            for dir in layer.dirs.iter().rev() {
                let names = list(&dir.join(folder), |name| {
                    name.ends_with(".yaml") || name.ends_with(".yml")
                })?;
                has_folder |= names.is_some();
                for name in names.unwrap_or_default() {
                    let path = dir.join(folder).join(&name);
                    if let Some(text) = self.text(&path)? {
                        found.insert(format!("{folder}/{name}"), (FileSource::Disk(path), text));
                    }
                }
            }
            if has_folder {
                let file = |(name, (source, text))| ConfigFile { name, source, text };
                return Ok(found.into_iter().map(file).collect());
            }
        }
        let built_in = BUILT_IN_FOLDERS.iter().filter(|(name, _)| *name == folder);
        let files = built_in.flat_map(|(_, files)| *files);
        Ok(files
            .map(|(name, text)| ConfigFile::built_in(format!("{folder}/{name}"), text))
            .collect())
    }

    /// Files that the original would use and this server cannot: settings of its log, plug-ins.
    pub fn unusable(&self) -> Result<Vec<String>, ConfigError> {
        let mut found = Vec::new();
        for layer in &self.layers {
            let is_log = |name: &str| name.starts_with("log4j");
            let is_library = |name: &str| name.ends_with(".jar");
            let logs = layer
                .dirs
                .iter()
                .map(|dir| (dir, &is_log as &dyn Fn(&str) -> bool));
            let libraries = layer.libraries.iter().map(|dir| (dir, &is_library as _));
            for (dir, is_unusable) in logs.chain(libraries) {
                let names = list(dir, is_unusable)?.unwrap_or_default();
                found.extend(
                    names
                        .iter()
                        .map(|name| dir.join(name).display().to_string()),
                );
            }
        }
        Ok(found)
    }

    /// Files that look like settings and that nobody reads: a name is easily mistyped. Ten at most, and how many more there are.
    pub fn unread(&self) -> Result<Vec<String>, ConfigError> {
        let is_setting = |name: &str| {
            [".yml", ".yaml", ".oal"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        let is_known = |name: &str| name == SAMPLE || BUILT_IN.iter().any(|(n, _)| *n == name);
        let mut found = Vec::new();
        for dir in self.layers.iter().flat_map(|layer| &layer.dirs) {
            for folder in ["", "oal/"] {
                let names = list(&dir.join(folder), is_setting)?.unwrap_or_default();
                let names = names.iter().map(|name| format!("{folder}{name}"));
                let unknown = names.filter(|name| !is_known(name));
                found.extend(unknown.map(|name| dir.join(name).display().to_string()));
            }
        }
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        found.extend((more > 0).then(|| format!("and {more} more")));
        Ok(found)
    }

    /// `None` if there is no such file, or it is passed over.
    fn text(&self, path: &Path) -> Result<Option<String>, ConfigError> {
        match self.passed_over.iter().any(|other| other == path) {
            true => Ok(None),
            false => read(path),
        }
    }

    fn file(&self, name: &str, built_in: &str) -> Result<ConfigFile, ConfigError> {
        for dir in self.layers.iter().flat_map(|layer| &layer.dirs) {
            let path = dir.join(name);
            if let Some(text) = self.text(&path)? {
                return Ok(ConfigFile {
                    name: name.to_owned(),
                    source: FileSource::Disk(path),
                    text,
                });
            }
        }
        Ok(ConfigFile::built_in(name, built_in))
    }
}

impl Layer {
    /// What lies where the original is installed.
    fn of_home(home: &Path) -> Layer {
        Layer {
            dirs: vec![home.join("ext-config"), home.join("config")],
            libraries: Some(home.join("ext-libs")),
        }
    }
}

/// The text that the program has for a file.
pub(super) fn built_in(name: &str) -> &'static str {
    let mut known = BUILT_IN.iter().filter(|(n, _)| *n == name);
    known.next().map_or("", |(_, text)| text)
}

/// Sorted names of the wanted files of a folder; `None` if there is no such folder.
fn list(
    folder: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<String>>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && is_wanted(&name) {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(Some(names))
}

/// `None` if there is no such file; a link to none is not taken for that, as it was meant to be one.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = match file::read(path, file::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            return Ok(None);
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(failed(Error::new(e.kind(), LINK_TO_NOTHING)));
        }
        Err(e) => return Err(failed(e)),
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(end);
        ConfigError::NoText {
            path: path.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    })?;
    Ok(Some(file::without_mark(text)))
}

#[cfg(test)]
mod tests;
