//! Pages of Prometheus targets, and the rules by which they are read.

use anyhow::{Context, Result, ensure};
use oap::analyzer::prometheus::Converter;
use oap::analyzer::prometheus::families::{Measured, read};
use oap::dsl::prometheus::{FetchRules, compile};
use oap::model::metrics::{MeterInput, Value};

use super::{Form, Target, text};

const SHIPPED: &str = include_str!("../../../config/fetcher-prom-rules/self.yaml");

const RULES: &str = r#"
fetcherInterval: PT15S
metricsPath: /metrics
metricsRules:
- {name: a, scope: SERVICE, operation: avg, sources: {m: {counterFunction: RATE, range: PT1M, scale: 2, relabel: {service: [s]}}}}
- {name: b, scope: SERVICE_INSTANCE, operation: avgLabeled, sources: {m: {groupBy: [x, s], relabel: {service: [s], instance: [x]}}}}
- {name: c, scope: ENDPOINT, operation: avgHistogram, sources: {h: {counterFunction: IRATE, relabel: {service: [s], endpoint: [x]}}}}
- name: d
  scope: SERVICE
  operation: avgHistogramPercentile
  percentiles: [50, 99]
  sources:
    h: {counterFunction: INCREASE, range: PT30S, relabel: {service: [s]}, labelFilter: [{key: x, options: ['[a-z]+', '1\d*']}]}
    q: {relabel: {service: [s]}}
- {name: e, scope: SERVICE, operation: avg, sources: {h: {relabel: {service: [s]}}, q_count: {relabel: {service: [s]}}}}
"#;

const PAGE: &str = r#"# HELP m A number.
# TYPE m counter
m{s="shop",x="a"} 12
m{s="shop",x="b\"\\\n"} 7.5e3 1600000000000
# TYPE h histogram
h_bucket{s="shop",x="a",le="0.1"} 1
h_bucket{s="shop",x="a",le="2.5"} 4
h_bucket{s="shop",x="a",le="+Inf"} 5
h_sum{s="shop",x="a"} 9.5
h_count{s="shop",x="a"} 5
# TYPE q summary
q{s="shop",quantile="0.5"} NaN
q_sum{s="shop"} -Inf
q_count{s="shop"} 3
"#;

fn rules(text: &str) -> Result<FetchRules> {
    let files = compile(&[("a.yaml".to_owned(), text.to_owned())]);
    let mut files = files.map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    files.pop().context("no file")
}

#[test]
fn page() -> Result<()> {
    let rules = rules(RULES)?;
    let target = Target::of(Form::Bytes, "prometheus-page")
        .seeds([PAGE])
        .words(&[
            "# TYPE ",
            "histogram\n",
            "summary\n",
            "_bucket",
            "_sum",
            "_count",
            "le=\"",
            "\",",
            "{",
            "} ",
            "+Inf",
            "NaN",
            "1e308",
            "\n",
            "\\",
            "m{s=\"shop\"} ",
        ]);
    target.check(|input| {
        let lines = input.split(|b| *b == b'\n').count();
        let all = read(input, |_| true);
        // A line of a histogram or summary is also one of its numbers.
        ensure!(all.metrics.len() <= 2 * lines, "{}", all.metrics.len());
        ensure!(all.bad_lines <= lines as u64);
        ensure!(all.first_bad_line.is_none() == (all.bad_lines == 0));
        if let Some((line, reason)) = all.first_bad_line {
            ensure!((1..=lines).contains(&line), "{line}: {reason}");
        }
        for metric in &all.metrics {
            ensure!(!metric.name.is_empty());
            if let Measured::Histogram(histogram) = &metric.value {
                ensure!(histogram.buckets.len() <= lines);
            }
        }
        let mut converter = Converter::new(&rules);
        let wanted = read(input, |name| converter.wants(name));
        ensure!(wanted.metrics.len() <= all.metrics.len());
        for at_ms in [0, 15_000, 15_000, 90_000] {
            let (samples, _) = converter.convert(&wanted.metrics, at_ms);
            ensure!(samples.len() <= 6 * wanted.metrics.len());
            for sample in samples {
                let name = &*sample.name;
                let mut rules = rules.rules.iter();
                let rule = rules.find(|rule| rule.definition.name == name);
                let function = rule.context("of no rule")?.definition.function;
                let mut value: Value = function.empty();
                let is_taken = function.accept_meter(&mut value, &sample.input);
                let has_many = matches!(&sample.input, MeterInput::Labels(l) if l.len() > 1000);
                ensure!(is_taken || has_many, "{name} {:?}", sample.input);
                let read = function.from_cells(&function.to_cells(&value, 202_009_151_059));
                ensure!(read.as_ref() == Some(&value), "{name} {read:?} {value:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn rule_file() -> Result<()> {
    let target = Target::of(Form::Text, "prometheus-rules")
        .seeds([SHIPPED, RULES])
        .words(&[
            "scope: ",
            "SERVICE",
            "avgLabeled",
            "PT1S",
            "range: ",
            "[",
            "]",
            "{",
            "}",
            "&a ",
            "*a",
            "<<: ",
            "- ",
            "\n  ",
            "null",
            "'(' ",
            "sources: ",
            "percentiles: [50]",
            "!t ",
            "|\n",
        ]);
    target.check(|input| {
        let text = text(input)?;
        let files = ["a.yaml", "b.yaml"].map(|name| (name.to_owned(), text.to_owned()));
        match compile(&files) {
            Ok(files) => {
                ensure!(files.len() == 2);
                let meters = FetchRules::meters(&files);
                ensure!(meters.len() <= files[0].rules.len());
                for file in &files {
                    Converter::new(file);
                }
            }
            Err(mistakes) => {
                ensure!(!mistakes.is_empty() && mistakes.len() <= 200);
                let lines = text.lines().count() + 1;
                for mistake in mistakes {
                    let is_place = (1..=lines).contains(&mistake.line) && mistake.column > 0;
                    ensure!(is_place, "{mistake}");
                }
            }
        }
        Ok(())
    })
}
