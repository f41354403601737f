//! What the store needs to know of the configuration (storage 1.1).

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::names::NameSpaceError;
use super::trust_store::TrustStoreError;
use crate::config::{EsProtocol, EsSettings, Secret};

/// How to reach the cluster and how to lay out indices. The default is that of 8.1.0 on `localhost:9200`.
#[derive(Debug, Clone)]
pub struct ElasticsearchOptions {
    /// Prefix of every index, template and alias; `""` for none.
    pub name_space: String,
    /// `host:port` or `host:port/path` each, at least one.
    pub cluster_nodes: Vec<String>,
    pub protocol: EsProtocol,
    /// Basic authentication, used only if user and password are both set.
    pub user: String,
    pub password: Secret,
    /// PEM file or Java key store with certificates to trust beside the public ones; read only for https.
    pub trust_store_path: Option<PathBuf>,
    /// Of a key store.
    pub trust_store_pass: Secret,
    /// False leaves the creation of templates to other nodes and waits for it (`-Dmode=no-init`).
    pub creates_templates: bool,
    /// Whether templates that differ are changed to what these options say.
    pub updates_templates: bool,
    /// Days that share an index; 1 is the layout of 8.1.0.
    pub day_step: u32,
    pub index_shards: u32,
    /// Super datasets get this many times `index_shards`.
    pub super_dataset_shards_factor: u32,
    pub index_replicas: u32,
    /// Refresh interval of metric indices.
    pub flush_interval: Duration,
    /// Index settings that win over those above.
    pub advanced: Map<String, Value>,
    /// Documents of one bulk request.
    pub bulk_actions: usize,
    /// Bytes of one bulk request, unless one document alone is larger.
    pub bulk_bytes: usize,
    /// Bulk requests in flight.
    pub concurrent_requests: usize,
    pub connect_timeout: Duration,
    /// From sending to the last byte of the answer.
    pub request_timeout: Duration,
}

impl Default for ElasticsearchOptions {
    fn default() -> Self {
        Self {
            name_space: String::new(),
            cluster_nodes: vec!["localhost:9200".to_owned()],
            protocol: EsProtocol::Http,
            user: String::new(),
            password: Secret::default(),
            trust_store_path: None,
            trust_store_pass: Secret::default(),
            creates_templates: true,
            updates_templates: false,
            day_step: 1,
            index_shards: 1,
            super_dataset_shards_factor: 5,
            index_replicas: 0,
            flush_interval: Duration::from_secs(10),
            advanced: Map::new(),
            bulk_actions: 1000,
            bulk_bytes: 5 * 1024 * 1024,
            concurrent_requests: 2,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl From<&EsSettings> for ElasticsearchOptions {
    fn from(settings: &EsSettings) -> Self {
        Self {
            name_space: settings.name_space.clone(),
            cluster_nodes: settings.cluster_nodes.clone(),
            protocol: settings.protocol,
            user: settings.user.clone(),
            password: settings.password.clone(),
            trust_store_path: settings.trust_store_path.clone(),
            trust_store_pass: settings.trust_store_pass.clone(),
            updates_templates: settings.update_templates,
            day_step: match settings.apply_day_step {
                true => settings.day_step,
                false => 1,
            },
            index_shards: settings.index_shards_number,
            super_dataset_shards_factor: settings.super_dataset_index_shards_factor,
            index_replicas: settings.index_replicas_number,
            flush_interval: settings.flush_interval,
            advanced: settings.advanced.clone(),
            bulk_actions: settings.bulk_actions,
            concurrent_requests: settings.concurrent_requests,
            ..Self::default()
        }
    }
}

impl ElasticsearchOptions {
    /// The user's index settings by full dotted key. Keys may come flat or nested and without `index.`; a whole number
    /// written as a fraction, which is refused where an integer is wanted, is written whole.
    pub(super) fn advanced_settings(&self) -> Map<String, Value> {
        flat_settings(&self.advanced)
    }

    /// Greatest `from + size` of a search that the indices accept.
    pub(super) fn result_window(&self) -> i64 {
        let window = match self.advanced_settings().get("index.max_result_window") {
            Some(Value::Number(n)) => n.as_i64(),
            Some(Value::String(s)) => s.parse().ok(),
            _ => None,
        };
        window.unwrap_or(DEFAULT_RESULT_WINDOW)
    }
}

/// Elasticsearch's own default of `index.max_result_window`.
const DEFAULT_RESULT_WINDOW: i64 = 10_000;

/// Index settings by full dotted key, whatever form they come in.
pub(super) fn flat_settings(settings: &Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    flatten("", settings, &mut flat);
    flat
}

fn flatten(prefix: &str, settings: &Map<String, Value>, flat: &mut Map<String, Value>) {
    for (key, value) in settings {
        let key = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Object(inner) => flatten(&key, inner, flat),
            other => {
                let key = match key.strip_prefix("index.") {
                    Some(_) => key,
                    None => format!("index.{key}"),
                };
                flat.insert(key, whole(other));
            }
        }
    }
}

fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(n) if value.is_f64() && n.fract() == 0.0 && n.abs() < 1e15 => Value::from(n as i64),
        _ => value.clone(),
    }
}

/// Options that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("no elasticsearch node is configured (clusterNodes)")]
    NoNodes,
    #[error("elasticsearch node {0:?} is not of the form host:port or host:port/path")]
    Node(String),
    #[error(transparent)]
    NameSpace(#[from] NameSpaceError),
    #[error("failed to read trust store {path:?}")]
    TrustStoreFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("trust store {path:?} cannot be used")]
    TrustStore {
        path: PathBuf,
        source: TrustStoreError,
    },
    #[error("failed to set up the elasticsearch client: {0}")]
    Transport(String),
    #[error("failed to set up the counters of elasticsearch")]
    Counters(#[source] prometheus::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn advanced_settings_come_in_any_form() {
        let Value::Object(advanced) = json!({
            "index.codec": "best_compression",
            "max_result_window": 100000.0,
            "index": {"translog": {"durability": "async"}},
        }) else {
            panic!("no object")
        };
        let options = ElasticsearchOptions {
            advanced,
            ..ElasticsearchOptions::default()
        };
        assert_eq!(
            Value::Object(options.advanced_settings()),
            json!({
                "index.codec": "best_compression",
                "index.max_result_window": 100_000,
                "index.translog.durability": "async",
            })
        );
        assert_eq!(options.result_window(), 100_000);
        assert_eq!(ElasticsearchOptions::default().result_window(), 10_000);
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let options = ElasticsearchOptions {
            password: Secret::new("hunter2"),
            ..ElasticsearchOptions::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
