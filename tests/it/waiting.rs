//! Waits for something to come true, with a deadline instead of a fixed sleep.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(250);

/// Tries until it succeeds; after the deadline its last error is the answer.
pub async fn wait_until<T, F>(what: &str, deadline: Duration, mut attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let end = Instant::now() + deadline;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => {
                return Err(error).with_context(|| format!("after {deadline:?}: {what}"));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
