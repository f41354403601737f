//! What rules remember, as rows of the store, one for each rule: a restart goes on where the process ended.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::running::{Alarms, Running};
use super::window::Window;
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::Model;
use crate::model::scope::Scope;

#[derive(Serialize, Deserialize)]
struct StoredRule {
    /// The rule as it was; another one begins anew.
    rule: Value,
    /// Epoch milliseconds.
    checked: i64,
    windows: Vec<StoredWindow>,
}

#[derive(Serialize, Deserialize)]
struct StoredWindow {
    scope: u8,
    id: String,
    #[serde(flatten)]
    window: Window,
}

impl Alarms {
    /// The places of all rules.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.running.len()).collect()
    }

    /// Where the state of the rules at these places is, in their order.
    pub(super) fn keys(&self, places: &[usize], model: &Arc<Model>) -> Vec<RowKey> {
        let running = places.iter().filter_map(|at| self.running.get(*at));
        running
            .map(|running| RowKey {
                model: Arc::clone(model),
                id: running.rule.fields.name.clone(),
                time_bucket: None,
            })
            .collect()
    }

    /// Takes what was stored under [`Alarms::keys`]; says which rules have a state that cannot be read.
    pub(super) fn take_stored(&mut self, places: &[usize], rows: Vec<Option<Row>>) -> Vec<String> {
        let mut damaged = Vec::new();
        let mut last_check = None;
        for (&at, row) in places.iter().zip(rows) {
            let (Some(row), Some(running)) = (row, self.running.get(at)) else {
                continue;
            };
            let stored = match row.cell("state") {
                Cell::Bytes(bytes) => serde_json::from_slice::<StoredRule>(bytes).ok(),
                _ => None,
            };
            let Some(stored) = stored else {
                damaged.push(row.id);
                continue;
            };
            // A rule that remembers nothing is not stored anew: the last check is the latest of all.
            last_check = last_check.max(Some(stored.checked));
            if serde_json::to_value(&running.rule.fields).ok() != Some(stored.rule) {
                continue;
            }
            let windows = stored.windows.into_iter().filter_map(|stored| {
                let scopes = Scope::SOURCES.iter().map(|(_, scope)| *scope);
                let scope = { scopes }.find(|scope| *scope as u8 == stored.scope)?;
                Some((scope, stored.id, stored.window))
            });
            self.restore(at, windows.collect());
        }
        // What an earlier process checked last says nothing after a check of this one.
        if let Some(last_check) = last_check
            && !self.has_checked
        {
            self.checked_ms = self.checked_ms.min(last_check);
        }
        damaged
    }

    /// The state of the rules for which something changed since the last time.
    pub(super) fn take_changed(&mut self, model: &Arc<Model>) -> serde_json::Result<Vec<Row>> {
        let checked = self.checked_ms;
        let changed = self.running.iter_mut().filter(|r| r.is_changed);
        let rows = changed.map(|running| {
            running.is_changed = false;
            to_row(running, checked, model)
        });
        rows.collect()
    }

    /// Has the state of these rules stored again.
    pub(super) fn changed_still(&mut self, rows: &[Row]) {
        for running in &mut self.running {
            running.is_changed |= rows.iter().any(|row| row.id == running.rule.fields.name);
        }
    }
}

fn to_row(running: &Running, checked: i64, model: &Arc<Model>) -> serde_json::Result<Row> {
    let windows = running
        .windows
        .iter()
        .map(|(id, (watched, window))| StoredWindow {
            scope: watched.scope as u8,
            id: id.clone(),
            window: window.clone(),
        });
    let stored = StoredRule {
        rule: serde_json::to_value(&running.rule.fields)?,
        checked,
        windows: windows.collect(),
    };
    let state = Cell::Bytes(Bytes::from(serde_json::to_vec(&stored)?));
    Ok(Row {
        model: Arc::clone(model),
        id: running.rule.fields.name.clone(),
        time_bucket: 0,
        cells: vec![state],
    })
}
