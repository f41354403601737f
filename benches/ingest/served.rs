//! What the real server takes with the embedded store: started as a process of its own, filled over gRPC as fast as it
//! acknowledges, and ended. Time counts until it has stored everything; this process needs some of it to send.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use oap_proto::RawMessage;
use rusqlite::Connection;
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::SHOP;
use crate::input::{Input, Traffic};
use crate::process::{Memory, children_cpu_seconds};

/// Pace of the times in the segments; they are sent as fast as they are taken.
const PER_SECOND: usize = 20_000;
/// Agents that report at the same time, and segments of one report.
const SENDERS: usize = 4;
const PER_STREAM: usize = 500;
const COLLECT: &str = "/TraceSegmentReportService/collect";
const MIB: f64 = (1 << 20) as f64;

/// Ends a server that an error left behind.
pub(crate) struct Server(Child);

impl Server {
    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended unless something failed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends `segments` of the five-span shop and prints what that took.
pub(crate) fn run(segments: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let start_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let traffic = Traffic {
        input: Input::Shop(SHOP),
        per_second: PER_SECOND,
        start_ms: i64::try_from(start_ms)?,
    };
    let seconds = 0..segments.div_ceil(PER_SECOND);
    let encoded = seconds.flat_map(|s| traffic.second(s)).take(segments);
    let encoded: Vec<Bytes> = encoded.map(|m| Bytes::copy_from_slice(m.bytes())).collect();
    let (mut server, address, _) = start(dir.path(), &[])?;

    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(send_all(&address, encoded.into()))?;
    let acknowledged = begin.elapsed().as_secs_f64();
    let pid = server.0.id();
    let peak = Memory::of(&pid.to_string())?.peak as f64 / MIB;
    let status = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill: {status}");
    let status = server.0.wait()?;
    let stored = begin.elapsed().as_secs_f64();
    ensure!(status.success(), "the server ended with {status}");

    let (count, bytes) = content(dir.path())?;
    ensure!(
        count == segments,
        "{count} of {segments} segments are stored"
    );
    let cpu = children_cpu_seconds()?;
    let count = count as f64;
    println!("{segments} five-span segments, {SENDERS} senders beside the server");
    println!(
        "  acknowledged after {acknowledged:.1} s: {:.0} per second",
        count / acknowledged
    );
    println!(
        "  stored after {stored:.1} s: {:.0} per second",
        count / stored
    );
    println!(
        "  {:.2} CPU seconds per 100,000, {peak:.0} MiB at most",
        cpu * 1e5 / count
    );
    println!("  {:.0} MB on disk per million", bytes as f64 / count);
    Ok(())
}

/// The server and its addresses, for agents and for questions; `settings` are variables of its environment.
pub(crate) fn start(
    data: &Path,
    settings: &[(&str, &str)],
) -> anyhow::Result<(Server, String, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_oap"))
        .args(["--data".as_ref(), data.as_os_str()])
        .envs([
            ("SW_CORE_GRPC_HOST", "127.0.0.1"),
            ("SW_CORE_GRPC_PORT", "0"),
            ("SW_CORE_REST_HOST", "127.0.0.1"),
            ("SW_CORE_REST_PORT", "0"),
        ])
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no output")?;
    let server = Server(child);
    let (sender, addresses) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((before, address)) = line.split_once("address=")
                && before.contains("agents report here")
            {
                let address = address.split_whitespace().next().unwrap_or_default();
                sender.send(address.to_owned()).ok();
            } else if line.contains("WARN") || line.contains("ERROR") {
                eprintln!("{line}");
            }
        }
    });
    // The port for agents comes first.
    let address = || addresses.recv().context("the server did not start");
    Ok((server, address()?, address()?))
}

pub(crate) async fn send_all(address: &str, segments: Arc<[Bytes]>) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        let channel = Endpoint::new(format!("http://{address}"))?
            .connect()
            .await?;
        let (next, segments) = (Arc::clone(&next), Arc::clone(&segments));
        senders.spawn(async move {
            let mut client = tonic::client::Grpc::new(channel);
            loop {
                let at = next.fetch_add(PER_STREAM, Ordering::Relaxed);
                let end = segments.len().min(at + PER_STREAM);
                let Some(part) = segments.get(at..end).filter(|part| !part.is_empty()) else {
                    return anyhow::Ok(());
                };
                client.ready().await?;
                let messages: Vec<_> = part.iter().cloned().map(RawMessage).collect();
                let codec = ProstCodec::<RawMessage, RawMessage>::default();
                let stream = Request::new(tokio_stream::iter(messages));
                let path = PathAndQuery::from_static(COLLECT);
                client.client_streaming(stream, path, codec).await?;
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    Ok(())
}

/// Stored segments, and bytes of all files.
fn content(data: &Path) -> anyhow::Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in data.read_dir()? {
        let path = entry?.path();
        bytes += path.metadata()?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("records-") && name.ends_with(".db") {
            let sql = "SELECT count(*) FROM segment";
            let stored: i64 = Connection::open(&path)?.query_row(sql, [], |row| row.get(0))?;
            count += usize::try_from(stored)?;
        }
    }
    Ok((count, bytes))
}
