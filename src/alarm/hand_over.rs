//! What is remembered of entities that go to another node, on its way into the store. Everything else goes on meanwhile.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::take_over::{FIRST_PAUSE, LONGEST_PAUSE, STORE_TIMEOUT};
use crate::model::row::Row;
use crate::storage::{Backend, StorageError, WriteOutcome};

/// How long storing it for another node may take in all, if no attempt is under way then.
const HAND_OVER: Duration = Duration::from_secs(6);

/// The rows of entities that go.
#[derive(Debug)]
pub(super) struct Parting {
    rows: Vec<Row>,
    done: oneshot::Sender<()>,
    end: Instant,
    pause: Duration,
}

/// What came of an attempt to store them.
pub(super) type Attempt = (Parting, Result<(), StorageError>);

/// All that is being handed over.
#[derive(Default)]
pub(super) struct HandOver {
    writing: FuturesUnordered<Pin<Box<dyn Future<Output = Attempt> + Send>>>,
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver")
            .field("writing", &self.writing.len())
            .finish_non_exhaustive()
    }
}

impl Parting {
    /// Tells whoever waits for it that this is over, stored or not. Who asked may have given up.
    pub(super) fn over(self) {
        self.done.send(()).unwrap_or_default();
    }
}

impl HandOver {
    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.writing.is_empty()
    }

    /// Begins to store rows for another node, which waits for `done`.
    pub(super) fn begin<S: Backend + 'static>(
        &mut self,
        rows: Vec<Row>,
        done: oneshot::Sender<()>,
        storage: &Arc<S>,
    ) {
        let parting = Parting {
            rows,
            done,
            end: Instant::now() + HAND_OVER,
            pause: FIRST_PAUSE,
        };
        self.write(parting, Duration::ZERO, storage);
    }

    /// Tries again after a pause; gives the rows back if there is no time left.
    pub(super) fn again<S: Backend + 'static>(
        &mut self,
        mut parting: Parting,
        storage: &Arc<S>,
    ) -> Result<(), Parting> {
        let pause = parting.pause;
        if Instant::now() + pause > parting.end {
            return Err(parting);
        }
        parting.pause = (pause * 2).min(LONGEST_PAUSE);
        self.write(parting, pause, storage);
        Ok(())
    }

    fn write<S: Backend + 'static>(&mut self, parting: Parting, pause: Duration, storage: &Arc<S>) {
        let storage = Arc::clone(storage);
        self.writing.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            // If whoever asked has given up, another node may have begun to write.
            let outcome = match parting.done.is_closed() {
                true => Ok(()),
                false => store(&*storage, &parting.rows).await,
            };
            (parting, outcome)
        }));
    }

    /// What came of the next attempt; for ever where there is none. Can be dropped and asked for again.
    pub(super) async fn attempt(&mut self) -> Attempt {
        match self.writing.next().await {
            Some(attempt) => attempt,
            None => std::future::pending().await,
        }
    }
}

/// Stores rows, all or it has failed.
pub(super) async fn store<S: Backend>(storage: &S, rows: &[Row]) -> Result<(), StorageError> {
    if rows.is_empty() {
        return Ok(());
    }
    let no_answer = |_| StorageError::Unavailable("no answer in time".to_owned());
    let written = tokio::time::timeout(STORE_TIMEOUT, storage.write(rows)).await;
    for outcome in written.map_err(no_answer)?? {
        match outcome {
            WriteOutcome::Stored => {}
            WriteOutcome::Retry(reason) | WriteOutcome::Rejected(reason) => {
                return Err(StorageError::Unavailable(reason));
            }
        }
    }
    Ok(())
}
