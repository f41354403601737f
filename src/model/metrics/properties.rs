//! What holds for every value function, whatever comes in: the order and the grouping do not matter, and cells hold it all.

use proptest::prelude::*;

use super::{Function, Input, Value};
use crate::model::row::Cell;

/// All that scripts can name; `Component`, which keeps its first value, is not merged in any order.
fn function() -> impl Strategy<Value = Function> {
    let sizes = || prop::sample::select(vec![1, 10, 100, i32::MAX]);
    prop_oneof![
        Just(Function::LongAvg),
        Just(Function::DoubleAvg),
        Just(Function::Sum),
        Just(Function::Count),
        Just(Function::Max),
        Just(Function::Min),
        Just(Function::MaxDouble),
        Just(Function::MinDouble),
        Just(Function::Cpm),
        Just(Function::Percent),
        Just(Function::Apdex),
        (sizes(), 1..30).prop_map(|(step, max_steps)| Function::Histogram { step, max_steps }),
        sizes().prop_map(|precision| Function::Percentile { precision }),
        (prop::sample::select(vec![50, 75, 90, 95, 99]), sizes())
            .prop_map(|(rank, precision)| Function::Rank { rank, precision }),
    ]
}

/// What a source may bring. Sums of the doubles are exact, so their order does not show.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..5000_i64,
        any::<i32>().prop_map(i64::from),
        prop::sample::select(vec![0, -1, i64::MAX, i64::MIN]),
    ]
}

fn input(function: Function) -> BoxedStrategy<Input> {
    match function {
        Function::DoubleAvg | Function::MaxDouble | Function::MinDouble => any::<i32>()
            .prop_map(|n| Input::Double(f64::from(n) / 1024.0))
            .boxed(),
        Function::Percent => any::<bool>().prop_map(Input::Match).boxed(),
        Function::Apdex => (number(), any::<bool>(), 0..2000_i64)
            .prop_map(|(latency, is_ok, threshold)| Input::Apdex {
                latency,
                is_ok,
                threshold,
            })
            .boxed(),
        Function::Count | Function::Cpm => Just(Input::One).boxed(),
        _ => number().prop_map(Input::Long).boxed(),
    }
}

/// A function, inputs, and for each the minute of a day that it belongs to.
fn inputs() -> impl Strategy<Value = (Function, Vec<(Input, u64)>)> {
    function().prop_flat_map(|function| {
        let inputs = prop::collection::vec((input(function), 0..1440_u64), 0..40);
        (Just(function), inputs)
    })
}

fn aggregated(function: Function, inputs: &[(Input, u64)]) -> Value {
    let mut value = function.empty();
    for (input, _) in inputs {
        function.accept(&mut value, *input);
    }
    value
}

fn merged<'a>(function: Function, parts: impl IntoIterator<Item = &'a Value>) -> Value {
    let mut all = function.empty();
    for part in parts {
        function.merge(&mut all, part);
    }
    all
}

/// Through the cells, as after a restart.
fn stored(function: Function, value: &Value, bucket: u64) -> Option<Value> {
    function.from_cells(&function.to_cells(value, bucket))
}

proptest! {
    #[test]
    fn merging_is_associative_and_commutative(
        (function, inputs) in inputs(),
        [one, two] in any::<[prop::sample::Index; 2]>(),
    ) {
        let whole = aggregated(function, &inputs);
        let (one, two) = (one.index(inputs.len() + 1), two.index(inputs.len() + 1));
        let (a, rest) = inputs.split_at(one.min(two));
        let (b, c) = rest.split_at(one.max(two) - one.min(two));
        let [a, b, c] = [a, b, c].map(|part| aggregated(function, part));
        prop_assert_eq!(&merged(function, [&a, &b, &c]), &whole);
        prop_assert_eq!(&merged(function, [&c, &b, &a]), &whole);
        prop_assert_eq!(&merged(function, [&a, &merged(function, [&b, &c])]), &whole);
        prop_assert_eq!(&merged(function, [&merged(function, [&b, &a]), &c]), &whole);
    }

    #[test]
    fn days_of_hours_of_minutes_are_days((function, inputs) in inputs()) {
        let of = |from: u64, to: u64| {
            let inside = inputs.iter().filter(|(_, minute)| (from..to).contains(minute));
            aggregated(function, &inside.copied().collect::<Vec<_>>())
        };
        let mut hours = Vec::new();
        for hour in 0..24 {
            let minutes: Vec<Value> = (60 * hour..60 * hour + 60).map(|m| of(m, m + 1)).collect();
            let all = merged(function, &minutes);
            prop_assert_eq!(&all, &of(60 * hour, 60 * hour + 60));
            hours.push(all);
        }
        prop_assert_eq!(merged(function, &hours), of(0, 1440));
    }

    #[test]
    fn a_value_comes_back_out_of_its_cells((function, inputs) in inputs(), at in any::<prop::sample::Index>()) {
        let whole = aggregated(function, &inputs);
        for bucket in [202_009_151_059, 2_020_091_510, 20_200_915] {
            let cells = function.to_cells(&whole, bucket);
            prop_assert_eq!(cells.len(), function.columns().len());
            prop_assert_eq!(function.from_cells(&cells), Some(whole.clone()));
            // Stored in between, it goes on as if it had stayed.
            let (before, after) = inputs.split_at(at.index(inputs.len() + 1));
            let before = stored(function, &aggregated(function, before), bucket).unwrap();
            let after = aggregated(function, after);
            prop_assert_eq!(merged(function, [&before, &after]), whole.clone());
        }
    }

    #[test]
    fn any_cells_are_read_merged_and_written(
        function in function(),
        cells in prop::collection::vec(cell(), 0..6),
        more in prop::collection::vec(cell(), 0..6),
    ) {
        let values = [cells, more].map(|cells| function.from_cells(&cells));
        let values: Vec<Value> = values.into_iter().flatten().collect();
        let all = merged(function, &values);
        let cells = function.to_cells(&all, 20_200_915);
        prop_assert_eq!(cells.len(), function.columns().len());
    }

    #[test]
    fn the_first_component_stays(ids in prop::collection::vec(any::<i32>(), 1..5)) {
        let parts = ids.iter().map(|id| Value::Component(Some(*id))).collect::<Vec<_>>();
        let all = merged(Function::Component, &parts);
        prop_assert_eq!(&all, &Value::Component(Some(ids[0])));
        prop_assert_eq!(stored(Function::Component, &all, 20_200_915), Some(all));
    }
}

/// What a store may give back.
fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        number().prop_map(Cell::Long),
        any::<i64>().prop_map(Cell::Long),
        any::<f64>().prop_map(Cell::Double),
        "[0-9,|-]{0,40}|.*".prop_map(Cell::text),
        Just(Cell::text(
            "0,9223372036854775807|2147483647,9223372036854775807|-2147483648,-1"
        )),
    ]
}
