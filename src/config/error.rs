//! What can be wrong with a configuration, and what is worth saying about a right one.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why the server cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}:{line} is not UTF-8, save the file in that encoding")]
    NoText { path: PathBuf, line: usize },
    #[error(
        "{path} and perhaps others change while they are read: start again when the files are whole"
    )]
    Unsettled { path: PathBuf },
    #[error("{path} is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("{file} is not valid YAML: {message}")]
    Syntax { file: String, message: String },
    #[error("{} in the configuration:{}", count(.0), lines(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// The file or folder that cannot be read, if that is what is wrong.
    pub fn unreadable(&self) -> Option<&Path> {
        match self {
            ConfigError::Read { path, .. } | ConfigError::NoText { path, .. } => Some(path),
            ConfigError::Unsettled { .. }
            | ConfigError::NotADirectory { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::Invalid(_) => None,
        }
    }
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `module.provider.key`, or a part of it.
    pub path: String,
    /// What is there, masked if it is a secret; `None` if nothing is.
    pub value: Option<String>,
    /// Where the value comes from, `""` if the path says it all.
    pub origin: String,
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.value {
            Some(value) => write!(f, " is {value:?}")?,
            None => f.write_str(" is missing")?,
        }
        if !self.origin.is_empty() {
            write!(f, " (from {})", self.origin)?;
        }
        write!(f, ", expected {}", self.expected)
    }
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}

/// Something the operator should know once, at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Provider `h2` is selected, which is this server's own embedded store.
    EmbeddedServesH2,
    /// Modules in the file that nobody knows.
    UnknownModules(Vec<String>),
    /// Keys in the file that nobody reads.
    UnknownKeys(Vec<String>),
    /// Keys that were set but mean nothing to this server.
    KeysWithoutEffect(Vec<String>),
    /// Options in `JAVA_OPTS` that mean nothing to this server.
    JavaOptsWithoutEffect(Vec<String>),
    /// Arguments that nobody understands, with `--lenient`.
    ArgumentsWithoutEffect(Vec<String>),
    /// What `-Xmx` stands for, in bytes.
    MemoryBudget(u64),
    /// Files in the configuration folders that only a Java server can use.
    UnusableFiles(Vec<String>),
    /// Files in the configuration folders that have the name of none that the server knows.
    UnreadFiles(Vec<String>),
}

impl Notice {
    /// Writes it to the log.
    pub fn log(&self) {
        let (message, what) = self.parts();
        match self {
            Notice::EmbeddedServesH2 => tracing::info!("{message}"),
            Notice::KeysWithoutEffect(_)
            | Notice::JavaOptsWithoutEffect(_)
            | Notice::MemoryBudget(_) => tracing::info!(what, "{message}"),
            _ => tracing::warn!(what, "{message}"),
        }
    }

    /// What is to be said, and what it is about.
    fn parts(&self) -> (&'static str, String) {
        match self {
            Notice::EmbeddedServesH2 => (
                "storage provider h2 is served by the embedded store",
                String::new(),
            ),
            Notice::UnknownModules(modules) => ("unknown modules are ignored", modules.join(" ")),
            Notice::UnknownKeys(keys) => ("unknown settings are ignored", keys.join(" ")),
            Notice::KeysWithoutEffect(keys) => {
                ("settings have no effect in this server", keys.join(" "))
            }
            Notice::JavaOptsWithoutEffect(options) => (
                "java options have no effect in this server",
                options.join(" "),
            ),
            Notice::ArgumentsWithoutEffect(arguments) => {
                ("arguments have no effect", arguments.join(" "))
            }
            Notice::MemoryBudget(bytes) => (
                "the heap size of the java options is the memory budget, in bytes",
                bytes.to_string(),
            ),
            Notice::UnreadFiles(files) => (
                "files that nobody reads, are their names right?",
                files.join(" "),
            ),
            Notice::UnusableFiles(files) => (
                "files that only a java server can use: set the log up with OAP_LOG, plug-ins cannot be loaded",
                files.join(" "),
            ),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, what) = self.parts();
        f.write_str(message)?;
        if !what.is_empty() {
            write!(f, ": {what}")?;
        }
        Ok(())
    }
}
