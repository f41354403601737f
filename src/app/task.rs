//! Long-lived tasks: started by name, and the process stops when one fails that should not.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Tasks of one kind, ended together.
#[derive(Debug)]
pub(super) struct Tasks {
    running: Vec<JoinHandle<()>>,
    stop: CancellationToken,
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
        self.running.push(tokio::spawn(async move {
            match work.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(task = name, error = format!("{error:#}"), "task failed");
                    stop.cancel();
                }
                Err(panic) => {
                    tracing::error!(task = name, %panic, "task panicked");
                    stop.cancel();
                }
            }
        }));
    }

    /// Waits until all have ended.
    pub(super) async fn ended(self) {
        for task in self.running {
            if let Err(error) = task.await {
                tracing::error!(%error, "task watcher failed");
            }
        }
    }
}
