//! What the values of a configuration centre mean, and who goes on with them.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::alarms;
use super::files;
use super::stages::Program;
use super::task::Tasks;
use crate::alarm::AlarmProgram;
use crate::analyzer::AnalyzerSettings;
use crate::analyzer::gateways::Gateways;
use crate::analyzer::grouping::EndpointGrouping;
use crate::config::{ConfigFile, FileSource, Problem, Settings, SlowThresholds};
use crate::dsl::alarm;
use crate::dynamic::{Apply, Center, DynamicMetrics, Key, Watch};
use crate::model::metrics::MetricDefinition;
use crate::stream::{ApdexThresholds, Plan};

/// The ways to whoever runs with settings that may change.
#[derive(Debug, Clone)]
pub(super) struct Inlets {
    pub(super) analyzer: watch::Sender<Arc<AnalyzerSettings>>,
    pub(super) plan: Arc<Plan>,
    /// `None` if there are no alarms.
    pub(super) alarms: Option<watch::Sender<Arc<AlarmProgram>>>,
}

/// What is in use where the centre has no value.
#[derive(Debug)]
struct OfFiles {
    analyzer: Arc<AnalyzerSettings>,
    thresholds: Arc<ApdexThresholds>,
    alarms: Arc<AlarmProgram>,
}

#[derive(Debug)]
struct Live {
    provider: &'static str,
    inlets: Inlets,
    files: OfFiles,
    /// The metrics that rules of alarms may be about.
    metrics: Vec<MetricDefinition>,
}

/// Starts to watch the centre, if there is one; ends with `stop`. The centre need not be there.
pub(super) fn start(
    shared: &Shared,
    program: &Program,
    inlets: &Inlets,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(settings) = &shared.settings.dynamic else {
        return Ok(());
    };
    let center = Center::new(&settings.center).context("module configuration")?;
    let provider = center.provider();
    let alarms = inlets.alarms.as_ref();
    let live = Live {
        provider,
        files: OfFiles {
            analyzer: Arc::clone(&inlets.analyzer.borrow()),
            thresholds: inlets.plan.thresholds(),
            alarms: alarms.map_or_else(Arc::default, |alarms| Arc::clone(&alarms.borrow())),
        },
        inlets: inlets.clone(),
        metrics: program.oal.metrics.clone(),
    };
    let keys = keys(&shared.settings, alarms.is_some());
    tracing::info!(
        provider,
        period_s = settings.period.as_secs(),
        "settings follow a configuration centre"
    );
    let metrics = DynamicMetrics::new(&shared.registry)?;
    let watch = Watch::new(
        center,
        settings.period,
        &keys,
        live,
        metrics,
        shared.clock.clone(),
    );
    let stop = stop.clone();
    tasks.spawn("dynamic-configuration", async move {
        watch.run(stop).await;
        Ok(())
    });
    Ok(())
}

/// Those of the modules that are on.
fn keys(settings: &Settings, has_alarms: bool) -> Vec<Key> {
    let is_on = |key: &Key| match key {
        Key::SlowDbAccessThreshold | Key::UninstrumentedGateways | Key::SampleRate => {
            settings.agent_analyzer.is_some()
        }
        Key::AlarmSettings => has_alarms,
        Key::ApdexThreshold | Key::EndpointNameGrouping => true,
    };
    Key::ALL.into_iter().filter(is_on).collect()
}

impl Apply for Live {
    fn apply(&mut self, key: Key, value: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        match key {
            Key::SampleRate => {
                let rate = match value {
                    Some(text) => sample_rate(text)?,
                    None => self.files.analyzer.sample_rate,
                };
                self.analyzer(|settings| settings.sample_rate = rate);
                Ok(vec![])
            }
            Key::SlowDbAccessThreshold => {
                let thresholds = match value {
                    Some(text) => slow_thresholds(text)?,
                    None => self.files.analyzer.slow_statements.clone(),
                };
                self.analyzer(|settings| settings.slow_statements = thresholds);
                Ok(vec![])
            }
            Key::UninstrumentedGateways => {
                let (gateways, notes) = match value {
                    Some(text) => Gateways::parse(&self.file(key, text)).map_err(lines)?,
                    None => (self.files.analyzer.gateways.clone(), vec![]),
                };
                self.analyzer(|settings| settings.gateways = gateways);
                Ok(notes)
            }
            Key::EndpointNameGrouping => {
                let (grouping, notes) = match value {
                    Some(text) => {
                        let parsed = EndpointGrouping::parse(&self.file(key, text));
                        let (grouping, notes) = parsed.map_err(lines)?;
                        (Arc::new(grouping), notes)
                    }
                    None => (Arc::clone(&self.files.analyzer.grouping), vec![]),
                };
                self.analyzer(|settings| settings.grouping = grouping);
                Ok(notes)
            }
            Key::ApdexThreshold => {
                let (thresholds, notes) = match value {
                    Some(text) => {
                        let parsed = files::thresholds(&self.file(key, text));
                        let (thresholds, notes) = parsed.map_err(lines)?;
                        (Arc::new(thresholds), notes)
                    }
                    None => (Arc::clone(&self.files.thresholds), vec![]),
                };
                self.inlets.plan.set_thresholds(thresholds);
                Ok(notes)
            }
            Key::AlarmSettings => self.alarms(key, value),
        }
    }
}

impl Live {
    fn file(&self, key: Key, text: &str) -> ConfigFile {
        ConfigFile {
            name: key.name().to_owned(),
            source: FileSource::Center(self.provider),
            text: text.to_owned(),
        }
    }

    /// Analyzers go on with the changed settings from their next batch on.
    fn analyzer(&self, change: impl FnOnce(&mut AnalyzerSettings)) {
        self.inlets.analyzer.send_modify(|settings| {
            let mut changed = AnalyzerSettings::clone(settings);
            change(&mut changed);
            *settings = Arc::new(changed);
        });
    }

    fn alarms(&self, key: Key, value: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        let (program, notes) = match value {
            Some(text) => {
                let compiled = alarm::compile(key.name(), text, &self.metrics);
                let settings = compiled.map_err(|found| -> Vec<String> {
                    found.iter().map(ToString::to_string).collect()
                })?;
                let program = alarms::program(&settings);
                let program = program.map_err(|error| vec![format!("{error:#}")])?;
                (Arc::new(program), settings.notes)
            }
            None => (Arc::clone(&self.files.alarms), vec![]),
        };
        let metrics = program.rules.iter().map(|rule| rule.fields.metric.clone());
        self.inlets.plan.watch(&metrics.collect());
        if let Some(alarms) = &self.inlets.alarms {
            alarms.send_replace(program);
        }
        Ok(notes)
    }
}

fn lines(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn sample_rate(text: &str) -> Result<i32, Vec<String>> {
    let rate = text.trim().parse::<i32>().ok().filter(|rate| *rate >= 0);
    let name = Key::SampleRate.name();
    rate.ok_or_else(|| {
        vec![format!(
            "{name} is {text:?}, expected a whole number from 0 to {}, of which 10000 keeps every segment",
            i32::MAX
        )]
    })
}

/// The file may have items that mean nothing, as in the original; what someone changes has none.
fn slow_thresholds(text: &str) -> Result<SlowThresholds, Vec<String>> {
    let mut items = text.split(',').map(str::trim);
    let has_odd = items.any(|item| !item.is_empty() && item.split(':').count() != 2);
    let thresholds = SlowThresholds::parse(text).filter(|_| !has_odd);
    let name = Key::SlowDbAccessThreshold.name();
    thresholds.ok_or_else(|| {
        vec![format!(
            "{name} is {text:?}, expected type:milliseconds, several with commas between, such as default:200,mongodb:100"
        )]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (text, want) in [
            ("0", Some(0)),
            (" 5000\n", Some(5000)),
            ("10001", Some(10_001)),
            ("2147483648", None),
            ("-1", None),
            ("many", None),
            ("50%", None),
        ] {
            assert_eq!(sample_rate(text).ok(), want, "{text}");
        }
        for (text, want) in [
            ("default:200,mongodb:50", Some(50)),
            (" default:200 , ", Some(200)),
            ("mysql:1", Some(10_000)),
            ("fast", None),
            ("default:200,mongodb", None),
            ("default:200:300", None),
            ("default:fast", None),
        ] {
            let got = slow_thresholds(text).ok().map(|t| t.of("MongoDB"));
            assert_eq!(got, want, "{text}");
        }
    }
}
