//! Scripts: OAL.

use anyhow::{Result, ensure};
use oap::dsl::oal;

use super::{Form, Target, text};
use crate::every_metric::{EVERY_FUNCTION, SHIPPED};

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
