//! Alarms of several real servers on one Elasticsearch: each comes once, when a server alone would raise it, while members leave
//! and join.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::alarms::receivers::Webhook;
use crate::cluster::{free, has_logged, member, scripts};
use crate::cluster_parts::gauge;
use crate::es_console::EsConsole;
use crate::segments::{COLLECT, Served};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const NAME: &str = "cluster_alarms";
/// Two alarms are two minutes apart, and a check may be missed by as much as a loaded machine is late.
const DEADLINE: Duration = Duration::from_secs(240);
const SERVICES: usize = 24;
/// Every service fires at every second check.
const RULES: &str = "rules:
  busy_rule: {metrics-name: service_cpm, op: '>=', threshold: 1, period: 5, silence-period: 1, include-names-regex: shop-.*}
";

/// Every service is called once a second, over whichever member answers.
async fn calls(members: Vec<String>, is_over: Arc<AtomicBool>) -> Result<()> {
    let number = AtomicUsize::new(0);
    let mut addresses = members.iter().cycle();
    let mut sender = None;
    while !is_over.load(Ordering::SeqCst) {
        let at_ms = Timestamp::now().as_millisecond();
        let segments = (0..SERVICES).map(|n| {
            let id = format!(
                "{}-{at_ms}-{}",
                members[0],
                number.fetch_add(1, Ordering::SeqCst)
            );
            Served::new(id, &format!("shop-{n}"), at_ms, 20).bytes()
        });
        let segments = segments.collect();
        let sent = match &sender {
            None => false,
            Some(sender) => {
                let sender: &Sender = sender;
                let calling = sender.call(COLLECT, Calling::ClientStream, segments);
                calling.await.is_ok_and(|outcome| outcome.is_ok())
            }
        };
        if !sent {
            let address = addresses.next().context("no addresses")?;
            sender = Sender::connect(address, address).await.ok();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// The minutes in which each service had its alarms, as the receiver heard of them.
fn heard(webhook: &Webhook) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut heard: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for posted in webhook.posted() {
        for alarm in serde_json::from_str::<Vec<Value>>(&posted.body)? {
            let name = alarm["name"].as_str().context("a name")?.to_owned();
            let minute = alarm["startTime"].as_i64().context("a time")? / 60_000;
            heard.entry(name).or_default().push(minute);
        }
    }
    heard
        .values_mut()
        .for_each(|minutes| minutes.sort_unstable());
    Ok(heard)
}

/// Waits until every service had so many alarms.
async fn all_have(webhook: &Webhook, count: usize) -> Result<()> {
    wait_until("alarms", DEADLINE, async || {
        let heard = heard(webhook)?;
        let have = heard.values().filter(|minutes| minutes.len() >= count);
        let have = have.count();
        ensure!(have == SERVICES, "{have} services have {count}: {heard:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_alarm_is_forgotten_or_comes_twice_while_members_leave_and_join() -> Result<()> {
    let folder = scripts()?;
    let webhook = Webhook::refusing(0).await?;
    let text = format!("{RULES}webhooks: ['{}']\n", webhook.url());
    std::fs::write(folder.path().join("alarm-settings.yml"), text)?;
    let members = free(&["127.0.0.1", "127.0.0.2", "127.0.0.3"])?;
    let console = EsConsole::new(NAME)?;
    let command = |own| member(folder.path(), NAME, &members, own);
    let (first, second) = (command(0)?, command(1)?);
    let (first, second) = tokio::try_join!(first.start(), second.start())?;
    has_logged(&first, "taken over").await?;
    has_logged(&second, "taken over").await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut agents = JoinSet::new();
    agents.spawn(calls(members.clone(), Arc::clone(&is_over)));
    all_have(&webhook, 1).await?;

    // The third one takes a part of what both remember, the first one leaves and comes again, then the second one leaves.
    let third = command(2)?.start().await?;
    has_logged(&third, "taken over").await?;
    has_logged(&second, "handed over").await?;
    first.stop().await?;
    for process in [&second, &third] {
        let windows = gauge(process, "alarm_windows").await?;
        ensure!(windows > 0, "one looks at nothing");
    }
    let again = command(0)?.start().await?;
    has_logged(&again, "taken over").await?;
    second.stop().await?;
    all_have(&webhook, 2).await?;

    is_over.store(true, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    for (service, minutes) in heard(&webhook)? {
        let steps: Vec<i64> = minutes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        ensure!(
            steps.iter().all(|step| *step == 2),
            "{service}: {minutes:?}"
        );
    }
    again.stop().await?;
    third.stop().await?;
    console.clean().await
}
