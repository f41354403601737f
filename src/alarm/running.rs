//! Rules with what they remember: takes values in, says which alarms there are. Pure: time is handed in.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::entity::{AlarmEntity, EntityKind};
use super::message::AlarmMessage;
use super::window::{AHEAD, Limits, Outcome, Window};
use crate::dsl::alarm::AlarmRule;
use crate::model::minute_value::Calculated;
use crate::model::scope::Scope;
use crate::stream::partitions::{self, Partitions};

/// Seconds of a minute that must be over before it is checked: earlier its values are too few.
const QUIET_SECONDS: i64 = 15;
const MINUTE_MS: i64 = 60_000;
const A_MINUTE: u64 = MINUTE_MS.unsigned_abs();

/// Rough bytes that a rule needs to remember an entity, without its minutes.
pub const BYTES_PER_WINDOW: u64 = 1024;
/// As many of the runs of minutes need as much.
const RUNS_PER_WINDOW: usize = BYTES_PER_WINDOW as usize / Window::BYTES_PER_RUN;

/// Whole minutes since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute of an instant in epoch milliseconds.
    pub fn of(ms: i64) -> Minute {
        Minute(ms.div_euclid(MINUTE_MS))
    }
}

/// The last minute of which the check has been by an instant in epoch milliseconds, if a server ran.
pub fn last_checked(now_ms: i64) -> Minute {
    Minute::of(now_ms - (QUIET_SECONDS + 1) * 1000)
}

/// A rule and its windows.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) rule: AlarmRule,
    /// By the id of the entity: the metric of a rule is about one scope.
    pub(super) windows: BTreeMap<String, (Watched, Window)>,
    /// Whether something changed, that time alone does not bring about, since this was last taken back.
    pub(super) is_changed: bool,
}

/// An entity with a window.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) scope: Scope,
    pub(super) partition: usize,
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
    /// Another node looks at its entity.
    Elsewhere,
}

impl Unfit {
    /// Name in counters.
    pub fn reason(self) -> &'static str {
        match self {
            Unfit::Full => "windows_full",
            Unfit::Ahead => "ahead",
            Unfit::Undecodable => "undecodable_id",
            Unfit::Elsewhere => "elsewhere",
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
    /// Epoch milliseconds from which a minute must pass before the next check.
    pub(super) checked_ms: i64,
    /// The last check of the windows that came from the store since there was one here.
    behind: Minute,
    /// Entities that are looked at here, of which everything stored is known.
    pub(super) here: Partitions,
    /// The same of which something changed since it was last taken.
    pub(super) changed: Partitions,
    pub(super) windows: usize,
    max_windows: usize,
    /// What the minutes of all windows need, see [`Window::runs`].
    runs: usize,
    /// Windows of a time far ahead since this was last taken.
    set_back: u64,
}

impl Alarms {
    /// Rules that remember nothing. At most `max_windows` entities, counted for each rule, can have matching values.
    pub fn new(rules: Vec<AlarmRule>, now_ms: i64, max_windows: usize) -> Alarms {
        let mut alarms = Alarms {
            running: Vec::new(),
            by_metric: HashMap::new(),
            names: HashSet::new(),
            checked_ms: now_ms,
            behind: Minute(i64::MAX),
            here: Partitions::default(),
            changed: Partitions::default(),
            windows: 0,
            max_windows,
            runs: 0,
            set_back: 0,
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
        let mut gone = Vec::new();
        for (at, rule) in rules.into_iter().enumerate() {
            let metric = rule.fields.metric.clone();
            self.by_metric.entry(metric).or_default().push(at);
            let name = &rule.fields.name;
            let is_new = self.names.insert(name.clone());
            if is_new {
                new.push(at);
            }
            match before.remove(name) {
                Some(running) if running.rule.fields == rule.fields => self.running.push(running),
                other => {
                    gone.extend(other);
                    self.running.push(Running {
                        rule,
                        windows: BTreeMap::new(),
                        // What is stored of a rule that begins anew is about another one.
                        is_changed: !is_new,
                    });
                }
            }
        }
        gone.extend(before.into_values());
        for (watched, _) in gone.iter().flat_map(|running| running.windows.values()) {
            self.changed.insert(watched.partition);
        }
        self.count();
        new
    }

    /// Counts anew what there is.
    fn count(&mut self) {
        self.windows = self.running.iter().map(|r| r.windows.len()).sum();
        let windows = self.running.iter().flat_map(|r| r.windows.values());
        self.runs = windows.map(|(_, window)| window.runs()).sum();
    }

    /// Rough bytes of all that is remembered.
    pub fn bytes(&self) -> u64 {
        let runs = self.runs as u64 * Window::BYTES_PER_RUN as u64;
        self.windows as u64 * BYTES_PER_WINDOW + runs
    }

    /// Entities that are remembered, counted for each rule.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// How many windows were set back since this was last asked: they came from a clock that was far ahead.
    pub(super) fn take_set_back(&mut self) -> u64 {
        std::mem::take(&mut self.set_back)
    }

    /// How many may be remembered.
    pub(super) fn max_windows(&self) -> usize {
        self.max_windows
    }

    /// Epoch milliseconds in the minute of the first check that sees what comes now.
    pub(super) fn next_check_ms(&self, now_ms: i64) -> i64 {
        match Minute::of(self.checked_ms) == Minute::of(now_ms) {
            true => (Minute::of(now_ms).0 + 1) * MINUTE_MS,
            false => now_ms,
        }
    }

    /// Which entities are looked at here: those of which everything stored is known.
    pub(super) fn here(&self) -> Partitions {
        self.here
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
        let partition = partitions::of(scope, id);
        if !self.here.contains(partition) {
            return Err(Unfit::Elsewhere);
        }
        let now = Minute::of(now_ms).0;
        let is_checked = Minute::of(self.checked_ms).0 == now && self.behind.0 >= now;
        let max_runs = self.max_windows.saturating_mul(RUNS_PER_WINDOW);
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
                if window.set_back(now) {
                    self.set_back += 1;
                    self.behind = self.behind.min(Minute(window.checked()));
                }
                // Minutes of entities may need as much as the entities.
                if is_match && self.runs >= max_runs && window.would_grow(minute.0) {
                    outcome = Err(Unfit::Full);
                    continue;
                }
                let before = window.runs();
                let is_other = window.add(minute.0, is_match, limits);
                self.runs = (self.runs + window.runs()).saturating_sub(before);
                if !is_other {
                    continue;
                }
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
                let mut window = Window::new(now);
                if is_checked {
                    window.set_checked(now);
                }
                // It waited for what is stored: checks since then are to be made up for.
                if window.checked() < Minute::of(self.checked_ms).0 {
                    self.behind = self.behind.min(Minute(window.checked()));
                }
                window.add(minute.0, true, limits);
                running.windows.insert(id.to_owned(), (watched, window));
                self.windows += 1;
                self.runs += 1;
            } else {
                continue;
            }
            running.is_changed = true;
            self.changed.insert(partition);
        }
        outcome
    }

    /// Whether a check is due: the first moment after second 15 that is in another minute than the last check, here or wherever
    /// a window comes from, or a minute after the start.
    pub fn is_due(&self, now_ms: i64) -> bool {
        let second = now_ms.rem_euclid(MINUTE_MS) / 1000;
        // Also if the clock was wrong at the last one, and is a minute or more before it now.
        let is_over =
            now_ms.abs_diff(self.checked_ms) >= A_MINUTE || self.behind < Minute::of(now_ms);
        is_over && second > QUIET_SECONDS
    }

    /// Checks every window that was not checked in this minute, after the checks that nobody made before it. The alarms are in
    /// the order of the rules.
    pub fn check(&mut self, now_ms: i64) -> Vec<AlarmMessage> {
        let minute = Minute::of(now_ms);
        self.checked_ms = minute.0 * MINUTE_MS;
        self.behind = Minute(i64::MAX);
        let mut messages = Vec::new();
        for running in &mut self.running {
            let Running { rule, windows, .. } = running;
            let limits = limits(rule);
            windows.retain(|_, (watched, window)| {
                if window.set_back(minute.0) {
                    self.set_back += 1;
                    running.is_changed = true;
                    self.changed.insert(watched.partition);
                }
                if window.checked() >= minute.0 {
                    return true;
                }
                window.catch_up(minute.0 - 1, limits);
                if window.check(minute.0, limits) == Outcome::Fires {
                    let entity = watched.entity.clone();
                    let text = rule.text(&entity.id0, &entity.name);
                    let name = &rule.fields.name;
                    messages.push(AlarmMessage::new(entity, name, text, now_ms));
                    running.is_changed = true;
                    self.changed.insert(watched.partition);
                }
                !window.is_like_new()
            });
        }
        self.count();
        messages
    }

    /// Gives a rule back what it remembered of an entity; whether there is room for it.
    pub(super) fn restore(&mut self, at: usize, scope: Scope, id: String, window: Window) -> bool {
        let (Some(running), Ok(Some(watched))) = (self.running.get_mut(at), watched(scope, &id))
        else {
            // It is about nothing that there is.
            return true;
        };
        if self.windows >= self.max_windows {
            return false;
        }
        self.behind = self.behind.min(Minute(window.checked()));
        self.runs += window.runs();
        match running.windows.insert(id, (watched, window)) {
            None => self.windows += 1,
            Some((_, window)) => self.runs = self.runs.saturating_sub(window.runs()),
        }
        true
    }

    /// Forgets all about entities that another node looks at from now on.
    pub(super) fn forget(&mut self, gone: Partitions) {
        for running in &mut self.running {
            let windows = &mut running.windows;
            windows.retain(|_, (watched, _)| !gone.contains(watched.partition));
        }
        self.here = self.here.without(gone);
        self.changed = self.changed.without(gone);
        self.count();
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
    Ok(Some(Watched {
        scope,
        partition: partitions::of(scope, id),
        entity,
    }))
}

#[cfg(test)]
mod tests;
