//! Settings of module `agent-analyzer` (8.1.0 spec, B.5, K).

/// `agent-analyzer.default`.
#[derive(Debug, Clone)]
pub struct AnalyzerSettings {
    /// Share of segments that are stored, in 1/10000. Metrics count all.
    pub sample_rate: u32,
    pub slow_db_access_threshold: SlowThresholds,
    /// Whether segments become metrics and topology at all, not only trace records.
    pub trace_analysis: bool,
    /// UTF-16 units of a statement that are kept.
    pub max_slow_sql_length: usize,
}

/// From which latency on a statement is slow, by database type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowThresholds {
    /// Lower-case type and milliseconds.
    pub by_type: Vec<(String, i64)>,
    /// Milliseconds for every other type.
    pub default: i64,
}

impl SlowThresholds {
    /// Milliseconds that the latency must exceed. The type is compared in lower case.
    pub fn of(&self, database_type: &str) -> i64 {
        let wanted = database_type.to_lowercase();
        self.by_type
            .iter()
            .find(|(ty, _)| *ty == wanted)
            .map_or(self.default, |(_, ms)| *ms)
    }
}
