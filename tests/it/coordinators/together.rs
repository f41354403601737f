//! What two real servers do with every centre: they find each other, leave, die, and go on while the centre is away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::centers::Peer;
use crate::cluster::{Load, alone, ensure_same, free, has_logged, member, scripts, stored};
use crate::cluster_parts::gauge;
use crate::es_console::EsConsole;
use crate::oap_process::{OapCommand, OapProcess, few_metrics};
use crate::waiting::wait_until;

/// Above the 45 s that etcd keeps who does not come back.
const DEADLINE: Duration = Duration::from_secs(120);

/// A server with a folder and an address of its own.
struct Node {
    folder: TempDir,
    address: String,
}

impl Node {
    fn all<const N: usize>(hosts: [&str; N]) -> Result<Vec<Node>> {
        let addresses = free(&hosts)?.into_iter();
        let nodes = addresses.map(|address| {
            let folder = tempfile::tempdir()?;
            few_metrics(&folder.path().join("config"))?;
            Ok(Node { folder, address })
        });
        nodes.collect()
    }

    fn command(&self, peer: &Peer) -> Result<OapCommand> {
        let (host, port) = self.address.split_once(':').context("an address")?;
        let command = OapCommand::new(self.folder.path())
            .with_metrics()
            .env("SW_CORE_GRPC_HOST", host)
            .env("SW_CORE_GRPC_PORT", port);
        Ok(peer.set(command))
    }
}

/// What a server says of itself: members, partitions that it writes, whether it is announced.
async fn state(process: &OapProcess) -> Result<(i64, i64, i64)> {
    Ok((
        gauge(process, "cluster_size").await?,
        gauge(process, "cluster_partitions_held").await?,
        gauge(process, "cluster_registered").await?,
    ))
}

async fn until_both(first: &OapProcess, second: &OapProcess) -> Result<()> {
    wait_until("both share the work", DEADLINE, async || {
        let (one, two) = (state(first).await?, state(second).await?);
        let is_shared = one.0 == 2 && two.0 == 2 && one.1 + two.1 == 1024;
        ensure!(
            is_shared && one.2 == 1 && two.2 == 1,
            "{one:?} {two:?} {} {}",
            first.log(),
            second.log()
        );
        Ok(())
    })
    .await
}

async fn until_alone(process: &OapProcess) -> Result<()> {
    wait_until("one is left", DEADLINE, async || {
        let state = state(process).await?;
        ensure!(state == (1, 1024, 1), "{state:?} {}", process.log());
        Ok(())
    })
    .await
}

async fn until_listed(peer: &Peer, nodes: &[&Node]) -> Result<()> {
    let want: BTreeSet<String> = nodes.iter().map(|node| node.address.clone()).collect();
    wait_until("the list", DEADLINE, async || {
        let listed = peer.listed().await?;
        ensure!(listed == want, "{listed:?}, not {want:?}");
        Ok(())
    })
    .await
}

/// What every centre has to do.
async fn finds_everyone(mut peer: Peer) -> Result<()> {
    let nodes = Node::all(["127.0.0.1", "127.0.0.2"])?;
    let (first, second) = (&nodes[0], &nodes[1]);
    let (one, two) = (first.command(&peer)?, second.command(&peer)?);
    let (mut one, two) = tokio::try_join!(one.start(), two.start())?;
    until_both(&one, &two).await?;
    until_listed(&peer, &[first, second]).await?;

    // The centre is away: nothing changes. When it is back it knows nobody.
    peer.pause().await?;
    for process in [&one, &two] {
        has_logged(process, "members that are known stay").await?;
        let state = state(process).await?;
        ensure!(state.0 == 2, "{state:?}");
    }
    peer.resume().await?;
    until_listed(&peer, &[first, second]).await?;
    for process in [&one, &two] {
        has_logged(process, "the coordinator does what it is asked again").await?;
        wait_until("announced again", DEADLINE, async || {
            let again = gauge(process, "cluster_registrations_total").await?;
            // What Nacos makes of a beat is an announcement too.
            let is_again = again >= 2 || matches!(peer, Peer::Nacos(_));
            ensure!(is_again, "announced {again} times");
            Ok(())
        })
        .await?;
    }
    until_both(&one, &two).await?;
    ensure!(gauge(&two, "cluster_lost_members_total").await? == 0);

    // One that leaves is gone at once, not only when it has ended.
    one.terminate()?;
    has_logged(&one, "this node is taken from the list").await?;
    until_listed(&peer, &[second]).await?;
    ensure_ended(one).await?;
    until_alone(&two).await?;

    // One that dies is gone when the centre misses it; the other has noticed before.
    one = first.command(&peer)?.start().await?;
    until_both(&one, &two).await?;
    one.kill()?;
    until_alone(&two).await?;
    until_listed(&peer, &[second]).await?;

    // One that has to start without the centre waits for it.
    peer.pause().await?;
    let one = first.command(&peer)?.start().await?;
    has_logged(&one, "metrics wait; after a minute this node works alone").await?;
    peer.resume().await?;
    until_listed(&peer, &[first, second]).await?;
    until_both(&one, &two).await?;
    ensure_all_stop(one, two).await
}

async fn ensure_all_stop(one: OapProcess, two: OapProcess) -> Result<()> {
    one.terminate()?;
    two.terminate()?;
    ensure_ended(one).await?;
    ensure_ended(two).await
}

/// Waits until one has ended that was told to, with nothing lost.
async fn ensure_ended(process: OapProcess) -> Result<()> {
    let ended = process.ended().await?;
    ensure!(ended.status.success(), "{ended:?}");
    let log = ended.stdout;
    ensure!(
        log.contains("everything is stored") && !log.contains("is lost"),
        "{log}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_etcd_by_its_older_interface() -> Result<()> {
    finds_everyone(Peer::etcd(true)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_etcd_by_its_newer_interface() -> Result<()> {
    finds_everyone(Peer::etcd(false)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_zookeeper() -> Result<()> {
    finds_everyone(Peer::zookeeper(false)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_zookeeper_with_nodes_that_belong_to_a_user() -> Result<()> {
    finds_everyone(Peer::zookeeper(true)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_consul() -> Result<()> {
    finds_everyone(Peer::consul()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_nacos() -> Result<()> {
    finds_everyone(Peer::nacos()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_announced_where_it_says_it_is_and_nacos_names_it_so() -> Result<()> {
    let peer = Peer::nacos()?;
    let mut nodes = Node::all(["127.0.0.3"])?;
    let mut node = nodes.pop().context("a node")?;
    let command = node
        .command(&peer)?
        .env("SW_CORE_GRPC_HOST", "0.0.0.0")
        .env("SW_CLUSTER_INTERNAL_COM_HOST", "127.0.0.3");
    let process = command.start().await?;
    until_listed(&peer, &[&node]).await?;
    until_alone(&process).await?;
    let page = reqwest::get(process.metrics_url()?).await?.text().await?;
    let instance = format!("sw_backend_instance=\"{}\"", node.address.replace(':', "_"));
    ensure!(page.contains(&instance), "{page}");
    process.kill()?;

    // Another port on a way through something that forwards.
    let command = node
        .command(&peer)?
        .env("SW_CLUSTER_INTERNAL_COM_PORT", "9");
    let process = command.start().await?;
    node.address = "127.0.0.3:9".to_owned();
    until_listed(&peer, &[&node]).await?;
    process.stop().await
}

/// A node that is a Receiver sends everything to those who write, and nobody hears of it from the centre.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_looks_and_is_not_listed() -> Result<()> {
    let peer = Peer::etcd(true)?;
    let nodes = Node::all(["127.0.0.1", "127.0.0.2"])?;
    let (receiver, writer) = (&nodes[0], &nodes[1]);
    let receiving = receiver.command(&peer)?.env("SW_CORE_ROLE", "Receiver");
    let receiving = receiving.start().await?;
    let writing = writer.command(&peer)?.env("SW_CORE_ROLE", "Aggregator");
    let writing = writing.start().await?;
    until_alone(&writing).await?;
    wait_until("the receiver knows the writer", DEADLINE, async || {
        let state = state(&receiving).await?;
        ensure!(state == (1, 0, 0), "{state:?} {}", receiving.log());
        Ok(())
    })
    .await?;
    until_listed(&peer, &[writer]).await?;
    receiving.stop().await?;
    until_listed(&peer, &[writer]).await?;
    writing.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_zookeeper_knows_make_the_numbers_of_one_server() -> Result<()> {
    const NAME: &str = "coordinated_many";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let peer = Peer::zookeeper(false)?;
    let command =
        |own| Ok::<_, anyhow::Error>(peer.set(member(folder.path(), NAME, &members, own)?));
    let first = command(0)?.start().await?;
    has_logged(&first, "taken over").await?;
    let load = Load::new();
    let mut agents = tokio::task::JoinSet::new();
    for start in 0..2 {
        let mut addresses = members.clone();
        addresses.rotate_left(start);
        agents.spawn(Arc::clone(&load).agent(addresses, Duration::from_millis(40)));
    }
    load.until(300).await?;
    let second = command(1)?.start().await?;
    has_logged(&second, "taken over").await?;
    load.until(300).await?;
    first.terminate()?;
    ensure_ended(first).await?;
    load.until(300).await?;
    let first = command(0)?.start().await?;
    has_logged(&first, "taken over").await?;
    load.until(300).await?;
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    ensure_all_stop(first, second).await?;
    let got = stored(&console).await?;
    let want = alone("coordinated_one", folder.path(), &load).await?;
    ensure_same(&got, &want)?;
    ensure!(want.len() > 1000, "{}", want.len());
    console.clean().await
}
