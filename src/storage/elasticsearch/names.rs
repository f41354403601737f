//! Names of indices, templates and aliases (storage 2.1, 2.2), and which indices a search must look at.

use crate::model::time_bucket::{day_of, start_of};
use crate::storage::query::BucketRange;

/// Above this many days a search goes to the alias: naming the days no longer saves enough.
const MAX_DAYS: usize = 31;
/// Longest list of indices in a request line; Elasticsearch takes lines of 4096 bytes by default.
const MAX_TARGET_BYTES: usize = 3000;

/// A namespace that index names cannot start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namespace {name_space:?} cannot be part of an index name: {reason}")]
pub struct NameSpaceError {
    pub name_space: String,
    pub reason: &'static str,
}

/// Names below one namespace.
#[derive(Debug, Clone)]
pub struct Names {
    /// Namespace in lower case and `_`, or nothing.
    prefix: String,
}

impl Names {
    pub fn new(name_space: &str) -> Result<Names, NameSpaceError> {
        let lower = name_space.trim().to_lowercase();
        let error = |reason| NameSpaceError {
            name_space: name_space.to_owned(),
            reason,
        };
        if lower.is_empty() {
            return Ok(Names {
                prefix: String::new(),
            });
        }
        if lower.starts_with(['-', '_', '+', '.']) {
            return Err(error("it starts with one of - _ + ."));
        }
        if lower.contains(|c: char| c.is_control() || " \\/*?\"<>|,#:%&=;".contains(c)) {
            return Err(error("it has a character that names must not have"));
        }
        Ok(Names {
            prefix: format!("{lower}_"),
        })
    }

    /// What every name starts with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Alias and template of a model; index of a model without days.
    pub fn alias(&self, model: &str) -> String {
        format!("{}{model}", self.prefix)
    }

    /// Index of a model for one day (`yyyyMMdd`).
    pub fn daily(&self, model: &str, day: u64) -> String {
        format!("{}{model}-{day}", self.prefix)
    }

    /// Where rows of a range are: the days' indices if they are few, else the alias.
    pub fn target(&self, model: &str, range: BucketRange) -> String {
        let target = days(range)
            .map(|days| {
                let names: Vec<String> = days.iter().map(|d| self.daily(model, *d)).collect();
                names.join(",")
            })
            .filter(|target| target.len() <= MAX_TARGET_BYTES);
        target.unwrap_or_else(|| self.alias(model))
    }
}

/// Day of an index by its name, 0 if it has none.
pub fn day_of_index(index: &str) -> u64 {
    let suffix = index.rsplit_once('-').map_or("", |(_, day)| day);
    suffix.parse().unwrap_or(0)
}

/// The days of a range; `None` if they are too many or the range has no days.
fn days(range: BucketRange) -> Option<Vec<u64>> {
    let start = start_of(day_of(range.start))?.date();
    let end = start_of(day_of(range.end))?.date();
    let mut days = vec![];
    let mut date = start;
    while date <= end {
        if days.len() == MAX_DAYS {
            return None;
        }
        let part = |n: i8| u64::from(n.unsigned_abs());
        let year = u64::from(date.year().unsigned_abs());
        days.push(year * 10_000 + part(date.month()) * 100 + part(date.day()));
        date = date.tomorrow().ok()?;
    }
    (!days.is_empty()).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(start: u64, end: u64) -> String {
        let names = Names::new("SkyWalking").unwrap();
        names.target("segment", BucketRange { start, end })
    }

    #[test]
    fn names_start_with_the_namespace_in_lower_case() {
        let names = Names::new("SkyWalking").unwrap();
        assert_eq!(names.alias("segment"), "skywalking_segment");
        assert_eq!(
            names.daily("segment", 20_200_915),
            "skywalking_segment-20200915"
        );
        assert_eq!(Names::new("").unwrap().alias("segment"), "segment");
        for bad in ["_x", "a b", "a,b", "a/b", "a*"] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_search_names_the_days_of_its_range() {
        let one = "skywalking_segment-20200915";
        assert_eq!(target(20_200_915_105_900, 20_200_915_110_399), one);
        assert_eq!(target(202_009_151_059, 202_009_151_103), one);
        assert_eq!(
            target(20_200_228, 20_200_301),
            "skywalking_segment-20200228,skywalking_segment-20200229,skywalking_segment-20200301"
        );
        assert_eq!(target(20_200_101, 20_200_131).split(',').count(), 31);
    }

    #[test]
    fn a_long_or_senseless_range_is_searched_through_the_alias() {
        for (start, end) in [
            (20_200_101, 20_200_201),
            (0, u64::MAX),
            (20_200_915, 20_200_914),
            (20_201_399, 20_201_399),
        ] {
            assert_eq!(target(start, end), "skywalking_segment", "{start} {end}");
        }
    }

    #[test]
    fn a_long_namespace_keeps_the_request_line_short() {
        let names = Names::new(&"n".repeat(120)).unwrap();
        let range = BucketRange {
            start: 20_200_101,
            end: 20_200_131,
        };
        assert_eq!(names.target("segment", range), names.alias("segment"));
    }

    #[test]
    fn the_day_of_an_index_is_its_suffix() {
        assert_eq!(day_of_index("sky-walking_segment-20200915"), 20_200_915);
        assert_eq!(day_of_index("skywalking_ui_template"), 0);
        assert_eq!(day_of_index("skywalking_segment-v2"), 0);
    }
}
