//! Starts etcd and ZooKeeper.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{Process, java};

/// Runs etcd on the first port that is free, and ends it when its input closes. Its log tells when it serves. What reads the
/// log ends after etcd, so that the output closes when etcd is gone.
const ETCD: &str = r#"
for port in $PORTS; do
  etcd --data-dir "$DATA" --enable-v2=$V2 --listen-client-urls http://127.0.0.1:$port --advertise-client-urls http://127.0.0.1:$port \
    --listen-peer-urls http://127.0.0.1:0 2>&1 \
    | (trap '' TERM; exec sed -u 's/.*serving insecure client requests on 127.0.0.1:\([0-9]*\),.*/STARTED \1/')
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
        let ports = match port {
            Some(port) => port.to_string(),
            None => free_ports(),
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", ETCD])
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
pub struct ZooKeeperServer(Process);

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
