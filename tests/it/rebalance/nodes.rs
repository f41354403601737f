//! Three real servers behind a balancer that sends each connection anywhere, as a ClusterIP does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use oap_proto::RawMessage;
use oap_proto::agent::InstancePingPkg;
use oap_proto::legacy::management_service_client::ManagementServiceClient;
use oap_proto::legacy::trace_segment_report_service_client::TraceSegmentReportServiceClient;
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::random;
use crate::cluster::free;
use crate::oap_process::{OapCommand, OapProcess, few_metrics};
use crate::segments::Served;
use crate::waiting::wait_until;

const AGENTS: usize = 200;
const NODES: usize = 3;
/// So long it may take until nodes that have joined have their share.
const TWO_MINUTES: Duration = Duration::from_secs(120);

/// A node behind the balancer.
#[derive(Debug)]
struct Target {
    address: String,
    open: AtomicUsize,
}

/// Brings each connection to a node that chance chooses.
#[derive(Debug, Clone, Default)]
struct Balancer(Arc<Mutex<Vec<Arc<Target>>>>);

impl Balancer {
    async fn start() -> Result<(Balancer, String)> {
        let balancer = Balancer::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let known = balancer.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(known.choose().bring(client));
            }
        });
        Ok((balancer, address))
    }

    fn add(&self, address: &str) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push(Arc::new(Target {
            address: address.to_owned(),
            open: AtomicUsize::new(0),
        }));
    }

    fn choose(&self) -> Arc<Target> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&targets[random() as usize % targets.len()])
    }

    fn open(&self) -> Vec<usize> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = targets.iter().map(|t| t.open.load(Ordering::SeqCst));
        open.collect()
    }

    /// All agents are connected, and no node is further than a tenth from the mean.
    fn is_even(&self) -> Result<()> {
        let open = self.open();
        let mean = AGENTS as f64 / NODES as f64;
        let far = open.iter().map(|n| (*n as f64 - mean).abs() / mean);
        let skew = far.fold(0.0, f64::max);
        let all: usize = open.iter().sum();
        ensure!(
            open.len() == NODES && all == AGENTS && skew <= 0.1,
            "{open:?}: skew {skew:.2}"
        );
        Ok(())
    }
}

impl Target {
    async fn bring(self: Arc<Target>, mut client: TcpStream) -> Result<()> {
        let mut node = TcpStream::connect(&self.address).await?;
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        self.open.fetch_add(1, Ordering::SeqCst);
        let brought = tokio::io::copy_bidirectional(&mut client, &mut node).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        brought.map(drop).map_err(Into::into)
    }
}

/// Reports as an agent does, on one connection; ends with the first call that fails. How many did not.
async fn agent(number: usize, balancer: String, is_over: Arc<AtomicBool>) -> Result<usize> {
    let endpoint: Endpoint = Channel::from_shared(format!("http://{balancer}"))?;
    let channel = endpoint.connect().await?;
    let mut trace = TraceSegmentReportServiceClient::new(channel.clone());
    let mut management = ManagementServiceClient::new(channel);
    let ping = InstancePingPkg {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
    };
    let mut calls = 0;
    while !is_over.load(Ordering::SeqCst) {
        let now = Timestamp::now().as_millisecond();
        let segment = Served::new(format!("{number}-{calls}"), "shop", now, 5).bytes();
        trace
            .collect(tokio_stream::iter([RawMessage(segment)]))
            .await
            .context("a segment")?;
        tokio::time::sleep(Duration::from_millis(300 + random() % 400)).await;
        let ping = RawMessage(ping.encode_to_vec().into());
        management.keep_alive(ping).await.context("a heartbeat")?;
        tokio::time::sleep(Duration::from_millis(300 + random() % 400)).await;
        calls += 2;
    }
    Ok(calls)
}

async fn start(
    folder: &TempDir,
    config: &Path,
    members: &[String],
    own: usize,
) -> Result<OapProcess> {
    let (host, port) = members[own].split_once(':').context("an address")?;
    let command = OapCommand::new(folder.path())
        .with_metrics()
        .argument("--config")
        .argument(config.display().to_string())
        .env("SW_CLUSTER", "static")
        .env("SW_CLUSTER_STATIC_MEMBERS", &members.join(","))
        .env("SW_CORE_GRPC_HOST", host)
        .env("SW_CORE_GRPC_PORT", port);
    command.start().await
}

/// Values of a metric of a server, added up.
async fn sum(process: &OapProcess, name: &str, label: &str) -> Result<i64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let page = client.get(process.metrics_url()?).send().await?;
    let page = page.text().await?;
    let start = format!("{name}{{");
    let lines = page.lines().filter(|line| line.starts_with(&start));
    let lines = lines.filter(|line| line.contains(label));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum::<f64>() as i64)
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_one_node_spread_over_those_that_join_and_no_call_fails() -> Result<()> {
    let config = tempfile::tempdir()?;
    few_metrics(config.path())?;
    let folders = [(); NODES].map(|()| tempfile::tempdir());
    let folders: Vec<TempDir> = folders.into_iter().collect::<std::io::Result<_>>()?;
    let members = free(&["127.0.0.1", "127.0.0.2", "127.0.0.3"])?;
    let (balancer, address) = Balancer::start().await?;
    let mut nodes = vec![start(&folders[0], config.path(), &members, 0).await?];
    balancer.add(&members[0]);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        agents.spawn(agent(number, address.clone(), Arc::clone(&is_over)));
    }
    wait_until("all agents at one node", TWO_MINUTES, async || {
        ensure!(balancer.open() == [AGENTS], "{:?}", balancer.open());
        let known = sum(&nodes[0], "receiver_connections", "kind=\"agent\"").await?;
        ensure!(known == AGENTS as i64, "{known}");
        Ok(())
    })
    .await?;
    for own in 1..NODES {
        nodes.push(start(&folders[own], config.path(), &members, own).await?);
        balancer.add(&members[own]);
    }
    wait_until("the nodes have the same", TWO_MINUTES, async || {
        balancer.is_even()
    })
    .await?;
    // It stays so, though some are still to go.
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        wait_until("still the same", Duration::from_secs(5), async || {
            balancer.is_even()
        })
        .await?;
    }
    let mut moved = 0;
    for node in &nodes {
        moved += sum(node, "receiver_moved_connections_total", "").await?;
    }
    ensure!(moved > 100 && moved < 2 * AGENTS as i64, "{moved} moved");
    is_over.store(true, Ordering::SeqCst);
    let calls = agents.join_all().await;
    let calls: usize = calls.into_iter().sum::<Result<_>>()?;
    ensure!(calls > AGENTS * 30, "{calls}");
    for node in nodes {
        node.kill()?;
    }
    Ok(())
}
