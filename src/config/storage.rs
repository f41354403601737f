//! Settings of module `storage` (8.1.0 spec, K; storage spec, 1.1).

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::raw::Origin;
use super::section::Section;
use crate::util::file;

/// The selected store.
#[derive(Debug, Clone)]
pub enum StorageSettings {
    /// Provider `h2`.
    Embedded(EmbeddedSettings),
    /// Providers `elasticsearch` and `elasticsearch7`.
    Elasticsearch(Box<EsSettings>),
}

/// `storage.h2`, served by the embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// Where the database files live.
    pub dir: PathBuf,
    /// Services, instances or endpoints that one query returns at most.
    pub metadata_query_max_size: usize,
}

/// `storage.elasticsearch` or `storage.elasticsearch7`. Fields are named as the keys of the file.
#[derive(Debug, Clone)]
pub struct EsSettings {
    /// Prefix of every index, in lower case; `""` for none.
    pub name_space: String,
    /// `host:port` each, at least one.
    pub cluster_nodes: Vec<String>,
    pub protocol: EsProtocol,
    pub trust_store_path: Option<PathBuf>,
    pub trust_store_pass: Secret,
    /// Used only if user and password are both set.
    pub user: String,
    pub password: Secret,
    /// Java properties with `user`, `password`, `trustStorePass`, which win over those of the settings.
    pub secrets_management_file: Option<PathBuf>,
    /// Days per index. The original reads it but does nothing with it for `elasticsearch7`, so it counts only with
    /// `apply_day_step`.
    pub day_step: u32,
    pub apply_day_step: bool,
    pub index_shards_number: u32,
    /// Super datasets get this many times `index_shards_number` shards.
    pub super_dataset_index_shards_factor: u32,
    pub index_replicas_number: u32,
    /// Records per bulk request; `-1` in the file is no bound of records.
    pub bulk_actions: usize,
    /// Longest wait of a record for its bulk request; also the refresh interval of metric indices.
    pub flush_interval: Duration,
    /// Bulk requests in flight.
    pub concurrent_requests: usize,
    pub result_window_max_size: usize,
    /// Services, instances or endpoints that one query returns at most.
    pub metadata_query_max_size: usize,
    /// Segments of one trace.
    pub segment_query_max_size: usize,
    pub profile_task_query_max_size: usize,
    /// Whether index templates that differ from these settings are changed at the start.
    pub update_templates: bool,
    /// More index settings.
    pub advanced: serde_json::Map<String, serde_json::Value>,
}

/// More days than that in an index would never be deleted in time.
const MAX_DAY_STEP: i64 = 366;

/// How Elasticsearch is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EsProtocol {
    Http,
    Https,
}

impl EsProtocol {
    /// URL scheme.
    pub fn scheme(self) -> &'static str {
        match self {
            EsProtocol::Http => "http",
            EsProtocol::Https => "https",
        }
    }
}

impl EmbeddedSettings {
    /// Reads `storage.h2`; the data lives in `dir`, whatever the file says about H2.
    pub(super) fn read(s: &mut Section<'_>, dir: PathBuf) -> EmbeddedSettings {
        s.without_effect(&["driver", "url", "user", "password"]);
        EmbeddedSettings {
            dir,
            metadata_query_max_size: s.count("metadataQueryMaxSize", 5000),
        }
    }
}

impl EsSettings {
    /// Reads `storage.elasticsearch` or `storage.elasticsearch7`.
    pub(super) fn read(s: &mut Section<'_>) -> EsSettings {
        let apply_day_step = s.flag("applyDayStep", false);
        if !apply_day_step {
            s.without_effect(&["dayStep"]);
        }
        let mut settings = EsSettings {
            name_space: s.text("nameSpace", "").to_lowercase(),
            cluster_nodes: cluster_nodes(s),
            protocol: EsProtocol::read(s),
            trust_store_path: s.file("trustStorePath"),
            trust_store_pass: s.secret("trustStorePass"),
            user: s.text("user", ""),
            password: s.secret("password"),
            secrets_management_file: s.file("secretsManagementFile"),
            day_step: s.number("dayStep", 1, 1..=MAX_DAY_STEP),
            apply_day_step,
            index_shards_number: s.count("indexShardsNumber", 1),
            super_dataset_index_shards_factor: s.count("superDatasetIndexShardsFactor", 5),
            index_replicas_number: s.number("indexReplicasNumber", 0, 0..=i32::MAX.into()),
            bulk_actions: match s.number("bulkActions", 2000, -1..=i32::MAX.into()) {
                -1_i64 => usize::MAX,
                actions => usize::try_from(actions).unwrap_or(0).max(1),
            },
            flush_interval: s.seconds("flushInterval", 10),
            // None at a time is one after the other, to the original's client.
            concurrent_requests: s
                .number::<usize>("concurrentRequests", 2, 0..=i32::MAX.into())
                .max(1),
            result_window_max_size: s.count("resultWindowMaxSize", 10_000),
            metadata_query_max_size: s.count("metadataQueryMaxSize", 5000),
            segment_query_max_size: s.count("segmentQueryMaxSize", 200),
            profile_task_query_max_size: s.count("profileTaskQueryMaxSize", 200),
            update_templates: s.flag("updateTemplates", false),
            advanced: advanced(s),
        };
        settings.read_secrets(s);
        if settings.protocol == EsProtocol::Http {
            let keys = ["trustStorePath", "trustStorePass"];
            s.without_effect_as("protocol is http", &keys);
        }
        if settings.user.is_empty() {
            s.without_effect_as("user is empty", &["password"]);
        } else if settings.password.is_empty() {
            s.without_effect_as("password is empty", &["user"]);
        }
        settings
    }

    fn read_secrets(&mut self, s: &mut Section<'_>) {
        let Some(path) = &self.secrets_management_file else {
            return;
        };
        match file::read_text(path, file::MAX_BYTES) {
            Ok(text) => {
                let by = || Origin::SecretsFile(path.clone());
                for (key, value) in properties(&text) {
                    let key = ["user", "password", "trustStorePass"]
                        .into_iter()
                        .find(|k| *k == key);
                    if let Some(key) = key {
                        s.replaced(key, &value, by());
                    }
                }
                self.take_secrets(&text);
            }
            Err(error) => s.problem(
                "secretsManagementFile",
                &format!("a readable file of properties: {error}"),
            ),
        }
    }

    /// Takes what the text of a secrets file says.
    pub fn take_secrets(&mut self, text: &str) {
        for (key, value) in properties(text) {
            match key.as_str() {
                "user" => self.user = value,
                "password" => self.password = Secret::new(value),
                "trustStorePass" => self.trust_store_pass = Secret::new(value),
                _ => {}
            }
        }
    }
}

impl EsProtocol {
    fn read(s: &mut Section<'_>) -> EsProtocol {
        match s.text("protocol", "http").to_ascii_lowercase().as_str() {
            "http" => EsProtocol::Http,
            "https" => EsProtocol::Https,
            _ => {
                s.problem("protocol", "http or https");
                EsProtocol::Http
            }
        }
    }
}

/// `key=value` lines of a Java properties file; `#` and `!` begin a comment, `\` takes what follows as it is.
fn properties(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', '!']))
        .map(|line| {
            let mut is_escaped = false;
            let end = line.find(|c: char| {
                let is_end = !is_escaped && (c == '=' || c == ':' || c.is_whitespace());
                is_escaped = !is_escaped && c == '\\';
                is_end
            });
            let (key, rest) = line.split_at(end.unwrap_or(line.len()));
            let rest = rest.trim_start();
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            (unescaped(key), unescaped(value.trim_start()))
        })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                plain.extend(code.and_then(char::from_u32));
            }
            other => plain.extend(other),
        }
    }
    plain
}

fn cluster_nodes(s: &mut Section<'_>) -> Vec<String> {
    let nodes = s.list("clusterNodes", "localhost:9200");
    if nodes.is_empty() || !nodes.iter().all(|node| is_node(node)) {
        s.problem(
            "clusterNodes",
            "host:port, several with commas between, without scheme and user",
        );
    }
    nodes
}

/// Some that would make another address of a URL, or none.
const NOT_IN_HOSTS: [char; 11] = ['@', ':', ';', ',', '?', '#', '[', ']', '\\', '"', '%'];

/// `host:port`, `[v6]:port`, either with a path behind it.
fn is_node(node: &str) -> bool {
    let address = node.split('/').next().unwrap_or(node);
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains(NOT_IN_HOSTS) && !host.contains(char::is_whitespace)
        }
    };
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

fn advanced(s: &mut Section<'_>) -> serde_json::Map<String, serde_json::Value> {
    let text = s.text("advanced", "");
    if text.is_empty() {
        return serde_json::Map::new();
    }
    serde_json::from_str(&text).unwrap_or_else(|_| {
        s.problem("advanced", "a JSON object of index settings");
        serde_json::Map::new()
    })
}
