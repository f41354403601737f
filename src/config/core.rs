//! Settings of module `core`: ports, aggregation, retention, name lengths (8.1.0 spec, K).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::section::Section;

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
    /// What certificates of other nodes name; `None` is the address of the node.
    pub grpc_ssl_member_name: Option<String>,
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
    /// Whether metrics also store the names of their entity.
    pub active_extra_model_columns: bool,
    /// UTF-16 units; longer names are cut. Same for the two below.
    pub service_name_max_length: usize,
    pub instance_name_max_length: usize,
    pub endpoint_name_max_length: usize,
    /// Between two writes of metrics.
    pub persistent_period: Duration,
    /// Where rows that the store refuses are kept.
    pub dead_letter_file: PathBuf,
    /// Bytes of these rows at most; 0 keeps none.
    pub dead_letter_bytes: u64,
    /// Whether agents are sent to other nodes of a cluster while this one has more of them.
    pub rebalance_connections: bool,
    /// How long a call to another node may take.
    pub remote_timeout: Duration,
    /// Entries of the network address alias cache.
    pub max_size_of_network_address_alias: usize,
    /// Profile tasks that agents are told of.
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

/// What `downsampling` may name; minutes are always kept, months were by older versions.
const STEPS: [&str; 5] = ["Second", "Minute", "Hour", "Day", "Month"];

impl CoreSettings {
    /// Reads `core.default`. Defaults are those of a key that is missing in the file, some of which differ from what the
    /// shipped file says. What this server writes beside the store is in `data_dir`, unless a setting says otherwise.
    pub(super) fn read(s: &mut Section<'_>, data_dir: &Path) -> CoreSettings {
        let downsampling = s.list("downsampling", "Hour,Day");
        let is_step = |d: &String| STEPS.iter().any(|step| d.eq_ignore_ascii_case(step));
        if !downsampling.iter().all(is_step) {
            s.problem("downsampling", "Hour, Day or both");
        }
        let has_step = |step: &str| downsampling.iter().any(|d| d.eq_ignore_ascii_case(step));
        s.without_effect(&[
            "restMinThreads",
            "restMaxThreads",
            "restAcceptorPriorityDelta",
            "restAcceptQueueSize",
            "gRPCThreadPoolSize",
            "gRPCThreadPoolQueueSize",
            "enableDatabaseSession",
            "topNReportPeriod",
        ]);
        CoreSettings {
            role: Role::read(s),
            rest_host: s.text("restHost", "0.0.0.0"),
            rest_port: s.port("restPort", 12800),
            rest_context_path: s.url_path("restContextPath", "/"),
            rest_idle_time_out: s.idle_millis("restIdleTimeOut", 30_000),
            grpc_host: s.text("gRPCHost", "0.0.0.0"),
            grpc_port: s.port("gRPCPort", 11800),
            grpc_ssl: TlsSettings::read(s),
            grpc_ssl_member_name: Some(s.text("gRPCSslMemberName", "")).filter(|n| !n.is_empty()),
            max_message_size: s.bound("maxMessageSize"),
            max_concurrent_calls_per_connection: s.bound("maxConcurrentCallsPerConnection"),
            downsampling_hour: has_step("hour"),
            downsampling_day: has_step("day"),
            enable_data_keeper_executor: s.flag("enableDataKeeperExecutor", true),
            data_keeper_execute_period: s.minutes("dataKeeperExecutePeriod", 5),
            record_data_ttl: s.count("recordDataTTL", 7),
            metrics_data_ttl: s.count("metricsDataTTL", 3),
            active_extra_model_columns: s.flag("activeExtraModelColumns", false),
            service_name_max_length: s.count("serviceNameMaxLength", 70),
            instance_name_max_length: s.count("instanceNameMaxLength", 70),
            endpoint_name_max_length: s.count("endpointNameMaxLength", 150),
            persistent_period: s.seconds("persistentPeriod", 3),
            dead_letter_file: s.file_or("deadLetterFile", data_dir.join("dead-letters.jsonl")),
            dead_letter_bytes: s.number::<u64>("deadLetterMegabytes", 64, 0..=1 << 20) << 20,
            rebalance_connections: s.flag("rebalanceConnections", true),
            remote_timeout: s.seconds("remoteTimeout", 20),
            max_size_of_network_address_alias: s.count("maxSizeOfNetworkAddressAlias", 1_000_000),
            max_size_of_profile_task: s.count("maxSizeOfProfileTask", 10_000),
            max_page_size_of_query_profile_snapshot: s
                .count("maxPageSizeOfQueryProfileSnapshot", 500),
            max_size_of_analyze_profile_snapshot: s
                .count("maxSizeOfAnalyzeProfileSnapshot", 12_000),
        }
    }
}

impl Role {
    fn read(s: &mut Section<'_>) -> Role {
        match s.text("role", "Mixed").to_ascii_lowercase().as_str() {
            "mixed" => Role::Mixed,
            "receiver" => Role::Receiver,
            "aggregator" => Role::Aggregator,
            _ => {
                s.problem("role", "Mixed, Receiver or Aggregator");
                Role::Mixed
            }
        }
    }
}

impl TlsSettings {
    /// The four `gRPCSsl…` keys, which core and the sharing server have in common.
    pub(super) fn read(s: &mut Section<'_>) -> Option<TlsSettings> {
        let is_on = s.flag("gRPCSslEnabled", false);
        let key = s.file("gRPCSslKeyPath");
        let chain = s.file("gRPCSslCertChainPath");
        let trusted_ca_path = s.file("gRPCSslTrustedCAPath");
        if !is_on {
            let files = [
                "gRPCSslKeyPath",
                "gRPCSslCertChainPath",
                "gRPCSslTrustedCAPath",
            ];
            s.without_effect_as("gRPCSslEnabled is false", &files);
            return None;
        }
        let expected = "the path of a PEM file, because gRPCSslEnabled is true";
        if key.is_none() {
            s.problem("gRPCSslKeyPath", expected);
        }
        if chain.is_none() {
            s.problem("gRPCSslCertChainPath", expected);
        }
        Some(TlsSettings {
            key_path: key?,
            cert_chain_path: chain?,
            trusted_ca_path,
        })
    }
}
