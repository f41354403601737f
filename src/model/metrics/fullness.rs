//! Which of two versions of a bucket holds more of what was reported.

use super::{Function, Value};
use crate::model::table::Table;

impl Function {
    /// Whether the first of two values of a bucket was made of more than the second.
    pub fn holds_more(self, one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Long(one), Value::Long(other)) => match self {
                Function::Min => one < other,
                _ => one > other,
            },
            (Value::Double(one), Value::Double(other)) => match self {
                Function::MinDouble => one < other,
                _ => one > other,
            },
            (Value::Component(one), Value::Component(other)) => one.is_some() && other.is_none(),
            _ => count(one) > count(other),
        }
    }
}

fn count(value: &Value) -> i64 {
    match value {
        Value::LongAvg { count, .. } | Value::DoubleAvg { count, .. } => *count,
        Value::Cpm { total } | Value::Percent { total, .. } => *total,
        Value::Apdex(apdex) => apdex.total,
        Value::Table(table) => sum(table),
        Value::Labels(labels) => labels.count(),
        Value::Buckets(buckets) => match buckets.count.is_empty() {
            true => sum(&buckets.summation),
            false => sum(&buckets.count),
        },
        Value::Long(_) | Value::Double(_) | Value::Component(_) => 0,
    }
}

fn sum(table: &Table) -> i64 {
    table.iter().fold(0, |sum, (_, n)| sum.wrapping_add(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_merged_into_holds_more() {
        let table = |counts: &[(i32, i64)]| {
            let mut table = Table::new();
            for (key, count) in counts {
                table.add(*key, *count);
            }
            Value::Table(table)
        };
        let average = |count| Value::LongAvg {
            summation: 7,
            count,
        };
        for (function, less, more) in [
            (Function::LongAvg, average(1), average(2)),
            (Function::Sum, Value::Long(3), Value::Long(4)),
            (Function::Max, Value::Long(3), Value::Long(4)),
            (Function::Min, Value::Long(4), Value::Long(3)),
            (Function::MaxDouble, Value::Double(0.1), Value::Double(0.2)),
            (Function::MinDouble, Value::Double(0.2), Value::Double(0.1)),
            (
                Function::Cpm,
                Value::Cpm { total: 1 },
                Value::Cpm { total: 2 },
            ),
            (
                Function::Percentile { precision: 10 },
                table(&[(1, 1), (9, 1)]),
                table(&[(1, 3)]),
            ),
            (
                Function::Component,
                Value::Component(None),
                Value::Component(Some(0)),
            ),
        ] {
            assert!(function.holds_more(&more, &less), "{function:?}");
            assert!(!function.holds_more(&less, &more), "{function:?}");
            assert!(!function.holds_more(&more, &more), "{function:?}");
        }
    }
}
