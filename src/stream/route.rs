//! The way into the shards: facts of entities that this node writes go there, the others to whoever sends them on.
//!
//! Alone, a node writes everything. In a cluster it writes some partitions; which, changes while facts come in. What is on
//! its way into a shard when that happens has arrived there before the change goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::Histogram;
use tokio::sync::{RwLock, mpsc, oneshot};

use super::Input;
use super::increments::Portion;
use super::partitions::{Partitions, of_fact};
use super::watched::Watched;
use crate::model::fact::Fact;
use crate::storage::Backend;
use crate::telemetry::Stay;

/// The partitions that this node writes now. Who reads it keeps them from changing.
pub type Held = Arc<RwLock<Partitions>>;

/// Aggregation has ended, or a stage before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("aggregation is gone")]
pub struct Gone;

/// Where facts go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Route {
    shards: Vec<mpsc::Sender<Input>>,
    elsewhere: Option<Elsewhere>,
    stay: Option<Histogram>,
}

#[derive(Debug, Clone)]
struct Elsewhere {
    held: Held,
    kept: Arc<AtomicU64>,
    facts: mpsc::Sender<Vec<Fact>>,
}

impl Route {
    /// Everything to the shards.
    pub fn new(shards: Vec<mpsc::Sender<Input>>) -> Route {
        Route {
            shards,
            elsewhere: None,
            stay: None,
        }
    }

    /// Measures how long facts are in the queue of a shard.
    pub fn measuring(self, stay: Histogram) -> Route {
        Route {
            stay: Some(stay),
            ..self
        }
    }

    /// What is not `held` goes to `facts`; `kept` counts what is.
    pub fn sending_on(
        self,
        held: Held,
        kept: Arc<AtomicU64>,
        facts: mpsc::Sender<Vec<Fact>>,
    ) -> Route {
        Route {
            elsewhere: Some(Elsewhere { held, kept, facts }),
            ..self
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Hands facts to their shard, or on; waits for room.
    pub async fn send(&self, shard: usize, facts: Vec<Fact>) -> Result<(), Gone> {
        let Some(elsewhere) = &self.elsewhere else {
            return self.to_shard(shard, facts).await;
        };
        let held = elsewhere.held.read().await;
        let (own, others): (Vec<_>, Vec<_>) = facts
            .into_iter()
            .partition(|fact| held.contains(of_fact(fact)));
        if !own.is_empty() {
            let kept = &elsewhere.kept;
            kept.fetch_add(own.len() as u64, Ordering::Relaxed);
            self.to_shard(shard, own).await?;
        }
        // Whoever sends on may be waiting for the lock.
        drop(held);
        if others.is_empty() {
            return Ok(());
        }
        elsewhere.facts.send(others).await.map_err(|_| Gone)
    }

    async fn to_shard(&self, shard: usize, facts: Vec<Fact>) -> Result<(), Gone> {
        let shard = self.shards.get(shard).ok_or(Gone)?;
        let facts = Input::Facts(facts, Stay::begin(self.stay.as_ref()));
        shard.send(facts).await.map_err(|_| Gone)
    }

    /// Writes everything that was handed to the shards before, and waits for it.
    pub async fn flush(&self) -> Result<(), Gone> {
        flush(&self.shards).await
    }
}

async fn flush(shards: &[mpsc::Sender<Input>]) -> Result<(), Gone> {
    for shard in shards {
        let (done, is_done) = oneshot::channel();
        shard.send(Input::Flush(done)).await.map_err(|_| Gone)?;
        is_done.await.map_err(|_| Gone)?;
    }
    Ok(())
}

type Refresh = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The shards for whoever decides what this node writes. Cheap to clone.
#[derive(Clone)]
pub struct Ground {
    shards: Vec<mpsc::Sender<Input>>,
    watcher: Option<mpsc::Sender<Watched>>,
    refresh: Refresh,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}

impl Ground {
    pub fn new<S: Backend + 'static>(shards: Vec<mpsc::Sender<Input>>, storage: Arc<S>) -> Ground {
        let refresh = move || {
            let storage = Arc::clone(&storage);
            let refreshing = async move { storage.refresh().await.is_ok() };
            Box::pin(refreshing) as Pin<Box<dyn Future<Output = bool> + Send>>
        };
        Ground {
            shards,
            watcher: None,
            refresh: Arc::new(refresh),
        }
    }

    /// Tells whoever looks at the values of the shards which entities go to another node.
    pub fn watched_by(self, watcher: Option<mpsc::Sender<Watched>>) -> Ground {
        Ground { watcher, ..self }
    }

    /// With nothing to refresh.
    #[cfg(test)]
    pub(crate) fn without_store(shards: Vec<mpsc::Sender<Input>>) -> Ground {
        Ground {
            shards,
            refresh: Arc::new(|| Box::pin(async { true })),
            watcher: None,
        }
    }

    /// Hands over what belongs to partitions that this node writes; waits for room.
    pub async fn take_in(&self, portion: Portion) -> Result<(), Gone> {
        let count = self.shards.len();
        let mut parts: Vec<Portion> = (0..count).map(|_| Portion::default()).collect();
        // As analysis sorts facts.
        let shard = |hash: u64| (hash >> 32) as usize % count.max(1);
        for increment in portion.increments {
            if let Some(part) = parts.get_mut(shard(increment.entity.hash_code())) {
                part.increments.push(increment);
            }
        }
        for fact in portion.known {
            if let Some(part) = parts.get_mut(shard(fact.hash())) {
                part.known.push(fact);
            }
        }
        for (shard, part) in self.shards.iter().zip(parts) {
            if !part.is_empty() {
                shard.send(Input::Portion(part)).await.map_err(|_| Gone)?;
            }
        }
        Ok(())
    }

    /// From now on this node writes these partitions too: what another one stored of them is read before.
    pub async fn acquire(&self) -> Result<(), Gone> {
        for shard in &self.shards {
            shard.send(Input::Acquire).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Writes everything there is of these partitions, waits until others can find it in the store, and forgets it. Nothing
    /// of them may be handed in while this runs.
    pub async fn release(self, partitions: Partitions) -> Result<(), Gone> {
        flush(&self.shards).await?;
        if !(self.refresh)().await {
            tracing::debug!("the store could not be refreshed, others see metadata later");
        }
        self.forget(partitions).await?;
        self.release_watched(partitions).await;
        Ok(())
    }

    /// Forgets what there is of these partitions without storing it: another node has written them meanwhile.
    pub async fn abandon(self, partitions: Partitions) -> Result<(), Gone> {
        self.forget(partitions).await?;
        if let Some(watcher) = &self.watcher {
            // Nobody waits for it, so that it stores nothing either. It ends after the shards.
            let (done, _) = oneshot::channel();
            let release = Watched::Release(partitions, done);
            watcher.send(release).await.unwrap_or_default();
        }
        Ok(())
    }

    async fn forget(&self, partitions: Partitions) -> Result<(), Gone> {
        for shard in &self.shards {
            let (done, is_done) = oneshot::channel();
            let forget = Input::Forget(partitions, done);
            shard.send(forget).await.map_err(|_| Gone)?;
            is_done.await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// All values of these are on their way to the watcher. It stores what it knows of them; if that takes too long, the other
    /// node goes on without it.
    async fn release_watched(&self, partitions: Partitions) {
        let Some(watcher) = &self.watcher else { return };
        let asking = async {
            let (done, is_done) = oneshot::channel();
            let release = Watched::Release(partitions, done);
            // It ends after the shards; without it there is nothing to hand over.
            if watcher.send(release).await.is_ok() {
                is_done.await.unwrap_or_default();
            }
        };
        if tokio::time::timeout(WATCHER, asking).await.is_err() {
            tracing::warn!(
                seconds = WATCHER.as_secs(),
                "what alarm rules remember was not handed over in time"
            );
        }
    }
}

/// How long whoever looks at values may take to store what it knows.
const WATCHER: Duration = Duration::from_secs(12);
