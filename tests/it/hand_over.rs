//! A member leaves while it holds much, the store is slow and agents do not let go: nothing is lost, and it is gone before
//! Kubernetes kills it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use oap_proto::RawMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::cluster::{
    Load, alone, ensure_same, ensure_stored, free, has_logged, member, scripts, stored,
};
use crate::cluster_parts::gauge;
use crate::es_console::EsConsole;
use crate::peers::Elasticsearch;
use crate::segments::COLLECT;
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(90);
/// What every answer of the store takes longer.
const LATENCY: Duration = Duration::from_millis(300);
/// The chart gives a pod 30 s; some of them are needed to start ending.
const GRACE: Duration = Duration::from_secs(28);
const ENDPOINTS: usize = 1500;

/// The shared node, but all that it says comes later; `host:port`.
async fn slow_port() -> Result<String> {
    let node = tokio::task::block_in_place(Elasticsearch::shared).address();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let node = node.clone();
            tokio::spawn(async move { pass_on(client, &node).await });
        }
    });
    Ok(address)
}

async fn pass_on(client: TcpStream, node: &str) -> Result<()> {
    client.set_nodelay(true)?;
    let (mut answers, mut asked) = TcpStream::connect(node).await?.into_split();
    let (mut reader, mut writer) = client.into_split();
    let (later, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1000);
    let hearing = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = answers.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<_, anyhow::Error>(());
            }
            let at = Instant::now() + LATENCY;
            later.send((at, buffer[..read].to_vec())).await?;
        }
    };
    let telling = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            writer.write_all(&bytes).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        asked = tokio::io::copy(&mut reader, &mut asked) => { asked?; }
        told = async { tokio::try_join!(hearing, telling) } => { told?; }
    }
    Ok(())
}

/// A stream of segments that stays open when the last of them is sent, until it is dropped.
async fn half_open(grpc: &str, segments: Vec<Bytes>) -> Result<mpsc::Sender<RawMessage>> {
    let channel = Endpoint::new(format!("http://{grpc}"))?.connect().await?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let (sender, messages) = mpsc::channel(segments.len().max(1));
    for segment in segments {
        sender.send(RawMessage(segment)).await?;
    }
    let codec = ProstCodec::<RawMessage, RawMessage>::default();
    let path: PathAndQuery = COLLECT.parse()?;
    let stream = Request::new(ReceiverStream::new(messages));
    // The server ends it and says that it leaves.
    tokio::spawn(async move { client.client_streaming(stream, path, codec).await.map(drop) });
    Ok(sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_much_in_memory_leaves_in_time_on_a_slow_store() -> Result<()> {
    const SPACE: &str = "leaving";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(SPACE)?;
    let store = slow_port().await?;
    let command = |own| {
        let command = member(folder.path(), SPACE, &members, own)?;
        Ok::<_, anyhow::Error>(command.env("SW_STORAGE_ES_CLUSTER_NODES", &store))
    };
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    has_logged(&first, "layout is complete").await?;
    has_logged(&second, "layout is complete").await?;
    wait_until("both have a share", DEADLINE, async || {
        let held = [
            gauge(&first, "cluster_partitions_held").await?,
            gauge(&second, "cluster_partitions_held").await?,
        ];
        ensure!(
            held.iter().sum::<i64>() == 1024 && held[0] < 1024,
            "{held:?}"
        );
        Ok(())
    })
    .await?;
    let load = Load::with(None, ENDPOINTS);
    let mut agents = tokio::task::JoinSet::new();
    for start in 0..4 {
        let mut addresses = members.clone();
        addresses.rotate_left(start % 2);
        agents.spawn(Arc::clone(&load).agent(addresses, Duration::from_millis(10)));
    }
    // Long before the end, so that the server has read what is in them.
    let mut held_open = Vec::new();
    for _ in 0..5 {
        let stream = half_open(first.grpc(), load.more()).await?;
        held_open.push(stream);
    }
    load.until(ENDPOINTS * 2).await?;
    let began = Instant::now();
    first.terminate()?;
    ensure_stored(first).await?;
    let took = began.elapsed();
    eprintln!("left after {took:?}, {} segments", load.sent());
    ensure!(took < GRACE, "{took:?}");
    load.until(200).await?;
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    second.terminate()?;
    ensure_stored(second).await?;
    let got = stored(&console).await?;
    ensure_same(&got, &alone("left_alone", folder.path(), &load).await?)?;
    console.clean().await
}
