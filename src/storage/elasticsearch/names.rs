//! Names of indices, templates and aliases (storage 2.1, 2.2), and which indices a search must look at.

use jiff::ToSpan;
use jiff::civil::{Date, date};

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
    /// Days that share an index, at least 1.
    day_step: i64,
}

/// Where counting of days that share an index begins (storage 2.3).
const FIRST_DAY: Date = date(2000, 1, 1);

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
                day_step: 1,
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
            day_step: 1,
        })
    }

    /// The same names, but an index holds as many days.
    pub fn with_day_step(self, days: u32) -> Names {
        let day_step = i64::from(days.max(1));
        Names { day_step, ..self }
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
        self.index(model, self.first_day(day))
    }

    /// Index of a model that is named after a day.
    pub fn index(&self, model: &str, day: u64) -> String {
        format!("{}{model}-{day}", self.prefix)
    }

    /// The day after which the index of a day is named.
    pub fn first_day(&self, day: u64) -> u64 {
        let Some((date, days)) = self.position(day) else {
            return day;
        };
        number(date.saturating_sub(days.rem_euclid(self.day_step).days()))
    }

    /// The last day that an index may hold that is named after a day.
    pub fn last_day(&self, day: u64) -> u64 {
        match self.position(day) {
            Some((date, _)) if self.first_day(day) == day => {
                number(date.saturating_add((self.day_step - 1).days()))
            }
            // It was made when days did not share indices.
            _ => day,
        }
    }

    /// Date and number of a day; `None` if each day has its own index.
    fn position(&self, day: u64) -> Option<(Date, i64)> {
        if self.day_step == 1 {
            return None;
        }
        let date = start_of(day)?.date();
        let days = FIRST_DAY.until(date).ok()?.get_days();
        Some((date, days.into()))
    }

    /// Where rows of a range are: the days' indices if they are few, else the alias.
    pub fn target(&self, model: &str, range: BucketRange) -> String {
        let target = days(range)
            .map(|days| {
                let mut names: Vec<String> = days.iter().map(|d| self.daily(model, *d)).collect();
                names.dedup();
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
        days.push(number(date));
        date = date.tomorrow().ok()?;
    }
    (!days.is_empty()).then_some(days)
}

/// `yyyyMMdd`
fn number(date: Date) -> u64 {
    let part = |n: i8| u64::from(n.unsigned_abs());
    let year = u64::from(date.year().unsigned_abs());
    year * 10_000 + part(date.month()) * 100 + part(date.day())
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
    fn days_may_share_an_index() {
        let names = Names::new("sw").unwrap().with_day_step(11);
        for (day, first) in [
            (20_000_101, 20_000_101),
            (20_000_111, 20_000_101),
            (20_000_112, 20_000_112),
            (20_000_301, 20_000_225),
            (19_991_231, 19_991_221),
            (0, 0),
        ] {
            assert_eq!(names.first_day(day), first, "{day}");
        }
        assert_eq!(names.daily("m", 20_000_305), "sw_m-20000225");
        assert_eq!(names.last_day(20_000_225), 20_000_306);
        assert_eq!(names.last_day(20_000_226), 20_000_226);
        let range = BucketRange {
            start: 20_000_301,
            end: 20_000_310,
        };
        assert_eq!(names.target("m", range), "sw_m-20000225,sw_m-20000307");
        let daily = Names::new("sw").unwrap();
        assert_eq!(daily.first_day(20_000_305), 20_000_305);
        assert_eq!(daily.last_day(20_000_305), 20_000_305);
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
