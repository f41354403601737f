//! The ledger adds up, to the unit: under load, with messages that make no sense, with a store that goes away, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use oap::telemetry::Ledger;
use oap::telemetry::ledger::Account;
use oap_proto::agent::InstancePingPkg;
use prost::Message;

use crate::gate::Gate;
use crate::graphql::GraphQl;
use crate::peers::Elasticsearch;
use crate::questions::{buckets_from, trace_count};
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};
use crate::waiting::wait_until;

const PING: &str = "/ManagementService/keepAlive";
const DEADLINE: Duration = Duration::from_secs(60);
const STREAMS: usize = 20;
const SEGMENTS: usize = 100;

fn all_add_up(accounts: &BTreeMap<String, Account>) -> Result<()> {
    for (kind, account) in accounts {
        ensure!(account.adds_up(), "{kind}: {account:?}");
        ensure!(account.in_flight >= 0, "{kind}: {account:?}");
    }
    Ok(())
}

fn account(ledger: &Ledger, kind: &str) -> Result<Account> {
    let accounts = ledger.accounts();
    all_add_up(&accounts)?;
    accounts.get(kind).cloned().with_context(|| kind.to_owned())
}

/// Streams at the same time, each with segments, one of which is none, and a ping; the books are looked at all the while.
async fn load(sender: &Sender, ledger: &Ledger, now: i64, first: usize) -> Result<()> {
    let sending = (first..first + STREAMS).map(|stream| {
        let sender = sender.clone();
        tokio::spawn(async move {
            let segment = |i| Served::new(format!("{stream}-{i}"), "shop", now, 20).bytes();
            let mut messages: Vec<Bytes> = (0..SEGMENTS).map(segment).collect();
            messages.insert(SEGMENTS / 2, Bytes::from_static(&[0xff; 9]));
            let sent = sender
                .call(COLLECT, Calling::ClientStream, messages)
                .await?;
            ensure!(sent.is_ok(), "{sent:?}");
            let ping = InstancePingPkg {
                service: "shop".into(),
                service_instance: format!("shop-{stream}"),
            };
            let sent = sender.call(PING, Calling::Unary, vec![ping.encode_to_vec().into()]);
            sent.await?
                .map(drop)
                .map_err(|code| anyhow::anyhow!("{code:?}"))
        })
    });
    let sending: Vec<_> = sending.collect();
    while !sending.iter().all(tokio::task::JoinHandle::is_finished) {
        all_add_up(&ledger.accounts())?;
        tokio::task::yield_now().await;
    }
    for sent in sending {
        sent.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_adds_up_under_load_and_after_the_end() -> Result<()> {
    let server = TestServer::builder("ledger", Store::Embedded).env("TZ", "UTC");
    let server = server.start().await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let ledger = server.ledger();
    let now = Timestamp::now().as_millisecond();
    load(&sender, &ledger, now, 0).await?;
    // What never becomes a message is in the books as well.
    let bad = sender.http("POST", "/v3/segment", Some("{".into())).await?;
    ensure!(bad.status == 200, "{bad:?}");
    server.flush().await?;
    let (good, bad) = ((STREAMS * SEGMENTS) as u64, STREAMS as u64);
    let segments = account(&ledger, "segment")?;
    let dropped = BTreeMap::from([("undecodable".to_owned(), bad), ("bad_json".to_owned(), 1)]);
    let want = Account {
        received: good + bad + 1,
        stored: good,
        dropped,
        ..Account::default()
    };
    ensure!(segments == want, "{segments:?}");
    let graphql = GraphQl::new(&server.http())?;
    let minutes = buckets_from(now, "UTC", "MINUTE")?;
    ensure!(trace_count(&graphql, "shop", &minutes).await? == good);
    let pings = account(&ledger, "keep_alive")?;
    ensure!(
        (pings.received, pings.aggregated) == (bad, bad),
        "{pings:?}"
    );
    let rows = account(&ledger, "metrics")?;
    ensure!(rows.received > 0 && rows.in_flight == 0, "{rows:?}");
    ensure!(rows.stored == rows.received, "{rows:?}");

    load(&sender, &ledger, now, STREAMS).await?;
    drop(sender);
    server.stop().await?;
    let accounts = ledger.accounts();
    all_add_up(&accounts)?;
    for (kind, account) in &accounts {
        ensure!(account.in_flight == 0, "{kind}: {account:?}");
        ensure!(
            !account.dropped.contains_key("shutdown"),
            "{kind}: {account:?}"
        );
    }
    ensure!(accounts["segment"].stored == 2 * good, "{accounts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sampled_is_aggregated_only() -> Result<()> {
    let server = TestServer::builder("ledger_sampled", Store::Embedded);
    let server = server.env("SW_TRACE_SAMPLE_RATE", "0").start().await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let now = Timestamp::now().as_millisecond();
    // Hashes of these ids are not negative: those are always stored, as in the original.
    let segments = (0..7).map(|i| Served::new(format!("a{i}"), "shop", now, 20).bytes());
    let sent = sender.call(COLLECT, Calling::ClientStream, segments.collect());
    ensure!(sent.await?.is_ok());
    server.flush().await?;
    let segments = account(&server.ledger(), "segment")?;
    ensure!(
        (segments.received, segments.aggregated) == (7, 7),
        "{segments:?}"
    );
    server.stop().await
}

/// A server whose Elasticsearch can be cut off.
async fn gated(name: &str) -> Result<(TestServer, Gate)> {
    let node = tokio::task::spawn_blocking(Elasticsearch::shared).await?;
    let gate = Gate::shut_before(node.address()).await?;
    let server = TestServer::builder(name, Store::Elasticsearch)
        .env("TZ", "UTC")
        .env("SW_STORAGE_ES_CLUSTER_NODES", &gate.address())
        .start()
        .await?;
    Ok((server, gate))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_adds_up_while_the_store_comes_and_goes() -> Result<()> {
    let (server, gate) = gated("ledger_gate").await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let ledger = server.ledger();
    let now = Timestamp::now().as_millisecond();
    load(&sender, &ledger, now, 0).await?;
    let good = (STREAMS * SEGMENTS) as u64;
    wait_until("all are analysed", DEADLINE, async || {
        let segments = account(&ledger, "segment")?;
        let seen = (
            segments.in_flight,
            segments.stored,
            segments.dropped_in_all(),
        );
        ensure!(seen == (good as i64, 0, STREAMS as u64), "{segments:?}");
        Ok(())
    })
    .await?;
    gate.open();
    wait_until("some are stored", DEADLINE, async || {
        ensure!(account(&ledger, "segment")?.stored > 0);
        Ok(())
    })
    .await?;
    gate.shut();
    load(&sender, &ledger, now, STREAMS).await?;
    gate.open();
    server.flush().await?;
    let segments = account(&ledger, "segment")?;
    ensure!(
        (segments.stored, segments.in_flight) == (2 * good, 0),
        "{segments:?}"
    );
    let graphql = GraphQl::new(&server.http())?;
    let minutes = buckets_from(now, "UTC", "MINUTE")?;
    ensure!(trace_count(&graphql, "shop", &minutes).await? == 2 * good);
    server.stop().await?;
    ensure!(
        ledger
            .accounts()
            .values()
            .all(|account| account.in_flight == 0)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shutdown_could_not_store_is_dropped() -> Result<()> {
    let (server, _gate) = gated("ledger_lost").await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let ledger = server.ledger();
    load(&sender, &ledger, Timestamp::now().as_millisecond(), 0).await?;
    drop(sender);
    let stopped = server.leave().await;
    ensure!(stopped.is_err(), "there was no store");
    let segments = account(&ledger, "segment")?;
    let good = (STREAMS * SEGMENTS) as u64;
    ensure!(
        segments.dropped.get("shutdown") == Some(&good),
        "{segments:?}"
    );
    ensure!(segments.in_flight == 0, "{segments:?}");
    Ok(())
}
