//! Rule files: what is read, and every mistake with its place.

use super::*;
use crate::dsl::prometheus::compile::compile;
use crate::model::metrics::{Function, MeterScope, Ranks};

fn one(text: &str) -> Result<FetchRules, Vec<String>> {
    let files = [("fetcher-prom-rules/a.yaml".to_owned(), text.to_owned())];
    let mut files =
        compile(&files).map_err(|d| d.iter().map(|d| d.to_string()).collect::<Vec<_>>())?;
    assert_eq!(files.len(), 1);
    Ok(files.remove(0))
}

const DEFAULT: &str = include_str!("../../../config/fetcher-prom-rules/self.yaml");

#[test]
fn the_default_file_has_the_metrics_of_the_original() {
    let file = one(DEFAULT).unwrap();
    assert_eq!(file.name, "a.yaml");
    assert_eq!(file.interval, Duration::from_secs(15));
    assert_eq!(file.timeout, Duration::from_secs(10));
    let target = Target {
        name: "localhost:1234".to_owned(),
        url: "http://localhost:1234/metrics".to_owned(),
    };
    assert_eq!(file.targets, [target]);
    let labels = [("service".to_owned(), "oap-server".to_owned())];
    assert_eq!(file.labels, Some(labels.into()));
    let ranks = Ranks::new([50, 70, 90, 99]).unwrap();
    let relabel = Relabel {
        service: vec!["service".to_owned()],
        instance: vec!["instance".to_owned()],
        endpoint: vec![],
    };
    let mut names = vec![];
    for rule in &file.rules {
        assert_eq!(rule.definition.scope, MeterScope::Instance);
        let name = rule
            .definition
            .name
            .strip_prefix("meter_instance_")
            .unwrap();
        let function = match name.ends_with("_percentile") {
            true => Function::BucketAvgPercentile { ranks },
            false => Function::MeterAvg,
        };
        assert_eq!(rule.definition.function, function, "{name}");
        assert_eq!(rule.sources.len(), 1);
        assert_eq!(rule.sources[0].relabel, relabel, "{name}");
        names.push(name);
    }
    assert_eq!(
        names.join(" "),
        "cpu_percentage jvm_memory_bytes_used jvm_young_gc_count jvm_young_gc_time jvm_old_gc_count jvm_old_gc_time \
         trace_count trace_latency_percentile trace_analysis_error_count mesh_count mesh_latency_percentile \
         mesh_analysis_error_count metrics_first_aggregation metrics_second_aggregation persistence_execute_percentile \
         persistence_prepare_percentile persistence_error_count persistence_execute_count persistence_prepare_count"
    );
    let cpu = &file.rules[0].sources[0];
    assert_eq!(cpu.metric, "process_cpu_seconds_total");
    assert_eq!(cpu.counter, Some(Counter::Rate(Duration::from_secs(60))));
    assert_eq!(cpu.scale, 2);
    let old_gc = &file.rules[4].sources[0];
    assert_eq!(
        old_gc.counter,
        Some(Counter::Increase(Duration::from_secs(60)))
    );
    assert_eq!(old_gc.filters[0].key, "gc");
    let option = &old_gc.filters[0].options[0];
    for (value, want) in [
        ("G1 Old Generation", true),
        ("G1 Old", false),
        ("x PS MarkSweep", false),
    ] {
        assert_eq!(option.is_match(value).unwrap(), want, "{value}");
    }
    assert_eq!(FetchRules::meters(&[file.clone(), file]).len(), 19);
}

const SMALL: &str = "
fetcherInterval: PT1S
metricsPath: metrics
metricsRules: []
";

#[test]
fn what_may_be_left_out() {
    let file = one(SMALL).unwrap();
    assert_eq!(file.timeout, Duration::from_secs(10));
    assert_eq!((file.targets.len(), file.rules.len()), (0, 0));
    assert_eq!(file.labels, None);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "
fetcherInterval: 15
fetcherTimeout: PT-1S
metricPath: /m
staticConfig:
  targets: [http://a:1, a:1, a:1]
metricsRules:
- name: Up-Time
  scope: SERVICE_INSTANCES
  operation: avgHistogramPercentile
  percentiles: [50, 0]
  sources:
    up:
      counterFunction: INCREASED
      scale: -1
      labelFilter:
      - key: x
        options: ['(']
      - {key: y, options: []}
- {name: a, scope: SERVICE_INSTANCE, operation: avgLabeled, sources: {}}
- {name: a, scope: SERVICE, operation: avg, sources: {b: {counterFunction: RATE, relabel: {service: []}}}}
- {name: b, scope: ENDPOINT, operation: avgLabeled, sources: {b: {relabel: {service: [s]}}}}
";
    let found = one(text).unwrap_err();
    insta::assert_snapshot!(found.join("\n"), @r"
    fetcher-prom-rules/a.yaml:2:1: `metricsPath` is missing
    fetcher-prom-rules/a.yaml:2:18: expected a text
    fetcher-prom-rules/a.yaml:3:17: no duration: `PT-1S`, expected one such as PT10S
    fetcher-prom-rules/a.yaml:4:1: unknown key `metricPath`, expected fetcherInterval, fetcherTimeout, metricsPath, staticConfig, metricsRules
    fetcher-prom-rules/a.yaml:6:13: no target: `http://a:1`, expected host:port without http:// and path
    fetcher-prom-rules/a.yaml:6:30: target `a:1` twice
    fetcher-prom-rules/a.yaml:8:9: expected a name of lower-case letters, digits and `_`, up to 100
    fetcher-prom-rules/a.yaml:9:10: unknown name `SERVICE_INSTANCES`, expected SERVICE, SERVICE_INSTANCE, ENDPOINT
    fetcher-prom-rules/a.yaml:11:16: expected a list of whole numbers from 1 to 100
    fetcher-prom-rules/a.yaml:14:7: `relabel` is missing
    fetcher-prom-rules/a.yaml:14:24: unknown name `INCREASED`, expected INCREASE, RATE, IRATE
    fetcher-prom-rules/a.yaml:15:14: expected a whole number from 0 to 18
    fetcher-prom-rules/a.yaml:18:19: no regular expression: `(`, Parsing error at position 1: Opening parenthesis without closing parenthesis
    fetcher-prom-rules/a.yaml:19:27: expected a regular expression
    fetcher-prom-rules/a.yaml:20:70: expected a metric of the page with what is taken of it
    fetcher-prom-rules/a.yaml:21:10: another rule of this name has another scope, operation or percentiles
    fetcher-prom-rules/a.yaml:21:58: `range` is missing
    fetcher-prom-rules/a.yaml:21:101: expected a list of labels whose values name the service
    fetcher-prom-rules/a.yaml:22:66: `groupBy` is missing
    fetcher-prom-rules/a.yaml:22:76: `endpoint` is missing
    ");
}

#[test]
fn a_window_may_hold_only_so_many_samples() {
    let rule = |range: &str| {
        SMALL.replace(
            "[]",
            &format!(
                "[{{name: a, scope: SERVICE, operation: avg, sources: {{b: {{counterFunction: INCREASE, range: {range}, \
                 relabel: {{service: [s]}}}}}}}}]"
            ),
        )
    };
    assert!(one(&rule("PT2H")).is_ok());
    let found = one(&rule("PT3H")).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("at most 10000 times"), "{found:?}");
}

#[test]
fn files_agree_on_what_they_feed_together() {
    let file = |name: &str, scope: &str| {
        let rule = format!(
            "[{{name: a, scope: {scope}, operation: avg, sources: {{b: {{relabel: {{service: [s], instance: [i]}}}}}}}}]"
        );
        (name.to_owned(), SMALL.replace("[]", &rule))
    };
    let same = [file("a.yaml", "SERVICE"), file("b.yaml", "SERVICE")];
    assert_eq!(FetchRules::meters(&compile(&same).unwrap()).len(), 1);
    let other = [
        file("a.yaml", "SERVICE"),
        file("b.yaml", "SERVICE_INSTANCE"),
    ];
    let found = compile(&other).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].file.as_str(), found[0].line), ("b.yaml", 4));
}
