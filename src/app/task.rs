//! Long-lived tasks: started by name, and the process stops when one fails that should not.

use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Tasks of one kind, ended together.
#[derive(Debug)]
pub(super) struct Tasks {
    running: Vec<Running>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    work: AbortHandle,
    /// Whether it ended well.
    watcher: JoinHandle<bool>,
}

impl Tasks {
    /// Tasks whose failure cancels `stop`.
    pub(super) fn new(stop: &CancellationToken) -> Tasks {
        Tasks {
            running: Vec::new(),
            stop: stop.clone(),
        }
    }

    /// Starts a task. Ending by an error or a panic stops the process.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let work = tokio::spawn(task);
        let abort = work.abort_handle();
        let watcher = tokio::spawn(async move {
            match work.await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => {
                    tracing::error!(task = name, error = format!("{error:#}"), "task failed");
                    stop.cancel();
                }
                // It was cut off, which is said by who did it.
                Err(end) if end.is_cancelled() => {}
                Err(panic) => {
                    tracing::error!(task = name, %panic, "task panicked");
                    stop.cancel();
                }
            }
            false
        });
        self.running.push(Running {
            name,
            work: abort,
            watcher,
        });
    }

    /// Waits until all have ended; whether all ended well.
    pub(super) async fn ended(self) -> bool {
        let mut is_well = true;
        for task in self.running {
            is_well &= task.watcher.await.unwrap_or_else(|error| {
                tracing::error!(task = task.name, %error, "task watcher failed");
                false
            });
        }
        is_well
    }

    /// Waits until all have ended, but no longer than `patience`; then the others are cut off. Their names.
    pub(super) async fn ended_within(self, patience: Duration) -> Vec<&'static str> {
        let deadline = Instant::now() + patience;
        let mut late = Vec::new();
        for task in self.running {
            match tokio::time::timeout_at(deadline, task.watcher).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::error!(task = task.name, %error, "task watcher failed");
                }
                Err(_) => {
                    task.work.abort();
                    late.push(task.name);
                }
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_in_time_is_named_and_cut_off() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(&stop);
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("short", async { Ok(()) });
        tasks.spawn("stuck", async move {
            let _held = held;
            std::future::pending().await
        });
        let late = tasks.ended_within(Duration::from_secs(5)).await;
        assert_eq!(late, ["stuck"]);
        // What it held is free.
        assert!(gone.await.is_err());
        assert!(!stop.is_cancelled());
    }

    #[tokio::test]
    async fn whether_all_ended_well_is_told() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("well", async { Ok(()) });
        assert!(tasks.ended().await);
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("failing", async { anyhow::bail!("it fails") });
        tasks.spawn("well", async { Ok(()) });
        assert!(!tasks.ended().await);
        assert!(stop.is_cancelled());
    }
}
