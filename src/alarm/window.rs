//! What a rule remembers of one entity, and when it fires (8.1.0 spec, H.3).
//!
//! Of a value only whether it matches is kept: a minute without a value and one that does not match count alike.

use serde::{Deserialize, Serialize};

use super::minutes::Minutes;

/// How far ahead a value may be, in minutes. One that is further ahead would keep its window from taking others until then.
pub(super) const AHEAD: i64 = 10;
/// How far ahead a check may have been, in minutes: clocks of nodes differ a little.
const CHECKED_AHEAD: i64 = 3;

/// The numbers of a rule that decide when it fires.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Minutes in the window.
    pub period: i64,
    /// Minutes that must match, and then checks that must find so.
    pub count: usize,
    /// Checks after an alarm that stay quiet.
    pub silence: i64,
}

/// What one check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Fires,
    /// So many minutes match, fewer than needed.
    TooFewMinutes(usize),
    /// Enough minutes match, but only so many checks found so.
    TooFewChecks(usize),
    /// It fired not long ago; so many more checks stay quiet.
    Silent(i64),
}

/// The last minutes of one entity. Minutes are whole ones since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    end: i64,
    matching: Minutes,
    /// Checks that found enough minutes, less those that did not.
    counter: usize,
    /// Checks that stay quiet; below 1 none.
    silence: i64,
    /// The last minute that was checked; 0 in what was stored by servers that did not keep it.
    #[serde(default)]
    checked: i64,
}

impl Window {
    pub(super) const BYTES_PER_RUN: usize = Minutes::BYTES_PER_RUN;

    /// One that ends with a minute, the check of which is still to come.
    pub fn new(end: i64) -> Window {
        Window {
            end,
            silence: -1,
            checked: end - 1,
            ..Window::default()
        }
    }

    /// The last minute that was checked.
    pub(super) fn checked(&self) -> i64 {
        self.checked
    }

    /// Says that the check of a minute was before this window, or in the life of another process.
    pub(super) fn set_checked(&mut self, minute: i64) {
        self.checked = minute;
    }

    /// Ends where time is, if it ends so far ahead that only a clock that was wrong can have brought it there. Whether it did.
    pub(super) fn set_back(&mut self, now: i64) -> bool {
        let is_ahead = self.checked > now + CHECKED_AHEAD || self.end > now + AHEAD;
        if is_ahead {
            self.checked = self.checked.min(now - 1);
            self.end = now;
            self.matching.keep_until(now);
        }
        is_ahead
    }

    /// Takes the value of a minute in, in the place of an earlier one. What lies before the window does not count. Whether
    /// anything changed that time alone does not bring about.
    pub fn add(&mut self, minute: i64, is_match: bool, limits: Limits) -> bool {
        // The minute that is checked next is where time brings it anyway.
        let is_ahead = minute > self.end.max(self.checked + 1);
        self.move_to(minute, limits);
        if minute <= self.end - limits.period {
            return false;
        }
        let is_other = match is_match {
            true => self.matching.insert(minute),
            false => self.matching.remove(minute),
        };
        is_other || is_ahead
    }

    /// Moves the window so that it ends with a minute; never back.
    fn move_to(&mut self, minute: i64, limits: Limits) {
        if minute > self.end {
            self.end = minute;
            self.matching.keep_from(minute - limits.period + 1);
        }
    }

    /// Makes up for the checks until a minute that nobody made: minutes without values. An alarm that would have been due
    /// stays due.
    pub(super) fn catch_up(&mut self, minute: i64, limits: Limits) {
        while self.checked < minute && !self.is_like_new() {
            self.checked += 1;
            self.move_to(self.checked, limits);
            // Values of later minutes were not there yet.
            if self.matching.until(self.checked) < limits.count {
                self.silence -= 1;
                self.counter = self.counter.saturating_sub(1);
                continue;
            }
            self.counter += 1;
            if self.counter < limits.count || self.silence >= 1 {
                self.silence -= 1;
            }
        }
        self.move_to(minute, limits);
        self.checked = self.checked.max(minute);
    }

    /// The check of a minute.
    pub fn check(&mut self, minute: i64, limits: Limits) -> Outcome {
        self.move_to(minute, limits);
        self.checked = minute;
        let matching = self.matching.len();
        if matching < limits.count {
            self.silence -= 1;
            self.counter = self.counter.saturating_sub(1);
            return Outcome::TooFewMinutes(matching);
        }
        self.counter += 1;
        if self.counter >= limits.count && self.silence < 1 {
            self.silence = limits.silence;
            return Outcome::Fires;
        }
        self.silence -= 1;
        match self.counter < limits.count {
            true => Outcome::TooFewChecks(self.counter),
            false => Outcome::Silent(self.silence),
        }
    }

    /// What its minutes need beside it, in numbers of [`Window::BYTES_PER_RUN`].
    pub(super) fn runs(&self) -> usize {
        self.matching.runs()
    }

    /// Whether it would need more if this minute matched.
    pub(super) fn would_grow(&self, minute: i64) -> bool {
        self.matching.would_grow(minute)
    }

    /// How many minutes match.
    pub fn matching(&self) -> usize {
        self.matching.len()
    }

    /// Whether forgetting it changes nothing.
    pub fn is_like_new(&self) -> bool {
        self.matching.is_empty() && self.counter == 0 && self.silence < 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(period: i64, count: usize, silence: i64) -> Limits {
        Limits {
            period,
            count,
            silence,
        }
    }

    /// Minutes in which the rule fires. Each minute has a letter: `x` matches, `o` does not, `.` has no value. The check of a
    /// minute comes after its value.
    fn firing(limits: Limits, series: &str) -> Vec<usize> {
        let mut window = Window::new(0);
        let mut fired = vec![];
        for (minute, value) in series.chars().enumerate() {
            if value != '.' {
                window.add(minute as i64, value == 'x', limits);
            }
            if window.check(minute as i64, limits) == Outcome::Fires {
                fired.push(minute);
            }
        }
        fired
    }

    #[test]
    fn rules_fire_at_the_minutes_that_the_arithmetic_says() {
        for (what, limits, series, want) in [
            // Bad from minute 0 on: 2 · count - 1 minutes.
            ("count 1", limits(10, 1, -1), "ox", vec![1]),
            ("count 2", limits(10, 2, -1), "xxx", vec![2]),
            ("count 3", limits(10, 3, -1), "xxxxx", vec![4]),
            // Without silence every check fires.
            ("no silence", limits(10, 2, -1), "xxxxxx", vec![2, 3, 4, 5]),
            ("silence 0", limits(10, 2, 0), "xxxxxx", vec![2, 3, 4, 5]),
            // The next `silence` checks are quiet.
            ("silence 1", limits(10, 1, 1), "xxxxxx", vec![0, 2, 4]),
            ("silence 2", limits(10, 1, 2), "xxxxxxx", vec![0, 3, 6]),
            // The first shipped rule: at minute 4, then each sixth.
            (
                "service_resp_time_rule",
                limits(10, 3, 5),
                "xxxxxxxxxxxxxxxxxxxx",
                vec![4, 10, 16],
            ),
            // Silence counts down while nothing matches.
            ("silence in quiet", limits(1, 1, 3), "xooox", vec![0, 4]),
            ("silence too short", limits(1, 1, 3), "xoox", vec![0]),
            // Two bad minutes stay in the window: it goes on matching for ten minutes, and then ceases.
            (
                "window",
                limits(10, 2, -1),
                "xxooooooooooooo",
                vec![2, 3, 4, 5, 6, 7, 8, 9],
            ),
            // A gap counts as a minute that does not match.
            ("gaps", limits(4, 2, -1), "x..xx", vec![5 - 1]),
            (
                "gaps out of the window",
                limits(3, 2, -1),
                "x..x..x",
                vec![],
            ),
            // The counter leaks: it is 3 after three matching checks, so two quiet ones leave 1.
            ("leak", limits(1, 1, -1), "xxxoox", vec![0, 1, 2, 5]),
            // Here each matching check is undone by the one that follows.
            ("undone", limits(2, 2, -1), "xxoxxoxxo", vec![]),
            // What is left of a long bad time makes the next alarm come at its first matching check.
            ("left over", limits(2, 2, -1), "xxxxxoxx", vec![2, 3, 4, 7]),
        ] {
            assert_eq!(firing(limits, series), want, "{what} {series}");
        }
    }

    #[test]
    fn late_values_take_their_place() {
        let limits = limits(3, 2, -1);
        let mut window = Window::new(10);
        window.add(10, true, limits);
        assert_eq!(window.check(10, limits), Outcome::TooFewMinutes(1));
        // Older than the window.
        window.add(7, true, limits);
        assert_eq!(window.check(10, limits), Outcome::TooFewMinutes(1));
        window.add(8, true, limits);
        assert_eq!(window.check(10, limits), Outcome::TooFewChecks(1));
        // The same minute again, now better.
        window.add(8, false, limits);
        assert_eq!(window.check(10, limits), Outcome::TooFewMinutes(1));
        window.add(9, true, limits);
        assert_eq!(window.check(10, limits), Outcome::TooFewChecks(1));
        assert_eq!(window.check(11, limits), Outcome::Fires);
        // A value from ahead moves the window.
        window.add(13, false, limits);
        assert_eq!(window.check(12, limits), Outcome::TooFewMinutes(0));
    }

    /// What is stored when something changed, and caught up with later, is what a process that went on has.
    #[test]
    fn what_time_alone_changes_need_not_be_stored() {
        for (what, limits, series) in [
            (
                "shipped",
                limits(10, 3, 5),
                "xxxxxxxxoooooo..........xxxx....x.x.xxxxxxxoooxx",
            ),
            (
                "short",
                limits(3, 2, 9),
                "xx.x..xxx...........xxxxx........xxxxxxxxxxxxxxx..",
            ),
            ("silence", limits(1, 1, 3), "x..xxxxoooox.o.xxxx......xo"),
            (
                "leaking",
                limits(2, 2, -1),
                "xxxxxoxx.....xxoxxo.xxxxxxxxxxxxxxxxx....x.xx",
            ),
        ] {
            let mut window = Window::new(1);
            let mut stored = window.clone();
            for (minute, value) in (1..).zip(series.chars()) {
                let mut is_other = value != '.' && window.add(minute, value == 'x', limits);
                // As another process would find it, which may have missed the check before.
                let mut found = stored.clone();
                if !is_other {
                    found.catch_up(minute - 1, limits);
                    let outcome = found.check(minute, limits);
                    let mut own = window.clone();
                    assert_eq!(outcome, own.check(minute, limits), "{what} {minute}");
                    let is_same = found == own || found.is_like_new() && own.is_like_new();
                    assert!(is_same, "{what} {minute}: {found:?} {own:?}");
                }
                is_other |= window.check(minute, limits) == Outcome::Fires;
                if is_other {
                    stored = window.clone();
                }
            }
        }
    }

    #[test]
    fn an_alarm_that_was_due_in_between_is_due_still() {
        let limits = limits(10, 2, 4);
        let mut window = Window::new(0);
        window.add(0, true, limits);
        window.add(1, true, limits);
        assert_eq!(window.check(0, limits), Outcome::TooFewChecks(1));
        // It would have fired in minute 1.
        window.catch_up(4, limits);
        assert_eq!(window.check(5, limits), Outcome::Fires);
        // A minute that was missed is one of those that stay quiet, and after the window there is nothing left.
        window.catch_up(8, limits);
        assert_eq!(window.check(9, limits), Outcome::Silent(0));
        window.catch_up(1_000_000_000, limits);
        assert!(window.is_like_new() && window.checked() == 1_000_000_000);
    }

    #[test]
    fn a_clock_that_was_wrong_silences_nothing() {
        let limits = limits(3, 1, 2);
        const DAY: i64 = 1440;
        for (what, ahead, is_set_back) in [
            ("clocks differ a little", CHECKED_AHEAD, false),
            ("a wrong one", CHECKED_AHEAD + 1, true),
            ("a day", DAY, true),
        ] {
            let mut window = Window::new(0);
            window.add(0, true, limits);
            window.check(ahead, limits);
            assert_eq!(window.set_back(1), ahead > CHECKED_AHEAD + 1, "{what}");
            assert_eq!(window.set_back(0), ahead == CHECKED_AHEAD + 1, "{what}");
            assert_eq!(window.checked() < 1, is_set_back, "{what}");
            assert!(window.add(1, true, limits) || !is_set_back, "{what}");
        }
        // A value that is as far ahead as it may be is left alone.
        let mut window = Window::new(0);
        window.add(AHEAD, true, limits);
        assert!(!window.set_back(0));
    }

    #[test]
    fn a_window_that_is_like_new_behaves_so() {
        let limits = limits(2, 1, 2);
        let mut window = Window::new(0);
        assert!(window.is_like_new());
        window.add(0, true, limits);
        assert!(!window.is_like_new());
        assert_eq!(window.check(0, limits), Outcome::Fires);
        for minute in 1..=3 {
            window.check(minute, limits);
        }
        assert!(window.is_like_new(), "{window:?}");
    }

    #[test]
    fn outcomes_say_why_not() {
        let limits = limits(5, 2, 2);
        let mut window = Window::new(0);
        let mut outcomes = vec![];
        for minute in 0..6 {
            window.add(minute, true, limits);
            outcomes.push(window.check(minute, limits));
        }
        use Outcome::{Fires, Silent, TooFewChecks, TooFewMinutes};
        let want = [
            TooFewMinutes(1),
            TooFewChecks(1),
            Fires,
            Silent(1),
            Silent(0),
            Fires,
        ];
        assert_eq!(outcomes, want);
    }
}
