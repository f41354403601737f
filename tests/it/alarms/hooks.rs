//! Hooks of which much is asked, and such as will never take what they are sent.

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use oap::alarm::{Hook, HookMetrics, Target};
use oap::telemetry::Registry;
use oap::util::clock::Clock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::receivers::Webhook;
use super::{DEADLINE, message, metric};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_check_comes_to_a_hook_as_a_whole() -> Result<()> {
    const ALARMS: usize = 25_500;
    let registry = Registry::new("h", 1);
    let webhook = Webhook::refusing(0).await?;
    let target = Target::webhook(&webhook.url())?;
    let metrics = HookMetrics::new(&registry)?;
    let (hook, task) = Hook::new("large".into(), target, metrics, Clock::System);
    let messages = (0..ALARMS).map(message).collect::<Result<Vec<_>>>()?;
    // Before the task has taken any.
    hook.queue(&messages.into());
    drop(hook);
    tokio::time::timeout(DEADLINE, task.run(CancellationToken::new())).await?;
    let posted = webhook.posted();
    let sizes = posted
        .iter()
        .map(|posted| Ok(serde_json::from_str::<Vec<Value>>(&posted.body)?.len()))
        .collect::<Result<Vec<usize>>>()?;
    ensure!(sizes.len() == 26 && sizes[..25].iter().all(|size| *size == 1000));
    ensure!(sizes[25] == 500, "{sizes:?}");
    for (name, want) in [
        ("alarm_hook_sent_total", ALARMS as u64),
        ("alarm_hook_queued", 0),
    ] {
        let line = format!("{name}{{sw_backend_instance=\"h_1\",hook=\"large\"}}");
        let found = metric(&registry, &line)?;
        ensure!(found == want, "{line}: {found}");
    }
    let text = String::from_utf8(registry.text()?)?;
    ensure!(!text.contains("alarm_hook_dropped_total{"), "{text}");
    Ok(())
}

/// Time is virtual, so that only the number of attempts tells how long a hook was blocked.
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_does_not_keep_what_comes_after_it() -> Result<()> {
    for (status, attempts, dropped) in [
        (StatusCode::NOT_FOUND, 2, 1),
        (StatusCode::PAYLOAD_TOO_LARGE, 2, 1),
        (StatusCode::PERMANENT_REDIRECT, 2, 1),
        // These may pass.
        (StatusCode::TOO_MANY_REQUESTS, 3, 0),
        (StatusCode::REQUEST_TIMEOUT, 3, 0),
    ] {
        let registry = Registry::new("h", 1);
        let refused = attempts - usize::from(dropped == 0);
        let webhook = Webhook::answering(refused, status).await?;
        let target = Target::webhook(&webhook.url())?;
        let metrics = HookMetrics::new(&registry)?;
        let (hook, task) = Hook::new("picky".into(), target, metrics, Clock::System);
        hook.queue(&[message(1)?].into());
        hook.queue(&[message(2)?].into());
        drop(hook);
        task.run(CancellationToken::new()).await;
        let posted = webhook.posted();
        let firsts = posted.iter().filter(|p| p.body.contains("number_1_rule"));
        ensure!(firsts.count() == attempts, "{status}: {posted:?}");
        ensure!(posted.len() == attempts + 1, "{status}: {posted:?}");
        let labels = "{sw_backend_instance=\"h_1\",hook=\"picky\"";
        let line = format!("alarm_hook_dropped_total{labels},reason=\"refused\"}}");
        ensure!(metric(&registry, &line)? == dropped, "{status}");
        let line = format!("alarm_hook_sent_total{labels}}}");
        ensure!(metric(&registry, &line)? == 2 - dropped, "{status}");
    }
    Ok(())
}
