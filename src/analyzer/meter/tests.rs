//! Reports of meters against rules, with numbers worked out by hand.

use std::sync::atomic::{AtomicI64, Ordering};

use oap_proto::agent::{
    Label, MeterBucketValue, MeterData, MeterDataCollection, MeterHistogram, MeterSingleValue,
};

use super::*;
use crate::analyzer::AnalyzerSettings;
use crate::dsl::meter;
use crate::model::metrics::MeterInput;
use crate::model::schema::Schema;
use crate::model::scope::Scope;
use crate::model::time_bucket::Zone;
use crate::stream::AddressBook;

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;
const MINUTE: u64 = 202_009_151_059;

fn labels(labels: &[(&str, &str)]) -> Vec<Label> {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).into(),
        value: (*value).into(),
    };
    labels.iter().map(label).collect()
}

fn single(name: &str, of: &[(&str, &str)], value: f64) -> MeterData {
    MeterData {
        metric: Some(Metric::SingleValue(MeterSingleValue {
            name: name.into(),
            labels: labels(of),
            value,
        })),
        ..MeterData::default()
    }
}

/// The lowest double stands for no lower edge.
fn histogram(name: &str, of: &[(&str, &str)], buckets: &[(f64, i64)]) -> MeterData {
    let value = |(bucket, count): &(f64, i64)| MeterBucketValue {
        bucket: if *bucket == f64::MIN { 0.0 } else { *bucket },
        count: *count,
        is_negative_infinity: *bucket == f64::MIN,
    };
    MeterData {
        metric: Some(Metric::Histogram(MeterHistogram {
            name: name.into(),
            labels: labels(of),
            values: buckets.iter().map(value).collect(),
        })),
        ..MeterData::default()
    }
}

/// Analyzers that share their rules, and a clock.
struct Fixture {
    analyzers: Vec<Analyzer>,
    clock_ms: Arc<AtomicI64>,
    registry: prometheus::Registry,
    turn: usize,
}

/// An average of an instance.
const AVG: (&str, &str) = ("SERVICE_INSTANCE", "avg");

impl Fixture {
    /// Rules `r0`, `r1` and so on: scope, operation, value.
    fn new(rules: &[(&str, &str, &str)]) -> Fixture {
        let rules = rules.iter().enumerate().map(|(i, (scope, operation, value))| {
            let endpoint = if *scope == "ENDPOINT" { ", endpoint: /a" } else { "" };
            format!(
                "\n- name: r{i}\n  scope: {{type: {scope}{endpoint}}}\n  meter: {{operation: {operation}, percentile: [50, 90], value: '{value}'}}"
            )
        });
        let text = format!("meters:{}", rules.collect::<String>());
        let rules = meter::compile(&[("f".into(), text)]).unwrap();
        let registry = prometheus::Registry::new();
        let clock_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = Clock::Fixed(Arc::clone(&clock_ms));
        let metrics = MeterMetrics::new(&registry).unwrap();
        let meters = Arc::new(Meters::new(rules, metrics, clock.clone()));
        let schema = Schema::build(&[], &[], &[], false);
        let analyzer = |_| {
            Analyzer::new(
                Arc::new(AnalyzerSettings::default()),
                &schema,
                Zone::utc(),
                clock.clone(),
                Arc::new(AddressBook::new(1)),
            )
            .with_meters(Arc::clone(&meters))
        };
        Fixture {
            analyzers: (0..2).map(analyzer).collect(),
            clock_ms,
            registry,
            turn: 0,
        }
    }

    /// Analyses a report that comes so many seconds after the first one, by the other analyzer than the one before.
    fn send(&mut self, after_s: i64, part: &MeterPart) -> Result<Vec<MeterValue>, Reject> {
        self.clock_ms
            .store(NOW_MS + after_s * 1000, Ordering::Relaxed);
        self.turn += 1;
        let turn = self.turn % self.analyzers.len();
        let mut facts = Facts::new(1);
        let bytes = part.encode_to_vec().into();
        self.analyzers[turn].meters(&bytes, &mut facts)?;
        let facts = facts.take_shards().flatten();
        Ok(facts
            .map(|fact| match fact {
                Fact::Meter(value) => value,
                other => panic!("{other:?}"),
            })
            .collect())
    }

    fn report(&mut self, after_s: i64, data: Vec<MeterData>) -> Vec<(String, MeterInput)> {
        let values = self.send(after_s, &of_shop(data)).unwrap();
        let values = values.into_iter();
        values.map(|v| (v.name.to_string(), v.input)).collect()
    }

    fn skipped(&self, reason: &str) -> u64 {
        let families = self.registry.gather();
        let metrics = families
            .iter()
            .filter(|family| family.name() == "meter_rules_skipped_total")
            .flat_map(|family| family.get_metric());
        let of_reason = metrics.filter(|m| m.get_label()[0].value() == reason);
        of_reason.map(|m| m.get_counter().get_value() as u64).sum()
    }
}

/// Only the first message says who reports, as later Java agents do.
fn of_shop(mut data: Vec<MeterData>) -> MeterPart {
    if let Some(first) = data.first_mut() {
        first.service = "shop".into();
        first.service_instance = "pod".into();
        first.timestamp = NOW_MS;
    }
    MeterPart {
        meter_data: data,
        first: None,
    }
}

/// One rule and one report: what the rule comes to.
fn once(operation: &str, value: &str, data: Vec<MeterData>) -> Result<MeterInput, u64> {
    let mut fixture = Fixture::new(&[("SERVICE", operation, value)]);
    let mut found = fixture.report(0, data);
    match found.pop() {
        Some((_, input)) => Ok(input),
        None => Err([
            "not_reported",
            "filtered_out",
            "several_operands",
            "wrong_kind",
            "not_finite",
            "too_many_buckets",
        ]
        .iter()
        .position(|reason| fixture.skipped(reason) == 1)
        .unwrap() as u64),
    }
}

const NOT_REPORTED: Result<MeterInput, u64> = Err(0);
const FILTERED_OUT: Result<MeterInput, u64> = Err(1);
const SEVERAL: Result<MeterInput, u64> = Err(2);
const WRONG_KIND: Result<MeterInput, u64> = Err(3);
const NOT_FINITE: Result<MeterInput, u64> = Err(4);
const TOO_MANY: Result<MeterInput, u64> = Err(5);

fn long(n: i64) -> Result<MeterInput, u64> {
    Ok(MeterInput::Long(n))
}

#[test]
fn single_values_are_added_up_and_cut() {
    let data = || {
        vec![
            single("a", &[("k", "x")], 1.5),
            single("a", &[("k", "y"), ("l", "")], 2.25),
            single("b", &[], 4.0),
            single("zero", &[], 0.0),
            single("tenth", &[], 0.1),
            single("lost", &[], f64::NAN),
            histogram("h", &[], &[(0.0, 1)]),
        ]
    };
    for (value, want) in [
        (r#"meter["a"]"#, long(3)),
        (r#"meter["a"].tagFilter("k", "x")"#, long(1)),
        (
            r#"meter["a"].tagFilter("l", "").tagFilter("k", "y")"#,
            long(2),
        ),
        (r#"meter["a"].tagFilter("k", "z")"#, FILTERED_OUT),
        (r#"meter["a"].tagFilter("no", "x")"#, FILTERED_OUT),
        (r#"meter["c"]"#, NOT_REPORTED),
        // Each sample by itself: 3 + 4.5, 2.5 + 3.25, 0.5 + 1.25, 15 + 22.5.
        (r#"meter["a"].multiply(2)"#, long(7)),
        (r#"meter["a"].add(1)"#, long(5)),
        (r#"meter["a"].minus(1)"#, long(1)),
        (r#"meter["a"].divide(0.1)"#, long(37)),
        // 6 + 9 with one operand, none changes nothing, several are refused.
        (r#"meter["a"].multiply(meter["b"])"#, long(15)),
        (r#"meter["a"].add(meter["b"].tagFilter("k", "x"))"#, long(3)),
        (r#"meter["b"].divide(meter["a"])"#, SEVERAL),
        (
            r#"meter["b"].divide(meter["a"].tagFilter("k", "y"))"#,
            long(1),
        ),
        (r#"meter["b"].minus(meter["c"])"#, NOT_REPORTED),
        // Infinite and not a number as Java casts them.
        (r#"meter["b"].divide(meter["zero"])"#, long(i64::MAX)),
        (r#"meter["b"].multiply(-1).divide(0)"#, long(i64::MIN)),
        (r#"meter["zero"].divide(0)"#, long(0)),
        // 0.1 is a little more than a tenth, but not when it is scaled.
        (r#"meter["tenth"].scale(18)"#, long(100_000_000_000_000_000)),
        (r#"meter["a"].scale(2)"#, long(375)),
        (r#"meter["b"].scale(-1).multiply(10)"#, long(4)),
        (r#"meter["b"].scale(300).scale(300)"#, long(i64::MAX)),
        (r#"meter["lost"].scale(1)"#, NOT_FINITE),
        (r#"meter["lost"]"#, long(0)),
        (r#"meter["h"]"#, WRONG_KIND),
        (r#"meter["h"].add(1)"#, WRONG_KIND),
        (r#"meter["b"].add(meter["h"])"#, WRONG_KIND),
    ] {
        assert_eq!(once("avg", value, data()), want, "{value}");
    }
}

#[test]
fn histograms_are_added_up_by_bucket() {
    let data = || {
        vec![
            histogram("h", &[("k", "x")], &[(10.0, 2), (f64::MIN, 1), (2.5, 3)]),
            histogram(
                "h",
                &[("k", "y")],
                &[(10.0, 5), (2.5, 1), (2.5, 1), (2.75, 4)],
            ),
            histogram("empty", &[], &[]),
            histogram("mixed", &[], &[(0.0, 1)]),
            single("mixed", &[], 1.0),
            histogram(
                "many",
                &[],
                &(0..1001).map(|i| (f64::from(i), 1)).collect::<Vec<_>>(),
            ),
        ]
    };
    let buckets = |buckets: &[(i32, i64)]| Ok(MeterInput::Buckets(buckets.to_vec()));
    for operation in ["avgHistogram", "avgHistogramPercentile"] {
        for (value, want) in [
            (
                r#"meter["h"].tagFilter("k", "x")"#,
                buckets(&[(i32::MIN, 1), (2, 3), (10, 2)]),
            ),
            // Edges are told apart before they are cut.
            (
                r#"meter["h"]"#,
                buckets(&[(i32::MIN, 1), (2, 5), (2, 4), (10, 7)]),
            ),
            (r#"meter["empty"]"#, FILTERED_OUT),
            (r#"meter["mixed"]"#, WRONG_KIND),
            (r#"meter["many"]"#, TOO_MANY),
        ] {
            assert_eq!(once(operation, value, data()), want, "{operation} {value}");
        }
    }
}

#[test]
fn increases_and_rates_look_back_to_the_beginning_of_their_range() {
    let mut fixture = Fixture::new(&[
        (AVG.0, AVG.1, r#"meter["i"].increase("PT1M")"#),
        (AVG.0, AVG.1, r#"meter["r"].rate("PT1M").scale(3)"#),
        (AVG.0, AVG.1, r#"meter["p"].irate("PT1M").scale(3)"#),
        (AVG.0, AVG.1, r#"meter["p"].irate("PT1M")"#),
    ]);
    // Since the oldest sample, which goes once a minute has passed: those of 0, 0, 0, 0, 20, 60, 100 s. The counter starts
    // anew at 200 s.
    for (after_s, counter, increase, rate, irate) in [
        (0, 100.0, 0, 0, 0),
        (20, 130.0, 30, 1500, 1500),
        (40, 140.0, 40, 1000, 500),
        (60, 150.0, 50, 833, 500),
        (100, 190.0, 60, 750, 1000),
        (190, 280.0, 140, 933, 1000),
        (200, 10.0, -140, -1000, -27_000),
    ] {
        let data = ["i", "r", "p"].map(|name| single(name, &[], counter));
        let found = fixture.report(after_s, data.to_vec());
        let found: Vec<_> = found.into_iter().map(|(_, input)| input).collect();
        let want = [increase, rate, irate, irate / 1000].map(MeterInput::Long);
        assert_eq!(found, want, "after {after_s} s");
    }
}

#[test]
fn windows_are_those_of_an_instance_a_meter_its_labels_and_a_bucket() {
    let mut fixture = Fixture::new(&[
        (AVG.0, AVG.1, r#"meter["c"].increase("PT1M")"#),
        ("SERVICE", "avgHistogram", r#"meter["h"].increase("PT1M")"#),
    ]);
    let report = |instance: &str, x: f64, y: f64, counts: [i64; 2]| {
        let mut data = of_shop(vec![
            single("c", &[("k", "x")], x),
            single("c", &[("k", "y")], y),
            histogram("h", &[], &[(0.0, counts[0]), (5.0, counts[1])]),
        ]);
        data.meter_data[2].service_instance = instance.to_owned();
        data
    };
    for (after_s, instance, x, y, counts, sum, increases) in [
        (0, "one", 10.0, 20.0, [1, 2], 0, [0, 0]),
        (10, "two", 50.0, 50.0, [9, 9], 0, [0, 0]),
        // 1 + 3, and 4 and 0.
        (20, "one", 11.0, 23.0, [5, 2], 4, [4, 0]),
        (30, "two", 52.0, 50.0, [9, 10], 2, [0, 1]),
    ] {
        let values = fixture.send(after_s, &report(instance, x, y, counts));
        let values: Vec<_> = values.unwrap().into_iter().map(|v| v.input).collect();
        let buckets = vec![(0, increases[0]), (5, increases[1])];
        let want = [MeterInput::Long(sum), MeterInput::Buckets(buckets)];
        assert_eq!(values, want, "after {after_s} s");
    }
}

#[test]
fn two_rules_on_one_meter_share_its_window() {
    let rule = (AVG.0, AVG.1, r#"meter["c"].increase("PT1M")"#);
    let mut fixture = Fixture::new(&[rule, rule]);
    // Each look drops one sample that is old enough: at 60 s both of the first report, at 80 s those of 20 s.
    for (after_s, counter, want) in [
        (0, 0.0, [0, 0]),
        (20, 1.0, [1, 1]),
        (60, 9.0, [9, 9]),
        (80, 10.0, [9, 9]),
    ] {
        let found = fixture.report(after_s, vec![single("c", &[], counter)]);
        let found: Vec<_> = found.into_iter().map(|(_, input)| input).collect();
        assert_eq!(found, want.map(MeterInput::Long), "after {after_s} s");
    }
}

#[test]
fn entities_follow_the_scope() {
    let value = r#"meter["c"]"#;
    let mut fixture = Fixture::new(&[
        ("SERVICE", "avg", value),
        ("SERVICE_INSTANCE", "avg", value),
        ("ENDPOINT", "avg", value),
    ]);
    let found = fixture.send(0, &of_shop(vec![single("c", &[], 1.0)]));
    let found: Vec<_> = found
        .unwrap()
        .into_iter()
        .map(|v| {
            (
                v.name.to_string(),
                v.entity.scope,
                v.entity.id.to_string(),
                v.minute,
            )
        })
        .collect();
    let want = [
        ("meter_r0", Scope::ServiceMeter, "c2hvcA==.1"),
        ("meter_r1", Scope::ServiceInstanceMeter, "c2hvcA==.1_cG9k"),
        ("meter_r2", Scope::EndpointMeter, "c2hvcA==.1_L2E="),
    ];
    assert_eq!(
        found,
        want.map(|(name, scope, id)| (name.to_owned(), scope, id.to_owned(), MINUTE))
    );
}

#[test]
fn a_report_says_who_when_and_what() {
    let mut fixture = Fixture::new(&[(AVG.0, AVG.1, r#"meter["c"]"#)]);
    let data = || vec![single("c", &[], 1.0), single("c", &[], 2.0)];
    let with = |change: fn(&mut MeterPart)| {
        let mut part = of_shop(data());
        change(&mut part);
        part
    };
    let id = |name: &str| Ok(vec![(format!("c2hvcA==.1_{name}"), MeterInput::Long(3))]);
    for (what, part, want) in [
        ("first only", with(|_| {}), id("cG9k")),
        (
            "the last counts",
            with(|p| p.meter_data[1].service_instance = "two".into()),
            id("dHdv"),
        ),
        (
            "no service",
            with(|p| p.meter_data[0].service.clear()),
            Err(Reject::MissingId),
        ),
        (
            "no instance",
            with(|p| p.meter_data[0].service_instance.clear()),
            Err(Reject::MissingId),
        ),
        (
            "no time",
            with(|p| p.meter_data[0].timestamp = 0),
            Err(Reject::TimeOutOfRange),
        ),
        (
            "before time",
            with(|p| p.meter_data[0].timestamp = -1),
            Err(Reject::TimeOutOfRange),
        ),
        (
            "the future",
            with(|p| p.meter_data[1].timestamp = i64::MAX),
            Err(Reject::TimeOutOfRange),
        ),
        (
            "a long name",
            with(|p| p.meter_data[0].service = "x".repeat(513)),
            Err(Reject::IdTooLong),
        ),
        (
            "of no value",
            with(|p| {
                p.meter_data.insert(
                    0,
                    MeterData {
                        metric: None,
                        ..p.meter_data[0].clone()
                    },
                )
            }),
            id("cG9k"),
        ),
        (
            "nobody",
            MeterPart {
                meter_data: data(),
                first: None,
            },
            Err(Reject::MissingId),
        ),
        // The value of the first message was in an earlier part.
        (
            "a later part",
            MeterPart {
                meter_data: data(),
                first: of_shop(data()).meter_data.into_iter().next(),
            },
            id("cG9k"),
        ),
        ("nothing", MeterPart::default(), Err(Reject::MissingId)),
    ] {
        let found = fixture.send(0, &part).map(|values| {
            let values = values.into_iter();
            values
                .map(|v| (v.entity.id.to_string(), v.input))
                .collect::<Vec<_>>()
        });
        assert_eq!(found, want, "{what}");
    }
    let collection = MeterDataCollection {
        meter_data: of_shop(data()).meter_data,
    };
    let read = MeterPart::decode(&*collection.encode_to_vec()).unwrap();
    assert_eq!(read, of_shop(data()), "a collection reads as a part");
}
