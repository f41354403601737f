//! What operators can change about analysis.

use std::sync::Arc;

use super::gateways::Gateways;
use super::grouping::EndpointGrouping;
use super::naming::NameLimits;
use super::pods::PodMap;
use crate::config::SlowThresholds;

/// Settings of the analyzer.
#[derive(Debug, Clone)]
pub struct AnalyzerSettings {
    pub names: NameLimits,
    pub grouping: Arc<EndpointGrouping>,
    pub gateways: Gateways,
    /// Kept segments of 10,000, by the original's arithmetic.
    pub sample_rate: i32,
    pub slow_statements: SlowThresholds,
    /// UTF-16 units of a statement that are kept.
    pub max_statement_length: usize,
    /// Data older than this is past every TTL and would only be deleted again.
    pub max_age_ms: i64,
    /// False stores segments but derives no metrics from them.
    pub is_trace_analysis_on: bool,
    /// Who is behind the addresses of Envoy's access logs; `None` takes these logs without looking at them.
    pub access_log_pods: Option<Arc<PodMap>>,
}

impl Default for AnalyzerSettings {
    /// Keeps every segment of any age; a statement is slow after 10 s, as in the original without thresholds. Access logs
    /// mean nothing.
    fn default() -> AnalyzerSettings {
        AnalyzerSettings {
            names: NameLimits::default(),
            grouping: Arc::default(),
            gateways: Gateways::default(),
            sample_rate: 10_000,
            slow_statements: SlowThresholds {
                by_type: Vec::new(),
                default: 10_000,
            },
            max_statement_length: 2000,
            max_age_ms: i64::MAX,
            is_trace_analysis_on: true,
            access_log_pods: None,
        }
    }
}
