//! What operators can change about analysis.

use std::collections::HashMap;

use super::naming::NameLimits;

/// Thresholds above which a statement is slow, in milliseconds by database type (8.1.0 spec, B.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowStatementThresholds {
    by_type: HashMap<String, i64>,
    default_ms: i64,
}

impl SlowStatementThresholds {
    /// Reads `type:ms,type:ms`. Items without a colon are ignored, a wrong number is an error naming it. Without a
    /// `default` the default is 10 s.
    pub fn parse(text: &str) -> Result<SlowStatementThresholds, String> {
        let mut by_type = HashMap::new();
        for item in text.split(',') {
            let Some((ty, ms)) = item.split_once(':') else {
                continue;
            };
            let ms = ms
                .trim()
                .parse()
                .map_err(|_| format!("{item:?} has no number of milliseconds after the colon"))?;
            by_type.insert(ty.trim().to_lowercase(), ms);
        }
        let default_ms = by_type.get("default").copied().unwrap_or(10_000);
        Ok(SlowStatementThresholds {
            by_type,
            default_ms,
        })
    }

    /// Threshold of a database type as agents name it.
    pub fn of(&self, database_type: &str) -> i64 {
        self.by_type
            .get(&database_type.to_lowercase())
            .copied()
            .unwrap_or(self.default_ms)
    }
}

/// Settings of the analyzer.
#[derive(Debug, Clone)]
pub struct AnalyzerSettings {
    pub names: NameLimits,
    /// Kept segments of 10,000, by the original's arithmetic.
    pub sample_rate: i32,
    pub slow_statements: SlowStatementThresholds,
    /// UTF-16 units of a statement that are kept.
    pub max_statement_length: usize,
    /// False stores segments but derives no metrics from them.
    pub is_trace_analysis_on: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_by_lower_case_type() {
        let t = SlowStatementThresholds::parse("default:200, MongoDB :100,broken").unwrap();
        assert_eq!(t.of("mongodb"), 100);
        assert_eq!(t.of("Mysql"), 200);
        assert_eq!(SlowStatementThresholds::parse("").unwrap().of("x"), 10_000);
        assert!(SlowStatementThresholds::parse("default:fast").is_err());
    }
}
