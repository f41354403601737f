//! Values of meters: averages by label, and numbers by bucket with the ranks to read from them (8.1.0 spec, D.5).

use std::collections::BTreeMap;

use super::percentile::keys_at;
use super::{Function, Value};
use crate::model::row::Cell;
use crate::model::table::{Table, pairs};

/// What one evaluation contributes.
#[derive(Debug, Clone, PartialEq)]
pub enum MeterInput {
    /// For `avg`.
    Long(i64),
    /// By label, for `avgLabeled`.
    Labels(Vec<(String, i64)>),
    /// By lower edge, the lowest number standing for none, for the functions of histograms. An edge may come twice: it counts
    /// twice in averages then.
    Buckets(Vec<(i32, i64)>),
}

impl MeterInput {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            MeterInput::Long(_) => false,
            MeterInput::Labels(labels) => labels.is_empty(),
            MeterInput::Buckets(buckets) => buckets.is_empty(),
        }
    }
}

/// Percentages from 1 to 100, ascending, each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ranks(u128);

impl Ranks {
    /// `None` if one is no percentage.
    pub fn new(ranks: impl IntoIterator<Item = i64>) -> Option<Ranks> {
        let mut set = 0;
        for rank in ranks {
            if !(1..=100).contains(&rank) {
                return None;
            }
            set |= 1_u128 << rank;
        }
        Some(Ranks(set))
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=100).filter(move |rank| self.0 >> rank & 1 == 1)
    }

    /// The stored list, `50|75`.
    pub(super) fn to_text(self) -> String {
        let ranks: Vec<String> = self.iter().map(|rank| rank.to_string()).collect();
        ranks.join("|")
    }

    /// Reads a stored list; what is no percentage is left out.
    pub(super) fn from_text(text: &str) -> Ranks {
        let ranks = text.split('|').filter_map(|rank| rank.parse().ok());
        Ranks::new(ranks.filter(|rank| (1..=100).contains(rank))).unwrap_or_default()
    }

    /// The stored table of values by rank: `value` makes them of a bucket's edge and the next one's.
    pub(super) fn values(self, dataset: &Table, value: impl Fn(i32, Option<i32>) -> i64) -> String {
        let items: Vec<String> = self
            .iter()
            .zip(keys_at(dataset, self.iter()))
            .map(|(rank, (edge, next))| format!("{rank},{}", value(edge, next)))
            .collect();
        items.join("|")
    }
}

/// Numbers by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    pub summation: Table,
    /// How many numbers were added to each; empty for functions that do not average.
    pub count: Table,
    pub ranks: Ranks,
}

impl Buckets {
    pub(super) fn new(ranks: Ranks) -> Buckets {
        Buckets {
            ranks,
            ..Buckets::default()
        }
    }

    /// False, and unchanged, if the other has other buckets or ranks.
    pub(super) fn merge(&mut self, other: &Buckets) -> bool {
        let fits = self.summation.has_keys_of(&other.summation) && self.ranks == other.ranks;
        if fits {
            self.summation.merge(&other.summation);
            self.count.merge(&other.count);
        }
        fits
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.summation.heap_bytes() + self.count.heap_bytes()
    }

    pub(super) fn averages(&self) -> Table {
        let mut averages = Table::new();
        for (edge, sum) in self.summation.iter() {
            let count = self.count.get(edge);
            averages.add(edge, sum.checked_div(count).unwrap_or(0));
        }
        averages
    }
}

/// Labels that one value keeps; agents choose them, so there must be an end.
const MAX_LABELS: usize = 1000;

/// Sum and count by label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<Box<str>, (i64, i64)>);

impl Labels {
    /// False if there are too many labels for another one.
    fn add(&mut self, label: &str, summation: i64, count: i64) -> bool {
        if let Some(average) = self.0.get_mut(label) {
            average.0 = average.0.wrapping_add(summation);
            average.1 = average.1.wrapping_add(count);
            return true;
        }
        let has_room = self.0.len() < MAX_LABELS;
        if has_room {
            self.0.insert(label.into(), (summation, count));
        }
        has_room
    }

    /// Labels come and go, so the other may have others. False if there were too many and some were left out.
    pub(super) fn merge(&mut self, other: &Labels) -> bool {
        let added = other
            .0
            .iter()
            .map(|(label, (summation, count))| self.add(label, *summation, *count));
        added.fold(true, |all, one| all & one)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let entry = |label: &str| size_of::<(Box<str>, (i64, i64))>() + label.len();
        self.0.keys().map(|label| entry(label)).sum()
    }

    /// Numbers that were added, over all labels.
    pub(super) fn count(&self) -> i64 {
        let counts = self.0.values().map(|(_, count)| *count);
        counts.fold(0, i64::wrapping_add)
    }

    pub(super) fn to_cells(&self) -> Vec<Cell> {
        let column = |number: fn(i64, i64) -> i64| {
            let items: Vec<String> = self
                .0
                .iter()
                .map(|(label, (summation, count))| {
                    format!("{label},{}", number(*summation, *count))
                })
                .collect();
            Cell::text(items.join("|"))
        };
        vec![
            column(|summation, _| summation),
            column(|_, count| count),
            column(meter_average),
        ]
    }

    /// Reads the stored tables of sums and counts.
    pub(super) fn from_text(summations: &str, counts: &str) -> Labels {
        let mut labels = Labels::default();
        for (label, summation) in pairs(summations) {
            if let Ok(summation) = summation.parse() {
                labels.add(label, summation, 0);
            }
        }
        for (label, count) in pairs(counts) {
            if let Ok(count) = count.parse() {
                labels.add(label, 0, count);
            }
        }
        labels
    }
}

/// At least 1 when anything positive was taken in.
pub(super) fn meter_average(summation: i64, count: i64) -> i64 {
    match summation.checked_div(count).unwrap_or(0) {
        0 if summation > 0 => 1,
        average => average,
    }
}

/// A label as it can be stored: what separates the items of a table is replaced.
fn storable(label: &str) -> String {
    label.replace([',', '|'], "_")
}

impl Function {
    /// Takes the input of a meter in. False if it was left out: it has other buckets than what is there, or too many labels.
    /// An input of the wrong kind cannot occur, since rules are checked, and is treated alike.
    #[must_use]
    pub fn accept_meter(self, value: &mut Value, input: &MeterInput) -> bool {
        match (self, value, input) {
            (Function::MeterAvg, Value::LongAvg { summation, count }, MeterInput::Long(n)) => {
                *summation = summation.wrapping_add(*n);
                *count = count.wrapping_add(1);
                true
            }
            (Function::AvgLabeled, Value::Labels(labels), MeterInput::Labels(input)) => input
                .iter()
                .map(|(label, n)| labels.add(&storable(label), *n, 1))
                .fold(true, |all, one| all & one),
            (
                Function::BucketSum | Function::BucketPercentile { .. },
                Value::Buckets(buckets),
                MeterInput::Buckets(input),
            ) => take_in(buckets, input, false),
            (
                Function::BucketAvg | Function::BucketAvgPercentile { .. },
                Value::Buckets(buckets),
                MeterInput::Buckets(input),
            ) => take_in(buckets, input, true),
            _ => false,
        }
    }
}

fn take_in(buckets: &mut Buckets, input: &[(i32, i64)], is_average: bool) -> bool {
    let mut new = Buckets::new(buckets.ranks);
    for (edge, n) in input {
        new.summation.add(*edge, *n);
        if is_average {
            new.count.add(*edge, 1);
        }
    }
    if buckets.summation.is_empty() {
        *buckets = new;
        return true;
    }
    buckets.merge(&new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 202_009_151_059;

    fn ranks(ranks: &[i64]) -> Ranks {
        Ranks::new(ranks.iter().copied()).unwrap()
    }

    fn buckets(buckets: &[(i32, i64)]) -> MeterInput {
        MeterInput::Buckets(buckets.to_vec())
    }

    fn labels(labels: &[(&str, i64)]) -> MeterInput {
        let owned = labels.iter().map(|(l, n)| ((*l).to_owned(), *n));
        MeterInput::Labels(owned.collect())
    }

    /// Half of the inputs are taken in by one value, half by another; both are merged, stored and read back.
    fn cells_of(f: Function, inputs: &[MeterInput]) -> Vec<String> {
        let (a, b) = inputs.split_at(inputs.len().div_ceil(2));
        let mut value = f.empty();
        assert!(a.iter().all(|input| f.accept_meter(&mut value, input)));
        if !b.is_empty() {
            let mut other = f.empty();
            assert!(b.iter().all(|input| f.accept_meter(&mut other, input)));
            assert!(f.merge(&mut value, &other));
        }
        let cells = f.to_cells(&value, MINUTE);
        assert_eq!(cells.len(), f.columns().len());
        assert_eq!(f.from_cells(&cells), Some(value));
        let text = |cell: &Cell| match cell {
            Cell::Long(n) => n.to_string(),
            cell => cell.as_text().unwrap().to_owned(),
        };
        cells.iter().map(text).collect()
    }

    #[test]
    fn every_function_stores_what_the_original_stores() {
        use MeterInput::Long;
        let two = ranks(&[50, 90]);
        for (f, inputs, want) in [
            (
                Function::MeterAvg,
                vec![Long(7), Long(4)],
                vec!["11", "2", "5"],
            ),
            (
                Function::MeterAvg,
                vec![Long(1), Long(0), Long(0)],
                vec!["1", "3", "1"],
            ),
            (
                Function::MeterAvg,
                vec![Long(0), Long(0)],
                vec!["0", "2", "0"],
            ),
            (
                Function::MeterAvg,
                vec![Long(-1), Long(0)],
                vec!["-1", "2", "0"],
            ),
            (
                Function::AvgLabeled,
                vec![
                    labels(&[("b", 1), ("a-c", 5)]),
                    labels(&[("b", 0), ("d,e|f", 3)]),
                ],
                vec![
                    "a-c,5|b,1|d_e_f,3",
                    "a-c,1|b,2|d_e_f,1",
                    "a-c,5|b,1|d_e_f,3",
                ],
            ),
            (
                Function::BucketSum,
                vec![
                    buckets(&[(10, 2), (i32::MIN, 1)]),
                    buckets(&[(i32::MIN, 0), (10, 3)]),
                ],
                vec!["infinite-,1|10,5"],
            ),
            (
                Function::BucketAvg,
                vec![buckets(&[(0, 3), (10, 1)]), buckets(&[(0, 6), (10, 0)])],
                vec!["0,9|10,1", "0,2|10,2", "0,4|10,0"],
            ),
            // Edges that are the same as whole numbers.
            (
                Function::BucketAvg,
                vec![buckets(&[(0, 3), (0, 5), (1, 2)])],
                vec!["0,8|1,2", "0,2|1,1", "0,4|1,2"],
            ),
            // 10 in all, so the roofs are 5 and 9.
            (
                Function::BucketPercentile { ranks: two },
                vec![
                    buckets(&[(0, 2), (10, 1), (50, 0)]),
                    buckets(&[(0, 2), (10, 3), (50, 2)]),
                ],
                vec!["50,10|90,50", "0,4|10,4|50,2", "50|90"],
            ),
            // Averages 2, 2, 1: the roofs are 3 and 5.
            (
                Function::BucketAvgPercentile { ranks: two },
                vec![
                    buckets(&[(0, 2), (10, 1), (50, 0)]),
                    buckets(&[(0, 2), (10, 3), (50, 2)]),
                ],
                vec![
                    "50,50|90,9223372036854775807",
                    "0,4|10,4|50,2",
                    "0,2|10,2|50,2",
                    "0,2|10,2|50,1",
                    "50|90",
                ],
            ),
            // Nothing was counted: all roofs are 0, which the first bucket reaches.
            (
                Function::BucketAvgPercentile { ranks: two },
                vec![buckets(&[(0, 0), (10, 0)])],
                vec!["50,10|90,10", "0,0|10,0", "0,1|10,1", "0,0|10,0", "50|90"],
            ),
        ] {
            assert_eq!(cells_of(f, &inputs), want, "{f:?} {inputs:?}");
        }
    }

    #[test]
    fn other_buckets_or_ranks_do_not_fit() {
        let f = |r: &[i64]| Function::BucketAvgPercentile { ranks: ranks(r) };
        let of = |f: Function, input: &[(i32, i64)]| {
            let mut value = f.empty();
            assert!(f.accept_meter(&mut value, &buckets(input)));
            value
        };
        let there = of(f(&[50, 90]), &[(0, 1), (10, 1)]);
        for (what, other, fits) in [
            ("same", of(f(&[90, 50]), &[(10, 5), (0, 5)]), true),
            ("another edge", of(f(&[50, 90]), &[(0, 1), (11, 1)]), false),
            ("fewer edges", of(f(&[50, 90]), &[(0, 1)]), false),
            ("other ranks", of(f(&[50]), &[(0, 1), (10, 1)]), false),
        ] {
            let mut value = there.clone();
            assert_eq!(f(&[50, 90]).merge(&mut value, &other), fits, "{what}");
            assert_eq!(value == there, !fits, "{what}");
        }
        let mut value = there.clone();
        assert!(!f(&[50, 90]).accept_meter(&mut value, &buckets(&[(7, 1)])));
        assert!(!f(&[50, 90]).accept_meter(&mut value, &MeterInput::Long(1)));
        assert_eq!(value, there);
    }

    #[test]
    fn absurd_numbers_neither_panic_nor_grow() {
        let huge = buckets(&[(i32::MIN, i64::MAX), (i32::MAX, i64::MAX), (0, i64::MIN)]);
        for f in [
            Function::BucketSum,
            Function::BucketAvg,
            Function::BucketPercentile {
                ranks: ranks(&[1, 100]),
            },
            Function::BucketAvgPercentile {
                ranks: ranks(&[1, 100]),
            },
        ] {
            cells_of(f, &[huge.clone(), huge.clone(), huge.clone()]);
        }
        let f = Function::AvgLabeled;
        let mut value = f.empty();
        let many = (0..=MAX_LABELS as i64).map(|i| (i.to_string(), i));
        assert!(!f.accept_meter(&mut value, &MeterInput::Labels(many.collect())));
        let Value::Labels(labels) = value else {
            panic!()
        };
        assert_eq!(labels.0.len(), MAX_LABELS);
        assert_eq!(Ranks::new([0]), None);
        assert_eq!(Ranks::new([101]), None);
    }
}
