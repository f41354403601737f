//! Scripts and rules: OAL, meters, alarms.

use anyhow::{Result, ensure};
use oap::dsl::{alarm, meter, oal};

use super::{Form, Target, text};
use crate::every_metric::{EVERY_FUNCTION, EVERY_METER, SHIPPED};

#[test]
fn oal() -> Result<()> {
    let shipped = SHIPPED.iter().map(|(_, text)| *text);
    let target = Target::of(Form::Text, "oal")
        .seeds(shipped.chain([EVERY_FUNCTION]))
        .words(&[
            "from(",
            "filter(",
            "==",
            ">=",
            "disable(segment);",
            "Service",
            "latency",
            "*",
            "//",
            "/*",
            "*/",
            "percentile(",
            "histogram(",
            "RequestType.HTTP",
            "true",
            "\"",
            ");\n",
            "= from(All.latency).p99(10);",
        ]);
    target.check(|input| {
        let text = text(input)?;
        let files = [
            ("a.oal".to_owned(), text.to_owned()),
            ("b.oal".to_owned(), text.to_owned()),
        ];
        let lines = text.lines().count() + 1;
        match oal::compile(&files) {
            Ok(program) => {
                ensure!(program.metrics.is_empty(), "each metric is defined twice");
                ensure!(program.disabled.len() <= input.len());
            }
            Err(mistakes) => {
                ensure!(
                    !mistakes.is_empty() && mistakes.len() <= 200,
                    "{} mistakes",
                    mistakes.len()
                );
                for mistake in mistakes {
                    let shown = mistake.to_string();
                    ensure!(
                        (1..=lines).contains(&mistake.line) && mistake.column > 0,
                        "{shown}"
                    );
                    ensure!(
                        shown.len() <= 2 * input.len() + 2000,
                        "{} bytes",
                        shown.len()
                    );
                }
            }
        }
        let alone = oal::compile(&files[..1]);
        // Each metric has a name, `=`, `from`, an attribute and a function.
        let metrics = alone.map_or(0, |program| program.metrics.len());
        ensure!(metrics <= input.len() / 15, "{metrics} metrics");
        Ok(())
    })
}

#[test]
fn meter_rules() -> Result<()> {
    let target = Target::of(Form::Text, "meter-rules")
        .seeds([EVERY_METER])
        .words(&[
            "meters:",
            "- name: ",
            "scope:",
            "{type: ",
            "SERVICE",
            "ENDPOINT",
            "endpoint: ",
            "operation: ",
            "avg",
            "avgHistogram",
            "percentile: [",
            "value: ",
            "meter[\"a\"]",
            ".add(",
            ".rate(\"PT1M\")",
            ".scale(",
            "tagFilter('a', 'b')",
            ")",
            "'",
            "\"",
            "|\n",
        ]);
    target.check(|input| {
        let text = text(input)?;
        let lines = text.lines().count() + 1;
        match meter::compile(&[("a.yaml".to_owned(), text.to_owned())]) {
            // A name, a scope, an operation and a value are more than that.
            Ok(rules) => ensure!(rules.len() <= input.len() / 30, "{} rules", rules.len()),
            Err(mistakes) => {
                ensure!(
                    !mistakes.is_empty() && mistakes.len() <= 100,
                    "{} mistakes",
                    mistakes.len()
                );
                for mistake in mistakes {
                    ensure!(
                        (1..=lines).contains(&mistake.line) && mistake.column > 0,
                        "{mistake}"
                    );
                    let shown = mistake.to_string();
                    ensure!(shown.len() <= 2 * input.len() + 2000, "{}", shown.len());
                }
            }
        }
        Ok(())
    })
}

#[test]
fn rules_of_alarms() -> Result<()> {
    let shipped = include_str!("../../../config/alarm-settings.yml");
    let small = "rules: {a_rule: {metrics-name: m, op: '>', threshold: '1,-', include-names-regex: '\\d+(a|b)'}}\n\
                 webhooks: [http://a]\ngRPCHook: {target_host: h, target_port: 9}\n";
    let target = Target::of(Form::Text, "alarm-rules").seeds([shipped, small]);
    let target = target.words(&[
        "_rule: ",
        "threshold: ",
        "1e400",
        "-",
        "NaN",
        "op: \">=\"",
        "silence-period: -9999999999",
        "period: 1441",
        "exclude-names: [",
        "exclude-names-regex: \"(?<a>\\\\Q[\"",
        "message: '{id}{'",
        "{name}",
        "target_port: 65536",
        "- http://",
        "&a *a",
    ]);
    target.check(|input| {
        let text = text(input)?;
        let lines = text.lines().count() + 1;
        match alarm::compile("alarm-settings.yml", text, &[]) {
            Ok(settings) => {
                let rules = settings.rules.len();
                ensure!(rules <= input.len() / 20, "{rules} rules");
                ensure!(settings.notes.len() <= 100);
                for rule in settings.rules {
                    rule.is_about("shop");
                    rule.matches_list(&[1.0, f64::NAN]);
                    let text = rule.text("id", "shop");
                    ensure!(text.len() <= 4 * input.len() + 50, "{text}");
                }
            }
            Err(mistakes) => {
                ensure!((1..=100).contains(&mistakes.len()));
                for mistake in mistakes {
                    let is_inside = (1..=lines).contains(&mistake.line) && mistake.column > 0;
                    ensure!(is_inside, "{mistake}");
                    let shown = mistake.to_string();
                    ensure!(shown.len() <= 20 * input.len() + 2000, "{}", shown.len());
                }
            }
        }
        Ok(())
    })
}
