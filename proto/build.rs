//! Compiles the agent protocol in two passes: the messages once, then both sets of services on top of them.
//!
//! No `protoc` is needed. What agents report is handed over undecoded (see `src/raw.rs`).

use std::{error::Error, fs, path::PathBuf};

const MESSAGES: [&str; 7] = [
    "agent/clr.proto",
    "agent/common.proto",
    "agent/jvm.proto",
    "agent/management.proto",
    "agent/mesh.proto",
    "agent/profile.proto",
    "agent/trace.proto",
];
const SERVICES: [&str; 2] = ["agent/service/legacy.proto", "agent/service/v3.proto"];
const REPORTS: [&str; 7] = [
    "SegmentObject",
    "ThreadSnapshot",
    "JVMMetricCollection",
    "CLRMetricCollection",
    "InstanceProperties",
    "InstancePingPkg",
    "ServiceMeshMetric",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=agent");
    println!("cargo:rerun-if-changed=health.proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let messages = out.join("messages");
    let services = out.join("services");
    fs::create_dir_all(&messages)?;
    fs::create_dir_all(&services)?;

    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .out_dir(messages)
        .compile_fds(protox::compile(MESSAGES, ["."])?)?;

    let mut on_top = tonic_prost_build::configure()
        .extern_path(".skywalking.v3", "crate::agent")
        .out_dir(services);
    for report in REPORTS {
        on_top = on_top.extern_path(format!(".skywalking.v3.{report}"), "crate::RawMessage");
    }
    on_top.compile_fds(protox::compile(SERVICES, ["."])?)?;

    tonic_prost_build::configure()
        .out_dir(&out)
        .compile_fds(protox::compile(["health.proto"], ["."])?)?;
    Ok(())
}
