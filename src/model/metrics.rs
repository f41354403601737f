//! Value functions of scripts and meters: what they store, how they take a value, merge and calculate (8.1.0 spec, D.4, D.5).

mod columns;
mod definition;
mod fullness;
mod meter;
mod percentile;

pub use definition::{
    CompareOp, Entrance, Filter, Literal, MeterDefinition, MeterScope, MetricDefinition,
};
pub use meter::{Buckets, Labels, MeterInput, Ranks};
pub use percentile::PERCENTILE_RANKS;

use super::table::Table;

/// A value function with its script arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    LongAvg,
    DoubleAvg,
    Sum,
    Count,
    Max,
    Min,
    MaxDouble,
    MinDouble,
    Cpm,
    Percent,
    Apdex,
    /// Buckets of `step` up to `max_steps`.
    Histogram {
        step: i32,
        max_steps: i32,
    },
    /// All ranks of [`PERCENTILE_RANKS`].
    Percentile {
        precision: i32,
    },
    /// One rank (p50 … p99).
    Rank {
        rank: i32,
        precision: i32,
    },
    /// Component of a relation; the first one wins (8.1.0 spec, E). Not available in scripts.
    Component,
    /// Meter `avg`: as `LongAvg`, but never 0 when anything positive was taken in.
    MeterAvg,
    /// Meter `avgLabeled`: `MeterAvg` per label.
    AvgLabeled,
    /// Meter `histogram`: sums by bucket.
    BucketSum,
    /// Meter `avgHistogram`: averages by bucket.
    BucketAvg,
    /// Meter `percentile`: ranks of sums by bucket.
    BucketPercentile {
        ranks: Ranks,
    },
    /// Meter `avgHistogramPercentile`: ranks of averages by bucket.
    BucketAvgPercentile {
        ranks: Ranks,
    },
}

/// What one source contributes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    Long(i64),
    Double(f64),
    /// Whether the condition of `percent` holds.
    Match(bool),
    Apdex {
        latency: i64,
        is_ok: bool,
        /// Milliseconds.
        threshold: i64,
    },
    /// One occurrence.
    One,
}

/// An aggregate. Counts wrap as the original's do: what was stored may be any number. Merging is associative and commutative, except for `Component`, which keeps its first value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    LongAvg {
        summation: i64,
        count: i64,
    },
    DoubleAvg {
        summation: f64,
        count: i64,
    },
    Long(i64),
    Double(f64),
    Cpm {
        total: i64,
    },
    Percent {
        total: i64,
        matched: i64,
    },
    Apdex(Box<Apdex>),
    Table(Table),
    /// `None` until a source was taken in; 0 is a component too.
    Component(Option<i32>),
    Labels(Box<Labels>),
    Buckets(Box<Buckets>),
}

impl Value {
    /// Bytes of memory behind it, about.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::Apdex(_) => size_of::<Apdex>(),
            Value::Table(table) => table.heap_bytes(),
            Value::Labels(labels) => size_of::<Labels>() + labels.heap_bytes(),
            Value::Buckets(buckets) => size_of::<Buckets>() + buckets.heap_bytes(),
            _ => 0,
        }
    }
}

/// Requests by how long they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apdex {
    pub total: i64,
    pub satisfied: i64,
    pub tolerated: i64,
}

/// Most of the memory of a row is its values.
const _: () = assert!(size_of::<Option<Value>>() <= 24);

impl Function {
    /// The value before anything was taken in.
    pub fn empty(self) -> Value {
        match self {
            Function::LongAvg | Function::MeterAvg => Value::LongAvg {
                summation: 0,
                count: 0,
            },
            Function::DoubleAvg => Value::DoubleAvg {
                summation: 0.0,
                count: 0,
            },
            Function::Sum | Function::Count | Function::Max => Value::Long(0),
            Function::Min => Value::Long(i64::MAX),
            Function::MaxDouble => Value::Double(0.0),
            Function::MinDouble => Value::Double(f64::MAX),
            Function::Cpm => Value::Cpm { total: 0 },
            Function::Percent => Value::Percent {
                total: 0,
                matched: 0,
            },
            Function::Apdex => Value::Apdex(Box::default()),
            Function::Histogram { step, max_steps } => {
                let mut table = Table::new();
                for i in 0..=max_steps {
                    table.add(i.wrapping_mul(step), 0);
                }
                Value::Table(table)
            }
            Function::Percentile { .. } | Function::Rank { .. } => Value::Table(Table::new()),
            Function::Component => Value::Component(None),
            Function::AvgLabeled => Value::Labels(Box::default()),
            Function::BucketSum | Function::BucketAvg => Value::Buckets(Box::default()),
            Function::BucketPercentile { ranks } | Function::BucketAvgPercentile { ranks } => {
                Value::Buckets(Box::new(Buckets::new(ranks)))
            }
        }
    }

    /// Takes one input in. An input of the wrong kind cannot occur: scripts are type-checked; it is ignored.
    pub fn accept(self, value: &mut Value, input: Input) {
        match (self, value, input) {
            (Function::LongAvg, Value::LongAvg { summation, count }, Input::Long(v)) => {
                *summation = summation.wrapping_add(v);
                *count = count.wrapping_add(1);
            }
            (Function::DoubleAvg, Value::DoubleAvg { summation, count }, Input::Double(v)) => {
                *summation += v;
                *count = count.wrapping_add(1);
            }
            (Function::Sum, Value::Long(sum), Input::Long(v)) => *sum = sum.wrapping_add(v),
            (Function::Count, Value::Long(count), _) => *count = count.wrapping_add(1),
            (Function::Max, Value::Long(max), Input::Long(v)) => *max = v.max(*max),
            (Function::Min, Value::Long(min), Input::Long(v)) => *min = v.min(*min),
            (Function::MaxDouble, Value::Double(max), Input::Double(v)) if v > *max => *max = v,
            (Function::MinDouble, Value::Double(min), Input::Double(v)) if v < *min => *min = v,
            (Function::Cpm, Value::Cpm { total }, _) => *total = total.wrapping_add(1),
            (Function::Percent, Value::Percent { total, matched }, Input::Match(is_match)) => {
                *total = total.wrapping_add(1);
                *matched = matched.wrapping_add(is_match.into());
            }
            (
                Function::Apdex,
                Value::Apdex(apdex),
                Input::Apdex {
                    latency,
                    is_ok,
                    threshold,
                },
            ) => {
                apdex.total = apdex.total.wrapping_add(1);
                if !is_ok || latency >= threshold.saturating_mul(4) {
                } else if latency >= threshold {
                    apdex.tolerated = apdex.tolerated.wrapping_add(1);
                } else {
                    apdex.satisfied = apdex.satisfied.wrapping_add(1);
                }
            }
            (Function::Histogram { step, max_steps }, Value::Table(t), Input::Long(v)) => {
                let index = (v / i64::from(step.max(1))).min(i64::from(max_steps));
                t.add((index as i32).wrapping_mul(step), 1);
            }
            (
                Function::Percentile { precision } | Function::Rank { precision, .. },
                Value::Table(t),
                Input::Long(v),
            ) => t.add((v / i64::from(precision.max(1))) as i32, 1),
            (Function::Component, Value::Component(id), Input::Long(v)) => {
                id.get_or_insert(v as i32);
            }
            _ => {}
        }
    }

    /// Merges another aggregate of the same function into `into`. False if `from` was left out because the two do not fit
    /// together: meters with other buckets or ranks, or too many labels.
    #[must_use]
    pub fn merge(self, into: &mut Value, from: &Value) -> bool {
        match (into, from) {
            (
                Value::LongAvg { summation, count },
                Value::LongAvg {
                    summation: s,
                    count: c,
                },
            ) => {
                *summation = summation.wrapping_add(*s);
                *count = count.wrapping_add(*c);
            }
            (
                Value::DoubleAvg { summation, count },
                Value::DoubleAvg {
                    summation: s,
                    count: c,
                },
            ) => {
                *summation += s;
                *count = count.wrapping_add(*c);
            }
            (Value::Long(a), Value::Long(b)) => {
                *a = match self {
                    Function::Max => (*a).max(*b),
                    Function::Min => (*a).min(*b),
                    _ => a.wrapping_add(*b),
                }
            }
            (Value::Double(a), Value::Double(b)) => {
                let is_better = match self {
                    Function::MinDouble => b < a,
                    _ => b > a,
                };
                if is_better {
                    *a = *b;
                }
            }
            (Value::Cpm { total }, Value::Cpm { total: t }) => *total = total.wrapping_add(*t),
            (
                Value::Percent { total, matched },
                Value::Percent {
                    total: t,
                    matched: m,
                },
            ) => {
                *total = total.wrapping_add(*t);
                *matched = matched.wrapping_add(*m);
            }
            (Value::Apdex(a), Value::Apdex(b)) => {
                a.total = a.total.wrapping_add(b.total);
                a.satisfied = a.satisfied.wrapping_add(b.satisfied);
                a.tolerated = a.tolerated.wrapping_add(b.tolerated);
            }
            (Value::Table(a), Value::Table(b)) => a.merge(b),
            (Value::Component(a), Value::Component(b)) => *a = a.or(*b),
            (Value::Labels(a), Value::Labels(b)) => return a.merge(b),
            (Value::Buckets(a), Value::Buckets(b)) => return a.merge(b),
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn apdex(latency: i64, is_ok: bool) -> Input {
        Input::Apdex {
            latency,
            is_ok,
            threshold: 500,
        }
    }

    #[test]
    fn histogram_starts_with_all_buckets_and_caps_the_last() {
        let f = Function::Histogram {
            step: 100,
            max_steps: 20,
        };
        let mut v = f.empty();
        for latency in [5, 12, 12, 95, 430, 99_999, -50] {
            f.accept(&mut v, Input::Long(latency));
        }
        let Value::Table(t) = v else { panic!() };
        let filled: Vec<_> = t.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(t.iter().count(), 21);
        assert_eq!(filled, [(0, 5), (400, 1), (2000, 1)]);
    }

    #[test]
    fn apdex_counts_only_fast_successes() {
        let f = Function::Apdex;
        let mut v = f.empty();
        for input in [
            apdex(100, true),
            apdex(600, true),
            apdex(2100, true),
            apdex(300, false),
        ] {
            f.accept(&mut v, input);
        }
        assert_eq!(
            v,
            Value::Apdex(Box::new(Apdex {
                total: 4,
                satisfied: 1,
                tolerated: 1
            }))
        );
    }

    #[test]
    fn extremes_start_where_the_original_starts() {
        let mut max = Function::Max.empty();
        Function::Max.accept(&mut max, Input::Long(-5));
        assert_eq!(max, Value::Long(0));
        let mut min = Function::Min.empty();
        Function::Min.accept(&mut min, Input::Long(-5));
        assert!(Function::Min.merge(&mut min, &Value::Long(3)));
        assert_eq!(min, Value::Long(-5));
    }

    #[test]
    fn a_negative_value_has_a_bucket_of_its_own_below_the_first_step() {
        let f = Function::Histogram {
            step: 100,
            max_steps: 2,
        };
        let mut v = f.empty();
        for latency in [-250, -100, -99, -1, 0, 99, 199, 200, 300] {
            f.accept(&mut v, Input::Long(latency));
        }
        let Value::Table(t) = v else { panic!() };
        let all: Vec<_> = t.iter().collect();
        assert_eq!(all, [(-200, 1), (-100, 1), (0, 4), (100, 1), (200, 2)]);
        let f = Function::Percentile { precision: 10 };
        let mut v = f.empty();
        for latency in [-19, -9, 9, 10] {
            f.accept(&mut v, Input::Long(latency));
        }
        let Value::Table(t) = v else { panic!() };
        assert_eq!(t.to_text(), "-1,1|0,2|1,1");
    }

    #[test]
    fn apdex_has_sharp_borders() {
        for (latency, is_ok, satisfied, tolerated) in [
            (-1, true, 1, 0),
            (499, true, 1, 0),
            (500, true, 0, 1),
            (1999, true, 0, 1),
            (2000, true, 0, 0),
            (0, false, 0, 0),
        ] {
            let mut v = Function::Apdex.empty();
            Function::Apdex.accept(&mut v, apdex(latency, is_ok));
            let want = Value::Apdex(Box::new(Apdex {
                total: 1,
                satisfied,
                tolerated,
            }));
            assert_eq!(v, want, "{latency} {is_ok}");
        }
    }

    #[test]
    fn merging_is_adding_and_never_fails() {
        let huge = Value::Cpm { total: i64::MAX };
        for (f, a, b, want) in [
            (
                Function::LongAvg,
                Value::LongAvg {
                    summation: i64::MAX,
                    count: i64::MAX,
                },
                Value::LongAvg {
                    summation: 1,
                    count: 1,
                },
                Value::LongAvg {
                    summation: i64::MIN,
                    count: i64::MIN,
                },
            ),
            (
                Function::Cpm,
                huge,
                Value::Cpm { total: 2 },
                Value::Cpm {
                    total: i64::MIN + 1,
                },
            ),
            (
                Function::Max,
                Value::Long(3),
                Value::Long(4),
                Value::Long(4),
            ),
            (
                Function::Min,
                Value::Long(3),
                Value::Long(4),
                Value::Long(3),
            ),
            (
                Function::Count,
                Value::Long(3),
                Value::Long(4),
                Value::Long(7),
            ),
            (
                Function::MaxDouble,
                Value::Double(3.5),
                Value::Double(4.5),
                Value::Double(4.5),
            ),
            (
                Function::MinDouble,
                Value::Double(3.5),
                Value::Double(4.5),
                Value::Double(3.5),
            ),
            (
                Function::Component,
                Value::Component(Some(0)),
                Value::Component(Some(5)),
                Value::Component(Some(0)),
            ),
        ] {
            let mut merged = a;
            assert!(f.merge(&mut merged, &b));
            assert_eq!(merged, want, "{f:?}");
            f.to_cells(&merged, 202_009_151_059);
        }
    }
}
