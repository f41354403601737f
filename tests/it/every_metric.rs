//! What the shipped scripts compute, and every function over a request in addition.

use std::sync::{Arc, LazyLock};

use anyhow::{Result, anyhow};
use oap::analyzer::{Analyzer, AnalyzerSettings};
use oap::config::SlowThresholds;
use oap::dsl::oal;
use oap::model::metrics::{Function, MeterDefinition, MeterScope, Ranks};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::stream::{AddressBook, ApdexThresholds, Plan};
use oap::util::clock::Clock;

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

static COMPILED: LazyLock<Result<Compiled, String>> = LazyLock::new(|| {
    let scripts = SHIPPED.iter().chain(&[("every.oal", EVERY_FUNCTION)]);
    let scripts: Vec<(String, String)> = scripts
        .map(|(file, text)| (file.to_string(), text.to_string()))
        .collect();
    let program = oal::compile(&scripts);
    let program = program.map_err(|mistakes| format!("{mistakes:?}"))?;
    let ranks = Ranks::new([50, 90]).ok_or("no ranks")?;
    let meter = |name: &str, function| MeterDefinition {
        name: name.to_owned(),
        scope: MeterScope::Instance,
        function,
    };
    let meters = [
        meter("meter_load", Function::MeterAvg),
        meter("meter_latency", Function::BucketAvgPercentile { ranks }),
    ];
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

/// An analyzer that takes every statement over 200 ms for slow.
pub fn analyzer(clock: Clock, addresses: Arc<AddressBook>) -> Result<Analyzer> {
    let settings = AnalyzerSettings {
        slow_statements: SlowThresholds {
            by_type: vec![],
            default: 200,
        },
        ..AnalyzerSettings::default()
    };
    let schema = &compiled()?.schema;
    Ok(Analyzer::new(
        Arc::new(settings),
        schema,
        Zone::utc(),
        clock,
        addresses,
    ))
}
