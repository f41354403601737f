//! A time range as clients write it, and the buckets it means (query spec 2.2).
//!
//! Texts are wall-clock times in the server's zone, as all buckets are, so nothing here converts between zones.

use jiff::civil::DateTime;
use jiff::{Span, ToSpan};
use serde::Deserialize;

use crate::model::time_bucket::{Downsampling, bucket_of, start_of};
use crate::query::QueryError;
use crate::storage::BucketRange;

/// Points that one series may have.
const MAX_POINTS: usize = 500;

/// Distance of two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Step {
    Day,
    Hour,
    Minute,
    Second,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Day => "DAY",
            Step::Hour => "HOUR",
            Step::Minute => "MINUTE",
            Step::Second => "SECOND",
        }
    }

    fn precision(self) -> Downsampling {
        match self {
            Step::Day => Downsampling::Day,
            Step::Hour => Downsampling::Hour,
            Step::Minute => Downsampling::Minute,
            Step::Second => Downsampling::Second,
        }
    }

    fn span(self) -> Span {
        match self {
            Step::Day => 1.day(),
            Step::Hour => 1.hour(),
            Step::Minute => 1.minute(),
            Step::Second => 1.second(),
        }
    }

    /// What one step is in a second bucket.
    fn seconds_factor(self) -> u64 {
        match self {
            Step::Day => 1_000_000,
            Step::Hour => 10_000,
            Step::Minute => 100,
            Step::Second => 1,
        }
    }
}

/// A range with both ends included, such as `2020-09-15 1057` to `2020-09-15 1103` by minutes.
#[derive(Debug, Clone, Deserialize)]
pub struct Duration {
    pub start: String,
    pub end: String,
    pub step: Step,
}

impl Duration {
    fn error(&self, reason: &'static str) -> QueryError {
        QueryError::Duration {
            reason,
            step: self.step.name(),
            start: self.start.clone(),
            end: self.end.clone(),
        }
    }

    /// The digits of a text; how many there are decides the precision, not the step.
    fn digits(&self, text: &str) -> Result<u64, QueryError> {
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number
            .then(|| digits.parse().ok())
            .flatten()
            .ok_or_else(|| self.error("time range is no date"))
    }

    /// The bucket of a text that must have the form of the step.
    fn bucket(&self, text: &str) -> Result<u64, QueryError> {
        let bucket = self.digits(text)?;
        if Downsampling::of(bucket) == Some(self.step.precision()) {
            Ok(bucket)
        } else {
            Err(self.error("time range does not have the form of its step"))
        }
    }

    fn civil(&self, text: &str) -> Result<DateTime, QueryError> {
        start_of(self.bucket(text)?).ok_or_else(|| self.error("time range is no date"))
    }

    /// Buckets at the precision that the texts have.
    pub fn range(&self) -> Result<BucketRange, QueryError> {
        Ok(BucketRange {
            start: self.digits(&self.start)?,
            end: self.digits(&self.end)?,
        })
    }

    /// Second buckets, for records: filled up with 00 at the start and with 99 at the end.
    pub fn seconds(&self) -> Result<BucketRange, QueryError> {
        let factor = self.step.seconds_factor();
        // 99 for every missing unit: 99, 9999 or 999999.
        Ok(BucketRange {
            start: self.bucket(&self.start)? * factor,
            end: self.bucket(&self.end)? * factor + (factor - 1),
        })
    }

    /// Minute bucket in which the range starts; the end must be a date too.
    pub fn start_minute(&self) -> Result<u64, QueryError> {
        self.civil(&self.end)?;
        let start = self.civil(&self.start)?;
        Ok(bucket_of(start, Downsampling::Minute))
    }

    /// The buckets from start to end, one per step. A range of one point is an error, as it is in 8.1.0.
    pub fn points(&self) -> Result<Vec<u64>, QueryError> {
        let end = self.civil(&self.end)?;
        let mut at = self.civil(&self.start)?;
        if at >= end {
            return Err(self.error("time range must end after it starts"));
        }
        let mut points = Vec::new();
        while at <= end {
            if points.len() == MAX_POINTS {
                return Err(self.error("time range has more than 500 points"));
            }
            points.push(bucket_of(at, self.step.precision()));
            at = at
                .checked_add(self.step.span())
                .map_err(|_| self.error("time range is no date"))?;
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(start: &str, end: &str, step: Step) -> Duration {
        Duration {
            start: start.into(),
            end: end.into(),
            step,
        }
    }

    #[test]
    fn points_cross_hours_days_and_months() {
        let hours = duration("2020-09-30 22", "2020-10-01 01", Step::Hour);
        let want = [2_020_093_022, 2_020_093_023, 2_020_100_100, 2_020_100_101];
        assert_eq!(hours.points().unwrap(), want);
        let days = duration("2020-02-28", "2020-03-01", Step::Day);
        assert_eq!(days.points().unwrap(), [20_200_228, 20_200_229, 20_200_301]);
    }

    #[test]
    fn points_are_limited_and_ordered() {
        let minutes = |end| duration("2020-09-15 0000", end, Step::Minute).points();
        assert_eq!(minutes("2020-09-15 0819").unwrap().len(), 500);
        for end in [
            "2020-09-15 0820",
            "2020-09-15 0000",
            "2020-09-14 2359",
            "2020-09-15",
            "2020-09-15 2460",
            "today",
            "",
        ] {
            assert!(minutes(end).is_err(), "{end}");
        }
    }

    #[test]
    fn second_ranges_are_padded_per_unit() {
        for (start, end, step, want) in [
            (
                "2020-09-15",
                "2020-09-16",
                Step::Day,
                (20_200_915_000_000, 20_200_916_999_999),
            ),
            (
                "2020-09-15 10",
                "2020-09-15 12",
                Step::Hour,
                (20_200_915_100_000, 20_200_915_129_999),
            ),
            (
                "2020-09-15 1057",
                "2020-09-15 1057",
                Step::Minute,
                (20_200_915_105_700, 20_200_915_105_799),
            ),
            (
                "2020-09-15 105900",
                "2020-09-15 105930",
                Step::Second,
                (20_200_915_105_900, 20_200_915_105_930),
            ),
        ] {
            let range = duration(start, end, step).seconds().unwrap();
            assert_eq!((range.start, range.end), want, "{start}");
        }
    }

    #[test]
    fn the_digits_decide_the_precision_of_a_range() {
        let range = duration("2020-09-15", "2020-09-16", Step::Minute)
            .range()
            .unwrap();
        assert_eq!((range.start, range.end), (20_200_915, 20_200_916));
        assert!(duration("x", "y", Step::Day).range().is_err());
        let late = duration("2020-09-15 11", "2020-09-15 12", Step::Hour);
        assert_eq!(late.start_minute().unwrap(), 202_009_151_100);
        assert!(
            duration("2020", "2020", Step::Minute)
                .start_minute()
                .is_err()
        );
    }
}
