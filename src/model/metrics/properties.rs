//! What holds for every value function, whatever comes in: the order and the grouping do not matter, and cells hold it all.

use proptest::prelude::*;

use super::{Function, Input, MeterInput, Ranks, Value};
use crate::model::row::Cell;

/// All that scripts and meters can name; `Component`, which keeps its first value, is not merged in any order.
fn function() -> impl Strategy<Value = Function> {
    let sizes = || prop::sample::select(vec![1, 10, 100, i32::MAX]);
    let ranks =
        || prop::collection::vec(1..=100_i64, 1..4).prop_map(|ranks| Ranks::new(ranks).unwrap());
    prop_oneof![
        11 => prop::sample::select(vec![
            Function::LongAvg,
            Function::DoubleAvg,
            Function::Sum,
            Function::Count,
            Function::Max,
            Function::Min,
            Function::MaxDouble,
            Function::MinDouble,
            Function::Cpm,
            Function::Percent,
            Function::Apdex,
        ]),
        1 => (sizes(), 1..30).prop_map(|(step, max_steps)| Function::Histogram { step, max_steps }),
        1 => sizes().prop_map(|precision| Function::Percentile { precision }),
        1 => (prop::sample::select(vec![50, 75, 90, 95, 99]), sizes())
            .prop_map(|(rank, precision)| Function::Rank { rank, precision }),
        4 => prop::sample::select(vec![
            Function::MeterAvg,
            Function::AvgLabeled,
            Function::BucketSum,
            Function::BucketAvg,
        ]),
        1 => ranks().prop_map(|ranks| Function::BucketPercentile { ranks }),
        1 => ranks().prop_map(|ranks| Function::BucketAvgPercentile { ranks }),
    ]
}

/// What a source may bring.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..5000_i64,
        any::<i32>().prop_map(i64::from),
        prop::sample::select(vec![0, -1, i64::MAX, i64::MIN]),
    ]
}

/// What is taken in.
#[derive(Debug, Clone)]
enum Given {
    Source(Input),
    Meter(MeterInput),
}

/// Sums of the doubles are exact, so their order does not show. Buckets are always the same.
fn given(function: Function) -> BoxedStrategy<Given> {
    let source = |input: BoxedStrategy<Input>| input.prop_map(Given::Source).boxed();
    let meter = |input: BoxedStrategy<MeterInput>| input.prop_map(Given::Meter).boxed();
    match function {
        Function::DoubleAvg | Function::MaxDouble | Function::MinDouble => source(
            any::<i32>()
                .prop_map(|n| Input::Double(f64::from(n) / 1024.0))
                .boxed(),
        ),
        Function::Percent => source(any::<bool>().prop_map(Input::Match).boxed()),
        Function::Apdex => {
            let apdex = (number(), any::<bool>(), 0..2000_i64);
            let apdex = apdex.prop_map(|(latency, is_ok, threshold)| Input::Apdex {
                latency,
                is_ok,
                threshold,
            });
            source(apdex.boxed())
        }
        Function::Count | Function::Cpm => source(Just(Input::One).boxed()),
        Function::MeterAvg => meter(number().prop_map(MeterInput::Long).boxed()),
        Function::AvgLabeled => {
            let labels = prop::collection::vec(
                (prop_oneof!["[ab,|]{0,3}", any::<String>()], number()),
                1..4,
            );
            meter(labels.prop_map(MeterInput::Labels).boxed())
        }
        Function::BucketSum
        | Function::BucketAvg
        | Function::BucketPercentile { .. }
        | Function::BucketAvgPercentile { .. } => {
            let numbers = [number(), number(), number()];
            let buckets = numbers.prop_map(|[a, b, c]| vec![(i32::MIN, a), (0, b), (i32::MAX, c)]);
            meter(buckets.prop_map(MeterInput::Buckets).boxed())
        }
        _ => source(number().prop_map(Input::Long).boxed()),
    }
}

/// A function, inputs, and for each the minute of a day that it belongs to.
fn inputs() -> impl Strategy<Value = (Function, Vec<(Given, u64)>)> {
    function().prop_flat_map(|function| {
        let inputs = prop::collection::vec((given(function), 0..1440_u64), 0..40);
        (Just(function), inputs)
    })
}

/// `None` if nothing was taken in.
fn aggregated<'a>(
    function: Function,
    inputs: impl IntoIterator<Item = &'a (Given, u64)>,
) -> Option<Value> {
    let mut all = None;
    for (input, _) in inputs {
        let value = all.get_or_insert_with(|| function.empty());
        match input {
            Given::Source(input) => function.accept(value, *input),
            Given::Meter(input) => assert!(function.accept_meter(value, input)),
        }
    }
    all
}

fn merged<'a>(
    function: Function,
    parts: impl IntoIterator<Item = &'a Option<Value>>,
) -> Option<Value> {
    let mut parts = parts.into_iter().flatten();
    let mut all = parts.next()?.clone();
    for part in parts {
        assert!(function.merge(&mut all, part));
    }
    Some(all)
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
            aggregated(function, inputs.iter().filter(|(_, minute)| (from..to).contains(minute)))
        };
        let mut hours = Vec::new();
        for hour in 0..24 {
            let minutes: Vec<Option<Value>> = (60 * hour..60 * hour + 60).map(|m| of(m, m + 1)).collect();
            let all = merged(function, &minutes);
            prop_assert_eq!(&all, &of(60 * hour, 60 * hour + 60));
            hours.push(all);
        }
        prop_assert_eq!(merged(function, &hours), of(0, 1440));
    }

    #[test]
    fn a_value_comes_back_out_of_its_cells((function, inputs) in inputs(), at in any::<prop::sample::Index>()) {
        let Some(whole) = aggregated(function, &inputs) else { return Ok(()) };
        for bucket in [202_009_151_059, 2_020_091_510, 20_200_915] {
            let cells = function.to_cells(&whole, bucket);
            prop_assert_eq!(cells.len(), function.columns().len());
            prop_assert_eq!(function.from_cells(&cells), Some(whole.clone()));
            // Stored in between, it goes on as if it had stayed.
            let (before, after) = inputs.split_at(at.index(inputs.len() + 1));
            let before = aggregated(function, before).and_then(|value| stored(function, &value, bucket));
            let after = aggregated(function, after);
            prop_assert_eq!(merged(function, [&before, &after]), Some(whole.clone()));
        }
    }

    #[test]
    fn any_cells_are_read_merged_and_written(
        function in function(),
        cells in prop::collection::vec(cell(), 0..6),
        more in prop::collection::vec(cell(), 0..6),
    ) {
        let values = [cells, more].map(|cells| function.from_cells(&cells));
        let mut values = values.into_iter().flatten();
        let Some(mut all) = values.next() else { return Ok(()) };
        // Stored buckets may be others, which is told.
        let are_taken = values.all(|value| function.merge(&mut all, &value));
        prop_assert!(are_taken || matches!(all, Value::Buckets(_)));
        let cells = function.to_cells(&all, 20_200_915);
        prop_assert_eq!(cells.len(), function.columns().len());
    }

    #[test]
    fn the_first_component_stays(ids in prop::collection::vec(any::<i32>(), 1..5)) {
        let parts = ids.iter().map(|id| Some(Value::Component(Some(*id)))).collect::<Vec<_>>();
        let all = merged(Function::Component, &parts).unwrap();
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
