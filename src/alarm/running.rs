//! Rules with what they remember: takes values in, says which alarms there are. Pure: time is handed in.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::entity::{AlarmEntity, EntityKind};
use super::message::AlarmMessage;
use super::window::{Limits, Outcome, Window};
use crate::dsl::alarm::AlarmRule;
use crate::model::minute_value::Calculated;
use crate::model::scope::Scope;

/// Seconds of a minute that must be over before it is checked: earlier its values are too few.
const QUIET_SECONDS: i64 = 15;
const MINUTE_MS: i64 = 60_000;
/// How far ahead a value may be, in minutes. One that is further ahead would keep its window from taking others until then.
const AHEAD: i64 = 10;

/// Whole minutes since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute of an instant in epoch milliseconds.
    pub fn of(ms: i64) -> Minute {
        Minute(ms.div_euclid(MINUTE_MS))
    }
}

/// A rule and its windows.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) rule: AlarmRule,
    /// By the id of the entity: the metric of a rule is about one scope.
    pub(super) windows: BTreeMap<String, (Watched, Window)>,
    /// Whether something changed since this was last taken back.
    pub(super) is_changed: bool,
}

/// An entity with a window.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) scope: Scope,
    entity: AlarmEntity,
}

/// Why a value was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Too many entities have matching values.
    Full,
    /// Its minute is too far ahead.
    Ahead,
    /// The id of its entity cannot be taken apart.
    Undecodable,
}

impl Unfit {
    /// Name in counters.
    pub fn reason(self) -> &'static str {
        match self {
            Unfit::Full => "windows_full",
            Unfit::Ahead => "ahead",
            Unfit::Undecodable => "undecodable_id",
        }
    }
}

/// All rules.
#[derive(Debug)]
pub struct Alarms {
    pub(super) running: Vec<Running>,
    by_metric: HashMap<String, Vec<usize>>,
    /// Names of all rules that there were: another one of the same name begins anew.
    names: HashSet<String>,
    /// Whether there was a check.
    pub(super) has_checked: bool,
    /// Epoch milliseconds from which a minute must pass before the next check.
    pub(super) checked_ms: i64,
    windows: usize,
    max_windows: usize,
}

impl Alarms {
    /// Rules that remember nothing. At most `max_windows` entities, counted for each rule, can have matching values.
    pub fn new(rules: Vec<AlarmRule>, now_ms: i64, max_windows: usize) -> Alarms {
        let mut alarms = Alarms {
            running: Vec::new(),
            by_metric: HashMap::new(),
            names: HashSet::new(),
            has_checked: false,
            checked_ms: now_ms,
            windows: 0,
            max_windows,
        };
        alarms.replace(rules);
        alarms
    }

    /// Takes other rules. A rule of which all fields stay the same goes on with what it remembers. Returns the places of
    /// those whose names are new to this process: an earlier one may have stored what they remembered.
    pub(super) fn replace(&mut self, rules: Vec<AlarmRule>) -> Vec<usize> {
        let mut before: HashMap<String, Running> = std::mem::take(&mut self.running)
            .into_iter()
            .map(|running| (running.rule.fields.name.clone(), running))
            .collect();
        self.by_metric.clear();
        let mut new = Vec::new();
        for (at, rule) in rules.into_iter().enumerate() {
            let metric = rule.fields.metric.clone();
            self.by_metric.entry(metric).or_default().push(at);
            let name = &rule.fields.name;
            let is_new = self.names.insert(name.clone());
            if is_new {
                new.push(at);
            }
            let same = before
                .remove(name)
                .filter(|running| running.rule.fields == rule.fields);
            // What is stored of a rule that begins anew is about another one.
            self.running.push(same.unwrap_or_else(|| Running {
                rule,
                windows: BTreeMap::new(),
                is_changed: !is_new,
            }));
        }
        self.windows = self.running.iter().map(|r| r.windows.len()).sum();
        new
    }

    /// Entities that are remembered, counted for each rule.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Takes the value of a metric in a minute in; a later one of the same minute takes its place.
    pub fn add(
        &mut self,
        metric: &str,
        (scope, id): (Scope, &str),
        minute: Minute,
        value: &Calculated,
        now_ms: i64,
    ) -> Result<(), Unfit> {
        let Some(rules) = self.by_metric.get(metric) else {
            return Ok(());
        };
        if minute.0 > Minute::of(now_ms).0 + AHEAD {
            return Err(Unfit::Ahead);
        }
        let mut outcome = Ok(());
        for at in rules {
            let Some(running) = self.running.get_mut(*at) else {
                continue;
            };
            let is_match = match value {
                Calculated::Number(value) => running.rule.matches_number(*value),
                Calculated::List(values) => running.rule.matches_list(values),
            };
            let limits = limits(&running.rule);
            if let Some((_, window)) = running.windows.get_mut(id) {
                window.add(minute.0, is_match, limits);
                running.is_changed = true;
            } else if is_match {
                // Without a window a value that does not match changes nothing.
                let Some(watched) = watched(scope, id).map_err(|_| Unfit::Undecodable)? else {
                    continue;
                };
                if !running.rule.is_about(&watched.entity.name) {
                    continue;
                }
                if self.windows >= self.max_windows {
                    outcome = Err(Unfit::Full);
                    continue;
                }
                let mut window = Window::new(Minute::of(now_ms).0);
                window.add(minute.0, true, limits);
                running.windows.insert(id.to_owned(), (watched, window));
                running.is_changed = true;
                self.windows += 1;
            }
        }
        outcome
    }

    /// Whether a check is due: the first moment after second 15 that is in another minute than the last check, or a minute
    /// after the start.
    pub fn is_due(&self, now_ms: i64) -> bool {
        let second = now_ms.rem_euclid(MINUTE_MS) / 1000;
        now_ms - self.checked_ms >= MINUTE_MS && second > QUIET_SECONDS
    }

    /// Checks every window. The alarms are in the order of the rules.
    pub fn check(&mut self, now_ms: i64) -> Vec<AlarmMessage> {
        let minute = Minute::of(now_ms);
        self.has_checked = true;
        self.checked_ms = minute.0 * MINUTE_MS;
        let mut messages = Vec::new();
        let mut left = 0;
        for running in &mut self.running {
            let Running { rule, windows, .. } = running;
            running.is_changed |= !windows.is_empty();
            let limits = limits(rule);
            windows.retain(|_, (watched, window)| {
                if window.check(minute.0, limits) == Outcome::Fires {
                    let entity = watched.entity.clone();
                    let text = rule.text(&entity.id0, &entity.name);
                    let name = &rule.fields.name;
                    messages.push(AlarmMessage::new(entity, name, text, now_ms));
                }
                !window.is_like_new()
            });
            left += windows.len();
        }
        self.windows = left;
        messages
    }

    /// Gives a rule back what it remembered. What does not fit any more is left out.
    pub(super) fn restore(&mut self, at: usize, windows: Vec<(Scope, String, Window)>) {
        let Some(running) = self.running.get_mut(at) else {
            return;
        };
        for (scope, id, window) in windows {
            if self.windows < self.max_windows
                && let Ok(Some(watched)) = watched(scope, &id)
            {
                running.windows.insert(id, (watched, window));
                self.windows += 1;
            }
        }
    }
}

/// The numbers of a rule.
pub fn limits(rule: &AlarmRule) -> Limits {
    Limits {
        period: rule.fields.period.into(),
        count: rule.fields.count.into(),
        silence: rule.fields.silence_period.into(),
    }
}

fn watched(scope: Scope, id: &str) -> Result<Option<Watched>, crate::model::id::IdError> {
    let Some(kind) = EntityKind::of(scope) else {
        return Ok(None);
    };
    let entity = AlarmEntity::parse(kind, id)?;
    Ok(Some(Watched { scope, entity }))
}

#[cfg(test)]
mod tests;
