//! Pages of Prometheus targets: values of meters, and the services, instances and endpoints that they are about (8.1.0 spec,
//! A.11).

mod convert;
#[cfg(test)]
mod convert_tests;
pub mod families;
pub mod text;
mod windows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use prometheus::IntCounterVec;
use prost::Message as _;

pub use convert::{Converter, EntityName, Lost, MeterSample};

use self::families::Labels;
use super::trace::MAX_ID_BYTES;
use super::{Analyzer, Fact, Facts, Reject};
use crate::dsl::prometheus::FetchRules;
use crate::model::fact::MeterValue;
use crate::model::message::{Page, Scrape};
use crate::model::metrics::MeterScope;
use crate::model::scope::NodeType;
use crate::telemetry::{Registry, Throttle};
use crate::util::clock::Clock;

/// The rules of all files, shared by the analyzers: two runs of a file may come to different ones.
#[derive(Debug)]
pub struct PrometheusRules {
    files: HashMap<String, File>,
    bad_lines: IntCounterVec,
    lost: IntCounterVec,
    bad_line_log: Throttle,
    lost_log: Throttle,
}

#[derive(Debug)]
struct File {
    labels: Option<BTreeMap<String, String>>,
    converter: Mutex<Converter>,
}

impl PrometheusRules {
    /// Fails if the names of its metrics are taken.
    pub fn new(
        files: &[FetchRules],
        registry: &Registry,
        clock: &Clock,
    ) -> prometheus::Result<PrometheusRules> {
        let file = |file: &FetchRules| {
            let rules = File {
                labels: file.labels.clone(),
                converter: Mutex::new(Converter::new(file)),
            };
            (file.name.clone(), rules)
        };
        Ok(PrometheusRules {
            files: files.iter().map(file).collect(),
            bad_lines: registry.counters(
                "prometheus_fetcher_bad_line_count",
                "Lines of fetched pages that made no sense",
                &["file"],
            )?,
            lost: registry.counters(
                "prometheus_fetcher_lost_count",
                "Samples and values of fetched pages that were given up, by reason",
                &["file", "reason"],
            )?,
            bad_line_log: Throttle::new(clock.clone()),
            lost_log: Throttle::new(clock.clone()),
        })
    }

    /// The values in the pages of one run; `None` if there is no such file.
    fn convert(&self, scrape: &Scrape) -> Option<Vec<MeterSample>> {
        let name = scrape.file.as_str();
        let file = self.files.get(name)?;
        let mut converter = file
            .converter
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut metrics = Vec::new();
        for page in &scrape.pages {
            let read = families::read(&page.text, |metric| converter.wants(metric));
            self.report(name, page, &read);
            metrics.extend(read.metrics.into_iter().map(|mut metric| {
                if let Some(labels) = &file.labels {
                    relabel(&mut metric.labels, labels, &page.target);
                }
                metric
            }));
        }
        let (samples, lost) = converter.convert(&metrics, scrape.at_ms);
        for reason in lost {
            self.give_up(name, &reason.to_string(), 1);
        }
        self.give_up(name, "windows_full", converter.take_forgotten());
        Some(samples)
    }

    fn report(&self, file: &str, page: &Page, read: &families::Page) {
        self.give_up(file, "page_too_long", read.lines_over);
        let Some((line, reason)) = read.first_bad_line else {
            return;
        };
        let counter = self.bad_lines.with_label_values(&[file]);
        counter.inc_by(read.bad_lines);
        if let Some(held_back) = self.bad_line_log.admit() {
            tracing::warn!(
                file,
                target = page.target,
                line,
                %reason,
                lines = read.bad_lines,
                held_back,
                "lines of a fetched page make no sense, this is the first"
            );
        }
    }

    fn give_up(&self, file: &str, reason: &str, count: u64) {
        if count > 0 {
            let counter = self.lost.with_label_values(&[file, reason]);
            counter.inc_by(count);
            if let Some(held_back) = self.lost_log.admit() {
                tracing::warn!(file, reason, count, held_back, "fetched values given up");
            }
        }
    }
}

/// Adds labels to those of a sample, which keeps its own under another name.
fn relabel(own: &mut Labels, added: &BTreeMap<String, String>, target: &str) {
    let instance = ("instance", target);
    let added = added.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in added
        .filter(|(name, _)| *name != "instance")
        .chain([instance])
    {
        if let Some(exported) = own.insert(name.to_owned(), value.to_owned()) {
            own.insert(format!("exported_{name}"), exported);
        }
    }
}

impl Analyzer {
    pub(super) fn scrape(&mut self, bytes: &Bytes, facts: &mut Facts) -> Result<(), Reject> {
        let scrape = Scrape::decode(bytes.clone()).map_err(|_| Reject::Undecodable)?;
        let minute = self.second(scrape.at_ms)? / 100;
        let rules = self.prometheus.clone().ok_or(Reject::Undecodable)?;
        let samples = rules.convert(&scrape).ok_or(Reject::Undecodable)?;
        let mut seen = HashSet::new();
        for sample in samples {
            let EntityName { service, member } = &sample.entity;
            let is_unnamed =
                service.is_empty() || (sample.scope != MeterScope::Service && member.is_empty());
            if is_unnamed {
                rules.give_up(&scrape.file, "missing_id", 1);
                continue;
            }
            let entity = self.entities.metered(sample.scope, service, member);
            if entity.id.len() > MAX_ID_BYTES {
                rules.give_up(&scrape.file, "id_too_long", 1);
                continue;
            }
            if seen.insert((sample.scope, sample.entity.clone())) {
                self.is_alive(sample.scope, &sample.entity, facts)?;
            }
            facts.push(Fact::Meter(MeterValue {
                entity,
                minute,
                name: sample.name,
                input: sample.input,
            }));
        }
        Ok(())
    }

    /// Whoever has a value exists, as of now.
    fn is_alive(
        &mut self,
        scope: MeterScope,
        name: &EntityName,
        facts: &mut Facts,
    ) -> Result<(), Reject> {
        let now_ms = self.clock.now_ms();
        let minute = self.zone.minute(now_ms).ok_or(Reject::TimeOutOfRange)?;
        let EntityName { service, member } = name;
        facts.push(Fact::Service {
            entity: self.entities.service(service, NodeType::Normal),
            minute,
        });
        match scope {
            MeterScope::Service => {}
            MeterScope::Instance => {
                if let Some(entity) = self.entities.instance(service, member) {
                    facts.push(Fact::Instance {
                        entity,
                        minute,
                        // Not a bucket; the original has it so.
                        last_ping: u64::try_from(now_ms).unwrap_or(0),
                        properties: None,
                    });
                }
            }
            MeterScope::Endpoint => facts.push(Fact::Endpoint {
                entity: self.entities.endpoint(service, member),
                minute,
            }),
        }
        Ok(())
    }
}
