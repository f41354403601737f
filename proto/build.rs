//! Compiles the agent protocol in two passes: the messages once, then both sets of services on top of them.
//!
//! No `protoc` is needed. Client-streamed messages are handed over undecoded (see `src/raw.rs`).

use std::{error::Error, fs, path::PathBuf};

const MESSAGES: [&str; 6] = [
    "agent/clr.proto",
    "agent/common.proto",
    "agent/jvm.proto",
    "agent/management.proto",
    "agent/profile.proto",
    "agent/trace.proto",
];
const SERVICES: [&str; 2] = ["agent/service/legacy.proto", "agent/service/v3.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=agent");
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

    tonic_prost_build::configure()
        .extern_path(".skywalking.v3", "crate::agent")
        .extern_path(".skywalking.v3.SegmentObject", "crate::RawMessage")
        .extern_path(".skywalking.v3.ThreadSnapshot", "crate::RawMessage")
        .out_dir(services)
        .compile_fds(protox::compile(SERVICES, ["."])?)?;
    Ok(())
}
