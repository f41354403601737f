//! What the shipped scripts compute, and every function over a request in addition.

use std::sync::{Arc, LazyLock};

use anyhow::{Result, anyhow};
use oap::analyzer::meter::{MeterMetrics, Meters};
use oap::analyzer::pods::{Pod, PodMap};
use oap::analyzer::{Analyzer, AnalyzerSettings};
use oap::config::SlowThresholds;
use oap::dsl::diag::Diagnostic;
use oap::dsl::meter::{self, MeterRule};
use oap::dsl::oal;
use oap::model::metrics::{Function, MeterDefinition, MeterScope, Ranks};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::stream::{AddressBook, ApdexThresholds, Plan};
use oap::util::clock::Clock;
use prometheus::Registry;

/// Models and what is computed for them.
pub struct Compiled {
    pub schema: Arc<Schema>,
    pub plan: Arc<Plan>,
}

/// Scripts that ship with the server.
pub const SHIPPED: &[(&str, &str)] = &[
    ("core.oal", include_str!("../../config/oal/core.oal")),
    (
        "java-agent.oal",
        include_str!("../../config/oal/java-agent.oal"),
    ),
    (
        "dotnet-agent.oal",
        include_str!("../../config/oal/dotnet-agent.oal"),
    ),
    ("envoy.oal", include_str!("../../config/oal/envoy.oal")),
];

/// One metric of each function.
pub const EVERY_FUNCTION: &str = "
every_long_avg = from(Endpoint.latency).longAvg();
every_double_avg = from(Endpoint.latency).doubleAvg();
every_sum = from(Endpoint.latency).sum();
every_count = from(Endpoint.*).count();
every_cpm = from(Endpoint.*).cpm();
every_max = from(Endpoint.latency).max();
every_min = from(Endpoint.latency).min();
every_max_double = from(Endpoint.latency).maxDouble();
every_min_double = from(Endpoint.latency).minDouble();
every_percent = from(Endpoint.*).percent(status == true);
every_apdex = from(Endpoint.latency).apdex(serviceName, status);
every_histogram = from(Endpoint.latency).histogram(100, 20);
every_percentile = from(Endpoint.latency).percentile(10);
every_p50 = from(Endpoint.latency).p50(10);
every_p75 = from(Endpoint.latency).p75(10);
every_p90 = from(Endpoint.latency).p90(10);
every_p95 = from(Endpoint.latency).p95(10);
every_p99 = from(Endpoint.latency).p99(1);
every_relation = from(EndpointRelation.rpcLatency).percentile(10);
every_database = from(DatabaseAccess.latency).histogram(50, 5);
";

/// A rule of each operation and scope, with each function that looks at one report only.
pub const EVERY_METER: &str = r#"
meters:
  - name: every_single
    scope: {type: SERVICE}
    meter: {operation: avg, value: 'meter["one"].tagFilter("k", "v").add(1).minus(2).multiply(3).divide(4).scale(2)'}
  - name: every_operand
    scope: {type: SERVICE_INSTANCE}
    meter: {operation: avg, value: 'meter["one"].add(meter["two"].tagFilter("k", "v"))'}
  - name: every_average
    scope: {type: ENDPOINT, endpoint: /a}
    meter: {operation: avgHistogram, value: 'meter["buckets"]'}
  - name: every_rank
    scope: {type: SERVICE_INSTANCE}
    meter: {operation: avgHistogramPercentile, percentile: [50, 99], value: 'meter["buckets"].tagFilter("k", "v")'}
"#;

pub fn meter_rules() -> Result<Vec<MeterRule>, Vec<Diagnostic>> {
    meter::compile(&[("every.yaml".to_owned(), EVERY_METER.to_owned())])
}

static COMPILED: LazyLock<Result<Compiled, String>> = LazyLock::new(|| {
    let scripts = SHIPPED.iter().chain(&[("every.oal", EVERY_FUNCTION)]);
    let scripts: Vec<(String, String)> = scripts
        .map(|(file, text)| (file.to_string(), text.to_string()))
        .collect();
    let program = oal::compile(&scripts);
    let program = program.map_err(|mistakes| format!("{mistakes:?}"))?;
    let rules = meter_rules().map_err(|mistakes| format!("{mistakes:?}"))?;
    let mut meters: Vec<MeterDefinition> = rules.into_iter().map(|rule| rule.definition).collect();
    let ranks = Ranks::new([50, 90]).ok_or("no ranks")?;
    for (name, function) in [
        ("meter_load", Function::MeterAvg),
        ("meter_latency", Function::BucketAvgPercentile { ranks }),
    ] {
        meters.push(MeterDefinition {
            name: name.to_owned(),
            scope: MeterScope::Instance,
            function,
        });
    }
    let schema = Schema::build(&program.metrics, &meters, &program.disabled, true);
    let thresholds = ApdexThresholds::new([]);
    let plan = Plan::build(&program.metrics, &meters, &schema, thresholds);
    Ok(Compiled {
        schema: Arc::new(schema),
        plan: Arc::new(plan),
    })
});

pub fn compiled() -> Result<&'static Compiled> {
    COMPILED.as_ref().map_err(|error| anyhow!("{error}"))
}

/// An analyzer that takes every statement over 200 ms for slow, and knows the pod at 10.0.0.1.
pub fn analyzer(clock: Clock, addresses: Arc<AddressBook>) -> Result<Analyzer> {
    let pods = PodMap::default();
    let pod = Pod {
        service: "shop.default".to_owned(),
        instance: "shop-1.default".to_owned(),
    };
    pods.replace([("10.0.0.1".to_owned(), pod)].into());
    let settings = AnalyzerSettings {
        access_log_pods: Some(Arc::new(pods)),
        slow_statements: SlowThresholds {
            by_type: vec![],
            default: 200,
        },
        ..AnalyzerSettings::default()
    };
    let schema = &compiled()?.schema;
    let rules = meter_rules().map_err(|mistakes| anyhow!("{mistakes:?}"))?;
    let metrics = MeterMetrics::new(&Registry::new())?;
    let meters = Meters::new(rules, metrics, clock.clone());
    let analyzer = Analyzer::new(Arc::new(settings), schema, Zone::utc(), clock, addresses);
    Ok(analyzer.with_meters(Arc::new(meters)))
}
