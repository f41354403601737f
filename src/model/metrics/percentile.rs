//! Percentile ranks over a table of counts, with the original's rounding (8.1.0 spec, D.4).

use crate::model::table::Table;

/// Ranks of `percentile`; stored labels are their positions, `"0"` … `"4"`.
pub const PERCENTILE_RANKS: [i32; 5] = [50, 75, 90, 95, 99];

/// How many values must be passed to reach a rank: single precision, half up.
fn roof(total: i64, rank: i32) -> i64 {
    let exact = (total.wrapping_mul(i64::from(rank)) as f32) / 100.0;
    (f64::from(exact) + 0.5).floor() as i64
}

/// The value at each rank: lower edge of the bucket where the running count reaches the rank's roof.
pub(super) fn values_at(dataset: &Table, precision: i32, ranks: &[i32]) -> Vec<i64> {
    let total: i64 = dataset.iter().map(|(_, n)| n).sum();
    let mut values = Vec::with_capacity(ranks.len());
    let mut roofs = ranks.iter().map(|rank| roof(total, *rank)).peekable();
    let mut passed: i64 = 0;
    for (key, count) in dataset.iter() {
        passed += count;
        while roofs.next_if(|roof| passed >= *roof).is_some() {
            values.push(i64::from(key.wrapping_mul(precision)));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_match_the_test_vector() {
        let mut dataset = Table::new();
        for latency in [5, 12, 12, 95, 430] {
            dataset.add(latency / 10, 1);
        }
        assert_eq!(
            values_at(&dataset, 10, &PERCENTILE_RANKS),
            [10, 90, 430, 430, 430]
        );
        assert_eq!(values_at(&Table::new(), 10, &[50]), Vec::<i64>::new());
    }
}
