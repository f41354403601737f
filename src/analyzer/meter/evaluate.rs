//! Evaluates expressions over the samples of one report (8.1.0 spec, A.10).

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use oap_proto::agent::meter_data::Metric;
use oap_proto::agent::{Label, MeterData, MeterHistogram};

use super::windows::Windows;
use crate::dsl::meter::{Call, Expression, Operand, Operator, WindowFunction};
use crate::model::metrics::{Function, MeterInput};

/// Why a rule came to no value. The text is also the value of the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Skip {
    /// No sample of a meter that the rule names.
    #[error("not_reported")]
    NotReported,
    /// No sample has the labels that the rule wants.
    #[error("filtered_out")]
    FilteredOut,
    /// An operator has several samples at its right side.
    #[error("several_operands")]
    SeveralOperands,
    /// A histogram where a single value must be, or the other way round.
    #[error("wrong_kind")]
    WrongKind,
    /// Infinite or not a number, where only a finite one can be scaled.
    #[error("not_finite")]
    NotFinite,
    #[error("too_many_buckets")]
    TooManyBuckets,
}

/// Buckets of one value. They are stored as one text, and kept until their day is over.
const MAX_BUCKETS: usize = 1000;

type Labels<'a> = Rc<BTreeMap<&'a str, &'a str>>;

/// Counts by lower edge, ascending, each edge once.
type Counts = Vec<(f64, i64)>;

#[derive(Debug, Clone)]
enum Content {
    Single(f64),
    Histogram(Counts),
}

/// One sample; its name and labels are those it was reported with, whatever was done to its value.
#[derive(Debug, Clone)]
struct Sample<'a> {
    name: &'a str,
    labels: Labels<'a>,
    content: Content,
}

/// The samples of a report and what was before.
pub(super) struct Evaluation<'a> {
    samples: HashMap<&'a str, Vec<Sample<'a>>>,
    windows: &'a mut Windows,
    service: &'a str,
    instance: &'a str,
    now_ms: i64,
    key: Vec<u8>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        report: &'a [MeterData],
        service: &'a str,
        instance: &'a str,
        windows: &'a mut Windows,
        now_ms: i64,
    ) -> Evaluation<'a> {
        let mut samples: HashMap<&str, Vec<Sample<'_>>> = HashMap::new();
        for data in report {
            let (name, labels, content) = match &data.metric {
                Some(Metric::SingleValue(single)) => {
                    let content = Content::Single(single.value);
                    (&*single.name, &single.labels, content)
                }
                Some(Metric::Histogram(histogram)) => {
                    let content = Content::Histogram(counts(histogram));
                    (&*histogram.name, &histogram.labels, content)
                }
                None => continue,
            };
            samples.entry(name).or_default().push(Sample {
                name,
                labels: by_name(labels),
                content,
            });
        }
        Evaluation {
            samples,
            windows,
            service,
            instance,
            now_ms,
            key: Vec::new(),
        }
    }

    /// What a rule feeds into its metric: all samples of its expression together.
    pub(super) fn input(
        &mut self,
        expression: &Expression,
        function: Function,
    ) -> Result<MeterInput, Skip> {
        let samples = self.samples(expression)?;
        match (function, together(samples)?) {
            (Function::MeterAvg, Content::Single(value)) => Ok(MeterInput::Long(value as i64)),
            (
                Function::BucketAvg | Function::BucketAvgPercentile { .. },
                Content::Histogram(counts),
            ) => {
                if counts.is_empty() {
                    return Err(Skip::FilteredOut);
                }
                if counts.len() > MAX_BUCKETS {
                    return Err(Skip::TooManyBuckets);
                }
                let whole = |(edge, count): (f64, i64)| (edge as i32, count);
                Ok(MeterInput::Buckets(counts.into_iter().map(whole).collect()))
            }
            _ => Err(Skip::WrongKind),
        }
    }

    fn samples(&mut self, expression: &Expression) -> Result<Vec<Sample<'a>>, Skip> {
        let found = self.samples.get(expression.meter.as_str()).cloned();
        let mut samples = found.ok_or(Skip::NotReported)?;
        for call in &expression.calls {
            match call {
                Call::TagFilter { key, value } => {
                    samples.retain(|s| s.labels.get(key.as_str()).copied() == Some(value));
                }
                Call::Arithmetic { operator, operand } => {
                    let right = match operand {
                        Operand::Number(number) => Some(*number),
                        Operand::Samples(operand) => self.operand(operand, &samples)?,
                    };
                    // Nothing at the right side changes nothing.
                    if let Some(right) = right {
                        map_single(&mut samples, |left| Ok(operator.apply(left, right)))?;
                    }
                }
                Call::Scale(power) => map_single(&mut samples, |n| scale(n, *power))?,
                Call::Window { function, range_ms } => {
                    for sample in &mut samples {
                        self.look_back(sample, *function, *range_ms);
                    }
                }
            }
        }
        Ok(samples)
    }

    /// The one number at the right side of an operator, `None` if there is no sample.
    fn operand(
        &mut self,
        expression: &Expression,
        left: &[Sample<'_>],
    ) -> Result<Option<f64>, Skip> {
        let samples = self.samples(expression)?;
        match samples.as_slice() {
            [] => Ok(None),
            [one] => match &one.content {
                Content::Single(number) => Ok(Some(*number)),
                // Without a left side nothing looks at the right one.
                Content::Histogram(_) if left.is_empty() => Ok(None),
                Content::Histogram(_) => Err(Skip::WrongKind),
            },
            _ => Err(Skip::SeveralOperands),
        }
    }

    fn look_back(&mut self, sample: &mut Sample<'a>, function: WindowFunction, range_ms: i64) {
        let (name, labels) = (sample.name, Rc::clone(&sample.labels));
        match &mut sample.content {
            Content::Single(value) => {
                *value = self.compare(name, &labels, None, function, range_ms, *value);
            }
            Content::Histogram(counts) => {
                for (edge, count) in counts {
                    let value = *count as f64;
                    let bucket = Some(*edge);
                    let new = self.compare(name, &labels, bucket, function, range_ms, value);
                    *count = new as i64;
                }
            }
        }
    }

    fn compare(
        &mut self,
        name: &str,
        labels: &Labels<'a>,
        bucket: Option<f64>,
        function: WindowFunction,
        range_ms: i64,
        value: f64,
    ) -> f64 {
        let key = &mut self.key;
        key.clear();
        let mut push = |part: &[u8]| {
            key.extend_from_slice(&(part.len() as u32).to_le_bytes());
            key.extend_from_slice(part);
        };
        for part in [self.service, self.instance, name] {
            push(part.as_bytes());
        }
        for (name, value) in labels.iter() {
            push(name.as_bytes());
            push(value.as_bytes());
        }
        if let Some(edge) = bucket {
            push(&edge.to_bits().to_le_bytes());
        }
        // It remembers less than the others, which therefore cannot share with it.
        key.push(u8::from(function == WindowFunction::Irate));
        self.windows
            .apply(key, function, range_ms, value, self.now_ms)
    }
}

impl Operator {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Operator::Multiply => left * right,
            Operator::Add => left + right,
            Operator::Minus => left - right,
            Operator::Divide => left / right,
        }
    }
}

/// Ten to the power of `power` times `n`, rounded once, as decimal arithmetic does.
fn scale(n: f64, power: i32) -> Result<f64, Skip> {
    if !n.is_finite() {
        return Err(Skip::NotFinite);
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').ok_or(Skip::NotFinite)?;
    let exponent: i32 = exponent.parse().map_err(|_| Skip::NotFinite)?;
    let scaled = format!("{digits}e{}", exponent.saturating_add(power));
    scaled.parse().map_err(|_| Skip::NotFinite)
}

fn map_single(
    samples: &mut [Sample<'_>],
    f: impl Fn(f64) -> Result<f64, Skip>,
) -> Result<(), Skip> {
    for sample in samples {
        match &mut sample.content {
            Content::Single(value) => *value = f(*value)?,
            Content::Histogram(_) => return Err(Skip::WrongKind),
        }
    }
    Ok(())
}

/// The sum of all samples, which must be of one kind.
fn together(samples: Vec<Sample<'_>>) -> Result<Content, Skip> {
    let mut contents = samples.into_iter().map(|sample| sample.content);
    let mut all = contents.next().ok_or(Skip::FilteredOut)?;
    for one in contents {
        match (&mut all, one) {
            (Content::Single(sum), Content::Single(value)) => *sum += value,
            (Content::Histogram(counts), Content::Histogram(more)) => counts.extend(more),
            _ => return Err(Skip::WrongKind),
        }
    }
    Ok(match all {
        Content::Histogram(counts) => Content::Histogram(merged(counts)),
        single => single,
    })
}

fn counts(histogram: &MeterHistogram) -> Counts {
    let values = histogram.values.iter().map(|value| {
        let edge = if value.is_negative_infinity {
            f64::NEG_INFINITY
        } else {
            value.bucket
        };
        (edge, value.count)
    });
    merged(values.collect())
}

/// Ascending, equal edges together.
fn merged(mut counts: Counts) -> Counts {
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    counts.dedup_by(|next, kept| {
        let is_same = next.0.total_cmp(&kept.0).is_eq();
        if is_same {
            kept.1 = kept.1.wrapping_add(next.1);
        }
        is_same
    });
    counts
}

fn by_name(labels: &[Label]) -> Labels<'_> {
    let labels = labels.iter().map(|label| (&*label.name, &*label.value));
    Rc::new(labels.collect())
}
