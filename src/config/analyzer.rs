//! Settings of module `agent-analyzer` (8.1.0 spec, B.5, K).

use super::section::Section;

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

impl AnalyzerSettings {
    /// Reads `agent-analyzer.default`.
    pub(super) fn read(s: &mut Section<'_>) -> AnalyzerSettings {
        let thresholds = s.text("slowDBAccessThreshold", "default:200");
        AnalyzerSettings {
            sample_rate: s.number("sampleRate", 10_000, 0..=i32::MAX.into()),
            slow_db_access_threshold: SlowThresholds::parse(&thresholds).unwrap_or_else(|| {
                s.problem(
                    "slowDBAccessThreshold",
                    "type:milliseconds, several with commas between",
                );
                SlowThresholds::EVERY_DEFAULT
            }),
            trace_analysis: s.flag("traceAnalysis", true),
            max_slow_sql_length: s.count("maxSlowSQLLength", 2000),
        }
    }
}

impl SlowThresholds {
    const EVERY_DEFAULT: SlowThresholds = SlowThresholds {
        by_type: Vec::new(),
        default: 10_000,
    };

    /// `type:ms,type:ms`. Items without exactly two parts are passed over; `None` if a number is none.
    pub fn parse(text: &str) -> Option<SlowThresholds> {
        let mut thresholds = SlowThresholds::EVERY_DEFAULT;
        for item in text.split(',') {
            // Java leaves out empty parts at the end.
            let mut parts = item.trim_end_matches(':').split(':');
            let (Some(ty), Some(ms), None) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let ms = i64::from(ms.trim().parse::<i32>().ok()?);
            let ty = ty.trim().to_lowercase();
            if ty == "default" {
                thresholds.default = ms;
            } else {
                thresholds.by_type.retain(|(known, _)| *known != ty);
                thresholds.by_type.push((ty, ms));
            }
        }
        Some(thresholds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_the_original_reads_them() {
        for (text, ty, want) in [
            ("default:200,mongodb:100", "MongoDB", Some(100)),
            ("default:200,mongodb:100", "mysql", Some(200)),
            ("mongodb:100", "mysql", Some(10_000)),
            (" MySQL : 7 ,x,a:b:c,", "mysql", Some(7)),
            ("a:1,a:2", "a", Some(2)),
            ("a:1:,b:,:", "a", Some(1)),
            ("a:1:,b:,:", "b", Some(10_000)),
            ("", "a", Some(10_000)),
            ("a:fast", "a", None),
        ] {
            assert_eq!(
                SlowThresholds::parse(text).map(|t| t.of(ty)),
                want,
                "{text}"
            );
        }
    }
}
