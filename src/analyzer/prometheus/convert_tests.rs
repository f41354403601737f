//! The rules of conversion, one by one, by numbers that were worked out by hand.

use std::fmt::Write as _;

use super::convert::{Converter, Lost};
use super::families;
use crate::dsl::prometheus::compile;
use crate::model::metrics::MeterInput;

/// A converter of rules in YAML, each with its sources.
fn converter(rules: &str) -> Converter {
    let text = format!("fetcherInterval: PT15S\nmetricsPath: /m\nmetricsRules:\n{rules}");
    let files = compile(&[("a.yaml".to_owned(), text)]).unwrap();
    Converter::new(&files[0])
}

/// What pages of some seconds lead to: a line per value as `name service/member input`, and what was lost.
fn run(rules: &str, pages: &[(i64, &str)]) -> (Vec<String>, Vec<Lost>) {
    let mut converter = converter(rules);
    let mut lines = Vec::new();
    let mut all_lost = Vec::new();
    for (second, page) in pages {
        let page = families::read(page.as_bytes(), |name| converter.wants(name));
        assert_eq!(page.bad_lines, 0, "{:?}", page.first_bad_line);
        let (samples, lost) = converter.convert(&page.metrics, second * 1000);
        all_lost.extend(lost);
        for sample in samples {
            let name = sample.name.strip_prefix("meter_").unwrap();
            let entity = sample.entity;
            let mut line = format!("{second} {name} {}/{}", entity.service, entity.member);
            match sample.input {
                MeterInput::Long(n) => write!(line, " {n}").unwrap(),
                MeterInput::Labels(labels) => {
                    labels
                        .iter()
                        .for_each(|(l, n)| write!(line, " {l}={n}").unwrap());
                }
                MeterInput::Buckets(buckets) => {
                    buckets
                        .iter()
                        .for_each(|(b, n)| write!(line, " {b}:{n}").unwrap());
                }
            }
            lines.push(line);
        }
    }
    (lines, all_lost)
}

fn check(rules: &str, pages: &[(i64, &str)], want: &[&str]) {
    let (lines, lost) = run(rules, pages);
    assert_eq!(lines, want, "{rules}");
    assert_eq!(lost, [], "{rules}");
}

#[test]
fn samples_of_an_entity_are_summed_and_scaled() {
    let rules = "
- name: a
  scope: SERVICE_INSTANCE
  operation: avg
  sources: {m: {scale: 2, relabel: {service: [s, env], instance: [i]}}}
";
    let page = r#"
m{s="x",env="dev",i="1",cpu="0"} 0.285
m{s="x",env="dev",i="1",cpu="1"} 0.285
m{s="x",env="dev",i="2"} -1.999
m{s="x",env="dev"} 5
m{s="x",i="1"} 5
n{s="x",env="dev",i="1"} 5
m{s="x",env="dev",i="3"} NaN
"#;
    check(
        rules,
        &[(1, page)],
        &["1 a x.dev/1 57", "1 a x.dev/2 -199", "1 a x.dev/3 0"],
    );
}

#[test]
fn a_service_and_an_endpoint_are_entities_too() {
    let rules = "
- {name: a, scope: SERVICE, operation: avg, sources: {m: {relabel: {service: [s]}}}}
- {name: b, scope: ENDPOINT, operation: avg, sources: {m: {relabel: {service: [s], endpoint: [host, path]}}}}
- {name: c, scope: SERVICE, operation: avg, sources: {m: {relabel: {service: [s], endpoint: [path]}}}}
";
    let page = "m{s=\"x\",host=\"h\",path=\"/p\"} 3\nm{s=\"x\"} 4";
    // Rule c wants the label of the endpoint as well, though a service has none.
    check(
        rules,
        &[(1, page)],
        &["1 a x/ 7", "1 b x/h./p 3", "1 c x/ 3"],
    );
}

#[test]
fn filters_match_whole_labels() {
    let rules = "
- name: a
  scope: SERVICE
  operation: avg
  sources:
    m:
      relabel: {service: [s]}
      labelFilter:
      - {key: gc, options: ['Copy|PS .*', 'G1']}
      - {key: level, options: [\"(?!2)[0-9]\"]}
";
    for (labels, is_match) in [
        (r#"gc="Copy",level="1""#, true),
        (r#"gc="PS Scavenge",level="3""#, true),
        (r#"gc="G1",level="1""#, true),
        (r#"gc="G1 Old",level="1""#, false),
        (r#"gc="XCopy",level="1""#, false),
        (r#"gc="Copy",level="2""#, false),
        (r#"gc="Copy""#, false),
        (r#"level="1""#, false),
    ] {
        let page = format!("m{{s=\"x\",{labels}}} 1");
        let want: &[&str] = if is_match { &["1 a x/ 1"] } else { &[] };
        check(rules, &[(1, &page)], want);
    }
}

#[test]
fn counters_look_back() {
    let rules = |function: &str| {
        format!(
            "
- name: a
  scope: SERVICE
  operation: avg
  sources: {{m: {{counterFunction: {function}, scale: 1, relabel: {{service: [s]}}}}}}
"
        )
    };
    let pages = [
        (0, "m{s=\"x\"} 10"),
        (15, "m{s=\"x\"} 40"),
        (30, "m{s=\"x\"} 55"),
        (45, "m{s=\"x\"} 60"),
        (60, "m{s=\"x\"} 5"),
    ];
    // After 30 s the first sample is used for the last time.
    check(
        &rules("INCREASE, range: PT30S"),
        &pages,
        &[
            "0 a x/ 0",
            "15 a x/ 300",
            "30 a x/ 450",
            "45 a x/ 200",
            "60 a x/ -500",
        ],
    );
    // Nothing in no time is no number, which counts as 0.
    check(
        &rules("RATE, range: PT30S"),
        &pages,
        &[
            "0 a x/ 0",
            "15 a x/ 20",
            "30 a x/ 15",
            "45 a x/ 6",
            "60 a x/ -16",
        ],
    );
    check(
        &rules("IRATE"),
        &pages,
        &[
            "0 a x/ 0",
            "15 a x/ 20",
            "30 a x/ 10",
            "45 a x/ 3",
            "60 a x/ -36",
        ],
    );
}

#[test]
fn entities_share_a_counter_but_rules_do_not() {
    let rules = "
- {name: a, scope: SERVICE, operation: avg, sources: {m: {counterFunction: INCREASE, range: PT1M, relabel: {service: [s]}}}}
- name: b
  scope: SERVICE
  operation: avg
  sources:
    m:
      counterFunction: INCREASE
      range: PT1M
      relabel: {service: [s]}
      labelFilter: [{key: s, options: ['y']}]
";
    check(
        rules,
        &[
            (0, "m{s=\"x\"} 10\nm{s=\"y\"} 100"),
            (15, "m{s=\"x\"} 11\nm{s=\"y\"} 101"),
        ],
        &[
            "0 a x/ 0",
            "0 a y/ 90",
            "0 b y/ 0",
            "15 a x/ 1",
            "15 a y/ 91",
            "15 b y/ 1",
        ],
    );
}

#[test]
fn rules_of_one_name_that_ask_the_same_are_summed() {
    let rule = |option: &str, scale: u32| {
        format!(
            "
- name: a
  scope: SERVICE
  operation: avg
  sources: {{m: {{scale: {scale}, relabel: {{service: [s]}}, labelFilter: [{{key: l, options: ['{option}']}}]}}}}"
        )
    };
    let page = [(1, "m{s=\"x\",l=\"1\"} 1\nm{s=\"x\",l=\"2\"} 2")];
    let same = format!("{}{}", rule("1", 0), rule("2", 0));
    check(&same, &page, &["1 a x/ 3"]);
    let other = format!("{}{}", rule("1", 0), rule("2", 1));
    check(&other, &page, &["1 a x/ 1", "1 a x/ 20"]);
}

#[test]
fn numbers_by_label_have_windows_of_their_own() {
    let rules = "
- name: a
  scope: SERVICE
  operation: avgLabeled
  sources: {m: {counterFunction: INCREASE, range: PT1M, groupBy: [code, zone], relabel: {service: [s]}}}
";
    let page = |a: u32, b: u32| {
        format!(
            "m{{s=\"x\",code=\"200\",zone=\"e\",i=\"1\"}} {a}\nm{{s=\"x\",code=\"200\",zone=\"e\",i=\"2\"}} {a}\nm{{s=\"x\",code=\"500\"}} {b}"
        )
    };
    check(
        rules,
        &[(0, &page(1, 100)), (15, &page(4, 150))],
        &["0 a x/ 200-e=0 500-null=0", "15 a x/ 200-e=6 500-null=50"],
    );
}

#[test]
fn histograms_are_taken_apart_by_bucket() {
    let rules = "
- name: a
  scope: SERVICE_INSTANCE
  operation: avgHistogram
  sources: {h: {counterFunction: INCREASE, range: PT1M, relabel: {service: [s], instance: [i]}}}
- name: b
  scope: SERVICE_INSTANCE
  operation: avgHistogramPercentile
  percentiles: [50]
  sources: {h: {relabel: {service: [s], instance: [i]}}}
";
    // Cumulative counts; the buckets of i=1 come in two series, those of i=2 in the wrong order.
    let page = |n: u32| {
        format!(
            "# TYPE h histogram
h_bucket{{s=\"x\",i=\"1\",p=\"a\",le=\"0.005\"}} {n}
h_bucket{{s=\"x\",i=\"1\",p=\"a\",le=\"0.25\"}} {}
h_bucket{{s=\"x\",i=\"1\",p=\"a\",le=\"+Inf\"}} {}
h_bucket{{s=\"x\",i=\"1\",p=\"b\",le=\"0.005\"}} 1
h_bucket{{s=\"x\",i=\"1\",p=\"b\",le=\"0.25\"}} 1
h_bucket{{s=\"x\",i=\"1\",p=\"b\",le=\"+Inf\"}} 1
h_bucket{{s=\"x\",i=\"2\",le=\"+Inf\"}} 9
h_bucket{{s=\"x\",i=\"2\",le=\"1\"}} 4
",
            n + 2,
            n + 3
        )
    };
    check(
        rules,
        &[(0, &page(1)), (15, &page(6))],
        &[
            "0 a x/1 0:0 5:0 250:0",
            "0 a x/2 0:0 1000:0",
            "0 b x/1 0:2 5:2 250:1",
            "0 b x/2 0:4 1000:5",
            "15 a x/1 0:5 5:0 250:0",
            "15 a x/2 0:0 1000:0",
            "15 b x/1 0:7 5:2 250:1",
            "15 b x/2 0:4 1000:5",
        ],
    );
}

#[test]
fn histograms_and_summaries_are_also_an_average_and_two_counters() {
    let rules = "
- {name: a, scope: SERVICE, operation: avg, sources: {h: {relabel: {service: [s]}}}}
- {name: b, scope: SERVICE, operation: avg, sources: {q: {relabel: {service: [s]}}}}
- {name: c, scope: SERVICE, operation: avg, sources: {h_count: {relabel: {service: [s]}}}}
- {name: d, scope: SERVICE, operation: avg, sources: {q_sum: {scale: 3, relabel: {service: [s]}}}}
";
    let page = "# TYPE h histogram
h_bucket{s=\"x\",le=\"+Inf\"} 4
h_sum{s=\"x\"} 0.5
h_count{s=\"x\"} 4
# TYPE q summary
q{s=\"x\",quantile=\"0.5\"} 7
q_sum{s=\"x\"} 1.5
q_count{s=\"x\"} 2
";
    // In milliseconds: 0.5 s in 4, 1.5 s in 2.
    check(
        rules,
        &[(1, page)],
        &["1 a x/ 125", "1 b x/ 750", "1 c x/ 4", "1 d x/ 1500"],
    );
}

#[test]
fn what_has_no_value_is_counted() {
    let rules = "
- {name: a, scope: SERVICE, operation: avg, sources: {m: {relabel: {service: [s]}}}}
- {name: b, scope: SERVICE, operation: avgHistogram, sources: {m: {relabel: {service: [s]}}}}
- {name: c, scope: SERVICE, operation: avgLabeled, sources: {m: {groupBy: [l], relabel: {service: [s]}}}}
- {name: d, scope: SERVICE, operation: avg, sources: {m: {counterFunction: RATE, range: PT1M, relabel: {service: [s]}}}}
";
    let (lines, lost) = run(
        rules,
        &[(1, "m{s=\"x\",l=\"1\"} +Inf\nm{s=\"x\",l=\"2\"} 7")],
    );
    // The difference of infinities is no number.
    assert_eq!(lines, ["1 c x/ 2=7", "1 d x/ 0"]);
    assert_eq!(lost, [Lost::NotFinite, Lost::WrongType, Lost::NotFinite]);
    let page = "# TYPE h histogram\nh_sum{s=\"x\"} 1\nh_count{s=\"x\"} 0";
    let rules =
        "- {name: a, scope: SERVICE, operation: avg, sources: {h: {relabel: {service: [s]}}}}";
    let (lines, lost) = run(rules, &[(1, page)]);
    assert_eq!((lines.len(), lost), (0, vec![Lost::NotFinite]));
}
