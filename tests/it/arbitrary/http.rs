//! Bodies that agents post, from the request to the messages that analysis would get.

use std::time::Duration;

use anyhow::{Result, ensure};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use oap::journal::{Intake, Limits, Work};
use oap::receiver::{HttpOptions, ReceiverMetrics, Receivers};
use oap::telemetry::Registry;
use tower::ServiceExt;

use super::{Form, Target, recorded};

/// Posts inputs to a path; `statuses` are those that it may answer.
fn check(name: &'static str, path: &'static str, statuses: &[u16]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let limits = Limits {
        queued_bytes: 64 << 20,
        patience: Duration::from_millis(1),
    };
    let (intake, mut inboxes) = Intake::new(1, limits);
    let inbox = std::cell::RefCell::new(inboxes.remove(0));
    let metrics = ReceiverMetrics::new(&Registry::new("127.0.0.1", 11800))?;
    let router = Receivers::new(intake, metrics).http(&HttpOptions::default())?;
    let target = Target::of(Form::Bytes, name)
        .seeds(recorded::bodies(path)?)
        .words(&[
            "[{",
            "}]",
            "[[[[",
            "{\"spans\":[",
            "{\"a\":",
            "\"spans\":[{}],",
            "\"service\":",
            "\"logs\":",
            "\"refs\":",
            "\"tags\":[{\"key\":\"x\",\"value\":1}],",
            "\"spanType\":\"Exit\",",
            "\"properties\":[{}],",
            "null,",
            "{},",
        ]);
    target.check(|input| {
        let request = Request::post(path).body(Body::from(input.to_vec()))?;
        let (status, answer) = runtime.block_on(async {
            let response = router.clone().oneshot(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, to_bytes(response.into_body(), 10_000).await?))
        })?;
        ensure!(statuses.contains(&status), "{status} {answer:?}");
        let (mut messages, mut bytes) = (0, 0);
        while let Ok(Work::Batch(batch)) = inbox.borrow_mut().try_recv() {
            messages += batch.messages.len();
            bytes += batch
                .messages
                .iter()
                .map(|m| m.bytes().len())
                .sum::<usize>();
        }
        ensure!(messages <= input.len() / 2, "{messages} messages");
        // A byte that is no text becomes a character of three.
        ensure!(bytes <= 4 * input.len(), "{bytes} bytes of messages");
        Ok(())
    })
}

#[test]
fn http_segment() -> Result<()> {
    check("http-segment", "/v3/segment", &[200])
}

#[test]
fn http_segments() -> Result<()> {
    check("http-segments", "/v3/segments", &[200])
}

#[test]
fn http_properties() -> Result<()> {
    check(
        "http-properties",
        "/v3/management/reportProperties",
        &[200, 400],
    )
}

#[test]
fn http_keep_alive() -> Result<()> {
    check("http-keep-alive", "/v3/management/keepAlive", &[200, 400])
}
