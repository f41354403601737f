//! Bounds what all answers under way hold together: each alone could be harmless, and many can be asked for at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::IntCounter;

/// Rough bytes that a value of an answer takes: a few hundred thousand points of charts took about 170 each.
pub(super) const BYTES_PER_VALUE: usize = 192;
/// Values of one answer. Fields can be selected under many names; the largest pages of the user interface ask for a few
/// ten thousand, a trace of ten thousand spans for a few hundred thousand.
pub(super) const MAX_VALUES: usize = 500_000;
/// Values that are taken from the shared bound at once, so that answers seldom meet there.
const CHUNK: usize = 128;
/// Bytes that an answer may always hold: a small question is answered beside whatever runs.
const ALWAYS: usize = 8 * CHUNK * BYTES_PER_VALUE;

/// Why an answer gets no more values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// It has as many as one may have.
    #[error("answer has more than {0} values, ask for fewer")]
    One(usize),
    /// There is no room beside the others.
    #[error("answers under way hold too much, ask again or for less")]
    All,
}

/// What all answers under way hold, from their first value until they are sent.
#[derive(Debug)]
pub struct Answers {
    bound: usize,
    bytes: AtomicUsize,
    refused: IntCounter,
}

impl Answers {
    /// All together hold so many bytes; who is refused is counted.
    pub fn new(bound: usize, refused: IntCounter) -> Arc<Answers> {
        Arc::new(Answers {
            bound,
            bytes: AtomicUsize::new(0),
            refused,
        })
    }

    /// Bytes held, estimated.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The share of an answer that begins.
    pub fn begin(self: &Arc<Answers>) -> Share {
        self.share(MAX_VALUES)
    }

    pub(super) fn share(self: &Arc<Answers>, max_values: usize) -> Share {
        Share {
            answers: Arc::clone(self),
            max_values,
            values: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            full: OnceLock::new(),
        }
    }

    /// Takes bytes for who holds `own` already. Who is alone may go beyond the bound, or no large trace could be shown
    /// with a small budget.
    fn take(&self, own: usize, more: usize) -> bool {
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
                let after = all.saturating_add(more);
                let is_free = after <= self.bound || all == own || own + more <= ALWAYS;
                is_free.then_some(after)
            });
        taken.is_ok()
    }
}

/// What one answer holds of the bound; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    answers: Arc<Answers>,
    max_values: usize,
    values: AtomicUsize,
    bytes: AtomicUsize,
    full: OnceLock<Full>,
}

impl Share {
    /// Takes room for so many values more; once it was refused, the answer is not whole.
    pub(super) fn take(&self, values: usize) {
        if self.full().is_some() {
            return;
        }
        let values = self.values.fetch_add(values, Ordering::Relaxed) + values;
        if values >= self.max_values {
            self.full.get_or_init(|| Full::One(self.max_values));
            return;
        }
        let own = self.bytes.load(Ordering::Relaxed);
        if values * BYTES_PER_VALUE <= own {
            return;
        }
        let more = values.next_multiple_of(CHUNK) * BYTES_PER_VALUE - own;
        if self.answers.take(own, more) {
            self.bytes.fetch_add(more, Ordering::Relaxed);
        } else if self.full.set(Full::All).is_ok() {
            self.answers.refused.inc();
            // At once, or those that meet at the bound would all be refused where one is enough.
            self.shrink(0);
        }
    }

    /// Why there is no more room; `None` as long as there is.
    pub(super) fn full(&self) -> Option<Full> {
        self.full.get().copied()
    }

    /// Only so many bytes are left: the text of the answer, without its values.
    pub(super) fn shrink(&self, bytes: usize) {
        let own = self.bytes.fetch_min(bytes, Ordering::Relaxed);
        let less = own.saturating_sub(bytes);
        self.answers.bytes.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(values: usize) -> Arc<Answers> {
        let refused = IntCounter::new("refused", "refused").unwrap();
        Answers::new(values * BYTES_PER_VALUE, refused)
    }

    #[test]
    fn two_answers_that_together_pass_the_bound_are_one() {
        let answers = answers(100 * CHUNK);
        let (first, second) = (answers.begin(), answers.begin());
        first.take(60 * CHUNK);
        second.take(40 * CHUNK);
        assert_eq!((first.full(), second.full()), (None, None));
        assert_eq!(answers.bytes(), answers.bound);
        second.take(1);
        second.take(1);
        assert_eq!((first.full(), second.full()), (None, Some(Full::All)));
        assert_eq!(answers.refused.get(), 1);
        // The room of the second is there for the first, before its client has heard of it.
        first.take(40 * CHUNK);
        assert_eq!((first.full(), answers.bytes()), (None, answers.bound));
        first.shrink(7);
        drop(second);
        assert_eq!(answers.bytes(), 7);
        drop(first);
        assert_eq!(answers.bytes(), 0);
    }

    #[test]
    fn one_that_is_alone_may_pass_the_bound_but_not_its_own() {
        let answers = answers(10 * CHUNK);
        let alone = answers.share(30 * CHUNK);
        alone.take(20 * CHUNK);
        assert_eq!(alone.full(), None);
        let (small, other) = (answers.begin(), answers.begin());
        small.take(8 * CHUNK);
        other.take(8 * CHUNK + 1);
        assert_eq!((small.full(), other.full()), (None, Some(Full::All)));
        alone.take(10 * CHUNK);
        assert_eq!(alone.full(), Some(Full::One(30 * CHUNK)));
        assert_eq!(answers.refused.get(), 1);
    }
}
