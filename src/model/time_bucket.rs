//! Time buckets: decimal numbers of wall-clock time in the zone of the process (8.1.0 spec, C.2).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds of a day without a change of the clock.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How fine a bucket is; it shows in the number of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Downsampling {
    Day,
    Hour,
    Minute,
    Second,
}

impl Downsampling {
    /// Precision of a bucket by its magnitude; `None` for a number that is no bucket.
    pub fn of(time_bucket: u64) -> Option<Downsampling> {
        match time_bucket {
            10_000_000..=99_999_999 => Some(Downsampling::Day),
            1_000_000_000..=9_999_999_999 => Some(Downsampling::Hour),
            100_000_000_000..=999_999_999_999 => Some(Downsampling::Minute),
            10_000_000_000_000..=99_999_999_999_999 => Some(Downsampling::Second),
            _ => None,
        }
    }
}

/// The day (`yyyyMMdd`) a bucket of any precision belongs to; 0 for a number that is no bucket.
pub fn day_of(time_bucket: u64) -> u64 {
    match Downsampling::of(time_bucket) {
        Some(Downsampling::Second) => time_bucket / 1_000_000,
        Some(Downsampling::Minute) => time_bucket / 10_000,
        Some(Downsampling::Hour) => time_bucket / 100,
        Some(Downsampling::Day) => time_bucket,
        None => 0,
    }
}

/// Minutes that a minute, hour or day bucket spans (1, 60, 1440).
pub fn minutes_in(time_bucket: u64) -> i64 {
    match Downsampling::of(time_bucket) {
        Some(Downsampling::Hour) => 60,
        Some(Downsampling::Day) => 1440,
        _ => 1,
    }
}

/// Turns epoch milliseconds into buckets of one time zone.
#[derive(Debug, Clone)]
pub struct Zone {
    tz: TimeZone,
}

impl Zone {
    pub fn new(tz: TimeZone) -> Zone {
        Zone { tz }
    }

    /// UTC, the zone of the original's image.
    pub fn utc() -> Zone {
        Zone { tz: TimeZone::UTC }
    }

    /// Wall-clock time of an instant; `None` outside the years 1970 to 9999.
    pub fn civil(&self, epoch_ms: i64) -> Option<DateTime> {
        if epoch_ms < 0 {
            return None;
        }
        let at = Timestamp::from_millisecond(epoch_ms).ok()?;
        Some(self.tz.to_datetime(at))
    }

    /// `yyyyMMddHHmmss`; `None` for an instant outside the years 1970 to 9999.
    pub fn second(&self, epoch_ms: i64) -> Option<u64> {
        self.civil(epoch_ms).map(second_of)
    }

    /// `yyyyMMddHHmm`.
    pub fn minute(&self, epoch_ms: i64) -> Option<u64> {
        self.second(epoch_ms).map(|s| s / 100)
    }

    /// `yyyyMMdd`.
    pub fn day(&self, epoch_ms: i64) -> Option<u64> {
        self.second(epoch_ms).map(|s| s / 1_000_000)
    }

    /// Epoch milliseconds of a wall-clock time, the earlier one where it is ambiguous.
    pub fn epoch_ms(&self, at: DateTime) -> Option<i64> {
        let zoned = self.tz.to_ambiguous_zoned(at).compatible().ok()?;
        Some(zoned.timestamp().as_millisecond())
    }

    /// Epoch milliseconds of a wall-clock time, where it is ambiguous the one that is nearer to an instant.
    pub fn epoch_ms_near(&self, at: DateTime, instant_ms: i64) -> Option<i64> {
        let ambiguous = self.tz.to_ambiguous_zoned(at);
        let (earlier, later) = (ambiguous.clone().earlier(), ambiguous.later());
        let candidates = [earlier.ok()?, later.ok()?].map(|z| z.timestamp().as_millisecond());
        let distance = |ms: &i64| ms.abs_diff(instant_ms);
        candidates.into_iter().min_by_key(distance)
    }

    /// RFC 822 offset at an instant, for example `+0800`.
    pub fn offset_text(&self, epoch_ms: i64) -> String {
        let at = Timestamp::from_millisecond(epoch_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let seconds = self.tz.to_offset(at).seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.abs() / 60;
        format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

fn second_of(at: DateTime) -> u64 {
    let part = |n: i8| u64::from(n.unsigned_abs());
    let year = u64::from(at.year().unsigned_abs());
    (((((year * 100 + part(at.month())) * 100 + part(at.day())) * 100 + part(at.hour())) * 100
        + part(at.minute()))
        * 100)
        + part(at.second())
}

/// Wall-clock time at the start of a bucket; `None` if the digits are no date.
pub fn start_of(time_bucket: u64) -> Option<DateTime> {
    let seconds = match Downsampling::of(time_bucket)? {
        Downsampling::Second => time_bucket,
        Downsampling::Minute => time_bucket * 100,
        Downsampling::Hour => time_bucket * 10_000,
        Downsampling::Day => time_bucket * 1_000_000,
    };
    let two = |divisor: u64| i8::try_from(seconds / divisor % 100).ok();
    let year = i16::try_from(seconds / 10_000_000_000).ok()?;
    DateTime::new(
        year,
        two(100_000_000)?,
        two(1_000_000)?,
        two(10_000)?,
        two(100)?,
        two(1)?,
        0,
    )
    .ok()
}

/// The bucket of a wall-clock time at a precision.
pub fn bucket_of(at: DateTime, precision: Downsampling) -> u64 {
    let second = second_of(at);
    match precision {
        Downsampling::Second => second,
        Downsampling::Minute => second / 100,
        Downsampling::Hour => second / 10_000,
        Downsampling::Day => second / 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Half hours, days that are missing, changes of the clock at midnight, offsets with seconds long ago.
    const ZONES: [&str; 10] = [
        "UTC",
        "Asia/Shanghai",
        "Asia/Kathmandu",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "Africa/Monrovia",
    ];
    /// The last millisecond of 9999 in UTC.
    const LAST_MS: i64 = 253_402_300_799_999;

    proptest! {
        #[test]
        fn a_recent_instant_comes_back_out_of_its_bucket_when_clocks_go_back_too(
            name in prop::sample::select(&ZONES[..]),
            ms in 1_500_000_000_000..1_900_000_000_000_i64,
            age_ms in 0..900_000_i64,
        ) {
            let zone = Zone::new(TimeZone::get(name).unwrap());
            let at = start_of(zone.second(ms).unwrap()).unwrap();
            prop_assert_eq!(zone.epoch_ms_near(at, ms + age_ms), Some(ms - ms % 1000));
        }

        #[test]
        fn an_instant_comes_back_out_of_its_bucket(
            name in prop::sample::select(&ZONES[..]),
            ms in prop_oneof![DAY_MS..LAST_MS - DAY_MS, 1_500_000_000_000..1_900_000_000_000_i64],
        ) {
            let zone = Zone::new(TimeZone::get(name).unwrap());
            let second = zone.second(ms).unwrap();
            let start = zone.epoch_ms(start_of(second).unwrap()).unwrap();
            prop_assert_eq!(zone.second(start), Some(second));
            // The same wall-clock time comes twice when clocks go back.
            let later = ms - start;
            prop_assert!((0..1000).contains(&later) || (1_800_000..=3_601_000).contains(&later), "{} ms", later);
            for (precision, divisor) in [
                (Downsampling::Second, 1),
                (Downsampling::Minute, 100),
                (Downsampling::Hour, 10_000),
                (Downsampling::Day, 1_000_000),
            ] {
                let bucket = second / divisor;
                prop_assert_eq!(Downsampling::of(bucket), Some(precision));
                prop_assert_eq!(start_of(bucket).map(|at| bucket_of(at, precision)), Some(bucket));
                prop_assert_eq!(day_of(bucket), second / 1_000_000);
            }
            prop_assert_eq!(zone.minute(ms), Some(second / 100));
            prop_assert_eq!(zone.day(ms), Some(second / 1_000_000));
        }

        #[test]
        fn later_instants_have_later_buckets_in_utc([a, b] in [0..LAST_MS, 0..LAST_MS]) {
            let utc = Zone::utc();
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(utc.second(a) <= utc.second(b));
        }

        #[test]
        fn any_number_is_a_bucket_or_not(number in prop_oneof![any::<u64>(), 0..100_000_000_000_000_u64]) {
            if let Some(at) = start_of(number) {
                let precision = Downsampling::of(number).unwrap();
                prop_assert_eq!(bucket_of(at, precision), number);
                for name in ZONES {
                    let zone = Zone::new(TimeZone::get(name).unwrap());
                    // A time that the clocks leave out is read as a later one.
                    let ms = zone.epoch_ms(at);
                    prop_assert!(ms.is_none_or(|ms| ms < 0 || zone.second(ms).is_some()));
                }
            }
        }

        #[test]
        fn any_instant_has_a_bucket_or_not(ms in any::<i64>()) {
            for name in ZONES {
                let zone = Zone::new(TimeZone::get(name).unwrap());
                let second = zone.second(ms);
                prop_assert!(second.is_none_or(|second| Downsampling::of(second) == Some(Downsampling::Second)));
                prop_assert_eq!(zone.offset_text(ms).len(), 5);
            }
        }
    }

    #[test]
    fn buckets_follow_the_zone() {
        let shanghai = Zone::new(TimeZone::get("Asia/Shanghai").unwrap());
        assert_eq!(Zone::utc().minute(1_600_167_570_005), Some(202_009_151_059));
        assert_eq!(shanghai.minute(1_600_167_570_005), Some(202_009_151_859));
        assert_eq!(shanghai.offset_text(0), "+0800");
        assert_eq!(Zone::utc().second(i64::MAX), None);
        assert_eq!(Zone::utc().second(-1), None);
    }

    #[test]
    fn precision_shows_in_the_digits() {
        for (bucket, day, minutes) in [
            (20_200_915, 20_200_915, 1440),
            (2_020_091_510, 20_200_915, 60),
            (202_009_151_059, 20_200_915, 1),
            (20_200_915_105_930, 20_200_915, 1),
            (0, 0, 1),
        ] {
            assert_eq!(day_of(bucket), day, "{bucket}");
            assert_eq!(minutes_in(bucket), minutes, "{bucket}");
        }
        assert_eq!(
            start_of(202_009_151_059).map(|d| bucket_of(d, Downsampling::Hour)),
            Some(2_020_091_510)
        );
        assert_eq!(start_of(20_201_399), None);
    }

    #[test]
    fn changes_of_the_clock_show_in_the_buckets() {
        // 2020-03-08 07:00 UTC the clocks went from 2 to 3; 2020-11-01 06:00 UTC from 2 back to 1.
        let (spring, autumn) = (1_583_650_800_000, 1_604_210_400_000);
        let new_york = Zone::new(TimeZone::get("America/New_York").unwrap());
        // Half an hour forward and back, on 2020-10-03 15:30 UTC and 2020-04-04 15:00 UTC.
        let lord_howe = Zone::new(TimeZone::get("Australia/Lord_Howe").unwrap());
        for (zone, at, minute) in [
            (&new_york, spring - 1, 202_003_080_159),
            (&new_york, spring, 202_003_080_300),
            (&new_york, autumn - 1, 202_011_010_159),
            (&new_york, autumn, 202_011_010_100),
            (&new_york, autumn + 3_600_000, 202_011_010_200),
            (&lord_howe, 1_601_739_000_000 - 1, 202_010_040_159),
            (&lord_howe, 1_601_739_000_000, 202_010_040_230),
            (&lord_howe, 1_586_012_400_000 - 1, 202_004_050_159),
            (&lord_howe, 1_586_012_400_000, 202_004_050_130),
        ] {
            assert_eq!(zone.minute(at), Some(minute), "{at}");
            assert_eq!(zone.second(at).map(|s| s / 100), Some(minute));
            assert_eq!(zone.day(at), Some(day_of(minute)));
        }
        // An hour that exists twice has one bucket; the earlier instant stands for it.
        assert_eq!(new_york.minute(autumn - 3_600_000), new_york.minute(autumn));
        let start = start_of(202_011_010_100).unwrap();
        assert_eq!(new_york.epoch_ms(start), Some(autumn - 3_600_000));
    }

    #[test]
    fn a_number_between_the_ranges_is_no_bucket() {
        for number in [
            0,
            9_999_999,
            100_000_000,
            999_999_999,
            10_000_000_000,
            99_999_999_999,
            1_000_000_000_000,
            9_999_999_999_999,
            100_000_000_000_000,
            u64::MAX,
        ] {
            assert_eq!(Downsampling::of(number), None, "{number}");
            assert_eq!((day_of(number), start_of(number)), (0, None));
        }
    }
}
