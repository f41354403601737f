//! How far stored rows reach, as of one moment: which buckets of a model can have rows, so that no others are asked for.

use std::collections::HashMap;

use crate::model::time_bucket::{Downsampling, day_of};

/// The newest bucket of each precision, 0 if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Newest {
    minute: u64,
    hour: u64,
    day: u64,
}

impl Newest {
    fn of(&mut self, bucket: u64) -> &mut u64 {
        match Downsampling::of(bucket) {
            Some(Downsampling::Day) => &mut self.day,
            Some(Downsampling::Hour) => &mut self.hour,
            _ => &mut self.minute,
        }
    }

    fn of_minute(minute: u64) -> Newest {
        Newest {
            minute,
            hour: minute / 100,
            day: minute / 10_000,
        }
    }

    fn add(&mut self, bucket: u64) {
        let newest = self.of(bucket);
        *newest = bucket.max(*newest);
    }

    fn includes(mut self, bucket: u64) -> bool {
        bucket <= *self.of(bucket)
    }

    /// The minute, its hour and its day.
    fn add_minute(&mut self, minute: u64) {
        let Newest { minute, hour, day } = Newest::of_minute(minute);
        for bucket in [minute, hour, day] {
            self.add(bucket);
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfModel {
    /// First and last day of what holds rows of the model.
    days: Vec<(u64, u64)>,
    newest: Newest,
}

/// What can be stored of metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    by_model: HashMap<String, OfModel>,
    /// Of all models.
    newest: Newest,
    /// Buckets before these were not looked at; they may have rows.
    since: Newest,
}

impl Reach {
    /// Nothing is stored since a minute.
    pub fn since(minute: u64) -> Reach {
        Reach {
            since: Newest::of_minute(minute),
            ..Reach::default()
        }
    }

    /// There is something that holds rows of these days (`yyyyMMdd`); which buckets it has is for [`Reach::add_bucket`].
    pub fn add_days(&mut self, model: &str, first: u64, last: u64) {
        let of_model = self.by_model.entry(model.to_owned()).or_default();
        of_model.days.push((first, last));
    }

    /// A bucket of a model has rows; those before it on its days may.
    pub fn add_bucket(&mut self, model: &str, bucket: u64) {
        self.newest.add(bucket);
        let of_model = self.by_model.entry(model.to_owned()).or_default();
        of_model.newest.add(bucket);
    }

    /// Everything up to the end of a day may have rows: it could not be looked at.
    pub fn add_whole_day(&mut self, model: &str, day: u64) {
        let last_minute = day.saturating_mul(10_000).saturating_add(2359);
        self.newest.add_minute(last_minute);
        let of_model = self.by_model.entry(model.to_owned()).or_default();
        of_model.newest.add_minute(last_minute);
    }

    /// Whether a bucket of a model can have rows.
    pub fn includes(&self, model: &str, bucket: u64) -> bool {
        let mut since = self.since;
        let is_before = bucket < *since.of(bucket);
        (is_before || self.newest.includes(bucket))
            && self.by_model.get(model).is_some_and(|of_model| {
                let day = day_of(bucket);
                let has_day = |(first, last): &(u64, u64)| (*first..=*last).contains(&day);
                let is_reached = is_before || of_model.newest.includes(bucket);
                is_reached && of_model.days.iter().any(has_day)
            })
    }

    /// The newest minute of all models, 0 if nothing is stored since the first that was looked at.
    pub fn newest_minute(&self) -> u64 {
        self.newest.minute
    }

    /// Counts a minute as stored, for every model that has rows: somebody may be writing it.
    pub fn extend_to(&mut self, minute: u64) {
        let day = day_of(minute);
        for of_model in self.by_model.values_mut() {
            if of_model.newest != Newest::default() {
                of_model.newest.add_minute(minute);
                of_model.days.push((day, day));
            }
        }
        self.newest.add_minute(minute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 202_009_151_059;

    #[test]
    fn a_bucket_is_included_up_to_the_newest_of_its_precision_on_days_that_exist() {
        let mut reach = Reach::since(202_009_151_040);
        for model in ["sum", "cpm"] {
            reach.add_days(model, 20_200_913, 20_200_913);
            reach.add_days(model, 20_200_915, 20_200_916);
        }
        for bucket in [MINUTE - 5, MINUTE, MINUTE / 100 - 1] {
            reach.add_bucket("sum", bucket);
        }
        for (model, bucket, want) in [
            ("sum", MINUTE, true),
            ("sum", MINUTE - 59, true),
            ("cpm", MINUTE - 19, false),
            // Not looked at.
            ("cpm", MINUTE - 20, true),
            ("cpm", MINUTE / 100 - 1, true),
            ("sum", MINUTE + 1, false),
            ("sum", MINUTE / 100 - 1, true),
            ("sum", MINUTE / 100, false),
            ("sum", 20_200_915, false),
            ("sum", 202_009_141_059, false),
            ("sum", 202_009_131_059, true),
            ("sum", 2_020_091_323, true),
            ("sum", 20_200_913, true),
            ("sum", 20_200_912, false),
            ("cpm", MINUTE, false),
            ("cpm", 202_009_132_359, true),
            ("other", MINUTE, false),
        ] {
            assert_eq!(reach.includes(model, bucket), want, "{model} {bucket}");
        }
        assert_eq!(reach.newest_minute(), MINUTE);
        reach.add_days("other", 20_200_915, 20_200_915);
        reach.extend_to(MINUTE + 1);
        for (model, bucket, want) in [
            ("sum", MINUTE + 1, true),
            ("sum", MINUTE / 100, true),
            ("sum", 20_200_915, true),
            ("cpm", 20_200_915, false),
            ("sum", MINUTE + 2, false),
            // It has no rows at all.
            ("other", MINUTE, false),
        ] {
            assert_eq!(reach.includes(model, bucket), want, "{model} {bucket}");
        }
        reach.add_whole_day("cpm", 20_200_915);
        for bucket in [202_009_152_359, 2_020_091_523, 20_200_915] {
            assert!(reach.includes("cpm", bucket), "{bucket}");
        }
    }
}
