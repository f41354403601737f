//! What rules remember, as rows of the store: whoever looks at an entity next goes on where this process ended.
//!
//! A server alone has a row for each rule. Nodes of a cluster have one for each partition of the entities, which has one writer
//! at a time. Both kinds are read, so that a server can become a node and back: what was written last counts. Only what time
//! alone does not change is written again, see `Window::catch_up`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::running::{Alarms, Minute, Running, Watched};
use super::window::Window;
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::Model;
use crate::model::scope::Scope;
use crate::stream::partitions::{self, Partitions};

/// How what is remembered is divided into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One for each rule, under its name.
    Rules,
    /// One for each partition with all rules.
    Partitions,
}

/// Ids of rows of partitions; names of rules end otherwise.
const PARTITION: &str = "partition-";

/// The row of a rule.
#[derive(Serialize, Deserialize)]
struct RuleRow {
    #[serde(flatten)]
    rule: StoredRule,
    #[serde(flatten)]
    time: Time,
}

/// The row of a partition.
#[derive(Serialize, Deserialize)]
struct PartitionRow {
    rules: Vec<StoredRule>,
    #[serde(flatten)]
    time: Time,
}

/// Epoch milliseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Time {
    /// The last check.
    checked: i64,
    /// When it was written; servers of before do not say.
    #[serde(default)]
    written: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredRule {
    /// The rule as it was; another one begins anew.
    rule: Value,
    windows: Vec<StoredWindow>,
}

#[derive(Serialize, Deserialize)]
struct StoredWindow {
    scope: u8,
    id: String,
    #[serde(flatten)]
    window: Window,
}

/// What came of reading what was stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Ids of rows that cannot be read.
    pub(super) damaged: Vec<String>,
    /// Entities for which there is no room.
    pub(super) left_out: u64,
}

impl Alarms {
    /// The places of all rules.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.running.len()).collect()
    }

    /// Where what the rules at these places remember of some entities may be.
    pub(super) fn keys(
        &self,
        places: &[usize],
        entities: Partitions,
        model: &Arc<Model>,
    ) -> Vec<RowKey> {
        let running = places.iter().filter_map(|at| self.running.get(*at));
        let rules = running.map(|running| running.rule.fields.name.clone());
        let ids = rules.chain(entities.iter().map(partition_id));
        let key = |id| RowKey {
            model: Arc::clone(model),
            id,
            time_bucket: None,
        };
        ids.map(key).collect()
    }

    /// Takes what was found under [`Alarms::keys`]. From now on this process looks at these entities.
    pub(super) fn take_stored(
        &mut self,
        places: &[usize],
        entities: Partitions,
        rows: Vec<Option<Row>>,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut of_rules = Vec::new();
        let mut of_partitions = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            let is_read = match partition_of(&row.id) {
                Some(partition) => parse::<PartitionRow>(&row)
                    .map(|found| of_partitions.insert(partition, found))
                    .is_some(),
                None => parse::<RuleRow>(&row)
                    .map(|found| of_rules.push(found))
                    .is_some(),
            };
            if !is_read {
                taken.damaged.push(row.id);
            }
        }
        self.here = self.here.or(entities);
        let wanted: Vec<(usize, Value)> = { places.iter() }
            .filter_map(|at| Some((*at, self.running.get(*at)?.as_stored().ok()?)))
            .collect();
        let place = |rule: &Value| wanted.iter().find(|(_, w)| w == rule).map(|(at, _)| *at);
        let mut found = Vec::new();
        let mut rules_written = BTreeMap::new();
        for RuleRow { rule, time } in of_rules {
            let Some(at) = place(&rule.rule) else {
                continue;
            };
            rules_written.insert(at, time.of_writing());
            for stored in rule.windows {
                let is_newest = stored.partition().is_some_and(|partition| {
                    let other = of_partitions.get(&partition);
                    entities.contains(partition)
                        && other.is_none_or(|row| row.time.of_writing() < time.of_writing())
                });
                if is_newest {
                    found.push((at, stored, time));
                }
            }
        }
        for PartitionRow { rules, time } in of_partitions.into_values() {
            for rule in rules {
                let Some(at) = place(&rule.rule) else {
                    continue;
                };
                let other = rules_written.get(&at);
                if other.is_none_or(|other| *other <= time.of_writing()) {
                    found.extend(rule.windows.into_iter().map(|stored| (at, stored, time)));
                }
            }
        }
        for (at, stored, time) in found {
            let Some(scope) = stored.scope() else {
                continue;
            };
            let mut window = stored.window;
            if window.checked() == 0 {
                window.set_checked(Minute::of(time.checked).0);
            }
            taken.left_out += u64::from(!self.restore(at, scope, stored.id, window));
        }
        taken
    }

    /// The rows in which something changed since the last time.
    pub(super) fn take_changed(
        &mut self,
        layout: Layout,
        model: &Arc<Model>,
        now_ms: i64,
    ) -> serde_json::Result<Vec<Row>> {
        match layout {
            Layout::Rules => self.take_rules(model, now_ms),
            Layout::Partitions => self.take_partitions(Partitions::ALL, model, now_ms),
        }
    }

    fn take_rules(&mut self, model: &Arc<Model>, now_ms: i64) -> serde_json::Result<Vec<Row>> {
        let time = self.time(now_ms);
        let changed = self.running.iter_mut().filter(|r| r.is_changed);
        let rows = changed.map(|running| {
            running.is_changed = false;
            let windows = running.windows.iter();
            let windows = windows.map(|(id, (watched, w))| StoredWindow::new(id, watched, w));
            let rule = StoredRule {
                rule: running.as_stored()?,
                windows: windows.collect(),
            };
            let row = RuleRow { rule, time };
            to_row(running.rule.fields.name.clone(), &row, model)
        });
        rows.collect()
    }

    /// The rows of those of these partitions in which something changed since the last time.
    pub(super) fn take_partitions(
        &mut self,
        of: Partitions,
        model: &Arc<Model>,
        now_ms: i64,
    ) -> serde_json::Result<Vec<Row>> {
        let time = self.time(now_ms);
        let changed = self.changed.and(of);
        let empty = |partition| (partition, vec![]);
        let mut rows: BTreeMap<usize, Vec<StoredRule>> = changed.iter().map(empty).collect();
        for running in &self.running {
            let mut windows: BTreeMap<usize, Vec<StoredWindow>> = BTreeMap::new();
            for (id, (watched, window)) in &running.windows {
                if changed.contains(watched.partition) {
                    let stored = StoredWindow::new(id, watched, window);
                    windows.entry(watched.partition).or_default().push(stored);
                }
            }
            for (partition, windows) in windows {
                let rule = running.as_stored()?;
                let rules = rows.entry(partition).or_default();
                rules.push(StoredRule { rule, windows });
            }
        }
        let rows = rows.into_iter().map(|(partition, rules)| {
            let row = PartitionRow { rules, time };
            to_row(partition_id(partition), &row, model)
        });
        let rows = rows.collect::<serde_json::Result<_>>()?;
        self.changed = self.changed.without(changed);
        Ok(rows)
    }

    /// Has these rows stored again.
    pub(super) fn changed_still(&mut self, rows: &[Row]) {
        for row in rows {
            if let Some(partition) = partition_of(&row.id) {
                self.changed.insert(partition);
            }
        }
        for running in &mut self.running {
            running.is_changed |= rows.iter().any(|row| row.id == running.rule.fields.name);
        }
    }

    fn time(&self, now_ms: i64) -> Time {
        Time {
            checked: self.checked_ms,
            written: now_ms,
        }
    }
}

impl Time {
    /// As well as it is known.
    fn of_writing(self) -> i64 {
        self.written.max(self.checked)
    }
}

impl StoredWindow {
    fn new(id: &str, watched: &Watched, window: &Window) -> StoredWindow {
        StoredWindow {
            scope: watched.scope as u8,
            id: id.to_owned(),
            window: window.clone(),
        }
    }

    fn scope(&self) -> Option<Scope> {
        let mut scopes = Scope::SOURCES.iter().map(|(_, scope)| *scope);
        scopes.find(|scope| *scope as u8 == self.scope)
    }

    fn partition(&self) -> Option<usize> {
        Some(partitions::of(self.scope()?, &self.id))
    }
}

impl Running {
    fn as_stored(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&self.rule.fields)
    }
}

fn partition_id(partition: usize) -> String {
    format!("{PARTITION}{partition}")
}

fn partition_of(id: &str) -> Option<usize> {
    id.strip_prefix(PARTITION)?.parse().ok()
}

fn parse<'a, T: Deserialize<'a>>(row: &'a Row) -> Option<T> {
    match row.cell("state") {
        Cell::Bytes(bytes) => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

fn to_row(id: String, row: &impl Serialize, model: &Arc<Model>) -> serde_json::Result<Row> {
    Ok(Row {
        model: Arc::clone(model),
        id,
        time_bucket: 0,
        cells: vec![Cell::Bytes(Bytes::from(serde_json::to_vec(row)?))],
    })
}
