//! The metrics of this process, under the names of the original where it has them (8.1.0 spec, J).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::{LabelPair, MetricFamily};
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    TextEncoder,
};

use super::ledger::Ledger;
use super::probes::Probes;
use super::process;

/// Makes metrics and shows them. Cheap to clone; clones share the metrics.
#[derive(Clone)]
pub struct Registry {
    metrics: prometheus::Registry,
    /// Those with labels: they are shown from the start, though without a value until something happens.
    labelled: Arc<Mutex<Vec<Shared>>>,
    ledger: Ledger,
    probes: Probes,
    /// `queue_wait_seconds`, once the first queue is measured.
    waits: Arc<Mutex<Option<HistogramVec>>>,
    /// `queue_stay_seconds`, likewise.
    stays: Arc<Mutex<Option<HistogramVec>>>,
    parts: Arc<Mutex<Vec<(&'static str, Gauge)>>>,
    /// Value of the first label of every series, `<gRPC host>_<gRPC port>`.
    instance: Arc<str>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Takes metrics of any shape: the registry of a server, or the plain one of a test.
pub trait Registers {
    /// Shows a metric from now on. Fails if its name is taken.
    fn register(&self, metric: Box<dyn Collector>) -> prometheus::Result<()>;
}

impl Registers for prometheus::Registry {
    fn register(&self, metric: Box<dyn Collector>) -> prometheus::Result<()> {
        prometheus::Registry::register(self, metric)
    }
}

/// Seconds; buckets of every histogram of the original.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

const INSTANCE_LABEL: &str = "sw_backend_instance";

impl Registry {
    /// An empty registry of the server with this gRPC address.
    pub fn new(grpc_host: &str, grpc_port: u16) -> Registry {
        Registry {
            metrics: prometheus::Registry::new(),
            labelled: Arc::default(),
            ledger: Ledger::default(),
            probes: Probes::default(),
            waits: Arc::default(),
            stays: Arc::default(),
            parts: Arc::default(),
            instance: format!("{grpc_host}_{grpc_port}").into(),
        }
    }

    /// The books of everything that comes in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Shows how full a queue is, in a unit such as bytes. `depth` is asked whenever someone looks; it must not keep the queue
    /// open.
    pub fn queue(
        &self,
        name: &'static str,
        unit: &'static str,
        capacity: u64,
        depth: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.probes.queue(name, unit, capacity, depth);
    }

    /// For seconds that whoever fills a queue waits for room. Fails if the name of the metric is taken.
    pub fn queue_wait(&self, queue: &str) -> prometheus::Result<Histogram> {
        let help = "Seconds that whoever fills a queue waited for room";
        self.of_queue(&self.waits, ("queue_wait_seconds", help), queue)
    }

    /// For seconds that what is in a queue stays there. Fails if the name of the metric is taken.
    pub fn queue_stay(&self, queue: &str) -> prometheus::Result<Histogram> {
        let help = "Seconds that what is in a queue stayed there";
        self.of_queue(&self.stays, ("queue_stay_seconds", help), queue)
    }

    fn of_queue(
        &self,
        known: &Mutex<Option<HistogramVec>>,
        (name, help): (&str, &str),
        queue: &str,
    ) -> prometheus::Result<Histogram> {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let all = match &*known {
            Some(all) => all,
            None => known.insert(self.latencies(name, help, &["queue"])?),
        };
        Ok(all.with_label_values(&[queue]))
    }

    /// The gauge `health_check_<part>`: -1 while nothing is known, 0 if the part is well, 1 if it is not.
    pub fn health(&self, part: &'static str) -> prometheus::Result<Gauge> {
        let help = "-1 while nothing is known, 0 if the part is well, 1 if it is not";
        let gauge = self.gauge(&format!("health_check_{part}"), help)?;
        gauge.set(-1.0);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push((part, gauge.clone()));
        Ok(gauge)
    }

    /// The sum of all parts of [`Registry::health`], and the names of those that are not well.
    pub fn unhealthy(&self) -> (i64, Vec<&'static str>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let score = parts.iter().map(|(_, gauge)| gauge.get() as i64).sum();
        let bad = parts.iter().filter(|(_, gauge)| gauge.get() > 0.0);
        (score, bad.map(|(part, _)| *part).collect())
    }

    /// Shows how much memory an owner holds, in bytes, as far as it knows.
    pub fn memory(&self, owner: &'static str, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        self.probes.memory(owner, bytes);
    }

    /// Counters by label values. Fails if the name is taken.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// Gauges of whole numbers by label values. Fails if the name is taken.
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// One gauge. Fails if the name is taken.
    pub fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.keep(Gauge::with_opts(Opts::new(name, help))?)
    }

    /// Histograms of seconds by label values, in [`LATENCY_BUCKETS`]. Fails if the name is taken.
    pub fn latencies(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        self.keep(HistogramVec::new(opts, labels)?)
    }

    /// Everything that has a value, with the instance label in front, and then what the process itself uses.
    pub fn gather(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let mut families = self.metrics.gather();
        families.extend(self.ledger.families()?);
        families.extend(self.probes.families()?);
        families.retain(|family| !family.get_metric().is_empty());
        for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut instance = LabelPair::default();
            instance.set_name(INSTANCE_LABEL.to_owned());
            instance.set_value(self.instance.to_string());
            let mut labels = vec![instance];
            labels.extend(metric.take_label());
            metric.set_label(labels);
        }
        families.extend(process::families());
        Ok(families)
    }

    /// Everything in the text format 0.0.4; metrics without a value have their help and type only.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.gather()?, &mut text)?;
        let mut empty = self.ledger.families()?;
        empty.extend(self.probes.families()?);
        let labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        empty.extend(labelled.iter().flat_map(|metric| metric.collect()));
        empty.retain(|family| family.get_metric().is_empty());
        for family in empty {
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let (name, help) = (family.name(), family.help());
            let lines = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            text.extend_from_slice(lines.as_bytes());
        }
        Ok(text)
    }

    fn keep<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

impl Registers for Registry {
    fn register(&self, metric: Box<dyn Collector>) -> prometheus::Result<()> {
        let shown = Arc::<dyn Collector>::from(metric);
        self.metrics
            .register(Box::new(Shared(Arc::clone(&shown))))?;
        if shown.desc().iter().any(|d| !d.variable_labels.is_empty()) {
            let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
            labelled.push(Shared(shown));
        }
        Ok(())
    }
}

/// A metric that is listed twice.
struct Shared(Arc<dyn Collector>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_the_instance_first_and_keep_their_names() {
        let registry = Registry::new("0.0.0.0", 11800);
        let errors = registry
            .counters("trace_analysis_error_count", "e", &["protocol"])
            .unwrap();
        errors.with_label_values(&["grpc"]).inc_by(2);
        let latency = registry
            .latencies("trace_in_latency", "l", &["protocol"])
            .unwrap();
        latency.with_label_values(&["grpc"]).observe(0.08);
        registry.gauge("uptime", "u").unwrap().set(5.0);
        let text = String::from_utf8(registry.text().unwrap()).unwrap();
        for line in [
            r#"trace_analysis_error_count{sw_backend_instance="0.0.0.0_11800",protocol="grpc"} 2"#,
            r#"trace_in_latency_bucket{sw_backend_instance="0.0.0.0_11800",protocol="grpc",le="0.075"} 0"#,
            r#"trace_in_latency_bucket{sw_backend_instance="0.0.0.0_11800",protocol="grpc",le="0.1"} 1"#,
            r#"uptime{sw_backend_instance="0.0.0.0_11800"} 5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn parts_that_are_not_well_are_named() {
        let registry = Registry::new("h", 1);
        assert_eq!(registry.unhealthy(), (0, vec![]));
        let store = registry.health("storage_h2").unwrap();
        assert_eq!(registry.unhealthy(), (-1, vec![]));
        store.set(0.0);
        assert_eq!(registry.unhealthy(), (0, vec![]));
        store.set(1.0);
        assert_eq!(registry.unhealthy(), (1, vec!["storage_h2"]));
        let text = String::from_utf8(registry.text().unwrap()).unwrap();
        assert!(
            text.contains("health_check_storage_h2{sw_backend_instance=\"h_1\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn what_never_happened_is_listed_without_a_value() {
        let registry = Registry::new("h", 1);
        registry.counters("errors", "Mistakes", &["kind"]).unwrap();
        let text = String::from_utf8(registry.text().unwrap()).unwrap();
        for line in [
            "# HELP errors Mistakes",
            "# TYPE errors counter",
            "# TYPE ledger_dropped_total counter",
            "# TYPE queue_depth gauge",
        ] {
            assert_eq!(
                text.lines().filter(|l| *l == line).count(),
                1,
                "{line}\n{text}"
            );
        }
        registry.queue_wait("analyzers").unwrap().observe(0.1);
        registry.queue("analyzers", "bytes", 9, || 1);
        let text = String::from_utf8(registry.text().unwrap()).unwrap();
        for line in [
            "# TYPE queue_wait_seconds histogram",
            "# TYPE queue_depth gauge",
            r#"queue_depth{sw_backend_instance="h_1",queue="analyzers",unit="bytes"} 1"#,
        ] {
            assert_eq!(
                text.lines().filter(|l| *l == line).count(),
                1,
                "{line}\n{text}"
            );
        }
    }

    #[test]
    fn a_name_is_taken_once() {
        let registry = Registry::new("h", 1);
        assert!(registry.gauge("uptime", "u").is_ok());
        assert!(registry.clone().gauge("uptime", "u").is_err());
    }
}
