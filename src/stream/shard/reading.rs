//! How a shard reads what is stored: page by page beside its other work, so that nothing that needs no reading waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Shard;
use crate::model::row::RowKey;
use crate::storage::{Backend, Reach, StorageError};
use crate::stream::read_back::{Found, held_or_stored, rows_in};
use crate::stream::rows::Missing;

/// Keys of one page, about, of rows and of metadata each.
const PAGE: usize = 4000;
/// The same while someone waits until everything is stored.
const LARGE_PAGE: usize = 16_000;
/// So long after the newest minute that an earlier process stored, its values are taken as complete.
const SETTLED_MS: i64 = 60_000;

type Answer<T> = Result<T, StorageError>;

/// What came of a page.
struct Page {
    /// If it was asked for.
    earlier: Option<Answer<Arc<Reach>>>,
    rows: Answer<Vec<Found>>,
    metadata: Answer<Vec<Found>>,
}

/// A page that is being read.
struct Loading {
    rows: Vec<Missing>,
    metadata: Vec<RowKey>,
    page: Pin<Box<dyn Future<Output = Page> + Send>>,
}

/// A page that was read.
pub(super) struct Loaded {
    rows: Vec<Missing>,
    metadata: Vec<RowKey>,
    page: Page,
}

/// The reading of a shard.
#[derive(Default)]
pub(super) struct Reading {
    loading: Option<Loading>,
    /// Metadata could not be read since it was last tried.
    is_metadata_put_off: bool,
    /// Rows read so far.
    rows: u64,
    /// What was going on at the start is read.
    has_left: bool,
}

impl Reading {
    /// Waits for the page in flight; for ever if there is none.
    pub(super) async fn found(&mut self) -> Loaded {
        let Some(loading) = &mut self.loading else {
            return std::future::pending().await;
        };
        let page = (&mut loading.page).await;
        match self.loading.take() {
            Some(Loading { rows, metadata, .. }) => Loaded {
                rows,
                metadata,
                page,
            },
            None => std::future::pending().await,
        }
    }
}

impl<S: Backend + 'static> Shard<S> {
    /// Whether everything that was taken in can be written.
    pub(super) fn is_all_read(&self) -> bool {
        self.reading.loading.is_none()
            && self.rows.is_all_read()
            && self.metadata.missing(1).is_empty()
    }

    /// What could not be read is tried again from now on.
    pub(super) fn try_again(&mut self) {
        self.rows.retry();
        self.reading.is_metadata_put_off = false;
    }

    /// Starts to read the next page, unless one is under way or there is none.
    pub(super) fn read_on(&mut self) {
        if self.reading.loading.is_some() {
            return;
        }
        let limit = match self.waiting.is_empty() {
            true => PAGE,
            false => LARGE_PAGE,
        };
        let asks_earlier = self.rows.has_unread() && !self.rows.knows_earlier();
        let (rows, keys) = match asks_earlier {
            true => (vec![], vec![]),
            false => self.rows.missing(&self.deps.plan, limit),
        };
        let metadata = match self.reading.is_metadata_put_off {
            true => vec![],
            false => self.metadata.missing(limit),
        };
        if !asks_earlier && keys.is_empty() && metadata.is_empty() {
            self.leave();
            return;
        }
        let (storage, earlier) = (
            Arc::clone(&self.deps.storage),
            Arc::clone(&self.deps.earlier),
        );
        let (zone, now_ms) = (self.deps.zone.clone(), self.deps.clock.now_ms());
        let models = match asks_earlier {
            true => self.deps.plan.models(),
            false => vec![],
        };
        let metadata_keys = metadata.clone();
        let lane = self.deps.lane.clone();
        let page = Box::pin(async move {
            let ask = async {
                match asks_earlier {
                    true => Some(earlier.ask(&*storage, &models, &zone, now_ms).await),
                    false => None,
                }
            };
            let rows = held_or_stored(&lane, &*storage, &keys);
            let metadata = held_or_stored(&lane, &*storage, &metadata_keys);
            let (earlier, rows, metadata) = futures_util::join!(ask, rows, metadata);
            Page {
                earlier,
                rows,
                metadata,
            }
        });
        self.reading.loading = Some(Loading {
            rows,
            metadata,
            page,
        });
    }

    /// Takes a page in and goes on with the next one; after a failure not before the next flush.
    pub(super) fn loaded(&mut self, loaded: Loaded) {
        let Loaded {
            rows,
            metadata,
            page,
        } = loaded;
        let mut failure = None;
        match page.earlier {
            Some(Ok(earlier)) => self.rows.learn_earlier(&self.deps.plan, earlier),
            Some(Err(error)) => failure = Some(error),
            None => {}
        }
        match page.rows {
            Ok(found) => {
                self.count_read(&found);
                self.rows.complete(&self.deps.plan, rows, found);
                let unfit = self.rows.take_unfit();
                self.unfit(unfit);
            }
            Err(error) => {
                self.rows.not_read(rows);
                failure = Some(error);
            }
        }
        match page.metadata {
            Ok(found) => {
                let has_unread = found.iter().any(|found| matches!(found, Found::Unread));
                self.reading.is_metadata_put_off |= has_unread;
                self.metadata.complete(metadata, found);
            }
            Err(error) => failure = Some(error),
        }
        self.hand_on_news();
        match failure {
            Some(error) => tracing::debug!(%error, "read-back failed, values stay in memory"),
            None => self.read_on(),
        }
        self.write_for_waiting();
    }

    fn count_read(&mut self, found: &[Found]) {
        let is_read = |found: &&Found| !matches!(found, Found::Unread);
        let read = found.iter().filter(is_read).count() as u64;
        self.deps.metrics.read_back.inc_by(read);
        self.reading.rows += rows_in(found);
    }

    /// Says once that nothing of the start is left to be read, when no more of it can come.
    fn leave(&mut self) {
        if self.reading.has_left {
            return;
        }
        let settled = self.deps.clock.now_ms() - SETTLED_MS;
        let settled = self.deps.zone.minute(settled).unwrap_or(0);
        if self.rows.earlier_minute().is_some_and(|m| m < settled) {
            self.reading.has_left = true;
            self.deps.earlier.leave(self.reading.rows);
        }
    }
}
