//! Several real servers that share the aggregation, on one Elasticsearch: what they store together must be what one alone
//! stores, to the last number, while members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tonic::transport::ClientTlsConfig;

use crate::es_console::EsConsole;
use crate::oap_process::{OapCommand, OapProcess};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const SERVICES: usize = 12;
/// Segments of one stream.
const BATCH: usize = 10;

/// Every function, over every kind of entity.
const SCRIPT: &str = "
all_cpm = from(All.*).cpm();
all_percentile = from(All.latency).percentile(10);
all_heatmap = from(All.latency).histogram(100, 20);
service_cpm = from(Service.*).cpm();
service_resp_time = from(Service.latency).longAvg();
service_sla = from(Service.*).percent(status == true);
service_apdex = from(Service.latency).apdex(name, status);
service_slowest = from(Service.latency).max();
service_fastest = from(Service.latency).min();
service_latencies = from(Service.latency).sum();
service_calls = from(Service.*).count();
service_p99 = from(Service.latency).p99(10);
instance_cpm = from(ServiceInstance.*).cpm();
endpoint_cpm = from(Endpoint.*).cpm();
endpoint_avg = from(Endpoint.latency).longAvg();
relation_cpm = from(ServiceRelation.*).filter(detectPoint == DetectPoint.SERVER).cpm();
endpoint_relation_cpm = from(EndpointRelation.*).cpm();
database_cpm = from(DatabaseAccess.*).cpm();
";

pub fn scripts() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("oal"))?;
    for (script, text) in [
        ("core", SCRIPT),
        ("java-agent", "// nothing\n"),
        ("dotnet-agent", "// nothing\n"),
        ("envoy", "// nothing\n"),
    ] {
        std::fs::write(folder.path().join(format!("oal/{script}.oal")), text)?;
    }
    Ok(folder)
}

/// The n-th segment of a day in a shop.
fn segment(n: usize, now_ms: i64, endpoints: usize) -> Bytes {
    let service = format!("shop-{}", n % SERVICES);
    let at_ms = now_ms - (n as i64 % 3) * 60_000;
    let latency_ms = (n as i64 * 37) % 3000;
    let served = Served {
        is_error: n.is_multiple_of(7),
        ..Served::new(n.to_string(), &service, at_ms, latency_ms)
    };
    let mut segment = match n % 4 {
        0 => served.calling(&format!("db-{}:3306", n % 5)),
        1 => served.called_at(&format!("{service}:8080")),
        _ => served.segment(),
    };
    segment.service_instance = format!("{service}-{}", n % 3);
    if !n.is_multiple_of(4) {
        segment.spans[0].operation_name = format!("/order/{}", n % endpoints);
    } else {
        segment.spans[0].span_layer = 1;
    }
    bytes(&segment)
}

/// Sends segments, one after the other, to whichever member takes them.
#[derive(Debug)]
pub struct Load {
    now_ms: i64,
    next: AtomicUsize,
    pub is_over: AtomicBool,
    tls: Option<ClientTlsConfig>,
    endpoints: usize,
}

impl Load {
    pub fn new() -> Arc<Load> {
        Load::with(None, 10)
    }

    pub fn with(tls: Option<ClientTlsConfig>, endpoints: usize) -> Arc<Load> {
        Arc::new(Load {
            tls,
            endpoints,
            now_ms: Timestamp::now().as_millisecond(),
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn batch(&self, first: usize) -> Vec<Bytes> {
        (first..first + BATCH)
            .map(|n| segment(n, self.now_ms, self.endpoints))
            .collect()
    }

    /// An agent with a list of addresses: it stays with one until that goes away.
    pub async fn agent(self: Arc<Self>, grpc: Vec<String>, pause: Duration) -> Result<()> {
        let mut addresses = grpc.iter().cycle();
        let mut sender = None;
        while !self.is_over.load(Ordering::SeqCst) {
            let batch = self.more();
            loop {
                let outcome = match &sender {
                    None => Err(anyhow::anyhow!("not connected")),
                    Some(sender) => send(sender, batch.clone()).await,
                };
                if outcome.is_ok() {
                    break;
                }
                let address = addresses.next().context("no addresses")?;
                let tls = self.tls.clone();
                sender = Sender::connect_over(tls, address, address).await.ok();
                tokio::time::sleep(pause).await;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// The next segments, for whoever sends them.
    pub fn more(&self) -> Vec<Bytes> {
        self.batch(self.next.fetch_add(BATCH, Ordering::SeqCst))
    }

    /// Segments that were given to agents.
    pub fn sent(&self) -> usize {
        self.next.load(Ordering::SeqCst)
    }

    pub async fn until(&self, count: usize) -> Result<()> {
        let goal = self.next.load(Ordering::SeqCst) + count;
        wait_until("segments are sent", DEADLINE, async || {
            let sent = self.next.load(Ordering::SeqCst);
            ensure!(sent >= goal, "{sent} of {goal}");
            Ok(())
        })
        .await
    }
}

async fn send(sender: &Sender, batch: Vec<Bytes>) -> Result<()> {
    let outcome = sender.call(COLLECT, Calling::ClientStream, batch).await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    Ok(())
}

/// A time zone in which it was about noon when the tests began: none of them sees a day end, of which each index has one.
fn midday() -> &'static str {
    static ZONE: OnceLock<String> = OnceLock::new();
    ZONE.get_or_init(|| {
        let hour = Timestamp::now().as_second().rem_euclid(86_400) / 3600;
        // East of Greenwich is negative.
        format!("Etc/GMT{:+}", hour - 12)
    })
}

/// The minute bucket of an instant in that zone.
pub fn minute(at: Timestamp) -> Result<i64> {
    let there = at.in_tz(midday())?;
    Ok(there.strftime("%Y%m%d%H%M").to_string().parse()?)
}

/// Addresses on which nobody listens.
pub fn free(hosts: &[&str]) -> Result<Vec<String>> {
    let listeners: Vec<TcpListener> = hosts
        .iter()
        .map(|host| TcpListener::bind((*host, 0)))
        .collect::<std::io::Result<_>>()?;
    let addresses = listeners.iter().map(|l| Ok(l.local_addr()?.to_string()));
    addresses.collect()
}

/// A member of a list, on Elasticsearch.
pub fn member(
    folder: &Path,
    namespace: &str,
    members: &[String],
    own: usize,
) -> Result<OapCommand> {
    let (host, port) = members[own].split_once(':').context("an address")?;
    let command = OapCommand::new(folder)
        .on_elasticsearch(namespace)?
        .with_metrics()
        .argument("--config")
        .argument(folder.display().to_string())
        .env("TZ", midday())
        .env("SW_CLUSTER", "static")
        .env("SW_CLUSTER_STATIC_MEMBERS", &members.join(","))
        .env("SW_CORE_GRPC_HOST", host)
        .env("SW_CORE_GRPC_PORT", port);
    Ok(command)
}

pub type Stored = BTreeMap<(String, String), Map<String, Value>>;

/// Everything but dashboards, and alarms, which depend on when they are checked; by index without the namespace, and id.
pub async fn stored(console: &EsConsole) -> Result<Stored> {
    let prefix = format!("{}_", console.namespace());
    let mut stored = Stored::new();
    for document in console.documents().await? {
        let index = document
            .index
            .strip_prefix(&prefix)
            .context("an index of others")?;
        if index != "ui_template" && !index.starts_with("alarm_") {
            stored.insert((index.to_owned(), document.id), document.source);
        }
    }
    Ok(stored)
}

/// What one server alone makes of the same segments.
pub async fn alone(name: &str, folder: &Path, load: &Load) -> Result<Stored> {
    let server = TestServer::builder(name, Store::Elasticsearch)
        .config_dir(folder)
        .env("TZ", midday())
        .start()
        .await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    for first in (0..load.next.load(Ordering::SeqCst)).step_by(BATCH) {
        send(&sender, load.batch(first)).await?;
    }
    server.flush().await?;
    let stored = stored(server.console().context("a console")?).await?;
    server.stop().await?;
    Ok(stored)
}

pub fn ensure_same(got: &Stored, want: &Stored) -> Result<()> {
    let mut wrong = Vec::new();
    for (key, want) in want {
        match got.get(key) {
            None => wrong.push(format!("{key:?} is missing")),
            Some(got) if got != want => {
                let brief = |map: &Map<String, Value>| {
                    Value::from(map.clone())
                        .to_string()
                        .chars()
                        .take(200)
                        .collect::<String>()
                };
                wrong.push(format!(
                    "{key:?}: {}
  not {}",
                    brief(got),
                    brief(want)
                ));
            }
            Some(_) => {}
        }
    }
    for key in got.keys().filter(|key| !want.contains_key(key)) {
        wrong.push(format!("{key:?} should not be there"));
    }
    let first: Vec<&str> = wrong.iter().take(12).map(String::as_str).collect();
    let models: BTreeSet<&str> = wrong.iter().filter_map(|w| w.split('"').nth(1)).collect();
    ensure!(
        wrong.is_empty(),
        "{} differ in {models:?}:\n{}",
        wrong.len(),
        first.join("\n")
    );
    Ok(())
}

/// Waits until a process has ended that was told to, with everything stored; its log.
pub async fn ensure_stored(process: OapProcess) -> Result<String> {
    let ended = process.ended().await?;
    ensure!(ended.status.success(), "{ended:?}");
    let log = ended.stdout;
    ensure!(
        log.contains("everything is stored") && !log.contains("lost") && !log.contains("given up"),
        "{log}"
    );
    Ok(log)
}

pub async fn has_logged(process: &OapProcess, text: &str) -> Result<()> {
    wait_until(text, DEADLINE, async || {
        let log = process.log();
        ensure!(log.contains(text), "not in {log}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_every_number_is_that_of_one_server() -> Result<()> {
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2", "127.0.0.3"])?;
    let console = EsConsole::new("cluster_many")?;
    let command = |own| member(folder.path(), "cluster_many", &members, own);
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    let load = Load::new();
    let mut agents = tokio::task::JoinSet::new();
    let pause = Duration::from_millis(40);
    for start in 0..3 {
        let mut addresses = members.clone();
        addresses.rotate_left(start);
        agents.spawn(Arc::clone(&load).agent(addresses, pause));
    }
    has_logged(&first, "taken over").await?;
    has_logged(&second, "taken over").await?;
    load.until(500).await?;

    let third = command(2)?.start().await?;
    has_logged(&third, "taken over").await?;
    has_logged(&second, "handed over").await?;
    load.until(500).await?;

    first.terminate()?;
    ensure_stored(first).await?;
    load.until(500).await?;
    let first = command(0)?.start().await?;
    has_logged(&first, "taken over").await?;
    second.terminate()?;
    load.until(500).await?;

    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    ensure_stored(second).await?;
    // All at once, with increments still on their way.
    first.terminate()?;
    third.terminate()?;
    ensure_stored(first).await?;
    ensure_stored(third).await?;
    let got = stored(&console).await?;
    let want = alone("cluster_one", folder.path(), &load).await?;
    ensure_same(&got, &want)?;
    ensure!(want.len() > 1000, "{}", want.len());
    console.clean().await
}
