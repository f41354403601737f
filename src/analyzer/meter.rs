//! Meters: what an instance measured itself goes through the rules that name it (8.1.0 spec, A.10).

mod evaluate;
mod windows;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use oap_proto::agent::MeterPart;
use oap_proto::agent::meter_data::Metric;
use prometheus::{IntCounterVec, IntGauge, Opts};
use prost::Message as _;

use super::trace::MAX_ID_BYTES;
use super::{Analyzer, Facts, Reject};
use crate::dsl::meter::{Expression, MeterRule};
use crate::model::fact::{Fact, MeterValue};
use crate::model::metrics::{Function, MeterScope};
use crate::telemetry::{Registers, Throttle};
use crate::util::clock::Clock;
use evaluate::{Evaluation, Skip};
use windows::Windows;

/// Counters of all meters.
#[derive(Debug, Clone)]
pub struct MeterMetrics {
    skipped: IntCounterVec,
    windows: IntGauge,
    /// Bytes of the windows, about.
    window_bytes: Arc<AtomicU64>,
    /// By reason: `idle`, or no room for a window (`full`) or its samples (`samples`).
    forgotten: IntCounterVec,
}

impl MeterMetrics {
    pub fn new(registry: &impl Registers) -> prometheus::Result<MeterMetrics> {
        let metrics = MeterMetrics {
            skipped: IntCounterVec::new(
                Opts::new(
                    "meter_rules_skipped_total",
                    "Evaluations of a rule that came to no value, by reason",
                ),
                &["reason"],
            )?,
            windows: IntGauge::new(
                "meter_windows",
                "Samples of meters with an earlier value to compare with",
            )?,
            window_bytes: Arc::default(),
            forgotten: IntCounterVec::new(
                Opts::new(
                    "meter_windows_forgotten_total",
                    "Earlier values of meters given up, by reason",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.windows.clone()))?;
        registry.register(Box::new(metrics.forgotten.clone()))?;
        Ok(metrics)
    }

    /// Bytes that windows take, read when asked.
    pub fn window_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let bytes = Arc::clone(&self.window_bytes);
        move || bytes.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Rule {
    metric: Arc<str>,
    scope: MeterScope,
    function: Function,
    endpoint: String,
    expression: Expression,
}

/// The rules and what they remember, shared by all analyzers: an instance's reports may meet any of them.
#[derive(Debug)]
pub struct Meters {
    rules: Vec<Rule>,
    windows: Mutex<Windows>,
    metrics: MeterMetrics,
    skip_log: Throttle,
}

impl Meters {
    pub fn new(rules: Vec<MeterRule>, metrics: MeterMetrics, clock: Clock) -> Meters {
        let ranges = rules.iter().map(|rule| rule.expression.longest_range_ms());
        let windows = Windows::new(ranges.max().unwrap_or(0), metrics.clone(), clock.clone());
        let rules = rules.into_iter().map(|rule| Rule {
            metric: rule.definition.name.into(),
            scope: rule.definition.scope,
            function: rule.definition.function,
            endpoint: rule.endpoint.unwrap_or_default(),
            expression: rule.expression,
        });
        Meters {
            rules: rules.collect(),
            windows: Mutex::new(windows),
            metrics,
            skip_log: Throttle::new(clock),
        }
    }

    fn skip(&self, rule: &Rule, reason: Skip) {
        let label = reason.to_string();
        self.metrics.skipped.with_label_values(&[&label]).inc();
        // Nobody reports everything that there are rules for.
        if reason == Skip::NotReported {
            return;
        }
        if let Some(held_back) = self.skip_log.admit() {
            let metric = &*rule.metric;
            tracing::warn!(metric, %reason, held_back, "rule of a meter skipped");
        }
    }
}

/// Who reports, and when.
#[derive(Debug, Default)]
struct Origin<'a> {
    service: &'a str,
    instance: &'a str,
    timestamp: i64,
}

impl Analyzer {
    /// All that one stream brought is one evaluation. Names are not cut, as the original does not.
    pub(super) fn meters(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let Some(meters) = self.meters.clone() else {
            return Ok(());
        };
        let part = MeterPart::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let origin = origin(&part);
        let (service, instance) = (origin.service, origin.instance);
        if service.is_empty() || instance.is_empty() {
            return Err(Reject::MissingId);
        }
        if service.len() > MAX_ID_BYTES || instance.len() > MAX_ID_BYTES {
            return Err(Reject::IdTooLong);
        }
        if origin.timestamp <= 0 {
            return Err(Reject::TimeOutOfRange);
        }
        let minute = self.second(origin.timestamp)? / 100;
        let mut windows = meters
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        let mut evaluation =
            Evaluation::new(&part.meter_data, service, instance, &mut windows, now_ms);
        for rule in &meters.rules {
            let input = match evaluation.input(&rule.expression, rule.function) {
                Ok(input) => input,
                Err(reason) => {
                    meters.skip(rule, reason);
                    continue;
                }
            };
            let member = match rule.scope {
                MeterScope::Endpoint => &rule.endpoint,
                MeterScope::Service | MeterScope::Instance => instance,
            };
            facts.push(Fact::Meter(MeterValue {
                entity: self.entities.metered(rule.scope, service, member),
                minute,
                name: Arc::clone(&rule.metric),
                input,
            }));
        }
        Ok(())
    }
}

/// The last names that are not empty and the last time; messages without a value do not count.
fn origin(part: &MeterPart) -> Origin<'_> {
    let mut origin = Origin::default();
    for data in part.first.iter().chain(&part.meter_data) {
        let has_value = matches!(
            data.metric,
            Some(Metric::SingleValue(_) | Metric::Histogram(_))
        );
        if !has_value {
            continue;
        }
        if !data.service.is_empty() {
            origin.service = &data.service;
        }
        if !data.service_instance.is_empty() {
            origin.instance = &data.service_instance;
        }
        if data.timestamp > 0 {
            origin.timestamp = data.timestamp;
        }
    }
    origin
}

#[cfg(test)]
mod tests;
