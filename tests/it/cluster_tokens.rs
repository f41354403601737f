//! Members of a cluster under `authentication`: they let in who has the token, name who has another one, and leave to it what is
//! its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use oap::model::id;
use oap_proto::cluster::Status;
use oap_proto::cluster::remote::{RemoteData, RemoteMessage};
use prost::Message as _;
use tonic::Code;

use crate::cluster::{self, free, has_logged, member, scripts};
use crate::cluster_parts::gauge;
use crate::es_console::EsConsole;
use crate::oap_process::OapProcess;
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until both have what is theirs, about a half each.
async fn have_halves(members: [&OapProcess; 2]) -> Result<()> {
    wait_until("both have a share", DEADLINE, async || {
        let mut halves = [0; 2];
        for (half, process) in halves.iter_mut().zip(members) {
            *half = gauge(process, "cluster_partitions_held").await?;
        }
        ensure!(halves.iter().sum::<i64>() == 1024, "{halves:?}");
        ensure!(halves.iter().all(|half| *half > 300), "{halves:?}");
        Ok(())
    })
    .await
}

/// A row as nodes of the original send it.
fn row(service: &str) -> Result<Bytes> {
    let row = RemoteMessage {
        next_worker_name: "service_cpm_rec".to_owned(),
        remote_data: Some(RemoteData {
            data_strings: vec![id::service_id(service, true)],
            data_longs: vec![4, 4, cluster::minute(jiff::Timestamp::now())?],
            ..RemoteData::default()
        }),
    };
    Ok(row.encode_to_vec().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_the_same_token_share_and_who_has_none_is_refused() -> Result<()> {
    const SPACE: &str = "tokens_same";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let command = |own| {
        let command = member(folder.path(), SPACE, &members, own)?;
        Ok::<_, anyhow::Error>(command.env("SW_AUTHENTICATION", "of-members"))
    };
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    have_halves([&first, &second]).await?;

    // It says that the second member has ended and needs nothing more.
    let forged = Status {
        address: members[1].clone(),
        epoch: 7,
        leaving: true,
        empty: true,
        through: true,
        ..Status::default()
    };
    let sender = Sender::connect(first.grpc(), first.http()).await?;
    for path in ["Sync", "Push"] {
        let path = format!("/oap.cluster.v1.Exchange/{path}");
        let message = forged.encode_to_vec().into();
        let outcome = sender.call(&path, Calling::Unary, vec![message]).await?;
        ensure!(outcome == Err(Code::Unauthenticated), "{path}: {outcome:?}");
    }
    ensure!(gauge(&first, "receiver_rejected_call_count").await? == 2);

    // Nodes of the original send no token. What is of the second member arrives there.
    let rows: Vec<Bytes> = (0..40)
        .map(|n| row(&format!("s-{n}")))
        .collect::<Result<_>>()?;
    let outcome = sender
        .call("/RemoteService/call", Calling::ClientStream, rows)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    wait_until("rows are sent on", DEADLINE, async || {
        ensure!(gauge(&second, "remote_in_count").await? > 0, "none yet");
        Ok(())
    })
    .await?;
    have_halves([&first, &second]).await?;
    ensure!(!first.log().contains("a member refuses"), "{}", first.log());
    first.stop().await?;
    second.stop().await?;
    EsConsole::new(SPACE)?.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_token_is_named_and_keeps_its_share() -> Result<()> {
    const SPACE: &str = "tokens_other";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let command = |own, token| {
        let command = member(folder.path(), SPACE, &members, own)?;
        Ok::<_, anyhow::Error>(command.env("SW_AUTHENTICATION", token))
    };
    let (first, second) = (command(0, "this-token")?, command(1, "that-token")?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    let said = "a member refuses this node";
    for (process, other) in [(&first, &members[1]), (&second, &members[0])] {
        has_logged(process, said).await?;
        let log = process.log();
        let line = log.lines().find(|line| line.contains(said));
        let line = line.context("said")?;
        let address = format!("address=\"{other}\"");
        for part in ["ERROR", &address, "SW_AUTHENTICATION"] {
            ensure!(line.contains(part), "no {part} in {line}");
        }
    }
    // Longer than who is silent counts as alive.
    have_halves([&first, &second]).await?;
    for process in [&first, &second] {
        let log = process.log();
        ensure!(gauge(process, "cluster_size").await? == 2, "{log}");
        ensure!(!log.contains("counts as gone"), "{log}");
        ensure!(log.matches(said).count() == 1, "{log}");
        ensure!(!log.contains("-token"), "{log}");
    }
    first.stop().await?;
    second.stop().await?;
    EsConsole::new(SPACE)?.clean().await
}
