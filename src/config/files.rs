//! Finds the configuration files: `--config DIR`, else `./ext-config`, `./config`, else `/skywalking/ext-config`,
//! `/skywalking/config`, else built in. For each file anew. Links are followed, as those of a mounted ConfigMap.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ConfigError;

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
/// Files are settings that people write; a larger one is a mistake.
const MAX_FILE_BYTES: u64 = 16 << 20;

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
pub struct ConfigDirs(Vec<Layer>);

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
        let ConfigDirs(mut layers) =
            ConfigDirs::only(named.map(Path::to_owned).into_iter().collect());
        layers.extend(homes.into_iter().map(Layer::of_home));
        Ok(ConfigDirs(layers))
    }

    /// Only these.
    pub fn only(dirs: Vec<PathBuf>) -> ConfigDirs {
        let layers = dirs.into_iter().map(|dir| Layer {
            dirs: vec![dir],
            libraries: None,
        });
        ConfigDirs(layers.collect())
    }

    /// Where a file may be that the server looks for while it runs, in order.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        let dirs = self.0.iter().flat_map(|layer| &layer.dirs);
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
        for layer in &self.0 {
            let mut found = BTreeMap::new();
            let mut has_folder = false;
            for dir in layer.dirs.iter().rev() {
                let names = list(&dir.join(folder), |name| {
                    name.ends_with(".yaml") || name.ends_with(".yml")
                })?;
                has_folder |= names.is_some();
                for name in names.unwrap_or_default() {
                    let path = dir.join(folder).join(&name);
                    if let Some(text) = read(&path)? {
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
        for layer in &self.0 {
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
        for dir in self.0.iter().flat_map(|layer| &layer.dirs) {
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

    fn file(&self, name: &str, built_in: &str) -> Result<ConfigFile, ConfigError> {
        for dir in self.0.iter().flat_map(|layer| &layer.dirs) {
            let path = dir.join(name);
            if let Some(text) = read(&path)? {
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
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            max_bytes: MAX_FILE_BYTES,
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(end);
        ConfigError::NoText {
            path: path.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_comes_from_the_first_directory_that_has_it() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        std::fs::create_dir(second.path().join("oal")).unwrap();
        std::fs::write(first.path().join("gateways.yml"), "1").unwrap();
        std::fs::write(second.path().join("gateways.yml"), "2").unwrap();
        std::fs::write(second.path().join("oal/core.oal"), "3").unwrap();
        let dirs = ConfigDirs::only(vec![first.path().to_owned(), second.path().to_owned()]);
        let files = dirs.read(|_| true).unwrap();
        assert_eq!(files.len(), BUILT_IN.len());
        let found = |name: &str| {
            let file = files.iter().find(|f| f.name == name).unwrap();
            (file.source.clone(), file.text.as_str())
        };
        let gateways = FileSource::Disk(first.path().join("gateways.yml"));
        let core = FileSource::Disk(second.path().join("oal/core.oal"));
        assert_eq!(found("gateways.yml"), (gateways, "1"));
        assert_eq!(found("oal/core.oal"), (core, "3"));
        assert_eq!(found("application.yml").0, FileSource::BuiltIn);
    }

    #[test]
    fn a_file_that_is_no_text_is_named_with_the_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gateways.yml"), b"a: 1\nb: \xfc\n").unwrap();
        let dirs = ConfigDirs::only(vec![dir.path().to_owned()]);
        let error = dirs.read(|_| true).unwrap_err().to_string();
        assert!(
            error.ends_with("gateways.yml:2 is not UTF-8, save the file in that encoding"),
            "{error}"
        );
    }

    #[test]
    fn rules_come_from_the_first_directory_that_has_their_folder() {
        let empty = tempfile::tempdir().unwrap();
        let full = tempfile::tempdir().unwrap();
        let folder = full.path().join(METER_RULES);
        let dirs = ConfigDirs::only(vec![empty.path().to_owned(), full.path().to_owned()]);
        let names = || {
            let files = dirs.read_folder(METER_RULES).unwrap().into_iter();
            files.map(|f| (f.name, f.text)).collect::<Vec<_>>()
        };
        let built_in = names();
        assert_eq!(built_in.len(), 1);
        assert_eq!(built_in[0].0, "meter-receive-config/spring-sleuth.yaml");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(names(), []);
        for name in ["b.yml", "a.yaml", "notes.txt", "..data.yaml"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let want = ["a.yaml", "b.yml"];
        let want = want.map(|name| (format!("{METER_RULES}/{name}"), name.to_owned()));
        assert_eq!(names(), want);
        std::fs::write(empty.path().join(METER_RULES), "no folder").unwrap();
        assert!(dirs.read_folder(METER_RULES).is_err());
    }

    #[test]
    fn a_mounted_config_map_in_ext_config_wins_over_config() {
        use std::os::unix::fs::symlink;
        let home = tempfile::tempdir().unwrap();
        let [config, ext] = ["config", "ext-config"].map(|name| home.path().join(name));
        let data = ext.join("..2026_11_27_10_00_00.1");
        for folder in [&config.join(FETCHER_RULES), &data, &ext.join(FETCHER_RULES)] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(data.join("gateways.yml"), "mounted").unwrap();
        std::fs::write(data.join("log4j2.xml"), "<Configuration/>").unwrap();
        symlink("..2026_11_27_10_00_00.1", ext.join("..data")).unwrap();
        for name in ["gateways.yml", "log4j2.xml"] {
            symlink(format!("..data/{name}"), ext.join(name)).unwrap();
        }
        std::fs::write(config.join("gateways.yml"), "shipped").unwrap();
        for (folder, name) in [(&config, "a.yaml"), (&config, "b.yaml"), (&ext, "b.yaml")] {
            let text = folder.file_name().unwrap().to_string_lossy();
            std::fs::write(folder.join(FETCHER_RULES).join(name), &*text).unwrap();
        }
        std::fs::create_dir(home.path().join("ext-libs")).unwrap();
        std::fs::write(home.path().join("ext-libs/mine.jar"), "PK").unwrap();
        let dirs = ConfigDirs(vec![Layer::of_home(home.path())]);
        let gateways = dirs.read(|name| name == "gateways.yml").unwrap();
        assert_eq!(gateways[0].text, "mounted");
        let rules = dirs.read_folder(FETCHER_RULES).unwrap();
        let texts: Vec<&str> = rules.iter().map(|f| f.text.as_str()).collect();
        assert_eq!(texts, ["config", "ext-config"]);
        let unusable = dirs.unusable().unwrap();
        assert_eq!(unusable.len(), 2, "{unusable:?}");
        assert!(
            unusable[0].ends_with("ext-config/log4j2.xml"),
            "{unusable:?}"
        );
        assert!(unusable[1].ends_with("ext-libs/mine.jar"), "{unusable:?}");
    }

    #[test]
    fn files_that_nobody_reads_are_named() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("ext-config");
        std::fs::create_dir_all(config.join("oal")).unwrap();
        for name in [
            "alarm-settings.yaml",
            "alarm-settings.yml",
            "alarm-settings-sample.yml",
            "log4j2.xml",
            ".hidden.yml",
            "oal/core.oal",
            "oal/own.oal",
        ] {
            std::fs::write(config.join(name), "").unwrap();
        }
        let dirs = ConfigDirs(vec![Layer::of_home(home.path())]);
        let named = |name: &str| config.join(name).display().to_string();
        let want = ["alarm-settings.yaml", "oal/own.oal"].map(named);
        assert_eq!(dirs.unread().unwrap(), want);
        for i in 0..20 {
            std::fs::write(config.join(format!("{i}.yml")), "").unwrap();
        }
        let many = dirs.unread().unwrap();
        assert_eq!((many.len(), many[10].as_str()), (11, "and 12 more"));
    }

    #[test]
    fn files_that_say_what_is_built_in_are_known() {
        let rules = ConfigDirs::only(vec![]).read_folder(FETCHER_RULES).unwrap();
        assert!(rules.iter().all(ConfigFile::is_as_shipped));
        assert!(!ConfigFile::built_in("gateways.yml", "a: 1").is_as_shipped());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("gateways.yml")).unwrap();
        let dirs = ConfigDirs::only(vec![dir.path().to_owned()]);
        let error = dirs.read(|name| name == "gateways.yml").unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
        std::fs::write(dir.path().join("application.yml"), [0xff]).unwrap();
        assert!(dirs.read(|name| name == APPLICATION).is_err());
    }

    #[test]
    fn a_named_directory_must_exist() {
        assert!(ConfigDirs::usual(Some(Path::new("/no/such/directory"))).is_err());
        assert!(ConfigDirs::usual(None).is_ok());
    }
}
