//! How long a node that leaves waits for the others.

use std::time::Duration;

use tokio::time::Instant;

/// How long others may take to take what is meant for them, once nothing comes in any more.
const FAREWELL: Duration = Duration::from_secs(14);
/// How long they may take to hear that everything is handed over, however long that took.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The end of a node: nothing comes in any more.
#[derive(Debug)]
pub(super) struct Ending {
    began: Instant,
    /// When it last had something to store.
    stored: Instant,
}

impl Ending {
    pub(super) fn new(now: Instant) -> Ending {
        Ending {
            began: now,
            stored: now,
        }
    }

    /// Whether nobody is waited for any more; now something `is_stored` that is handed over, or nothing.
    pub(super) fn is_over(&mut self, is_stored: bool, now: Instant) -> bool {
        if is_stored {
            self.stored = now;
        }
        now - self.began > FAREWELL && now - self.stored > LAST_WORDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_hear_of_the_end_however_long_it_took() {
        // Until which second something is stored, and whether it is over in some second.
        for (stored, second, want) in [
            (0, 14, false),
            (0, 15, true),
            (13, 15, false),
            (13, 17, true),
            (19, 22, false),
            (19, 23, true),
        ] {
            let start = Instant::now();
            let mut ending = Ending::new(start);
            let over =
                (0..=second).map(|s| ending.is_over(s <= stored, start + Duration::from_secs(s)));
            assert_eq!(over.last(), Some(want), "{stored} {second}");
        }
    }
}
