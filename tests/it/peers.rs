//! Starts the real programs of `tests/peers` for tests: an Elasticsearch node and services with SkyWalking agents.
//!
//! They are not installed here: a missing one is a panic that names the script. Every program gets a pipe as its
//! standard input and ends when that closes, so none outlives the test process, however it ends. Starting
//! blocks the calling thread, a second or two for an agent, some ten for Elasticsearch.

mod browser;
mod centers;
mod prometheus;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

pub use browser::{Browser, dom, screenshot};
pub use centers::{EtcdServer, NacosServer, Restartable};
pub use prometheus::families;

/// Far above what a loaded machine needs; a program that dies is noticed at once.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// For closing indices and buffers; after that a program is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of output kept for the message of a failed start.
const TAIL_LINES: usize = 60;

/// An Elasticsearch 7.10 node on 127.0.0.1, stopped when dropped.
#[derive(Debug)]
pub struct Elasticsearch {
    process: Process,
    credentials: Option<(String, String)>,
}

impl Elasticsearch {
    /// The node that all tests of this process share, started by the first caller. It asks for user and password;
    /// tests keep apart by a namespace of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Elasticsearch> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(0, None, Some(("oap", "s3cret:with/odd@signs"))))
    }

    /// A node of the test's own, to be lost and found again. Port 0 picks a free one; without a data folder the
    /// data goes away with the node; without credentials (user, password) it lets everybody in.
    pub fn start(port: u16, data: Option<&Path>, credentials: Option<(&str, &str)>) -> Self {
        let mut command = java("elasticsearch", "peers.Es7", &["-Xms512m", "-Xmx1g"]);
        command.arg(port.to_string()).arg("0");
        command.arg(data.unwrap_or(Path::new("-")));
        if let Some((user, password)) = credentials {
            command.arg(format!("{user}:{password}"));
        }
        Self {
            process: Process::start("elasticsearch", command, "STARTED"),
            credentials: credentials.map(|(user, password)| (user.into(), password.into())),
        }
    }

    /// An OpenSearch 2.11 node, which takes requests as Elasticsearch does; it lets everybody in.
    pub fn start_opensearch() -> Self {
        let mut command = java("opensearch", "peers.OpenSearch2", &["-Xms256m", "-Xmx512m"]);
        command.args(["0", "0", "-"]);
        Self {
            process: Process::start("opensearch", command, "STARTED"),
            credentials: None,
        }
    }

    /// `host:port`, the form of the setting for cluster nodes.
    pub fn address(&self) -> String {
        self.process.address()
    }

    /// `http://host:port`
    pub fn url(&self) -> String {
        self.process.url()
    }

    /// User and password, if the node asks for them.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let (user, password) = self.credentials.as_ref()?;
        Some((user, password))
    }
}

/// What a service with an agent says about itself, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Reporter<'a> {
    /// `host:port` of the server under test: its gRPC port, or its HTTP port for [`PythonProtocol::Http`].
    pub oap: &'a str,
    pub service: &'a str,
    pub instance: &'a str,
}

/// Which pages a service has, beside `/broken`, which always fails with status 500.
#[derive(Debug, Clone, Copy)]
pub enum Role<'a> {
    /// `/order`, which calls `/stock` at this URL.
    Order { stock: &'a str },
    /// `/stock`
    Stock,
}

/// Which Python agent speaks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonProtocol {
    /// Agent 0.4.0: gRPC under the names of 8.1.0, all segments in one stream that does not end.
    Legacy,
    /// Agent 1.2.0: gRPC under the `skywalking.v3.` names.
    Grpc,
    /// Agent 1.2.0: JSON over HTTP.
    Http,
}

/// A Flask service instrumented by a Python agent, stopped when dropped.
#[derive(Debug)]
pub struct PythonAgent(Process);

impl PythonAgent {
    pub fn start(protocol: PythonProtocol, role: Role<'_>, reporter: Reporter<'_>) -> Self {
        let (agent, argument) = match protocol {
            PythonProtocol::Legacy => ("python-agent-0.4.0", "legacy"),
            PythonProtocol::Grpc => ("python-agent-1.2.0", "grpc"),
            PythonProtocol::Http => ("python-agent-1.2.0", "http"),
        };
        let mut command = Command::new(installed(agent).join("bin/python"));
        command.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/peers/python-agent/app.py"
        ));
        command.args(["--protocol", argument]);
        service_arguments(&mut command, role, reporter);
        Self(Process::start(agent, command, "READY"))
    }

    /// `http://host:port` of its pages.
    pub fn url(&self) -> String {
        self.0.url()
    }
}

/// A service with the core of the Java agent 8.1.0 (8.1.0 names, a stream for each batch), stopped when dropped.
#[derive(Debug)]
pub struct JavaAgent(Process);

impl JavaAgent {
    /// What it has logged, from WARN on.
    pub fn log(&self) -> String {
        self.0.tail.text()
    }

    pub fn start(role: Role<'_>, reporter: Reporter<'_>) -> Self {
        let mut command = java("java-agent", "peers.Shop", &["-Xmx64m"]);
        service_arguments(&mut command, role, reporter);
        Self(Process::start("java-agent", command, "READY"))
    }

    /// `http://host:port` of its pages.
    pub fn url(&self) -> String {
        self.0.url()
    }
}

/// A started program and the port it said it listens on.
#[derive(Debug)]
struct Process {
    child: Child,
    port: u16,
    tail: Tail,
    /// Disconnected when the program has closed its output, that is, has ended.
    ended: Mutex<Receiver<u16>>,
}

impl Process {
    /// Runs the command until it prints the word and a port.
    fn start(name: &str, mut command: Command, word: &'static str) -> Self {
        // A proxy of the machine must not catch requests between local programs.
        command
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {name}: {error}; {HOW_TO_INSTALL}"));
        let tail = Tail::default();
        let (sender, ports) = channel();
        if let Some(stdout) = child.stdout.take() {
            let tail = tail.clone();
            thread::spawn(move || tail.read(stdout, Some((word, sender))));
        }
        if let Some(stderr) = child.stderr.take() {
            let tail = tail.clone();
            thread::spawn(move || tail.read(stderr, None));
        }
        let port = wait_for_port(name, &ports, &tail);
        Self {
            child,
            port,
            tail,
            ended: Mutex::new(ports),
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing its input lets it clean up after itself; the rest is for a program that hangs.
        drop(self.child.stdin.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(
            ended.recv_timeout(STOP_TIMEOUT),
            Err(RecvTimeoutError::Timeout)
        ) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

/// The last lines of a program's output. Reading goes on after the start, or the program would block.
#[derive(Debug, Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn read(&self, output: impl Read, wanted: Option<(&str, Sender<u16>)>) {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let port = wanted.as_ref().and_then(|(word, _)| {
                let rest = line.strip_prefix(word)?.trim();
                rest.parse().ok()
            });
            // The sender stays until the end of the output, which its receiver takes for the program's end.
            if let (Some(port), Some((_, sender))) = (port, &wanted) {
                sender.send(port).ok();
            }
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == TAIL_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn text(&self) -> String {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.make_contiguous().join("\n")
    }
}

fn wait_for_port(name: &str, ports: &Receiver<u16>, tail: &Tail) -> u16 {
    match ports.recv_timeout(START_TIMEOUT) {
        Ok(port) => port,
        Err(RecvTimeoutError::Disconnected) => {
            panic!("{name} ended before it was ready:\n{}", tail.text())
        }
        Err(RecvTimeoutError::Timeout) => {
            panic!(
                "{name} was not ready in {START_TIMEOUT:?}:\n{}",
                tail.text()
            )
        }
    }
}

/// A Python of a known version: that of an agent.
pub fn python() -> Command {
    Command::new(installed("python-agent-1.2.0").join("bin/python"))
}

const HOW_TO_INSTALL: &str = "run tests/peers/prepare.sh";

/// The folder of a program that `prepare.sh` has completed.
pub fn installed(name: &str) -> PathBuf {
    let root = std::env::var_os("OAP_PEERS_DIR")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers"),
            PathBuf::from,
        )
        .join(name);
    assert!(
        root.join("stamp").is_file(),
        "{name} is not installed in {}: {HOW_TO_INSTALL}",
        root.display()
    );
    root
}

/// A Java program, with the flags of a short life: they halve the time to start.
fn java(name: &str, class: &str, memory: &[&str]) -> Command {
    let root = installed(name);
    let mut classpath = OsString::from(root.join("classes"));
    classpath.push(":");
    classpath.push(root.join("lib/*"));
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.args(memory).arg("-cp").arg(classpath).arg(class);
    command
}

fn service_arguments(command: &mut Command, role: Role<'_>, reporter: Reporter<'_>) {
    match role {
        Role::Order { stock } => command.args(["--role", "order", "--next", stock]),
        Role::Stock => command.args(["--role", "stock"]),
    };
    command.args(["--port", "0", "--oap", reporter.oap]);
    command.args(["--service", reporter.service]);
    command.args(["--instance", reporter.instance]);
}

mod tests {
    use super::{Elasticsearch, JavaAgent, PythonAgent, PythonProtocol, Reporter, Role};
    use anyhow::{Context, Result, ensure};
    use std::net::TcpListener;

    fn client() -> Result<reqwest::Client> {
        Ok(reqwest::Client::builder().no_proxy().build()?)
    }

    #[tokio::test]
    async fn shared_elasticsearch_asks_for_its_password() -> Result<()> {
        let node = Elasticsearch::shared();
        let (user, password) = node.credentials().context("the shared node is open")?;
        let stranger = client()?.get(node.url()).send().await?;
        ensure!(stranger.status() == 401, "{}", stranger.status());
        let impostor = client()?.get(node.url()).basic_auth(user, Some("wrong"));
        let impostor = impostor.send().await?;
        ensure!(impostor.status() == 401, "{}", impostor.status());
        let friend = client()?.get(node.url()).basic_auth(user, Some(password));
        let info: serde_json::Value = friend.send().await?.json().await?;
        ensure!(info["version"]["number"] == "7.10.2", "{info}");
        Ok(())
    }

    #[tokio::test]
    async fn a_lost_elasticsearch_comes_back_with_its_data() -> Result<()> {
        let data = tempfile::tempdir()?;
        let node = Elasticsearch::start(0, Some(data.path()), None);
        let address = node.address();
        let document = format!("http://{address}/kept/_doc/1");
        let put = client()?
            .put(format!("{document}?refresh=true"))
            .json(&serde_json::json!({"k": "v"}));
        put.send().await?.error_for_status()?;
        drop(node);
        let gone = client()?.get(&document).send().await;
        ensure!(gone.is_err(), "still there: {gone:?}");
        let port = address.rsplit(':').next().context("no port")?.parse()?;
        let node = Elasticsearch::start(port, Some(data.path()), None);
        ensure!(node.address() == address, "{} moved", node.address());
        // A restarted node answers before it has opened its indices again.
        let health = format!("http://{address}/_cluster/health/kept?wait_for_status=yellow");
        client()?.get(health).send().await?.error_for_status()?;
        let found: serde_json::Value = client()?.get(&document).send().await?.json().await?;
        ensure!(found["_source"]["k"] == "v", "{found}");
        Ok(())
    }

    /// The services must work without a server to report to; what they report is for other tests.
    #[tokio::test]
    async fn services_with_agents_serve_their_pages() -> Result<()> {
        let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let reporter = Reporter {
            oap: &nobody,
            service: "service",
            instance: "instance",
        };
        let stock = JavaAgent::start(Role::Stock, reporter);
        let role = Role::Order {
            stock: &stock.url(),
        };
        let order = JavaAgent::start(role, reporter);
        pages("java", &order.url()).await?;
        for protocol in [
            PythonProtocol::Legacy,
            PythonProtocol::Grpc,
            PythonProtocol::Http,
        ] {
            let order = PythonAgent::start(protocol, role, reporter);
            pages(&format!("{protocol:?}"), &order.url()).await?;
        }
        let stock = PythonAgent::start(PythonProtocol::Grpc, Role::Stock, reporter);
        let answer = client()?.get(stock.url() + "/stock").send().await?;
        ensure!(answer.text().await? == "stock of 7");
        Ok(())
    }

    async fn pages(name: &str, url: &str) -> Result<()> {
        let order = client()?.get(format!("{url}/order")).send().await?;
        let text = order.text().await?;
        ensure!(text == "order with stock of 7", "{name}: {text}");
        let broken = client()?.get(format!("{url}/broken")).send().await?;
        ensure!(broken.status() == 500, "{name}: {}", broken.status());
        Ok(())
    }
}
