//! The built-in scripts, every construct, and every mistake with its place.

use super::*;
use crate::model::attr::Attr;
use crate::model::entity::EntityField;
use crate::model::metrics::{CompareOp, Entrance, Filter, Function, Literal};
use crate::model::scope::{DetectPoint, RequestType, Scope};

fn one(text: &str) -> Result<OalProgram, Vec<String>> {
    compile(&[("a.oal".to_owned(), text.to_owned())])
        .map_err(|found| found.iter().map(ToString::to_string).collect())
}

fn metric(text: &str) -> MetricDefinition {
    one(text).unwrap().metrics.remove(0)
}

#[test]
fn the_built_in_scripts_define_the_metrics_of_the_original() {
    let files = [
        ("core.oal", include_str!("../../../config/oal/core.oal")),
        (
            "java-agent.oal",
            include_str!("../../../config/oal/java-agent.oal"),
        ),
        (
            "dotnet-agent.oal",
            include_str!("../../../config/oal/dotnet-agent.oal"),
        ),
        ("envoy.oal", include_str!("../../../config/oal/envoy.oal")),
    ];
    let program = compile(&files.map(|(f, t)| (f.to_owned(), t.to_owned()))).unwrap();
    assert_eq!(program.metrics.len(), 62);
    assert!(program.disabled.is_empty());
    let lines: Vec<String> = program
        .metrics
        .iter()
        .map(|m| {
            let filters: Vec<String> = m
                .filters
                .iter()
                .map(|f| format!("{:?} {:?}", f.op, f.literal))
                .collect();
            format!(
                "{} | {:?} | {} | {:?} | {:?}",
                m.name,
                m.scope,
                filters.join(", "),
                m.function,
                m.entrance
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    all_percentile | All |  | Percentile { precision: 10 } | Int(Latency)
    all_heatmap | All |  | Histogram { step: 100, max_steps: 20 } | Int(Latency)
    service_resp_time | Service |  | LongAvg | Long(Latency)
    service_sla | Service |  | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_cpm | Service |  | Cpm | One
    service_percentile | Service |  | Percentile { precision: 10 } | Int(Latency)
    service_apdex | Service |  | Apdex | Apdex { service: Entity(Name), latency: Latency, status: Status }
    service_relation_client_cpm | ServiceRelation | Equal DetectPoint(Client) | Cpm | One
    service_relation_client_call_sla | ServiceRelation | Equal DetectPoint(Client) | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_relation_client_resp_time | ServiceRelation | Equal DetectPoint(Client) | LongAvg | Long(Latency)
    service_relation_client_percentile | ServiceRelation | Equal DetectPoint(Client) | Percentile { precision: 10 } | Int(Latency)
    service_relation_server_cpm | ServiceRelation | Equal DetectPoint(Server) | Cpm | One
    service_relation_server_call_sla | ServiceRelation | Equal DetectPoint(Server) | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_relation_server_resp_time | ServiceRelation | Equal DetectPoint(Server) | LongAvg | Long(Latency)
    service_relation_server_percentile | ServiceRelation | Equal DetectPoint(Server) | Percentile { precision: 10 } | Int(Latency)
    service_instance_relation_client_cpm | ServiceInstanceRelation | Equal DetectPoint(Client) | Cpm | One
    service_instance_relation_client_call_sla | ServiceInstanceRelation | Equal DetectPoint(Client) | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_instance_relation_client_resp_time | ServiceInstanceRelation | Equal DetectPoint(Client) | LongAvg | Long(Latency)
    service_instance_relation_client_percentile | ServiceInstanceRelation | Equal DetectPoint(Client) | Percentile { precision: 10 } | Int(Latency)
    service_instance_relation_server_cpm | ServiceInstanceRelation | Equal DetectPoint(Server) | Cpm | One
    service_instance_relation_server_call_sla | ServiceInstanceRelation | Equal DetectPoint(Server) | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_instance_relation_server_resp_time | ServiceInstanceRelation | Equal DetectPoint(Server) | LongAvg | Long(Latency)
    service_instance_relation_server_percentile | ServiceInstanceRelation | Equal DetectPoint(Server) | Percentile { precision: 10 } | Int(Latency)
    service_instance_sla | ServiceInstance |  | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    service_instance_resp_time | ServiceInstance |  | LongAvg | Long(Latency)
    service_instance_cpm | ServiceInstance |  | Cpm | One
    endpoint_cpm | Endpoint |  | Cpm | One
    endpoint_avg | Endpoint |  | LongAvg | Long(Latency)
    endpoint_sla | Endpoint |  | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    endpoint_percentile | Endpoint |  | Percentile { precision: 10 } | Int(Latency)
    endpoint_relation_cpm | EndpointRelation | Equal DetectPoint(Server) | Cpm | One
    endpoint_relation_resp_time | EndpointRelation | Equal DetectPoint(Server) | LongAvg | Long(Latency)
    endpoint_relation_sla | EndpointRelation | Equal DetectPoint(Server) | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    endpoint_relation_percentile | EndpointRelation | Equal DetectPoint(Server) | Percentile { precision: 10 } | Int(Latency)
    database_access_resp_time | DatabaseAccess |  | LongAvg | Long(Latency)
    database_access_sla | DatabaseAccess |  | Percent | Match(Filter { attr: Status, op: Equal, literal: Bool(true) })
    database_access_cpm | DatabaseAccess |  | Cpm | One
    database_access_percentile | DatabaseAccess |  | Percentile { precision: 10 } | Int(Latency)
    instance_jvm_cpu | ServiceInstanceJvmCpu |  | DoubleAvg | Double(UsePercent)
    instance_jvm_memory_heap | ServiceInstanceJvmMemory | Equal Bool(true) | LongAvg | Long(Used)
    instance_jvm_memory_noheap | ServiceInstanceJvmMemory | Equal Bool(false) | LongAvg | Long(Used)
    instance_jvm_memory_heap_max | ServiceInstanceJvmMemory | Equal Bool(true) | LongAvg | Long(Max)
    instance_jvm_memory_noheap_max | ServiceInstanceJvmMemory | Equal Bool(false) | LongAvg | Long(Max)
    instance_jvm_young_gc_time | ServiceInstanceJvmGc | Equal GcPhrase(New) | Sum | Long(Time)
    instance_jvm_old_gc_time | ServiceInstanceJvmGc | Equal GcPhrase(Old) | Sum | Long(Time)
    instance_jvm_young_gc_count | ServiceInstanceJvmGc | Equal GcPhrase(New) | Sum | Long(Count)
    instance_jvm_old_gc_count | ServiceInstanceJvmGc | Equal GcPhrase(Old) | Sum | Long(Count)
    instance_jvm_thread_live_count | ServiceInstanceJvmThread |  | LongAvg | Long(LiveCount)
    instance_jvm_thread_daemon_count | ServiceInstanceJvmThread |  | LongAvg | Long(DaemonCount)
    instance_jvm_thread_peak_count | ServiceInstanceJvmThread |  | LongAvg | Long(PeakCount)
    instance_clr_cpu | ServiceInstanceClrCpu |  | DoubleAvg | Double(UsePercent)
    instance_clr_gen0_collect_count | ServiceInstanceClrGc |  | Sum | Long(Gen0CollectCount)
    instance_clr_gen1_collect_count | ServiceInstanceClrGc |  | Sum | Long(Gen1CollectCount)
    instance_clr_gen2_collect_count | ServiceInstanceClrGc |  | Sum | Long(Gen2CollectCount)
    instance_clr_heap_memory | ServiceInstanceClrGc |  | LongAvg | Long(HeapMemory)
    instance_clr_available_completion_port_threads | ServiceInstanceClrThread |  | Max | Long(AvailableCompletionPortThreads)
    instance_clr_available_worker_threads | ServiceInstanceClrThread |  | Max | Long(AvailableWorkerThreads)
    instance_clr_max_completion_port_threads | ServiceInstanceClrThread |  | Max | Long(MaxCompletionPortThreads)
    instance_clr_max_worker_threads | ServiceInstanceClrThread |  | Max | Long(MaxWorkerThreads)
    envoy_heap_memory_max_used | EnvoyInstanceMetric | Equal Text("server.memory_heap_size") | MaxDouble | Double(Value)
    envoy_total_connections_used | EnvoyInstanceMetric | Equal Text("server.total_connections") | MaxDouble | Double(Value)
    envoy_parent_connections_used | EnvoyInstanceMetric | Equal Text("server.parent_connections") | MaxDouble | Double(Value)
    "#);
}

#[test]
fn names_are_stored_in_lower_case_and_filters_are_anded() {
    let got = metric(
        r#"Slow_Calls = from(Endpoint.latency) /* why */ .filter(latency >= 1_000)
            .filter(type == RequestType.gRPC).filter(name == "a \"b\"").sum()"#,
    );
    let filter = |attr, op, literal| Filter { attr, op, literal };
    assert_eq!(
        got,
        MetricDefinition {
            name: "slow_calls".to_owned(),
            scope: Scope::Endpoint,
            filters: vec![
                filter(Attr::Latency, CompareOp::GreaterEqual, Literal::Long(1000)),
                filter(
                    Attr::Type,
                    CompareOp::Equal,
                    Literal::RequestType(RequestType::Grpc)
                ),
                filter(
                    Attr::Entity(EntityField::Name),
                    CompareOp::Equal,
                    Literal::Text("a \"b\"".to_owned())
                ),
            ],
            function: Function::Sum,
            entrance: Entrance::Long(Attr::Latency),
        }
    );
}

#[test]
fn every_function_takes_what_it_needs() {
    let latency = Entrance::Long(Attr::Latency);
    let duration = Entrance::Int(Attr::Latency);
    let status = Filter {
        attr: Attr::Status,
        op: CompareOp::Equal,
        literal: Literal::Bool(false),
    };
    let apdex = Entrance::Apdex {
        service: Attr::Entity(EntityField::Name),
        latency: Attr::Latency,
        status: Attr::Status,
    };
    let histogram = Function::Histogram {
        step: 100,
        max_steps: 20,
    };
    for (text, function, entrance) in [
        (
            "Service.latency).longAvg()",
            Function::LongAvg,
            latency.clone(),
        ),
        ("Service.latency).max()", Function::Max, latency.clone()),
        ("Service.latency).min()", Function::Min, latency.clone()),
        ("Service.latency).sum()", Function::Sum, latency),
        (
            "Service.latency).doubleAvg()",
            Function::DoubleAvg,
            Entrance::Double(Attr::Latency),
        ),
        (
            "EnvoyInstanceMetric.value).maxDouble()",
            Function::MaxDouble,
            Entrance::Double(Attr::Value),
        ),
        (
            "EnvoyInstanceMetric.value).minDouble()",
            Function::MinDouble,
            Entrance::Double(Attr::Value),
        ),
        (
            "EnvoyInstanceMetric.value).longAvg()",
            Function::LongAvg,
            Entrance::Long(Attr::Value),
        ),
        ("Service.*).cpm()", Function::Cpm, Entrance::One),
        ("Service.latency).count()", Function::Count, Entrance::One),
        (
            "Service.*).percent(status == false)",
            Function::Percent,
            Entrance::Match(status),
        ),
        (
            "Service.latency).apdex(name, status)",
            Function::Apdex,
            apdex,
        ),
        (
            "All.latency).histogram(100, 20)",
            histogram,
            duration.clone(),
        ),
        (
            "All.latency).percentile(10)",
            Function::Percentile { precision: 10 },
            duration.clone(),
        ),
        (
            "All.latency).p75(5)",
            Function::Rank {
                rank: 75,
                precision: 5,
            },
            duration,
        ),
    ] {
        let got = metric(&format!("m = from({text};"));
        assert_eq!((got.function, got.entrance), (function, entrance), "{text}");
    }
}

#[test]
fn literals_take_the_type_of_the_attribute() {
    for (text, want) in [
        ("All.*).filter(latency > -5)", Literal::Long(-5)),
        (
            "EnvoyInstanceMetric.*).filter(value < 1)",
            Literal::Double(1.0),
        ),
        (
            "EnvoyInstanceMetric.*).filter(value <= 1.5)",
            Literal::Double(1.5),
        ),
        ("All.*).filter(status == true)", Literal::Bool(true)),
        (
            "ServiceRelation.*).filter(detectPoint == DetectPoint.PROXY)",
            Literal::DetectPoint(DetectPoint::Proxy),
        ),
    ] {
        let got = metric(&format!("m = from({text}.cpm();"));
        assert_eq!(got.filters[0].literal, want, "{text}");
    }
}

#[test]
fn disable_switches_built_in_models_off_once() {
    let program = one("disable(segment); disable(alarm_record);\ndisable(segment)").unwrap();
    assert_eq!(program.disabled, ["segment", "alarm_record"]);
    // A metric may still be called so.
    assert_eq!(metric("disable = from(All.*).cpm();").name, "disable");
}

#[test]
fn mistakes_are_reported_where_they_are() {
    for (text, want) in [
        (
            "m = from(Servce.*).cpm();",
            "1:10: unknown source `Servce`, known: All, Service, ServiceInstance, Endpoint, ServiceRelation, ServiceInstanceRelation, EndpointRelation, ServiceInstanceJVMCPU, ServiceInstanceJVMMemory, ServiceInstanceJVMMemoryPool, ServiceInstanceJVMGC, ServiceInstanceJVMThread, DatabaseAccess, ServiceInstanceCLRCPU, ServiceInstanceCLRGC, ServiceInstanceCLRThread, EnvoyInstanceMetric",
        ),
        (
            "m = from(DatabaseAccess.time).sum();",
            "1:25: unknown attribute `time`, known: name, databaseTypeId, latency, status",
        ),
        (
            "m = from(DatabaseAccess.*).filter(nme == \"a\").cpm();",
            "1:35: unknown attribute `nme`, known: name, databaseTypeId, latency, status",
        ),
        (
            "m = from(All.latency).avg();",
            "1:23: unknown function `avg`, known: longAvg, doubleAvg, sum, count, cpm, max, min, maxDouble, minDouble, percent, apdex, histogram, percentile, p50, p75, p90, p95, p99",
        ),
        (
            "m = from(All.*).longAvg();",
            "1:14: `longAvg` needs an attribute instead of `*`",
        ),
        (
            "m = from(All.status).sum();",
            "1:14: `sum` needs a number, found a boolean",
        ),
        (
            "m = from(All.name).p50(10);",
            "1:14: `p50` needs a number, found a text",
        ),
        ("m = from(All.latency).sum(1);", "1:23: expected `sum()`"),
        (
            "m = from(All.latency).percentile();",
            "1:23: expected `percentile(precision)`",
        ),
        (
            "m = from(All.latency).percentile(0);",
            "1:34: expected a whole number from 1 to 2147483647",
        ),
        (
            "m = from(All.latency).percentile(1.5);",
            "1:34: expected a whole number from 1 to 2147483647",
        ),
        (
            "m = from(All.latency).histogram(100);",
            "1:23: expected `histogram(step, maximum number of steps)`",
        ),
        (
            "m = from(All.latency).histogram(1, 99999);",
            "1:36: expected a whole number from 1 to 10000",
        ),
        (
            "m = from(All.*).percent(status);",
            "1:17: expected `percent(condition)`",
        ),
        (
            "m = from(Service.latency).apdex(status, name);",
            "1:33: expected a text, found a boolean\na.oal:1:41: expected a boolean, found a text",
        ),
        (
            "m = from(All.*).filter(status == \"true\").cpm();",
            "1:34: expected true or false",
        ),
        (
            "m = from(All.*).filter(latency == true).cpm();",
            "1:35: expected a whole number",
        ),
        (
            "m = from(All.*).filter(latency > 1.5).cpm();",
            "1:34: expected a whole number",
        ),
        (
            "m = from(All.*).filter(name == 1).cpm();",
            "1:32: expected a text in double quotes",
        ),
        (
            "m = from(All.*).filter(name > \"a\").cpm();",
            "1:29: a text can only be compared with `==`",
        ),
        (
            "m = from(All.*).filter(type == RequestType.GRPC).cpm();",
            "1:32: expected one of RequestType.DATABASE, RequestType.HTTP, RequestType.RPC, RequestType.gRPC, RequestType.LOGIC",
        ),
        (
            "m = from(ServiceInstanceJVMGC.*).filter(phrase == DetectPoint.CLIENT).cpm();",
            "1:51: expected one of GCPhrase.NEW, GCPhrase.OLD",
        ),
        (
            "m = from(All.*).cpm();\nM = from(All.*).cpm();",
            "2:1: metric `m` is already defined at a.oal:1:1",
        ),
        (
            "segment = from(All.*).cpm();",
            "1:1: `segment` is the name of a built-in model",
        ),
        (
            "disable(service_cpm);",
            "1:9: `service_cpm` cannot be disabled, only segment, top_n_database_statement, endpoint_relation_server_side, service_relation_server_side, service_relation_client_side, alarm_record, http_access_log, zipkin_span, jaeger_span, profile_task, profile_task_log, profile_task_segment_snapshot",
        ),
        (
            "m = from(All.*).cpm()\nn = from(All.*).cpm();",
            "2:1: expected `;` before `n`",
        ),
        (
            "m = from(All.*).filter(status != true).cpm();",
            "1:31: expected one of `==` `>` `<` `>=` `<=`, there are no others, found `!=`",
        ),
        ("m = frm(All.*).cpm();", "1:5: expected `from`, found `frm`"),
        ("m = from(All).cpm();", "1:13: expected `.`, found `)`"),
        ("m = from(All.*);", "1:16: expected `.`, found `;`"),
        (
            "m = from(All.*).filter(status == ).cpm();",
            "1:34: expected a value, found `)`",
        ),
        (
            "m = from(All.*).cpm(",
            "1:21: expected a value, found the end of the file",
        ),
        (
            "m : from(All.*).cpm();",
            "1:3: unexpected `:`\na.oal:1:5: expected `=`, found `from`",
        ),
        (
            ";",
            "1:1: expected the name of a metric, or `disable`, found `;`",
        ),
    ] {
        assert_eq!(
            one(text).unwrap_err().join("\n"),
            format!("a.oal:{want}"),
            "{text}"
        );
    }
}

#[test]
fn all_mistakes_of_all_files_are_reported_at_once() {
    let files = [
        (
            "a.oal",
            "a = from(All.x).sum()\nb = from(\nc = from(All.*).cpm();\nd = from(All.latency).avg();",
        ),
        ("b.oal", "c = from(All.*).cpm();\ne = from(Nope.*).nope();"),
    ];
    let found = compile(&files.map(|(f, t)| (f.to_owned(), t.to_owned()))).unwrap_err();
    let places: Vec<String> = found
        .iter()
        .map(|d| format!("{}:{}:{}", d.file, d.line, d.column))
        .collect();
    assert_eq!(
        places,
        [
            "a.oal:1:14",
            "a.oal:2:1",
            "a.oal:3:3",
            "a.oal:4:23",
            "b.oal:1:1",
            "b.oal:2:10",
            "b.oal:2:18"
        ]
    );
}

#[test]
fn garbage_never_ends_in_a_panic_or_a_flood() {
    let garbage = "m = from(((;;=.*\"\n#".repeat(2000);
    assert_eq!(one(&garbage).unwrap_err().len(), 100);
}

mod constructs;
