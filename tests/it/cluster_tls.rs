//! Members that call each other over TLS: as exact as in clear text, and nothing is lost in silence where they do not trust
//! each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::cluster::{
    Load, alone, ensure_same, ensure_stored, free, has_logged, member, scripts, stored,
};
use crate::cluster_parts::{gauge, has};
use crate::es_console::EsConsole;
use crate::oap_process::OapCommand;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(90);
/// Of the second kind of certificate, which names no address.
const NAME: &str = "oap.members.test";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tls")
        .join(name)
}

/// With a certificate, trusting an authority.
fn over_tls(command: OapCommand, certificate: &str, authority: &str) -> OapCommand {
    let path = |name: &str| data(name).display().to_string();
    let key = format!("{certificate}-key.pem").replace("cert-key", "key");
    command
        .env("SW_CORE_GRPC_SSL_ENABLED", "true")
        .env("SW_CORE_GRPC_SSL_KEY_PATH", &path(&key))
        .env(
            "SW_CORE_GRPC_SSL_CERT_CHAIN_PATH",
            &path(&format!("{certificate}.pem")),
        )
        .env("SW_CORE_GRPC_SSL_TRUSTED_CA_PATH", &path(authority))
}

/// What an agent trusts.
fn trusting(authority: &str) -> Result<ClientTlsConfig> {
    let pem = std::fs::read(data(authority))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_over_tls_store_what_one_server_stores() -> Result<()> {
    const SPACE: &str = "tls_members";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2", "127.0.0.3"])?;
    let console = EsConsole::new(SPACE)?;
    // Certificates that name a host instead of addresses do as well.
    let command = |own: usize, certificate| {
        let command = member(folder.path(), SPACE, &members, own)?;
        Ok::<_, anyhow::Error>(over_tls(command, certificate, "ca.pem"))
    };
    let (first, second) = (command(0, "member")?, command(1, "member")?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    let load = Load::with(Some(trusting("ca.pem")?), 10);
    let mut agents = tokio::task::JoinSet::new();
    for start in 0..3 {
        let mut addresses = members.clone();
        addresses.rotate_left(start);
        agents.spawn(Arc::clone(&load).agent(addresses, Duration::from_millis(40)));
    }
    has_logged(&first, "taken over").await?;
    has_logged(&second, "taken over").await?;
    load.until(300).await?;
    let third = command(2, "member")?.start().await?;
    has_logged(&third, "taken over").await?;
    load.until(300).await?;
    first.terminate()?;
    ensure_stored(first).await?;
    load.until(300).await?;
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    for process in [&second, &third] {
        let sent = gauge(process, "cluster_increments_total").await?;
        ensure!(sent > 0, "nothing was exchanged");
    }
    second.terminate()?;
    third.terminate()?;
    ensure_stored(second).await?;
    ensure_stored(third).await?;
    let got = stored(&console).await?;
    ensure_same(&got, &alone("tls_alone", folder.path(), &load).await?)?;
    console.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_members_may_have_a_name_in_common() -> Result<()> {
    const SPACE: &str = "tls_named";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let command = |own: usize| {
        let command = over_tls(
            member(folder.path(), SPACE, &members, own)?,
            "named",
            "ca.pem",
        );
        Ok::<_, anyhow::Error>(command.env("SW_CORE_GRPC_SSL_MEMBER_NAME", NAME))
    };
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    let halves = wait_until("both have a share", DEADLINE, async || {
        let mut halves = [0; 2];
        for (half, process) in halves.iter_mut().zip([&first, &second]) {
            *half = gauge(process, "cluster_partitions_held").await?;
        }
        ensure!(halves.iter().sum::<i64>() == 1024, "{halves:?}");
        ensure!(halves.iter().all(|half| *half > 0), "{halves:?}");
        Ok(halves)
    })
    .await?;
    ensure!(halves[0].abs_diff(halves[1]) < 300, "{halves:?}");
    first.stop().await?;
    has(&second, "cluster_partitions_held", 1024).await?;
    second.stop().await?;
    EsConsole::new(SPACE)?.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_trusted_is_named_and_what_is_meant_for_it_is_counted() -> Result<()> {
    const SPACE: &str = "tls_wrong";
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let console = EsConsole::new(SPACE)?;
    let member = |own| member(folder.path(), SPACE, &members, own);
    // Its certificate is one of another authority, and it trusts only that.
    let first = over_tls(member(0)?, "member", "ca.pem");
    let second = over_tls(member(1)?, "loopback-cert", "loopback-cert.pem").env(
        "SW_CORE_GRPC_SSL_KEY_PATH",
        &data("loopback-key.pem").display().to_string(),
    );
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    let said = "a member cannot be trusted";
    for (process, other) in [(&first, &members[1]), (&second, &members[0])] {
        has_logged(process, said).await?;
        let log = process.log();
        let line = log
            .lines()
            .find(|line| line.contains(said))
            .context("said")?;
        for part in [
            "ERROR",
            &format!("address=\"{other}\""),
            "invalid peer certificate: ",
            "gRPCSslTrustedCAPath",
        ] {
            ensure!(line.contains(part), "no {part} in {line}");
        }
        ensure!(
            gauge(process, "cluster_failures_total").await? > 0,
            "not counted"
        );
        // Each leaves to the other what that one writes: two that write the same would destroy each other's rows.
        ensure!(gauge(process, "cluster_size").await? == 2);
        ensure!(!log.contains("counts as gone"), "{log}");
    }
    let sender = Sender::connect_over(Some(trusting("ca.pem")?), &members[0], &members[0]).await?;
    let now = jiff::Timestamp::now().as_millisecond();
    let segments = (0..40).map(|n| Served::new(n.to_string(), &format!("s-{n}"), now, 5).bytes());
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments.collect())
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    first.terminate()?;
    let ended = first.ended().await?;
    let log = ended.stdout;
    let lost = "other nodes did not take everything in time, the rest is lost";
    let line = log
        .lines()
        .find(|line| line.contains(lost))
        .with_context(|| log.clone())?;
    let count = line.split_once("increments=").context("a count")?.1;
    let count: usize = count
        .split_whitespace()
        .next()
        .context("a count")?
        .parse()?;
    ensure!(count > 0, "{line}");
    second.stop().await?;
    // What is its own is stored, and what is not is in the count.
    let stored = stored(&console).await?;
    let services = stored
        .keys()
        .filter(|(index, _)| index.starts_with("service_traffic"));
    let services = services.count();
    ensure!(services < 40, "{services}");
    console.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trusted_ends_the_start() -> Result<()> {
    let folder = scripts()?;
    let members = free(&["127.0.0.1", "127.0.0.2"])?;
    let member = || member(folder.path(), "cluster_tls_none", &members, 0);
    let bad = folder.path().join("bad.pem");
    std::fs::write(&bad, "no certificate\n")?;
    let bad = bad.display().to_string();
    let trusted = "SW_CORE_GRPC_SSL_TRUSTED_CA_PATH";
    let good = || Ok::<_, anyhow::Error>(over_tls(member()?, "member", "ca.pem"));
    for (command, want) in [
        (good()?.env(trusted, ""), "gRPCSslTrustedCAPath is not set"),
        (
            good()?.env(trusted, "/nowhere"),
            "failed to read gRPCSslTrustedCAPath /nowhere",
        ),
        (
            good()?.env(trusted, &bad),
            "holds no certificate that can be used",
        ),
        (
            good()?.env("SW_CORE_GRPC_SSL_MEMBER_NAME", "no name"),
            "gRPCSslMemberName \"no name\" is no name of a host",
        ),
    ] {
        let ended = command.run().await?;
        ensure!(!ended.status.success(), "{ended:?}");
        let text = ended.stdout + &ended.stderr;
        ensure!(text.contains(want), "no {want:?} in {text}");
    }
    Ok(())
}
