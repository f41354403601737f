//! Between aggregates and stored columns: the columns of each function and the calculated values (8.1.0 spec, D.4,
//! D.5; storage 2.9).

use super::meter::meter_average;
use super::percentile::{PERCENTILE_RANKS, values_at};
use super::{Apdex, Buckets, Function, Labels, Ranks, Value};
use crate::model::row::Cell;
use crate::model::schema::{Column, ColumnType, QueryFunction, ValueColumn, ValueKind};
use crate::model::table::Table;
use crate::model::time_bucket::minutes_in;

impl Function {
    /// The stored columns in declaration order.
    pub fn columns(self) -> Vec<Column> {
        use ColumnType::{Double, Int, Long, Table};
        let plain = Column::new;
        let quiet = |name, ty| Column::new(name, ty).storage_only();
        let tables = |names: &[&'static str]| names.iter().map(|n| quiet(*n, Table)).collect();
        match self {
            Function::LongAvg | Function::MeterAvg => vec![
                quiet("summation", Long),
                quiet("count", Long),
                plain("value", Long),
            ],
            Function::DoubleAvg => vec![
                quiet("summation", Double),
                quiet("count", Long),
                plain("value", Double),
            ],
            Function::Sum | Function::Count | Function::Max | Function::Min => {
                vec![plain("value", Long)]
            }
            Function::MaxDouble | Function::MinDouble => vec![plain("value", Double)],
            Function::Cpm => vec![plain("value", Long), quiet("total", Long)],
            Function::Percent => vec![
                plain("total", Long),
                plain("percentage", Int),
                plain("match", Long),
            ],
            Function::Apdex => vec![
                quiet("total_num", Long),
                quiet("s_num", Long),
                quiet("t_num", Long),
                plain("value", Int),
            ],
            Function::Histogram { .. } => vec![quiet("dataset", Table)],
            Function::Percentile { .. } => vec![
                quiet("value", Table),
                quiet("precision", Int),
                quiet("dataset", Table),
            ],
            Function::Rank { .. } => vec![
                plain("value", Int),
                quiet("precision", Int),
                quiet("detail_group", Table),
            ],
            Function::Component => vec![quiet("component_id", Int)],
            Function::AvgLabeled => tables(&["summation", "count", "value"]),
            Function::BucketSum => tables(&["dataset"]),
            Function::BucketAvg => tables(&["summation", "count", "dataset"]),
            Function::BucketPercentile { .. } => tables(&["value", "dataset", "ranks"]),
            Function::BucketAvgPercentile { .. } => {
                tables(&["value", "summation", "count", "dataset", "ranks"])
            }
        }
    }

    /// Which column queries read and how they combine it; `None` for relations.
    pub fn value_column(self) -> Option<ValueColumn> {
        let (name, kind, function) = match self {
            Function::Percent => ("percentage", ValueKind::Common, QueryFunction::Avg),
            Function::Sum | Function::Count => ("value", ValueKind::Common, QueryFunction::Sum),
            Function::Histogram { .. } | Function::BucketSum | Function::BucketAvg => {
                ("dataset", ValueKind::Histogram, QueryFunction::Avg)
            }
            Function::Percentile { .. }
            | Function::AvgLabeled
            | Function::BucketPercentile { .. }
            | Function::BucketAvgPercentile { .. } => {
                ("value", ValueKind::Labeled, QueryFunction::Avg)
            }
            Function::Rank { .. } => ("value", ValueKind::Histogram, QueryFunction::Avg),
            Function::Component => return None,
            _ => ("value", ValueKind::Common, QueryFunction::Avg),
        };
        Some(ValueColumn {
            name,
            kind,
            function,
        })
    }

    /// The cells of [`Function::columns`] for an aggregate of a bucket, values calculated.
    pub fn to_cells(self, value: &Value, time_bucket: u64) -> Vec<Cell> {
        let long = Cell::Long;
        match value {
            Value::LongAvg { summation, count } => {
                let avg = match self {
                    Function::MeterAvg => meter_average(*summation, *count),
                    _ => summation.checked_div(*count).unwrap_or(0),
                };
                vec![long(*summation), long(*count), long(avg)]
            }
            Value::DoubleAvg { summation, count } => {
                let avg = if *count == 0 {
                    0.0
                } else {
                    summation / *count as f64
                };
                vec![Cell::Double(*summation), long(*count), Cell::Double(avg)]
            }
            Value::Long(v) => vec![long(*v)],
            Value::Double(v) => vec![Cell::Double(*v)],
            Value::Cpm { total } => vec![long(total / minutes_in(time_bucket)), long(*total)],
            Value::Percent { total, matched } => {
                let percentage = matched
                    .wrapping_mul(10_000)
                    .checked_div(*total)
                    .unwrap_or(0);
                vec![
                    long(*total),
                    long(i64::from(percentage as i32)),
                    long(*matched),
                ]
            }
            Value::Apdex(apdex) => {
                let Apdex {
                    total,
                    satisfied,
                    tolerated,
                } = **apdex;
                let score = satisfied
                    .wrapping_mul(10_000)
                    .wrapping_add(tolerated.wrapping_mul(10_000) / 2)
                    .checked_div(total)
                    .unwrap_or(0);
                vec![
                    long(total),
                    long(satisfied),
                    long(tolerated),
                    long(i64::from(score as i32)),
                ]
            }
            Value::Table(table) => self.table_cells(table),
            Value::Component(id) => vec![long(id.unwrap_or(0).into())],
            Value::Labels(labels) => labels.to_cells(),
            Value::Buckets(buckets) => self.bucket_cells(buckets),
        }
    }

    fn bucket_cells(self, buckets: &Buckets) -> Vec<Cell> {
        let text = |table: &Table| Cell::text(table.to_text());
        let (summation, count) = (text(&buckets.summation), text(&buckets.count));
        let ranks = Cell::text(buckets.ranks.to_text());
        match self {
            Function::BucketAvg => vec![summation, count, text(&buckets.averages())],
            Function::BucketPercentile { .. } => {
                let values = buckets
                    .ranks
                    .values(&buckets.summation, |edge, _| edge.into());
                vec![Cell::text(values), summation, ranks]
            }
            Function::BucketAvgPercentile { .. } => {
                let dataset = buckets.averages();
                let values = buckets
                    .ranks
                    .values(&dataset, |_, next| next.map_or(i64::MAX, i64::from));
                vec![Cell::text(values), summation, count, text(&dataset), ranks]
            }
            _ => vec![summation],
        }
    }

    fn table_cells(self, table: &Table) -> Vec<Cell> {
        let dataset = Cell::text(table.to_text());
        match self {
            Function::Percentile { precision } => {
                let mut values = Table::new();
                for (i, v) in (0..).zip(values_at(table, precision, &PERCENTILE_RANKS)) {
                    values.add(i, v);
                }
                vec![
                    Cell::text(values.to_text()),
                    Cell::Long(precision.into()),
                    dataset,
                ]
            }
            Function::Rank { rank, precision } => {
                let value = values_at(table, precision, &[rank]).pop().unwrap_or(0);
                vec![Cell::Long(value), Cell::Long(precision.into()), dataset]
            }
            _ => vec![dataset],
        }
    }

    /// Reads an aggregate back from the cells of [`Function::columns`]; `None` if a needed cell is missing.
    pub fn from_cells(self, cells: &[Cell]) -> Option<Value> {
        let long = |i: usize| cells.get(i).and_then(Cell::as_long);
        let double = |i: usize| cells.get(i).and_then(Cell::as_double);
        let text = |i: usize| cells.get(i).and_then(Cell::as_text);
        let table = |i: usize| text(i).map(Table::from_text);
        let buckets = |summation, count: Option<Table>, ranks: Option<&str>| {
            Value::Buckets(Box::new(Buckets {
                summation,
                count: count.unwrap_or_default(),
                ranks: ranks.map(Ranks::from_text).unwrap_or_default(),
            }))
        };
        Some(match self {
            Function::LongAvg | Function::MeterAvg => Value::LongAvg {
                summation: long(0)?,
                count: long(1)?,
            },
            Function::DoubleAvg => Value::DoubleAvg {
                summation: double(0)?,
                count: long(1)?,
            },
            Function::Sum | Function::Count | Function::Max | Function::Min => {
                Value::Long(long(0)?)
            }
            Function::MaxDouble | Function::MinDouble => Value::Double(double(0)?),
            Function::Cpm => Value::Cpm { total: long(1)? },
            Function::Percent => Value::Percent {
                total: long(0)?,
                matched: long(2)?,
            },
            Function::Apdex => Value::Apdex(Box::new(Apdex {
                total: long(0)?,
                satisfied: long(1)?,
                tolerated: long(2)?,
            })),
            Function::Histogram { .. } => Value::Table(table(0)?),
            Function::Percentile { .. } | Function::Rank { .. } => Value::Table(table(2)?),
            Function::Component => Value::Component(Some(long(0)? as i32)),
            Function::AvgLabeled => Value::Labels(Box::new(Labels::from_text(text(0)?, text(1)?))),
            Function::BucketSum => buckets(table(0)?, None, None),
            Function::BucketAvg => buckets(table(0)?, table(1), None),
            Function::BucketPercentile { .. } => buckets(table(1)?, None, text(2)),
            Function::BucketAvgPercentile { .. } => buckets(table(1)?, table(2), text(4)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metrics::Input;

    fn cells_of(f: Function, bucket: u64, inputs: &[Input]) -> Vec<Cell> {
        let mut value = f.empty();
        for input in inputs {
            f.accept(&mut value, *input);
        }
        let cells = f.to_cells(&value, bucket);
        assert_eq!(f.from_cells(&cells).as_ref(), Some(&value));
        assert_eq!(cells.len(), f.columns().len());
        cells
    }

    #[test]
    fn calculated_values_truncate_as_integers() {
        use Cell::Long;
        let minute = 202_009_151_058;
        let latencies = [5, 12, 12, 95, 430].map(Input::Long);
        let matches = [true, true, true, false].map(Input::Match);
        assert_eq!(
            cells_of(Function::LongAvg, minute, &latencies),
            [Long(554), Long(5), Long(110)]
        );
        assert_eq!(
            cells_of(Function::Percent, minute, &matches),
            [Long(4), Long(7500), Long(3)]
        );
        assert_eq!(
            cells_of(Function::Cpm, 2_020_091_510, &[Input::One; 61]),
            [Long(1), Long(61)]
        );
        assert_eq!(
            cells_of(Function::Percentile { precision: 10 }, minute, &latencies),
            [
                Cell::text("0,10|1,90|2,430|3,430|4,430"),
                Long(10),
                Cell::text("0,1|1,2|9,1|43,1")
            ]
        );
    }

    #[test]
    fn each_function_calculates_by_its_formula() {
        use Cell::{Double, Long};
        let (minute, hour, day) = (202_009_151_058, 2_020_091_510, 20_200_915);
        let apdex = |latency, is_ok| Input::Apdex {
            latency,
            is_ok,
            threshold: 500,
        };
        let longs = [-7, 4, 4].map(Input::Long);
        let doubles = [0.5, 2.0].map(Input::Double);
        for (f, bucket, inputs, want) in [
            (
                Function::LongAvg,
                minute,
                &longs[..2],
                vec![Long(-3), Long(2), Long(-1)],
            ),
            (
                Function::DoubleAvg,
                minute,
                &doubles,
                vec![Double(2.5), Long(2), Double(1.25)],
            ),
            (Function::Sum, day, &longs, vec![Long(1)]),
            (Function::Count, day, &longs, vec![Long(3)]),
            (Function::Max, day, &longs, vec![Long(4)]),
            (Function::Min, day, &longs, vec![Long(-7)]),
            (Function::MaxDouble, day, &doubles, vec![Double(2.0)]),
            (Function::MinDouble, day, &doubles, vec![Double(0.5)]),
            (
                Function::Cpm,
                minute,
                &[Input::One; 3],
                vec![Long(3), Long(3)],
            ),
            (
                Function::Cpm,
                hour,
                &[Input::One; 59],
                vec![Long(0), Long(59)],
            ),
            (
                Function::Cpm,
                day,
                &[Input::One; 1440],
                vec![Long(1), Long(1440)],
            ),
            (
                Function::Percent,
                minute,
                &[true, false, true].map(Input::Match),
                vec![Long(3), Long(6666), Long(2)],
            ),
            (
                Function::Apdex,
                minute,
                &[
                    apdex(100, true),
                    apdex(600, true),
                    apdex(2100, true),
                    apdex(300, false),
                ],
                vec![Long(4), Long(1), Long(1), Long(3750)],
            ),
            (
                Function::Rank {
                    rank: 75,
                    precision: 2,
                },
                minute,
                &longs,
                vec![Long(4), Long(2), Cell::text("-3,1|2,2")],
            ),
            (
                Function::Histogram {
                    step: 5,
                    max_steps: 1,
                },
                minute,
                &longs,
                vec![Cell::text("-5,1|0,2|5,0")],
            ),
        ] {
            assert_eq!(cells_of(f, bucket, inputs), want, "{f:?}");
        }
    }
}
