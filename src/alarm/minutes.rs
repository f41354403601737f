//! A set of minutes that holds those that follow each other as one: a window of a day costs little more than one of a minute.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Up to so many minutes are stored one by one, as servers of before read them.
const ONE_BY_ONE: usize = 64;

/// Minutes that follow each other, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
}

/// Minutes since the epoch, in order. Those before it, and after the year 10000, cannot be in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Minutes(Vec<Run>);

impl Minutes {
    /// Bytes of a run.
    pub(super) const BYTES_PER_RUN: usize = size_of::<Run>();

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many minutes are in it.
    pub(super) fn len(&self) -> usize {
        self.until(i64::MAX)
    }

    /// How many of them are not after a minute.
    pub(super) fn until(&self, minute: i64) -> usize {
        let Ok(end) = u32::try_from(minute.min(u32::MAX.into())) else {
            return 0;
        };
        let runs = self.0.iter().take_while(|run| run.first <= end);
        let counts = runs.map(|run| run.last.min(end) - run.first + 1);
        counts.map(|count| count as usize).sum()
    }

    /// How many runs hold them.
    pub(super) fn runs(&self) -> usize {
        self.0.len()
    }

    /// Whether there would be more runs with this minute.
    pub(super) fn would_grow(&self, minute: i64) -> bool {
        let near =
            |run: &Run| (i64::from(run.first) - 1..=i64::from(run.last) + 1).contains(&minute);
        !self.0.iter().any(near)
    }

    /// Whether it was not in it.
    pub(super) fn insert(&mut self, minute: i64) -> bool {
        let Ok(minute) = u32::try_from(minute) else {
            return false;
        };
        let at = self.0.partition_point(|run| run.last < minute);
        if self.0.get(at).is_some_and(|run| run.first <= minute) {
            return false;
        }
        let before = at.checked_sub(1).and_then(|at| self.0.get(at));
        let follows = before.is_some_and(|run| run.last.checked_add(1) == Some(minute));
        let after = self.0.get(at);
        let leads = after.is_some_and(|run| run.first.checked_sub(1) == Some(minute));
        match (follows, leads) {
            (true, true) => {
                let Run { last, .. } = self.0.remove(at);
                self.set(at - 1, |run| run.last = last);
            }
            (true, false) => self.set(at - 1, |run| run.last = minute),
            (false, true) => self.set(at, |run| run.first = minute),
            (false, false) => {
                let run = Run {
                    first: minute,
                    last: minute,
                };
                self.0.insert(at, run);
            }
        }
        true
    }

    /// Whether it was in it.
    pub(super) fn remove(&mut self, minute: i64) -> bool {
        let Ok(minute) = u32::try_from(minute) else {
            return false;
        };
        let at = self.0.partition_point(|run| run.last < minute);
        let Some(Run { first, last }) = self.0.get(at).copied().filter(|r| r.first <= minute)
        else {
            return false;
        };
        match (first == minute, last == minute) {
            (true, true) => {
                self.0.remove(at);
            }
            (true, false) => self.set(at, |run| run.first = minute + 1),
            (false, true) => self.set(at, |run| run.last = minute - 1),
            (false, false) => {
                self.set(at, |run| run.last = minute - 1);
                let first = minute + 1;
                self.0.insert(at + 1, Run { first, last });
            }
        }
        true
    }

    fn set(&mut self, at: usize, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.0.get_mut(at) {
            change(run);
        }
    }

    /// Forgets those before a minute.
    pub(super) fn keep_from(&mut self, minute: i64) {
        let first = u32::try_from(minute.max(0)).unwrap_or(u32::MAX);
        self.0.retain(|run| run.last >= first);
        self.set(0, |run| run.first = run.first.max(first));
    }

    /// Forgets those after a minute.
    pub(super) fn keep_until(&mut self, minute: i64) {
        let Ok(last) = u32::try_from(minute) else {
            self.0.clear();
            return;
        };
        self.0.retain(|run| run.first <= last);
        let end = self.0.len().saturating_sub(1);
        self.set(end, |run| run.last = run.last.min(last));
    }
}

/// One or several minutes as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    One(u32),
    Run(u32, u32),
}

impl Serialize for Minutes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.len() <= ONE_BY_ONE {
            return serializer.collect_seq(self.0.iter().flat_map(|run| run.first..=run.last));
        }
        serializer.collect_seq(self.0.iter().map(|run| match run.first == run.last {
            true => Stored::One(run.first),
            false => Stored::Run(run.first, run.last),
        }))
    }
}

impl<'de> Deserialize<'de> for Minutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Minutes, D::Error> {
        let mut runs: Vec<Run> = Vec::new();
        for stored in Vec::<Stored>::deserialize(deserializer)? {
            let (first, last) = match stored {
                Stored::One(minute) => (minute, minute),
                Stored::Run(first, last) => (first, last),
            };
            let end = runs.last().map(|run| run.last);
            if last < first || end.is_some_and(|end| first <= end) {
                return Err(serde::de::Error::custom("minutes are not in order"));
            }
            match runs.last_mut() {
                Some(run) if run.last.checked_add(1) == Some(first) => run.last = last,
                _ => runs.push(Run { first, last }),
            }
        }
        Ok(Minutes(runs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stream::partitions::stable_hash;

    #[test]
    fn it_holds_what_a_set_of_single_minutes_holds() {
        let mut seed = 7;
        let mut dice = |end: u64| {
            seed = stable_hash(seed, b"minutes");
            i64::try_from(seed % end).unwrap()
        };
        for _ in 0..200 {
            let (mut minutes, mut set) = (Minutes::default(), BTreeSet::new());
            for _ in 0..200 {
                let minute = dice(40);
                match dice(12) {
                    0..7 => {
                        let before = minutes.runs();
                        let would_grow = minutes.would_grow(minute);
                        assert_eq!(minutes.insert(minute), set.insert(minute));
                        assert_eq!(minutes.runs() > before, would_grow);
                    }
                    7..10 => assert_eq!(minutes.remove(minute), set.remove(&minute)),
                    10 => {
                        let from = dice(10);
                        minutes.keep_from(from);
                        set = set.split_off(&from);
                    }
                    _ => {
                        let until = 30 + dice(10);
                        minutes.keep_until(until);
                        set.split_off(&(until + 1));
                    }
                }
                assert_eq!(minutes.len(), set.len());
                assert_eq!(minutes.until(minute), set.range(..=minute).count());
                assert_eq!(minutes.is_empty(), set.is_empty());
                let text = serde_json::to_string(&minutes).unwrap();
                assert_eq!(text, serde_json::to_string(&set).unwrap());
                assert_eq!(serde_json::from_str::<Minutes>(&text).unwrap(), minutes);
            }
        }
    }

    #[test]
    fn many_minutes_are_stored_and_held_in_little() {
        let mut minutes = Minutes::default();
        for minute in (26_668_800..26_670_240).chain([26_670_300]) {
            minutes.insert(minute);
        }
        minutes.remove(26_669_000);
        assert_eq!((minutes.len(), minutes.runs()), (1440, 3));
        let text = serde_json::to_string(&minutes).unwrap();
        let want = "[[26668800,26668999],[26669001,26670239],26670300]";
        assert_eq!(text, want);
        assert_eq!(serde_json::from_str::<Minutes>(want).unwrap(), minutes);
        for wrong in ["[2,1]", "[1,1]", "[[2,1]]", "[-1]", "[[1,5],5]", "[[1]]"] {
            assert!(serde_json::from_str::<Minutes>(wrong).is_err(), "{wrong}");
        }
        // Such as cannot be are not in it.
        assert!(!minutes.insert(-1) && !minutes.remove(-1) && !minutes.insert(i64::MAX));
        minutes.keep_until(-1);
        assert!(minutes.is_empty() && minutes.until(-1) == 0);
    }
}
