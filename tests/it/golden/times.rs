//! Another day and another time zone.

use anyhow::Result;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::recording;

const DAY_MS: i64 = 86_400_000;

/// How instants and their texts change. The recording was made in UTC.
#[derive(Debug)]
pub struct Times {
    /// The instant at which the scenario's day begins in the recording, ...
    start_ms: i64,
    /// ... and that day with its neighbours, `yyyyMMdd`: questions are also about those.
    days: [String; 3],
    delta_ms: i64,
    zone: TimeZone,
    zone_name: &'static str,
    keeps_wall_clock: bool,
}

impl Times {
    /// Everything happens on the day `to`, seen in `zone` at the same time of day.
    pub fn same_wall_clock(to: Date, zone: &'static str) -> Result<Times> {
        Self::new(to, zone, true)
    }

    /// Everything happens on the day `to` in UTC, which is another time of day in `zone`. Its offset must be whole hours.
    pub fn other_wall_clock(to: Date, zone: &'static str) -> Result<Times> {
        Self::new(to, zone, false)
    }

    fn new(to: Date, zone_name: &'static str, keeps_wall_clock: bool) -> Result<Times> {
        let day = recording::meta()?.scenario_day;
        let from = DateTime::strptime("%Y%m%d %H", format!("{day} 00"))?;
        let text = |day: DateTime| day.strftime("%Y%m%d").to_string();
        let days = [from - 1.day(), from, from + 1.day()].map(text);
        let from = from.to_zoned(TimeZone::UTC)?.timestamp();
        let zone = TimeZone::get(zone_name)?;
        let base = if keeps_wall_clock {
            zone.clone()
        } else {
            TimeZone::UTC
        };
        let start = to.to_zoned(base)?.timestamp();
        Ok(Times {
            days,
            start_ms: from.as_millisecond(),
            delta_ms: start.as_millisecond() - from.as_millisecond(),
            zone,
            zone_name,
            keeps_wall_clock,
        })
    }

    /// Value of `TZ`.
    pub fn zone_name(&self) -> &'static str {
        self.zone_name
    }

    /// Whether a day of the recording is one day here as well.
    pub fn keeps_days(&self) -> bool {
        self.keeps_wall_clock
    }

    /// Another instant, in milliseconds since the epoch.
    pub fn instant(&self, epoch_ms: i64) -> i64 {
        epoch_ms + self.delta_ms
    }

    /// The same if it is on the scenario's day.
    pub fn scenario_instant(&self, epoch_ms: i64) -> Option<i64> {
        let day = self.start_ms..self.start_ms + DAY_MS;
        day.contains(&epoch_ms).then(|| self.instant(epoch_ms))
    }

    /// A bucket of the scenario's day or a neighbour, from its digits.
    pub fn scenario_bucket(&self, digits: &str) -> Option<String> {
        let is_of_day = self.days.iter().any(|day| digits.starts_with(day));
        is_of_day.then(|| self.bucket(digits)).flatten()
    }

    /// A day, hour, minute or second, from its digits; `None` for other text, and for a day that becomes parts of two.
    fn bucket(&self, digits: &str) -> Option<String> {
        let length = digits.len();
        let is_bucket =
            matches!(length, 8 | 10 | 12 | 14) && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_bucket || (length == 8 && !self.keeps_wall_clock) {
            return None;
        }
        let padded = format!("{digits:0<14}");
        let at = DateTime::strptime("%Y%m%d%H%M%S", padded).ok()?;
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let at = at + SignedDuration::from_millis(self.delta_ms);
        let text = at.to_zoned(self.zone.clone()).strftime("%Y%m%d%H%M%S");
        Some(text.to_string()[..length].to_owned())
    }

    /// A time as questions write it: `yyyy-MM-dd`, then perhaps ` HH`, ` HHmm` or ` HHmmss`.
    pub fn question_text(&self, text: &str) -> Option<String> {
        if !is_question_text(text) {
            return None;
        }
        let bucket = self.bucket(&text.replace(['-', ' '], ""))?;
        let (day, rest) = bucket.split_at(8);
        let day = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        Some(if rest.is_empty() {
            day
        } else {
            format!("{day} {rest}")
        })
    }

    /// Offset as `getTimeInfo` shows it.
    pub fn offset_text(&self) -> Result<String> {
        let at = Timestamp::from_millisecond(self.instant(self.start_ms))?;
        Ok(at.to_zoned(self.zone.clone()).strftime("%z").to_string())
    }
}

/// Whether a text is a day without a time of day, as questions write it.
pub fn is_day_text(text: &str) -> bool {
    text.len() == 10 && is_question_text(text)
}

fn is_question_text(text: &str) -> bool {
    let (day, time) = text.split_once(' ').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let lengths: Vec<usize> = day.split('-').map(str::len).collect();
    lengths == [4, 2, 2] && day.split('-').all(is_number) && is_number(time) && time.len() <= 6
}
