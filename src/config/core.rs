//! Settings of module `core`: ports, aggregation, retention, name lengths (8.1.0 spec, K).

use std::path::PathBuf;
use std::time::Duration;

/// `core.default`. Fields are named as the keys of the file.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    pub role: Role,
    pub rest_host: String,
    /// 0 takes a free port.
    pub rest_port: u16,
    /// Prefix of every path on the HTTP port, `/` for none.
    pub rest_context_path: String,
    /// How long an idle HTTP connection is kept.
    pub rest_idle_time_out: Duration,
    pub grpc_host: String,
    /// 0 takes a free port.
    pub grpc_port: u16,
    /// `None` is clear text.
    pub grpc_ssl: Option<TlsSettings>,
    /// Largest gRPC message in bytes; `None` is the server's own bound.
    pub max_message_size: Option<usize>,
    /// gRPC streams per connection; `None` is the server's own bound.
    pub max_concurrent_calls_per_connection: Option<u32>,
    /// Whether minute values are also merged into hours.
    pub downsampling_hour: bool,
    /// Whether minute values are also merged into days.
    pub downsampling_day: bool,
    /// Whether this server deletes data that is older than its TTL.
    pub enable_data_keeper_executor: bool,
    /// Between two such deletions.
    pub data_keeper_execute_period: Duration,
    /// Days to keep records.
    pub record_data_ttl: u32,
    /// Days to keep metrics and metadata.
    pub metrics_data_ttl: u32,
    /// Whether recently written values are kept in memory instead of being read back.
    pub enable_database_session: bool,
    /// Between two writes of slow statements; zero writes them with every other write.
    pub top_n_report_period: Duration,
    /// Whether metrics also store the names of their entity.
    pub active_extra_model_columns: bool,
    /// UTF-16 units; longer names are cut. Same for the two below.
    pub service_name_max_length: usize,
    pub instance_name_max_length: usize,
    pub endpoint_name_max_length: usize,
    /// Between two writes of metrics.
    pub persistent_period: Duration,
    /// How long a call to another node may take.
    pub remote_timeout: Duration,
    /// Entries of the network address alias cache.
    pub max_size_of_network_address_alias: usize,
    /// Entries of the profile task cache.
    pub max_size_of_profile_task: usize,
    /// Snapshots read at once.
    pub max_page_size_of_query_profile_snapshot: usize,
    /// Snapshots that one analysis takes.
    pub max_size_of_analyze_profile_snapshot: usize,
}

/// What part a node takes in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Mixed,
    /// Receives, does not announce itself to others.
    Receiver,
    Aggregator,
}

/// PEM files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub key_path: PathBuf,
    pub cert_chain_path: PathBuf,
    /// Certificates that calls to other nodes trust.
    pub trusted_ca_path: Option<PathBuf>,
}
