//! From metrics of pages to values of meters, by the rules of a file (8.1.0 spec, A.11).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::families::{Labels, Measured, Metric, Total};
use super::windows::{WindowLimits, Windows};
use crate::dsl::prometheus::{Counter, FetchRules, RuleSource};
use crate::model::decimal;
use crate::model::metrics::{Function, MeterInput, MeterScope};

/// Who a value is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityName {
    pub service: String,
    /// Name of the instance or endpoint, empty for a service.
    pub member: String,
}

/// A value of a meter.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterSample {
    /// `meter_<rule name>`
    pub name: Arc<str>,
    pub scope: MeterScope,
    pub entity: EntityName,
    pub input: MeterInput,
}

/// Why samples led to no value. The text is also the value of the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Lost {
    #[error("not_finite")]
    NotFinite,
    /// A rule for histograms met something else, or the targets do not agree what it is.
    #[error("wrong_type")]
    WrongType,
}

/// The rules of a file, and what its counters said before.
#[derive(Debug)]
pub struct Converter {
    sources: Vec<Source>,
    /// Places in `sources` by the name of the metric.
    by_metric: HashMap<String, Vec<usize>>,
    windows: Windows<Series>,
}

/// A source of a rule.
#[derive(Debug)]
struct Source {
    name: Arc<str>,
    scope: MeterScope,
    function: Function,
    /// The first source that asks the same for the same metric: samples of both are summed.
    group: usize,
    rule: RuleSource,
}

/// A counter that is looked back at: place of the source, and the group of labels or the bucket. As in the original, entities
/// share it. Not so buckets: of several entities the original does not evaluate histograms at all.
type Series = (usize, String);

/// What all files together may hold is these times their number, a few at most.
const MAX_SERIES: usize = 20_000;
const MAX_SAMPLES: usize = 500_000;
const LEAST_IDLE_MS: i64 = 10 * 60_000;

impl Converter {
    pub fn new(file: &FetchRules) -> Converter {
        let mut sources: Vec<Source> = Vec::new();
        let mut by_metric: HashMap<String, Vec<usize>> = HashMap::new();
        for rule in &file.rules {
            let name: Arc<str> = rule.definition.name.as_str().into();
            for source in &rule.sources {
                let at = sources.len();
                let is_same = |other: &Source| {
                    other.name == name
                        && other.rule.metric == source.metric
                        && other.rule.counter == source.counter
                        && other.rule.group_by == source.group_by
                        && other.rule.scale == source.scale
                };
                let group = sources.iter().position(is_same).unwrap_or(at);
                by_metric.entry(source.metric.clone()).or_default().push(at);
                sources.push(Source {
                    name: Arc::clone(&name),
                    scope: rule.definition.scope,
                    function: rule.definition.function,
                    group,
                    rule: source.clone(),
                });
            }
        }
        let longest = sources
            .iter()
            .filter_map(|source| Some(range_ms(&source.rule)?.saturating_mul(2)))
            .fold(LEAST_IDLE_MS, i64::max);
        Converter {
            sources,
            by_metric,
            windows: Windows::new(WindowLimits {
                series: MAX_SERIES,
                samples: MAX_SAMPLES,
                idle_ms: longest,
            }),
        }
    }

    /// Whether a rule takes metrics of this name.
    pub fn wants(&self, metric: &str) -> bool {
        self.by_metric.contains_key(metric)
    }

    /// Counters that had to begin anew since this was asked last.
    pub fn take_forgotten(&mut self) -> u64 {
        self.windows.take_forgotten()
    }

    /// The values that samples of one moment lead to, and what led to none.
    pub fn convert(&mut self, metrics: &[Metric], at_ms: i64) -> (Vec<MeterSample>, Vec<Lost>) {
        let mut groups: BTreeMap<(usize, EntityName), Vec<&Metric>> = BTreeMap::new();
        for metric in metrics {
            for at in self.by_metric.get(&metric.name).into_iter().flatten() {
                if let Some(source) = self.sources.get(*at)
                    && let Some(entity) = source.entity(&metric.labels)
                {
                    let group = groups.entry((source.group, entity)).or_default();
                    group.push(metric);
                }
            }
        }
        let mut samples = Vec::new();
        let mut lost = Vec::new();
        for ((group, entity), metrics) in groups {
            let Some(source) = self.sources.get(group) else {
                continue;
            };
            let mut evaluation = Evaluation {
                source,
                group,
                at_ms,
                windows: &mut self.windows,
            };
            let input = match source.function {
                Function::AvgLabeled => Ok(evaluation.labels(&metrics, &mut lost)),
                Function::BucketAvg | Function::BucketAvgPercentile { .. } => {
                    evaluation.buckets(&metrics, &entity)
                }
                _ => evaluation.number(&metrics, "").map(MeterInput::Long),
            };
            match input {
                Ok(input) if input.is_empty() => {}
                Ok(input) => samples.push(MeterSample {
                    name: Arc::clone(&source.name),
                    scope: source.scope,
                    entity,
                    input,
                }),
                Err(reason) => lost.push(reason),
            }
        }
        (samples, lost)
    }
}

/// How far a counter looks back.
fn range_ms(rule: &RuleSource) -> Option<i64> {
    match rule.counter? {
        Counter::Increase(range) | Counter::Rate(range) => {
            Some(i64::try_from(range.as_millis()).unwrap_or(i64::MAX))
        }
        Counter::Irate => None,
    }
}

impl Source {
    /// Who a sample with these labels is about; `None` if the rule does not take it.
    fn entity(&self, labels: &Labels) -> Option<EntityName> {
        let relabel = &self.rule.relabel;
        let joined = |names: &[String]| {
            let parts = names
                .iter()
                .map(|name| labels.get(name).map(String::as_str));
            parts.collect::<Option<Vec<&str>>>().map(|p| p.join("."))
        };
        // All labels must be there, also those that the scope does not need.
        let (service, instance, endpoint) = (
            joined(&relabel.service)?,
            joined(&relabel.instance)?,
            joined(&relabel.endpoint)?,
        );
        let is_match = self.rule.filters.iter().all(|filter| {
            let value = labels.get(&filter.key);
            // A pattern that takes too many steps does not match.
            value.is_some_and(|value| {
                let mut options = filter.options.iter();
                options.any(|option| option.is_match(value).unwrap_or(false))
            })
        });
        is_match.then_some(EntityName {
            service,
            member: match self.scope {
                MeterScope::Service => String::new(),
                MeterScope::Instance => instance,
                MeterScope::Endpoint => endpoint,
            },
        })
    }
}

/// One group of samples on its way to a value.
struct Evaluation<'a> {
    source: &'a Source,
    group: usize,
    at_ms: i64,
    windows: &'a mut Windows<Series>,
}

impl Evaluation<'_> {
    fn number(&mut self, metrics: &[&Metric], part: &str) -> Result<i64, Lost> {
        let value = self.windowed(part, sum(metrics)?);
        let value = if value.is_nan() { 0.0 } else { value };
        decimal::shifted(value, self.source.rule.scale).ok_or(Lost::NotFinite)
    }

    /// A number for each group of labels; a label that is not there counts as `null`, as in the original.
    fn labels(&mut self, metrics: &[&Metric], lost: &mut Vec<Lost>) -> MeterInput {
        let mut groups: BTreeMap<String, Vec<&Metric>> = BTreeMap::new();
        for metric in metrics {
            let names = self.source.rule.group_by.iter();
            let values = names.map(|name| metric.labels.get(name).map_or("null", |v| v));
            let group = values.collect::<Vec<_>>().join("-");
            groups.entry(group).or_default().push(metric);
        }
        let mut numbers = Vec::new();
        for (label, metrics) in groups {
            match self.number(&metrics, &label) {
                Ok(number) => numbers.push((label, number)),
                Err(reason) => lost.push(reason),
            }
        }
        MeterInput::Labels(numbers)
    }

    /// How many observations lie in each bucket, by its lower edge in milliseconds.
    fn buckets(&mut self, metrics: &[&Metric], entity: &EntityName) -> Result<MeterInput, Lost> {
        let mut cumulative: Vec<(f64, i64)> = Vec::new();
        for metric in metrics {
            let Measured::Histogram(histogram) = &metric.value else {
                return Err(Lost::WrongType);
            };
            cumulative.extend(&histogram.buckets);
        }
        cumulative.sort_by(|a, b| a.0.total_cmp(&b.0));
        cumulative.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = kept.1.wrapping_add(next.1);
            }
            is_same
        });
        let mut lower_edge = 0;
        let mut below = 0;
        let mut buckets = Vec::new();
        for (bound, count) in cumulative {
            let inside = count.wrapping_sub(below) as f64;
            let part = format!("{}\0{}\0{bound}", entity.service, entity.member);
            buckets.push((lower_edge, self.windowed(&part, inside) as i64));
            below = count;
            // Of the infinite bound, the last, there is no use.
            lower_edge = decimal::shifted(bound, 3).unwrap_or(0) as i32;
        }
        Ok(MeterInput::Buckets(buckets))
    }

    /// What the counter function makes of a value.
    fn windowed(&mut self, part: &str, value: f64) -> f64 {
        let Some(counter) = self.source.rule.counter else {
            return value;
        };
        let key = (self.group, part.to_owned());
        let (then_ms, then) = match range_ms(&self.source.rule) {
            Some(range) => self.windows.oldest(key, self.at_ms, value, range),
            None => self.windows.previous(key, self.at_ms, value),
        };
        let difference = value - then;
        match counter {
            Counter::Increase(_) => difference,
            // Whole seconds, as in the original.
            Counter::Rate(_) | Counter::Irate => {
                difference / ((self.at_ms - then_ms) / 1000) as f64
            }
        }
    }
}

/// The sum of numbers; of histograms and summaries their average in milliseconds.
fn sum(metrics: &[&Metric]) -> Result<f64, Lost> {
    let mut sum = 0.0;
    let mut all = Total::default();
    let mut numbers = 0;
    for metric in metrics {
        match &metric.value {
            Measured::Number(value) => {
                sum += value;
                numbers += 1;
            }
            Measured::Summary(total) => all.add(*total),
            Measured::Histogram(histogram) => all.add(histogram.total),
        }
    }
    match numbers {
        0 => Ok(all.sum * 1000.0 / all.count),
        n if n == metrics.len() => Ok(sum),
        _ => Err(Lost::WrongType),
    }
}

impl Total {
    fn add(&mut self, other: Total) {
        self.count += other.count;
        self.sum += other.sum;
    }
}
