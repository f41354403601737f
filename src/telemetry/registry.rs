//! The metrics of this process, under the names of the original where it has them (8.1.0 spec, J).

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::{LabelPair, MetricFamily};
use prometheus::{
    Encoder as _, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder,
};

use super::process;

/// Makes metrics and shows them. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct Registry {
    metrics: prometheus::Registry,
    /// Value of the first label of every series, `<gRPC host>_<gRPC port>`.
    instance: Arc<str>,
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
            instance: format!("{grpc_host}_{grpc_port}").into(),
        }
    }

    /// For those who register metrics of other shapes.
    pub fn prometheus(&self) -> &prometheus::Registry {
        &self.metrics
    }

    /// Counters by label values. Fails if the name is taken.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// Gauges of whole numbers by label values. Fails if the name is taken.
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// One gauge. Fails if the name is taken.
    pub fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::with_opts(Opts::new(name, help))?)
    }

    /// Histograms of seconds by label values, in [`LATENCY_BUCKETS`]. Fails if the name is taken.
    pub fn latencies(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }

    /// Everything, with the instance label in front, and then what the process itself uses.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.metrics.gather();
        for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut instance = LabelPair::default();
            instance.set_name(INSTANCE_LABEL.to_owned());
            instance.set_value(self.instance.to_string());
            let mut labels = vec![instance];
            labels.extend(metric.take_label());
            metric.set_label(labels);
        }
        families.extend(process::families());
        families
    }

    /// Everything in the text format 0.0.4.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.gather(), &mut text)?;
        Ok(text)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.metrics.register(Box::new(metric.clone()))?;
        Ok(metric)
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
    fn a_name_is_taken_once() {
        let registry = Registry::new("h", 1);
        assert!(registry.gauge("uptime", "u").is_ok());
        assert!(registry.clone().gauge("uptime", "u").is_err());
    }
}
