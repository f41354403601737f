//! Connections of agents that are told to go to another node: real agents must lose nothing by it, and nodes come to have the
//! same number of them.

mod nodes;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oap::journal::{Intake, Limits, Message, Work};
use oap::receiver::{GrpcOptions, ReceiverMetrics, Receivers, bind};
use oap::telemetry::Registry;
use oap_proto::agent::SegmentObject;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::peers::{JavaAgent, PythonAgent, PythonProtocol, Reporter, Role};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(120);

/// Not meant to be good, only to differ each time.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// A page that a real agent reports.
trait Shop {
    fn url(&self) -> String;
}

impl Shop for JavaAgent {
    fn url(&self) -> String {
        JavaAgent::url(self)
    }
}

impl Shop for PythonAgent {
    fn url(&self) -> String {
        PythonAgent::url(self)
    }
}

/// How often each segment arrived.
type Arrived = Arc<Mutex<BTreeMap<String, usize>>>;

/// Different ones, and all.
fn count(arrived: &Arrived) -> (usize, usize) {
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    (arrived.len(), arrived.values().sum())
}

async fn note(mut inbox: mpsc::Receiver<Work>, arrived: Arrived) -> Result<()> {
    while let Some(work) = inbox.recv().await {
        let Work::Batch(batch) = work else { continue };
        for message in &batch.messages {
            let Message::Segment(bytes) = message else {
                continue;
            };
            let segment = SegmentObject::decode(bytes.clone())?;
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            *arrived.entry(segment.trace_segment_id).or_default() += 1;
        }
    }
    Ok(())
}

/// Visits a page steadily until it is over; how often.
async fn visit(url: String, pause: Duration, is_over: Arc<AtomicBool>) -> Result<usize> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut visits = 0;
    while !is_over.load(Ordering::SeqCst) {
        let answer = client.get(&url).send().await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        visits += 1;
        tokio::time::sleep(pause).await;
    }
    Ok(visits)
}

/// How a real agent fares while its connection is moved, at random times, each connection at least this old.
const LEAST_AGE: Duration = Duration::from_millis(100);
const MOVING: Duration = Duration::from_secs(45);

/// The least that must have been moved in [`MOVING`].
async fn loses_nothing<A>(start: fn(Role<'_>, Reporter<'_>) -> A, least: u64) -> Result<A>
where
    A: Shop + Send + 'static,
{
    let limits = Limits {
        queued_bytes: 64 << 20,
        patience: Duration::from_secs(10),
    };
    let (intake, mut inboxes) = Intake::new(1, limits);
    let metrics = ReceiverMetrics::new(&Registry::new("127.0.0.1", 0))?;
    let receivers = Receivers::new(intake, metrics.clone());
    let lines = receivers.lines().clone();
    let listener = bind("127.0.0.1:0").await?;
    let oap = listener.local_addr()?.to_string();
    let stop = CancellationToken::new();
    let server = receivers.grpc(GrpcOptions::default())?;
    drop(receivers);
    let serving = tokio::spawn(server.serve(listener, stop.clone()));
    let arrived = Arrived::default();
    let noting = tokio::spawn(note(inboxes.remove(0), Arc::clone(&arrived)));
    let agent = tokio::task::spawn_blocking(move || {
        let reporter = Reporter {
            oap: &oap,
            service: "stock",
            instance: "one",
        };
        start(Role::Stock, reporter)
    })
    .await?;
    let page = format!("{}/stock", agent.url());
    let before = first_segments(&page, &arrived).await?;

    let is_over = Arc::new(AtomicBool::new(false));
    let mut visitors = tokio::task::JoinSet::new();
    for pause_ms in [5, 13, 31] {
        let pause = Duration::from_millis(pause_ms);
        visitors.spawn(visit(page.clone(), pause, Arc::clone(&is_over)));
    }
    let end = Instant::now() + MOVING;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100 + random() % 200)).await;
        lines.ask_one(LEAST_AGE, random());
    }
    is_over.store(true, Ordering::SeqCst);
    let visits: usize = visitors.join_all().await.into_iter().sum::<Result<_>>()?;
    wait_until("all segments", DEADLINE, async || {
        let (different, all) = count(&arrived);
        ensure!(
            different == before + visits && different == all,
            "{} of {visits} segments, {all} with repeated ones",
            different - before,
        );
        Ok(())
    })
    .await?;
    let told = metrics.moved_connections.with_label_values(&["answer"]);
    ensure!(told.get() > least, "moved only {} times", told.get());
    wait_until("what was told is closed", DEADLINE, async || {
        let closed = metrics
            .closed_connections
            .with_label_values(&["rebalanced"]);
        ensure!(closed.get() == told.get(), "{}", closed.get());
        Ok(())
    })
    .await?;
    stop.cancel();
    serving.await?;
    noting.await??;
    Ok(agent)
}

/// Visits until segments arrive: what an agent has before it is connected it throws away. How many came of it.
async fn first_segments(page: &str, arrived: &Arrived) -> Result<usize> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    wait_until("the first segment", DEADLINE, async || {
        client.get(page).send().await?;
        ensure!(count(arrived).0 > 0, "none");
        Ok(())
    })
    .await?;
    let mut known = 0;
    wait_until("no more segments of the start", DEADLINE, async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = std::mem::replace(&mut known, count(arrived).0);
        ensure!(before == known, "{known}");
        Ok(known)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_java_agent_loses_nothing_when_its_connection_is_moved_again_and_again() -> Result<()> {
    let java = loses_nothing(JavaAgent::start, 150).await?;
    let log = java.log();
    let (_, log) = log.split_once("READY").context("not started")?;
    ensure!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_agent_loses_nothing_when_its_connection_is_moved_again_and_again() -> Result<()>
{
    // It sends what it has every two seconds.
    let start =
        |role: Role<'_>, to: Reporter<'_>| PythonAgent::start(PythonProtocol::Grpc, role, to);
    loses_nothing(start, 10).await.map(drop)
}
