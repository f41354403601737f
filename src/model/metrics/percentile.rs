//! Percentile ranks over a table of counts, with the original's rounding (8.1.0 spec, D.4).

use crate::model::table::Table;

/// Ranks of `percentile`; stored labels are their positions, `"0"` … `"4"`.
pub const PERCENTILE_RANKS: [i32; 5] = [50, 75, 90, 95, 99];

/// How many values must be passed to reach a rank: single precision, half up.
fn roof(total: i64, rank: i32) -> i64 {
    let exact = (total.wrapping_mul(i64::from(rank)) as f32) / 100.0;
    (f64::from(exact) + 0.5).floor() as i64
}

/// The key at each of the ascending ranks, where the running count reaches the rank's roof, and the key after it. Counts
/// that meters send may be anything, so there may be fewer than ranks.
pub(super) fn keys_at(
    dataset: &Table,
    ranks: impl Iterator<Item = i32>,
) -> Vec<(i32, Option<i32>)> {
    let total = dataset
        .iter()
        .fold(0, |sum: i64, (_, n)| sum.wrapping_add(n));
    let mut keys = Vec::new();
    let mut roofs = ranks.map(|rank| roof(total, rank)).peekable();
    let mut passed: i64 = 0;
    let mut entries = dataset.iter().peekable();
    while let Some((key, count)) = entries.next() {
        passed = passed.wrapping_add(count);
        while roofs.next_if(|roof| passed >= *roof).is_some() {
            keys.push((key, entries.peek().map(|next| next.0)));
        }
    }
    keys
}

/// The value at each rank: lower edge of the bucket where the running count reaches the rank's roof.
pub(super) fn values_at(dataset: &Table, precision: i32, ranks: &[i32]) -> Vec<i64> {
    keys_at(dataset, ranks.iter().copied())
        .into_iter()
        .map(|(key, _)| i64::from(key.wrapping_mul(precision)))
        .collect()
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

    #[test]
    fn ranks_are_rounded_in_single_precision() {
        // The exact roof of rank 90 is 30,198,990; in single precision it is 30,198,988.
        let mut dataset = Table::new();
        dataset.add(0, 30_198_989);
        dataset.add(7, 33_554_433 - 30_198_989);
        assert_eq!(values_at(&dataset, 10, &[90, 95]), [0, 70]);
        // Half is rounded up: one value of two is 50 %, and so is the second of three.
        for (count, want) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            assert_eq!(roof(count, 50), want, "{count}");
        }
    }

    #[test]
    fn one_bucket_can_answer_every_rank() {
        let mut dataset = Table::new();
        dataset.add(-3, 1);
        assert_eq!(values_at(&dataset, 10, &PERCENTILE_RANKS), [-30; 5]);
        dataset.add(1000, 99);
        assert_eq!(
            values_at(&dataset, 1, &PERCENTILE_RANKS),
            [1000, 1000, 1000, 1000, 1000]
        );
        dataset.add(2, 100);
        assert_eq!(
            values_at(&dataset, 1, &PERCENTILE_RANKS),
            [2, 1000, 1000, 1000, 1000]
        );
    }
}
