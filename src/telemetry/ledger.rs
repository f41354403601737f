//! What became of everything that came in, to the unit: `received = stored + aggregated + in flight + dead-lettered + dropped`.
//!
//! Double entry: a unit is only ever moved from one place to another, under one lock, so that the sum holds whenever someone
//! looks. What is lost on the way without a word stays in flight, where a test or an operator finds it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::model::message::kind;
use crate::model::schema::{Model, ModelKind};

/// All accounts. Cheap to clone; clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Account>>>);

/// What became of the units of one kind: messages, records or rows of metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    pub received: u64,
    /// Taken in and not settled. Negative if something was settled twice, which is a mistake in this program.
    pub in_flight: i64,
    pub stored: u64,
    /// Messages that became values of metrics or metadata.
    pub aggregated: u64,
    /// Refused by the store for good; the file of dead letters has them if it can be written.
    pub dead_lettered: u64,
    /// By reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Where a unit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    Stored,
    Aggregated,
    DeadLettered,
    Dropped(&'a str),
}

/// Rows of metrics, relations and metadata, each as often as it is handed to the writer.
pub const METRICS: &str = "metrics";

/// The account of a row. A record that is a message has that of the message.
pub fn kind_of(model: &Model) -> &str {
    match model.kind {
        ModelKind::Metrics => METRICS,
        _ if model.name == "profile_task_segment_snapshot" => kind::PROFILE_SNAPSHOT,
        _ => &model.name,
    }
}

impl Account {
    /// Whether everything is somewhere.
    pub fn adds_up(&self) -> bool {
        let settled = self.stored + self.aggregated + self.dead_lettered + self.dropped_in_all();
        i64::try_from(self.received).ok() == i64::try_from(settled).ok().map(|n| n + self.in_flight)
    }

    /// Units given up, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }

    fn settle(&mut self, units: u64, end: End<'_>) {
        self.in_flight -= signed(units);
        match end {
            End::Stored => self.stored += units,
            End::Aggregated => self.aggregated += units,
            End::DeadLettered => self.dead_lettered += units,
            End::Dropped(reason) => match self.dropped.get_mut(reason) {
                Some(dropped) => *dropped += units,
                None => {
                    self.dropped.insert(reason.to_owned(), units);
                }
            },
        }
    }
}

impl Ledger {
    /// Units came in.
    pub fn received(&self, kind: &str, units: u64) {
        self.with(kind, units, |account| {
            account.received += units;
            account.in_flight += signed(units);
        });
    }

    /// Units that came in are done with.
    pub fn settled(&self, kind: &str, units: u64, end: End<'_>) {
        self.with(kind, units, |account| account.settle(units, end));
    }

    /// Units came in and went no further.
    pub fn turned_away(&self, kind: &str, units: u64, reason: &str) {
        self.with(kind, units, |account| {
            account.received += units;
            account.in_flight += signed(units);
            account.settle(units, End::Dropped(reason));
        });
    }

    /// Drops everything that is in flight. Returns what that was, by kind.
    pub fn give_up(&self, reason: &str) -> BTreeMap<String, u64> {
        let mut given_up = BTreeMap::new();
        for (kind, account) in self.lock().iter_mut() {
            if let Ok(units @ 1..) = u64::try_from(account.in_flight) {
                account.settle(units, End::Dropped(reason));
                given_up.insert(kind.clone(), units);
            }
        }
        given_up
    }

    /// All accounts by kind, as they are at one moment.
    pub fn accounts(&self) -> BTreeMap<String, Account> {
        self.lock().clone()
    }

    fn with(&self, kind: &str, units: u64, change: impl FnOnce(&mut Account)) {
        if units == 0 {
            return;
        }
        let mut accounts = self.lock();
        match accounts.get_mut(kind) {
            Some(account) => change(account),
            None => change(accounts.entry(kind.to_owned()).or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accounts as metrics, all of one moment.
    pub(super) fn families(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let received = counters("ledger_received_total", "Units that came in", &["kind"])?;
        let stored = counters(
            "ledger_stored_total",
            "Units that the store took",
            &["kind"],
        )?;
        let aggregated = counters(
            "ledger_aggregated_total",
            "Messages that became values of metrics or metadata",
            &["kind"],
        )?;
        let dead = counters(
            "ledger_dead_lettered_total",
            "Units that the store refused for good",
            &["kind"],
        )?;
        let dropped = counters(
            "ledger_dropped_total",
            "Units given up, by reason",
            &["kind", "reason"],
        )?;
        let help =
            "Units that came in and are neither stored, aggregated, dead-lettered nor dropped";
        let in_flight = IntGaugeVec::new(Opts::new("ledger_in_flight", help), &["kind"])?;
        for (kind, account) in self.accounts() {
            for (metric, value) in [
                (&received, account.received),
                (&stored, account.stored),
                (&aggregated, account.aggregated),
                (&dead, account.dead_lettered),
            ] {
                metric.with_label_values(&[&kind]).inc_by(value);
            }
            in_flight.with_label_values(&[&kind]).set(account.in_flight);
            for (reason, units) in &account.dropped {
                dropped.with_label_values(&[&kind, reason]).inc_by(*units);
            }
        }
        let mut families = in_flight.collect();
        for metric in [received, stored, aggregated, dead, dropped] {
            families.extend(metric.collect());
        }
        Ok(families)
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_one_place() {
        let ledger = Ledger::default();
        ledger.received("segment", 10);
        ledger.settled("segment", 3, End::Stored);
        ledger.settled("segment", 1, End::DeadLettered);
        ledger.settled("segment", 2, End::Dropped("undecodable"));
        ledger.turned_away("segment", 5, "too_large");
        ledger.received("jvm", 4);
        ledger.settled("jvm", 4, End::Aggregated);
        ledger.received("nothing", 0);
        let accounts = ledger.accounts();
        assert_eq!(accounts.keys().collect::<Vec<_>>(), ["jvm", "segment"]);
        let segment = &accounts["segment"];
        assert_eq!((segment.received, segment.in_flight), (15, 4));
        assert_eq!((segment.stored, segment.dead_lettered), (3, 1));
        assert_eq!(segment.dropped_in_all(), 7);
        assert!(accounts.values().all(Account::adds_up));

        assert_eq!(
            ledger.give_up("shutdown"),
            [("segment".to_owned(), 4)].into()
        );
        assert!(ledger.give_up("shutdown").is_empty());
        let segment = &ledger.accounts()["segment"];
        assert_eq!((segment.in_flight, segment.dropped["shutdown"]), (0, 4));
        assert!(segment.adds_up());
    }

    #[test]
    fn what_is_settled_twice_is_seen() {
        let ledger = Ledger::default();
        ledger.received("segment", 1);
        ledger.settled("segment", 1, End::Stored);
        ledger.settled("segment", 1, End::Stored);
        let segment = &ledger.accounts()["segment"];
        assert_eq!(segment.in_flight, -1);
        assert!(segment.adds_up());
        assert!(ledger.give_up("shutdown").is_empty());
    }

    #[test]
    fn an_account_that_lost_something_does_not_add_up() {
        let account = Account {
            received: 2,
            stored: 1,
            ..Account::default()
        };
        assert!(!account.adds_up());
    }

    #[test]
    fn accounts_are_metrics() {
        let ledger = Ledger::default();
        ledger.received("segment", 2);
        ledger.settled("segment", 1, End::Dropped("overloaded"));
        let families = ledger.families().unwrap();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(
            names,
            [
                "ledger_in_flight",
                "ledger_received_total",
                "ledger_stored_total",
                "ledger_aggregated_total",
                "ledger_dead_lettered_total",
                "ledger_dropped_total"
            ]
        );
        assert_eq!(families[0].get_metric()[0].get_gauge().get_value(), 1.0);
        let dropped = &families[5].get_metric()[0];
        assert_eq!(dropped.get_counter().get_value(), 1.0);
        assert_eq!(dropped.get_label()[1].value(), "overloaded");
    }
}
