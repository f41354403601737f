//! Whether the store answers, asked once for all who want to know at the same time: probes may come in any number.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::readiness;
use crate::storage::StorageError;

/// How long the store may take to answer: probes wait a few seconds themselves and should hear the reason.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);

/// What is wrong with the store, `None` if nothing is, and when that became known.
type Outcome = (Instant, Option<String>);

/// What the store said last, or is being asked.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<watch::Receiver<Option<Outcome>>>>);

impl Pulse {
    /// What is wrong with the store; `None` if it gives a sign of life in time. Whoever goes away does not end a question that
    /// others wait for.
    pub(super) async fn fault<P>(&self, ping: impl FnOnce() -> P) -> Option<String>
    where
        P: Future<Output = Result<(), StorageError>> + Send + 'static,
    {
        let mut asked = self.asked(ping);
        match asked.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.as_ref().and_then(|(_, fault)| fault.clone()),
            Err(_) => Some("it was not asked to the end".to_owned()),
        }
    }

    fn asked<P>(&self, ping: impl FnOnce() -> P) -> watch::Receiver<Option<Outcome>>
    where
        P: Future<Output = Result<(), StorageError>> + Send + 'static,
    {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = last.as_ref().filter(|asked| holds(asked)) {
            return asked.clone();
        }
        let (tell, asked) = watch::channel(None);
        let ping = ping();
        tokio::spawn(async move {
            let fault = readiness::fault(PATIENCE, ping).await;
            tell.send_replace(Some((Instant::now(), fault)));
        });
        last.insert(asked).clone()
    }
}

/// Whether an answer is still to come, or not old.
fn holds(asked: &watch::Receiver<Option<Outcome>>) -> bool {
    match &*asked.borrow() {
        Some((since, _)) => since.elapsed() < FRESH,
        None => asked.has_changed().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_a_time_share_one_question() {
        let asked = Arc::new(AtomicU32::new(0));
        let pulse = Pulse::default();
        let ask = || {
            pulse.fault(|| {
                let asked = Arc::clone(&asked);
                async move {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    match number {
                        0 => Ok(()),
                        1 => Err(StorageError::Refused("no".into())),
                        _ => std::future::pending().await,
                    }
                }
            })
        };
        // One who goes away at once does not end it.
        let gone = tokio::time::timeout(Duration::from_millis(1), ask()).await;
        assert!(gone.is_err());
        let all = join_all((0..3000).map(|_| ask())).await;
        assert!(all.iter().all(Option::is_none));
        tokio::time::advance(Duration::from_millis(900)).await;
        assert_eq!((ask().await, asked.load(Ordering::Relaxed)), (None, 1));
        tokio::time::advance(Duration::from_millis(200)).await;
        let all = join_all((0..3000).map(|_| ask())).await;
        assert!(all.iter().flatten().all(|fault| fault.contains("no")));
        assert_eq!(
            (all.iter().flatten().count(), asked.load(Ordering::Relaxed)),
            (3000, 2)
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        let began = Instant::now();
        let fault = ask().await;
        assert_eq!(fault.as_deref(), Some("no answer within 2 s"));
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
