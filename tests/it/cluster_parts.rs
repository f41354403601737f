//! Members of a cluster that are killed, that only receive, and that stand beside nodes of the original.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use oap::model::id;
use oap_proto::cluster::remote::{RemoteData, RemoteMessage};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{
    self, Load, Stored, alone, ensure_same, ensure_stored, free, has_logged, member, scripts,
    stored,
};
use crate::es_console::EsConsole;
use crate::oap_process::OapProcess;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

/// Value of a metric of the server itself.
pub async fn gauge(process: &OapProcess, name: &str) -> Result<i64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client
        .get(process.metrics_url()?)
        .send()
        .await?
        .text()
        .await?;
    let start = format!("{name}{{");
    let line = text.lines().find(|line| line.starts_with(&start));
    let (_, value) = line
        .and_then(|l| l.rsplit_once(' '))
        .context("no such metric")?;
    Ok(value.parse::<f64>()? as i64)
}

pub async fn has(process: &OapProcess, name: &str, want: i64) -> Result<()> {
    wait_until(name, DEADLINE, async || {
        let value = gauge(process, name).await?;
        ensure!(value == want, "{value}, not {want}");
        Ok(())
    })
    .await
}

/// Requests that are counted in minutes, of all services.
fn requests(stored: &Stored) -> Result<i64> {
    let is_minute = |id: &str| id.find('_') == Some("202011271800".len());
    let of_minutes = stored
        .iter()
        .filter(|((index, id), _)| index.starts_with("service_cpm") && is_minute(id));
    let totals = of_minutes.map(|(_, row)| row["total"].as_i64().context("a number"));
    totals.sum()
}

/// Two members that have divided everything between them.
async fn two(folder: &Path, name: &str, members: &[String]) -> Result<(OapProcess, OapProcess)> {
    let commands = (
        member(folder, name, members, 0)?,
        member(folder, name, members, 1)?,
    );
    let (first, second) = tokio::try_join!(commands.0.start(), commands.1.start())?;
    has_logged(&first, "taken over").await?;
    has_logged(&second, "taken over").await?;
    Ok((first, second))
}

/// Two agents, each at another member.
fn agents(load: &Arc<Load>, members: &[String]) -> JoinSet<Result<()>> {
    load.is_over.store(false, Ordering::SeqCst);
    let mut agents = JoinSet::new();
    for start in 0..2 {
        let mut addresses = members.to_vec();
        addresses.rotate_left(start);
        agents.spawn(Arc::clone(load).agent(addresses, Duration::from_millis(40)));
    }
    agents
}

async fn ended(load: &Load, mut agents: JoinSet<Result<()>>) -> Result<()> {
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    Ok(())
}

/// Of no metric there is more than was sent.
fn nothing_twice(got: &Stored, want: &Stored) -> Result<()> {
    for (key, row) in got.iter().filter(|((index, _), _)| index.contains("_cpm-")) {
        let sent = want
            .get(key)
            .with_context(|| format!("{key:?} was never sent"))?;
        let (got, sent) = (row["total"].as_i64(), sent["total"].as_i64());
        ensure!(got <= sent, "{key:?}: {got:?} of {sent:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_member_loses_what_was_in_its_memory_and_nothing_is_counted_twice() -> Result<()> {
    const NAME: &str = "cluster_killed";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let (first, second) = two(folder.path(), NAME, &members).await?;
    let load = Load::new();
    let agents = agents(&load, &members);
    load.until(1000).await?;
    let before = load.sent();
    first.kill()?;
    has(&second, "cluster_partitions_held", 1024).await?;
    let taken_over = load.sent();
    load.until(500).await?;
    ended(&load, agents).await?;
    ensure!(gauge(&second, "cluster_lost_members_total").await? == 1);
    second.stop().await?;
    let got = stored(&console).await?;
    let want = alone("cluster_survivor", folder.path(), &load).await?;
    nothing_twice(&got, &want)?;
    let (got, want) = (requests(&got)?, requests(&want)?);
    // Three of four segments are requests; a batch may have been on its way.
    let after = (load.sent() - taken_over) as i64 * 3 / 4 - 20;
    ensure!(
        got >= after,
        "{got} stored of {want}, {after} after the take-over"
    );
    eprintln!(
        "killed after {before} segments, taken over after {taken_over}: {} of {want} requests are not in minutes",
        want - got
    );
    console.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stood_still_begins_anew_and_loses_nothing_from_then_on() -> Result<()> {
    const NAME: &str = "cluster_still";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let (first, second) = two(folder.path(), NAME, &members).await?;
    let load = Load::new();
    let sending = agents(&load, &members);
    load.until(600).await?;
    ended(&load, sending).await?;
    first.stand_still()?;
    has(&second, "cluster_partitions_held", 1024).await?;
    first.go_on()?;
    has(&first, "cluster_begun_anew_total", 1).await?;
    wait_until("shared again", DEADLINE, async || {
        let held = [&first, &second].map(|process| gauge(process, "cluster_partitions_held"));
        let held = futures_util::future::try_join_all(held).await?;
        ensure!(held.iter().sum::<i64>() == 1024 && held[0] > 0, "{held:?}");
        Ok(())
    })
    .await?;
    let before = load.sent();
    let sending = agents(&load, &members);
    load.until(600).await?;
    ended(&load, sending).await?;
    ensure!(gauge(&second, "cluster_begun_anew_total").await? == 0);
    first.stop().await?;
    second.stop().await?;
    let got = stored(&console).await?;
    let want = alone("cluster_moving", folder.path(), &load).await?;
    nothing_twice(&got, &want)?;
    let (got, want) = (requests(&got)?, requests(&want)?);
    let after = (load.sent() - before) as i64 * 3 / 4 - 20;
    ensure!(got >= after, "{got} stored of {want}, {after} afterwards");
    eprintln!("{got} of {want} requests are in minutes, {after} of them came afterwards");
    console.clean().await
}

/// Names that are no names are counted and nothing else; a message of more than 4 MiB ends its stream.
async fn refuses_what_is_too_large(process: &OapProcess, row: &RemoteMessage) -> Result<()> {
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let send = async |bytes: usize| {
        let mut large = row.clone();
        let data = large.remote_data.as_mut().context("data")?;
        data.data_strings = vec!["n".repeat(bytes)];
        let messages = vec![Bytes::from(large.encode_to_vec()); 3];
        sender
            .call("/RemoteService/call", Calling::ClientStream, messages)
            .await
    };
    let outcome = send(900_000).await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    let counted = |name| gauge(process, name);
    ensure!(counted("cluster_shed_total").await? == 3);
    ensure!(counted("remote_in_error_count").await? == 0);
    let log = process.log();
    let line = log.lines().find(|line| line.contains("more than 8 KiB"));
    let line = line.context("not said")?;
    ensure!(line.len() < 1000, "{line}");
    let outcome = send(5 << 20).await?;
    ensure!(outcome == Err(tonic::Code::OutOfRange), "{outcome:?}");
    ensure!(counted("remote_in_error_count").await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_writes_nothing_and_rows_of_java_nodes_are_merged() -> Result<()> {
    const NAME: &str = "cluster_roles";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let writer = member(folder.path(), NAME, &members, 0)?;
    let receiver = member(folder.path(), NAME, &members, 1)?.env("SW_CORE_ROLE", "Receiver");
    let (writer, receiver) = tokio::try_join!(writer.start(), receiver.start())?;
    has(&writer, "cluster_partitions_held", 1024).await?;
    has(&receiver, "cluster_partitions_held", 0).await?;

    let now = Timestamp::now();
    let minute = cluster::minute(now)?;
    let shop = id::service_id("shop", true);
    let row = RemoteMessage {
        next_worker_name: "service_cpm_rec".to_owned(),
        remote_data: Some(RemoteData {
            data_strings: vec![shop.clone()],
            data_longs: vec![4, 4, minute],
            ..RemoteData::default()
        }),
    };
    for process in [&writer, &receiver] {
        let sender = Sender::connect(process.grpc(), process.http()).await?;
        let rows: Vec<Bytes> = vec![row.encode_to_vec().into(); 2];
        let outcome = sender
            .call("/RemoteService/call", Calling::ClientStream, rows)
            .await?;
        ensure!(outcome.is_ok(), "{outcome:?}");
        let at_ms = now.as_millisecond();
        let segment = Served::new(process.grpc(), "shop", at_ms, 20).bytes();
        let outcome = sender
            .call(COLLECT, Calling::ClientStream, vec![segment])
            .await?;
        ensure!(outcome.is_ok(), "{outcome:?}");
    }
    refuses_what_is_too_large(&writer, &row).await?;
    receiver.stop().await?;
    writer.stop().await?;
    let stored = stored(&console).await?;
    for bucket in [minute, minute / 100, minute / 10_000] {
        let id = format!("{bucket}_{shop}");
        let row = stored
            .iter()
            .find(|((index, i), _)| index.starts_with("service_cpm") && *i == id);
        let (_, row) = row.with_context(|| format!("no {id}"))?;
        // Twice four from each of two, and a segment to each.
        ensure!(row["total"] == 18, "{id}: {row:?}");
    }
    console.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_leave_at_the_same_time_do_not_wait_for_each_other() -> Result<()> {
    const NAME: &str = "cluster_at_once";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let commands = (
        member(folder.path(), NAME, &members, 0)?,
        member(folder.path(), NAME, &members, 1)?,
    );
    // Who of them has the last word is another one each time.
    for _ in 0..8 {
        let (first, second) = tokio::try_join!(commands.0.start(), commands.1.start())?;
        has_logged(&first, "taken over").await?;
        has_logged(&second, "taken over").await?;
        first.terminate()?;
        second.terminate()?;
        let leaving = Instant::now();
        for process in [first, second] {
            let ended = process.ended().await?;
            ensure!(ended.status.success(), "{ended:?}");
        }
        // One that waits until it takes the other for dead needs 14 s.
        let took = leaving.elapsed();
        ensure!(took < Duration::from_secs(12), "{took:?}");
    }
    console.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_the_address_of_another_writes_nothing_and_loses_nothing() -> Result<()> {
    const NAME: &str = "cluster_same_address";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(NAME)?;
    let (first, second) = two(folder.path(), NAME, &members).await?;
    // It listens elsewhere and takes itself for the first one.
    let elsewhere = free(&["127.0.0.3"])?;
    let (host, port) = elsewhere[0].split_once(':').context("an address")?;
    let third = member(folder.path(), NAME, &members, 0)?
        .env("SW_CLUSTER_STATIC_SELF", &members[0])
        .env("SW_CORE_GRPC_HOST", host)
        .env("SW_CORE_GRPC_PORT", port);
    let third = third.start().await?;
    has(&third, "cluster_address_taken", 1).await?;
    let load = Load::new();
    let mut agents = JoinSet::new();
    for address in members.iter().chain(&elsewhere) {
        let address = vec![address.clone()];
        agents.spawn(Arc::clone(&load).agent(address, Duration::from_millis(20)));
    }
    load.until(1000).await?;
    has(&third, "cluster_partitions_held", 0).await?;
    let both = [&first, &second];
    let mut held = 0;
    for process in both {
        held += gauge(process, "cluster_partitions_held").await?;
        ensure!(gauge(process, "cluster_address_taken").await? == 0);
    }
    ensure!(held == 1024, "{held}");
    let log = third.log();
    let said = "another node answers at the address of this one";
    let line = log.lines().find(|line| line.contains(said));
    let line = line.context("said")?;
    ensure!(
        line.contains("ERROR") && line.contains(&members[0]),
        "{line}"
    );
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    // It brings what it has to those who write before it ends.
    third.terminate()?;
    ensure_stored(third).await?;
    second.terminate()?;
    ensure_stored(second).await?;
    first.terminate()?;
    ensure_stored(first).await?;
    let got = stored(&console).await?;
    ensure_same(
        &got,
        &alone("cluster_same_address_one", folder.path(), &load).await?,
    )?;
    console.clean().await
}
