//! Rules and expressions: what they become, and each mistake with its place.

use super::*;
use crate::model::metrics::{Function, MeterScope, Ranks};

fn rule(value: &str) -> String {
    format!(
        "meters:\n  - name: m\n    scope: {{type: SERVICE}}\n    meter:\n      operation: avg\n      value: {value}\n"
    )
}

fn compiled(text: &str) -> Result<Vec<MeterRule>, Vec<String>> {
    let files = [("f".to_owned(), text.to_owned())];
    compile(&files).map_err(|found| found.iter().map(ToString::to_string).collect())
}

fn expression(value: &str) -> Expression {
    let rules = compiled(&rule(value)).unwrap();
    rules[0].expression.clone()
}

fn samples(meter: &str, calls: Vec<Call>) -> Expression {
    Expression {
        meter: meter.to_owned(),
        calls,
    }
}

#[test]
fn expressions_are_calls_in_order() {
    let number = |operator, n| Call::Arithmetic {
        operator,
        operand: Operand::Number(n),
    };
    let window = |function, range_ms| Call::Window { function, range_ms };
    for (text, want) in [
        (r#"meter["a"]"#, vec![]),
        (
            r#"meter['a'] . tagFilter("k", 'v "w"').scale(-2)"#,
            vec![
                Call::TagFilter {
                    key: "k".into(),
                    value: r#"v "w""#.into(),
                },
                Call::Scale(-2),
            ],
        ),
        (
            r#"meter["a"].multiply(100).add(-1.5).minus(0).divide(2)"#,
            vec![
                number(Operator::Multiply, 100.0),
                number(Operator::Add, -1.5),
                number(Operator::Minus, 0.0),
                number(Operator::Divide, 2.0),
            ],
        ),
        (
            r#"meter["a"].increase("PT1M").rate("PT15S").irate("P1D")"#,
            vec![
                window(WindowFunction::Increase, 60_000),
                window(WindowFunction::Rate, 15_000),
                window(WindowFunction::Irate, 86_400_000),
            ],
        ),
        (
            r#"meter["a"].divide(meter["b"].rate("PT2M"))"#,
            vec![Call::Arithmetic {
                operator: Operator::Divide,
                operand: Operand::Samples(samples(
                    "b",
                    vec![window(WindowFunction::Rate, 120_000)],
                )),
            }],
        ),
    ] {
        assert_eq!(expression(text), samples("a", want), "{text}");
    }
    let nested = expression(r#"meter["a"].rate("PT1M").add(meter["b"].irate("PT1H"))"#);
    assert_eq!(nested.longest_range_ms(), 3_600_000);
}

#[test]
fn rules_become_definitions() {
    let text = r#"
meters:
  - name: load
    scope: {type: SERVICE_INSTANCE}
    meter: {operation: avg, value: 'meter["l"]'}
  - name: sizes
    scope: {type: ENDPOINT, endpoint: /a b}
    meter: {operation: avgHistogram, value: 'meter["s"]'}
  - name: times
    scope: {type: SERVICE}
    meter: {operation: avgHistogramPercentile, value: 'meter["t"]', percentile: [99, 50]}
"#;
    let ranks = Ranks::new([50, 99]).unwrap();
    let found: Vec<_> = compiled(text)
        .unwrap()
        .into_iter()
        .map(|rule| {
            let MeterDefinition {
                name,
                scope,
                function,
            } = rule.definition;
            (name, scope, function, rule.endpoint)
        })
        .collect();
    let want = [
        ("load", MeterScope::Instance, Function::MeterAvg, None),
        (
            "sizes",
            MeterScope::Endpoint,
            Function::BucketAvg,
            Some("/a b"),
        ),
        (
            "times",
            MeterScope::Service,
            Function::BucketAvgPercentile { ranks },
            None,
        ),
    ];
    let want = want.map(|(name, scope, function, endpoint)| {
        let endpoint = endpoint.map(str::to_owned);
        (format!("meter_{name}"), scope, function, endpoint)
    });
    assert_eq!(found, want);
}

#[test]
fn the_shipped_rules_are_the_known_ones() {
    let text = include_str!("../../../config/meter-receive-config/spring-sleuth.yaml");
    let rules = compiled(text).unwrap();
    assert_eq!(rules.len(), 23);
    let is_average_of_an_instance = |rule: &MeterRule| {
        let definition = &rule.definition;
        definition.scope == MeterScope::Instance && definition.function == Function::MeterAvg
    };
    assert!(rules.iter().all(is_average_of_an_instance));
    let increasing = rules.iter().filter(|r| !r.expression.calls.is_empty());
    let names: Vec<&str> = increasing.map(|r| r.definition.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "meter_http_server_requests_count",
            "meter_http_server_requests_duration",
            "meter_jvm_classes_unloaded",
            "meter_jvm_gc_pause_count",
            "meter_jvm_gc_pause_duration",
            "meter_process_cpu_usage",
            "meter_system_cpu_usage",
            "meter_tomcat_sessions_rejected",
        ]
    );
}

#[test]
fn each_mistake_of_an_expression_has_its_place() {
    const ALL: &str = "tagFilter, multiply, add, minus, divide, scale, increase, rate, irate";
    let deep = format!(r#"{}meter["z"]"#, r#"meter["a"].add("#.repeat(17));
    // The expression begins at column 14 of line 6.
    for (text, want) in [
        (
            "metre",
            vec![(14, "expected `meter[\"name\"]`, found `metre`".to_owned())],
        ),
        (
            "meter",
            vec![(
                19,
                "expected `meter[\"name\"]`, found the end of the expression".into(),
            )],
        ),
        (
            "meter[a]",
            vec![(
                20,
                "expected the name of a meter in quotes, found `a`".into(),
            )],
        ),
        (
            r#"meter["a"] 7"#,
            vec![(
                25,
                "expected `.` or the end of the expression, found `7`".into(),
            )],
        ),
        (
            r#"meter["a"]."#,
            vec![(
                25,
                format!("expected a function: {ALL}, found the end of the expression"),
            )],
        ),
        (
            r#"meter["a"].sum().rate("1m").scale(1.5)"#,
            vec![
                (25, format!("unknown function `sum`, expected {ALL}")),
                (
                    36,
                    "\"1m\" is no length of time, expected \"PT1M\" or so, up to one day".into(),
                ),
                (48, "expected a whole number from -300 to 300".into()),
            ],
        ),
        (
            r#"meter["a"].tagFilter("k").add("b").scale().rate(5)"#,
            vec![
                (
                    25,
                    "`tagFilter` takes the name and the value of a label, in quotes".into(),
                ),
                (44, "`add` takes a number or `meter[\"name\"]`".into()),
                (49, "`scale` takes a whole number".into()),
                (57, "`rate` takes a length of time such as \"PT1M\"".into()),
            ],
        ),
        (
            r#"meter["a"].add(meter["b"].rate("x")).irate("P2D")"#,
            vec![
                (
                    45,
                    "\"x\" is no length of time, expected \"PT1M\" or so, up to one day".into(),
                ),
                (
                    57,
                    "\"P2D\" is no length of time, expected \"PT1M\" or so, up to one day".into(),
                ),
            ],
        ),
        (
            r#"meter["a"].add(1 2)"#,
            vec![(31, "expected `,` or `)`, found `2`".into())],
        ),
        (
            &*deep,
            vec![(
                14 + 16 * 15 + 15,
                "more than 16 expressions inside of each other".into(),
            )],
        ),
    ] {
        let want: Vec<String> = want
            .into_iter()
            .map(|(column, message)| format!("f:6:{column}: {message}"))
            .collect();
        assert_eq!(compiled(&rule(text)).unwrap_err(), want, "{text}");
    }
    let block = rule("|\n        meter[\"a\"]\n          .sum()");
    let message = format!("f:8:12: unknown function `sum`, expected {ALL}");
    assert_eq!(compiled(&block).unwrap_err(), [message]);
}

#[test]
fn all_mistakes_of_all_files_are_found_at_once() {
    let first = r#"meters:
  - name: Load
    scope: {type: HOST}
    meter: {operation: max, value: 'meter["a"]'}
  - name: b
    scope: {type: ENDPOINT}
    meter: {operation: avgHistogramPercentile, value: "meter['a'].x()"}
  - scope: SERVICE
    meter: {operation: avgHistogramPercentile, value: '', percentile: [0, 50, x], unit: ms}
  - name: b
    scope: {type: SERVICE}
    meter: {operation: avgHistogramPercentile, value: 'meter["a"]', percentile: []}
"#;
    let second = "rules: []\n";
    let files = [("one", first), ("two", second), ("three", "meters: 5\n")];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let found: Vec<String> = compile(&files)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    let want = [
        "one:2:11: expected a name of lower-case letters, digits and `_`, up to 100",
        "one:3:19: unknown name `HOST`, expected SERVICE, SERVICE_INSTANCE, ENDPOINT",
        "one:4:24: unknown name `max`, expected avg, avgHistogram, avgHistogramPercentile",
        "one:6:12: `endpoint` is missing",
        "one:7:12: `percentile` is missing",
        "one:7:67: unknown function `x`, expected tagFilter, multiply, add, minus, divide, scale, increase, rate, irate",
        "one:8:5: `name` is missing",
        "one:8:12: expected a map with type, endpoint",
        "one:9:55: expected a text",
        "one:9:72: expected a rank, a whole number from 1 to 100",
        "one:9:79: expected a rank, a whole number from 1 to 100",
        "one:9:83: unknown key `unit`, expected operation, value, percentile",
        "one:10:11: meter `b` is already defined at one:5:11",
        "one:12:81: expected at least one rank, such as 50",
        "two:1:1: unknown key `rules`, expected meters",
        "two:1:1: `meters` is missing",
        "three:1:9: expected a list",
    ];
    assert_eq!(found, want);
}
