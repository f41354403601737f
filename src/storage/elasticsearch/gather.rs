//! Questions that are asked at the same moment travel together: one request for all of them, so that a page of many fields waits
//! for one round trip.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Notify;

use super::Answer;
use crate::storage::StorageError;

/// Questions that wait for the others of their moment. Whichever of the askers is there drives the request of all.
#[derive(Debug)]
pub(super) struct Gather<Q, A> {
    /// Weight that one request may have; a single question may have more.
    most: usize,
    open: Mutex<Option<Batch<Q, A>>>,
}

/// Answers by the position of their question; each is taken once.
type Answers<A> = Arc<[Mutex<Option<Answer<A>>>]>;

/// A request that each of its askers waits for.
type Sending<A> = Shared<BoxFuture<'static, Answers<A>>>;

#[derive(Debug)]
struct Batch<Q, A> {
    /// `None` as soon as they are on their way.
    questions: Arc<Mutex<Option<Vec<Q>>>>,
    weight: usize,
    answers: Sending<A>,
}

/// Lets a batch go when the first of its askers has waited a moment, or has gone away.
struct Go(Arc<Notify>);

impl Drop for Go {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl<Q, A> Gather<Q, A>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    pub(super) fn new(most: usize) -> Gather<Q, A> {
        Gather {
            most,
            open: Mutex::default(),
        }
    }

    /// The answer to a question of some weight; `send` asks for all that came together, and answers each in its place.
    pub(super) async fn ask<S, F>(&self, question: Q, weight: usize, send: S) -> Answer<A>
    where
        S: FnOnce(Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Vec<Answer<A>>> + Send + 'static,
    {
        let (at, answers, first) = self.join(question, weight, send);
        if first.is_some() {
            // Whoever asks in the same moment comes before this goes on.
            tokio::task::yield_now().await;
        }
        drop(first);
        let answers = answers.await;
        let mut answer = answers.get(at).map(lock);
        answer.as_mut().and_then(|a| a.take()).unwrap_or_else(|| {
            let text = "elasticsearch did not answer each of several questions";
            Err(StorageError::Damaged(text.to_owned()))
        })
    }

    /// Position of the question and its batch; the first one is to let the batch go.
    fn join<S, F>(&self, question: Q, weight: usize, send: S) -> (usize, Sending<A>, Option<Go>)
    where
        S: FnOnce(Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Vec<Answer<A>>> + Send + 'static,
    {
        let mut open = lock(&self.open);
        if let Some(batch) = &mut *open
            && batch.weight.saturating_add(weight) <= self.most
            && let Some(questions) = &mut *lock(&batch.questions)
        {
            batch.weight += weight;
            questions.push(question);
            return (questions.len() - 1, batch.answers.clone(), None);
        }
        let questions = Arc::new(Mutex::new(Some(vec![question])));
        let waiting = Arc::clone(&questions);
        let go = Arc::new(Notify::new());
        let gone = Arc::clone(&go);
        let answers = async move {
            gone.notified().await;
            let all = lock(&waiting).take().unwrap_or_default();
            let answers = send(all).await;
            answers.into_iter().map(|a| Mutex::new(Some(a))).collect()
        };
        let answers = answers.boxed().shared();
        *open = Some(Batch {
            questions,
            weight,
            answers: answers.clone(),
        });
        (0, answers, Some(Go(go)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same failure for each of some questions.
pub(super) fn all_failed<A>(count: usize, error: &StorageError) -> Vec<Answer<A>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// Doubles numbers and counts the requests.
    async fn ask(gather: &Gather<u32, u32>, requests: &Arc<AtomicUsize>, n: u32) -> Answer<u32> {
        let requests = Arc::clone(requests);
        let send = move |all: Vec<u32>| {
            requests.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                match all.contains(&99) {
                    true => all_failed(all.len(), &StorageError::Refused("99".to_owned())),
                    false => all.into_iter().map(|n| Ok(2 * n)).collect(),
                }
            }
        };
        gather.ask(n, 1, send).await
    }

    #[tokio::test]
    async fn what_is_asked_at_the_same_moment_is_one_request() {
        let gather = Gather::new(5);
        let requests = Arc::new(AtomicUsize::new(0));
        let answers = join_all([1, 2, 3].map(|n| ask(&gather, &requests, n))).await;
        let answers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            (answers, requests.swap(0, Ordering::SeqCst)),
            (vec![2, 4, 6], 1)
        );
        // What comes later is another, and so is what does not fit.
        assert_eq!(ask(&gather, &requests, 4).await.unwrap(), 8);
        assert_eq!(requests.swap(0, Ordering::SeqCst), 1);
        let answers = join_all((0..12).map(|n| ask(&gather, &requests, n))).await;
        assert!(
            answers
                .iter()
                .zip(0..)
                .all(|(a, n)| matches!(a, Ok(d) if *d == 2 * n))
        );
        assert_eq!(requests.swap(0, Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_failure_is_everyones_and_the_next_request_is_its_own() {
        let gather = Gather::new(5);
        let requests = Arc::new(AtomicUsize::new(0));
        let answers = join_all([1, 99].map(|n| ask(&gather, &requests, n))).await;
        assert!(
            answers
                .iter()
                .all(|a| matches!(a, Err(StorageError::Refused(_))))
        );
        assert_eq!(ask(&gather, &requests, 4).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn who_goes_away_takes_no_one_along() {
        let gather = Gather::new(5);
        let requests = Arc::new(AtomicUsize::new(0));
        for after in 0..4 {
            let mut first = Box::pin(ask(&gather, &requests, 1));
            let mut second = Box::pin(ask(&gather, &requests, 2));
            assert!(futures_util::poll!(&mut first).is_pending());
            assert!(futures_util::poll!(&mut second).is_pending());
            for _ in 0..after {
                if futures_util::poll!(&mut first).is_ready() {
                    break;
                }
            }
            drop(first);
            assert_eq!(second.await.unwrap(), 4, "after {after}");
        }
    }
}
