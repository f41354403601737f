//! Settings of module `storage` (8.1.0 spec, K; storage spec, 1.1).

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// The selected store.
#[derive(Debug, Clone)]
pub enum StorageSettings {
    /// Provider `h2`.
    Embedded(EmbeddedSettings),
    /// Providers `elasticsearch` and `elasticsearch7`.
    Elasticsearch(EsSettings),
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
    /// Java properties with `user`, `password`, `trustStorePass`.
    pub secrets_management_file: Option<PathBuf>,
    /// Days per index.
    pub day_step: u32,
    pub index_shards_number: u32,
    /// Super datasets get this many times `index_shards_number` shards.
    pub super_dataset_index_shards_factor: u32,
    pub index_replicas_number: u32,
    /// Records per bulk request.
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
    /// More index settings.
    pub advanced: serde_json::Map<String, serde_json::Value>,
}

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
