//! Starts etcd, ZooKeeper, Consul and Nacos.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::{Process, installed, java};

/// Runs etcd on the first port that is free, and ends it when its input closes. Its log tells when it serves. What reads the
/// log ends after etcd, so that the output closes when etcd is gone.
const ETCD: &str = r#"
for port in $PORTS; do
  etcd --data-dir "$DATA" --enable-v2=$V2 --listen-client-urls $SCHEME://127.0.0.1:$port --advertise-client-urls $SCHEME://127.0.0.1:$port \
    --listen-peer-urls http://127.0.0.1:0 "$@" 2>&1 \
    | (trap '' TERM; exec sed -u -E 's/.*serving (insecure )?client requests on 127.0.0.1:([0-9]*)(,.*)?$/STARTED \2/')
done &
cat
kill 0
"#;
/// Ports to try: between looking for one and using it somebody else may take it.
const PORTS: usize = 5;

/// An etcd 3.4 server on 127.0.0.1, stopped when dropped.
#[derive(Debug)]
pub struct EtcdServer(Process);

impl EtcdServer {
    /// With its data in a folder. Without a port it takes a free one; `with_v2` also serves the older interface.
    pub fn start(port: Option<u16>, data: &Path, with_v2: bool) -> EtcdServer {
        EtcdServer::run(port, data, with_v2, "http", &[])
    }

    /// One that speaks TLS, both interfaces, with the certificate that names loopback addresses.
    pub fn start_tls(data: &Path) -> EtcdServer {
        let file = |name| format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let certificate = format!("--cert-file={}", file("loopback-cert.pem"));
        let key = format!("--key-file={}", file("loopback-key.pem"));
        EtcdServer::run(None, data, true, "https", &[&certificate, &key])
    }

    fn run(
        port: Option<u16>,
        data: &Path,
        with_v2: bool,
        scheme: &str,
        flags: &[&str],
    ) -> EtcdServer {
        let ports = match port {
            Some(port) => port.to_string(),
            None => free_ports(),
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", ETCD, "etcd"])
            .args(flags)
            .env("SCHEME", scheme)
            .process_group(0)
            .env("PORTS", ports)
            .env("DATA", data)
            .env("V2", with_v2.to_string());
        EtcdServer(Process::start("etcd", command, "STARTED"))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.0.address()
    }
}

fn free_ports() -> String {
    let listeners: Vec<TcpListener> = (0..PORTS)
        .filter_map(|_| TcpListener::bind("127.0.0.1:0").ok())
        .collect();
    let addresses = listeners.iter().filter_map(|l| l.local_addr().ok());
    let ports: Vec<String> = addresses.map(|a| a.port().to_string()).collect();
    ports.join(" ")
}

/// A ZooKeeper 3.8 server on 127.0.0.1, stopped when dropped.
#[derive(Debug)]
struct ZooKeeperServer(Process);

impl ZooKeeperServer {
    /// With its data in a folder. Port 0 picks a free one.
    pub fn start(port: u16, data: &Path) -> ZooKeeperServer {
        let mut command = java("zookeeper", "peers.Zk3", &["-Xmx64m"]);
        command.arg(port.to_string()).arg(data);
        ZooKeeperServer(Process::start("zookeeper", command, "STARTED"))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.0.address()
    }
}

/// A Consul 1.8 agent on 127.0.0.1, stopped when dropped.
#[derive(Debug)]
struct ConsulServer(Process);

impl ConsulServer {
    /// With its data in a folder. Port 0 picks a free one. With a token, a UUID, it asks for one: this one may do what nodes need,
    /// `root` everything.
    pub fn start(port: u16, data: &Path, token: Option<&str>) -> ConsulServer {
        let mut command = Command::new(installed("consul").join("consul"));
        command.arg(port.to_string()).arg(data).args(token);
        ConsulServer(Process::start("consul", command, "STARTED"))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.0.address()
    }
}

/// A Nacos 1.2 server on 127.0.0.1, stopped when dropped.
#[derive(Debug)]
pub struct NacosServer(Process);

impl NacosServer {
    /// With its data in a folder. Port 0 picks a free one; if `is_closed` it asks for a user and knows none.
    pub fn start(port: u16, data: &Path, is_closed: bool) -> NacosServer {
        let flags = [
            "-Xmx160m",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "--add-opens=java.base/java.util=ALL-UNNAMED",
        ];
        let mut command = java("nacos", "peers.Nacos1", &flags);
        command.arg(port.to_string()).arg(data);
        command.args(is_closed.then_some("auth"));
        NacosServer(Process::start("nacos", command, "STARTED"))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.0.address()
    }
}

/// A centre that can go and come back at its address.
pub struct Restartable {
    server: Option<Box<dyn Any>>,
    data: TempDir,
    address: String,
    start: Box<Start>,
}

/// Starts a server on a port, any free one for 0, with its data in a folder; with its address.
type Start = dyn Fn(u16, &Path) -> (Box<dyn Any>, String);

impl Restartable {
    pub fn etcd(serves_v2: bool) -> Result<Restartable> {
        Restartable::new(move |port, data| {
            let server = EtcdServer::start((port > 0).then_some(port), data, serves_v2);
            let address = server.address();
            (Box::new(server), address)
        })
    }

    pub fn zookeeper() -> Result<Restartable> {
        Restartable::new(|port, data| {
            let server = ZooKeeperServer::start(port, data);
            let address = server.address();
            (Box::new(server), address)
        })
    }

    /// One that asks for a token.
    pub fn consul(token: &'static str) -> Result<Restartable> {
        Restartable::new(move |port, data| {
            let server = ConsulServer::start(port, data, Some(token));
            let address = server.address();
            (Box::new(server), address)
        })
    }

    /// One that lets nobody in if `is_closed`.
    pub fn nacos(is_closed: bool) -> Result<Restartable> {
        Restartable::new(move |port, data| {
            let server = NacosServer::start(port, data, is_closed);
            let address = server.address();
            (Box::new(server), address)
        })
    }

    fn new(start: impl Fn(u16, &Path) -> (Box<dyn Any>, String) + 'static) -> Result<Restartable> {
        let data = tempfile::tempdir()?;
        let (server, address) = tokio::task::block_in_place(|| start(0, data.path()));
        Ok(Restartable {
            server: Some(server),
            data,
            address,
            start: Box::new(start),
        })
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends it; what it knows stays.
    pub fn pause(&mut self) {
        tokio::task::block_in_place(|| self.server = None);
    }

    /// What it knew is gone.
    pub fn forget(&mut self) -> Result<()> {
        self.data = tempfile::tempdir()?;
        Ok(())
    }

    /// Starts it again.
    pub fn resume(&mut self) -> Result<()> {
        let port = self.address.parse::<SocketAddr>()?.port();
        let start = || (self.start)(port, self.data.path());
        self.server = Some(tokio::task::block_in_place(start).0);
        Ok(())
    }
}
