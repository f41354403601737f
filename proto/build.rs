//! Compiles the protocols in two passes: the messages once, then both sets of services on top of them.
//!
//! No `protoc` is needed. What agents report is handed over undecoded (see `src/raw.rs`).

use std::{error::Error, fs, path::PathBuf};

const MESSAGES: [&str; 8] = [
    "agent/clr.proto",
    "agent/common.proto",
    "agent/jvm.proto",
    "agent/management.proto",
    "agent/mesh.proto",
    "agent/meter.proto",
    "agent/profile.proto",
    "agent/trace.proto",
];
const SERVICES: [&str; 2] = ["agent/service/legacy.proto", "agent/service/v3.proto"];
const REPORTS: [&str; 10] = [
    "SegmentObject",
    "ThreadSnapshot",
    "ProfileTaskFinishReport",
    "JVMMetricCollection",
    "CLRMetricCollection",
    "InstanceProperties",
    "InstancePingPkg",
    "ServiceMeshMetric",
    "MeterData",
    "MeterDataCollection",
];
const ENVOY_MESSAGES: [&str; 3] = [
    "envoy/access_log.proto",
    "envoy/metrics.proto",
    "envoy/node.proto",
];
const ENVOY_SERVICES: [&str; 2] = [
    "envoy/service/access_log.proto",
    "envoy/service/metrics.proto",
];
const ENVOY_REPORTS: [&str; 2] = ["StreamAccessLogsMessage", "StreamMetricsMessage"];
const ISTIO_MESSAGES: [&str; 1] = ["istio/mixer.proto"];
const ISTIO_SERVICES: [&str; 1] = ["istio/service/metric.proto"];
const ISTIO_REPORTS: [&str; 1] = ["HandleMetricRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=agent");
    println!("cargo:rerun-if-changed=alarm");
    println!("cargo:rerun-if-changed=cluster");
    println!("cargo:rerun-if-changed=configuration");
    println!("cargo:rerun-if-changed=envoy");
    println!("cargo:rerun-if-changed=export");
    println!("cargo:rerun-if-changed=health.proto");
    println!("cargo:rerun-if-changed=istio");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let messages = out.join("messages");
    let services = out.join("services");
    fs::create_dir_all(&messages)?;
    fs::create_dir_all(&services)?;

    for files in [&MESSAGES[..], &ENVOY_MESSAGES, &ISTIO_MESSAGES] {
        tonic_prost_build::configure()
            .build_client(false)
            .build_server(false)
            .bytes(".")
            .out_dir(&messages)
            .compile_fds(protox::compile(files, ["."])?)?;
    }

    for (package, module, reports, files) in [
        (
            ".skywalking.v3",
            "crate::agent",
            &REPORTS[..],
            &SERVICES[..],
        ),
        (".envoy", "crate::envoy", &ENVOY_REPORTS, &ENVOY_SERVICES),
        (".istio", "crate::istio", &ISTIO_REPORTS, &ISTIO_SERVICES),
    ] {
        let mut on_top = tonic_prost_build::configure()
            .extern_path(package, module)
            .out_dir(&services);
        for report in reports {
            on_top = on_top.extern_path(format!("{package}.{report}"), "crate::RawMessage");
        }
        on_top.compile_fds(protox::compile(files, ["."])?)?;
    }

    tonic_prost_build::configure()
        .out_dir(&out)
        .compile_fds(protox::compile(["health.proto"], ["."])?)?;

    // They have no package either, as the services of agents: each in a folder of its own, where its file has a name of its own.
    for name in ["alarm", "configuration", "export"] {
        let folder = out.join(name);
        fs::create_dir_all(&folder)?;
        tonic_prost_build::configure()
            .out_dir(&folder)
            .compile_fds(protox::compile([format!("{name}/{name}.proto")], ["."])?)?;
    }

    let cluster = out.join("cluster");
    fs::create_dir_all(&cluster)?;
    tonic_prost_build::configure()
        .out_dir(&cluster)
        .compile_fds(protox::compile(
            ["cluster/exchange.proto", "cluster/remote.proto"],
            ["."],
        )?)?;
    Ok(())
}
