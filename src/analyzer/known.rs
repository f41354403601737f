//! One copy of every entity and text in use, shared by all analyzers: the same names come again in many combinations.
//!
//! Asked only for combinations of names that an analyzer's own cache does not have, so that a lock is cheap enough.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::hash_table::Entry;
use hashbrown::{HashSet, HashTable};

use crate::model::entity::Entity;

type State = foldhash::fast::FixedState;

/// Beyond these the copies start over, which costs memory but no data.
const MAX_ENTITIES: usize = 100_000;
const MAX_TEXT_BYTES: usize = 32 << 20;

/// The copies.
#[derive(Debug, Default)]
pub struct Known {
    entities: Mutex<HashTable<Arc<Entity>>>,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    all: HashSet<Arc<str>, State>,
    bytes: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// The entity, or the one like it that is there already.
    pub(super) fn entity(&self, entity: Entity) -> Arc<Entity> {
        let mut entities = locked(&self.entities);
        if entities.len() >= MAX_ENTITIES {
            entities.clear();
        }
        let found = entities.entry(
            entity.hash_code(),
            |known| known.is_like(&entity),
            |known| known.hash_code(),
        );
        match found {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(entity)).get()),
        }
    }

    /// The text, shared.
    pub(super) fn text(&self, text: &str) -> Arc<str> {
        let mut texts = locked(&self.texts);
        if let Some(known) = texts.all.get(text) {
            return Arc::clone(known);
        }
        if texts.bytes + text.len() > MAX_TEXT_BYTES {
            *texts = Texts::default();
        }
        let shared: Arc<str> = text.into();
        texts.bytes += text.len();
        texts.all.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_start_the_copies_over() {
        let known = Known::default();
        let kept = known.text("order");
        assert!(Arc::ptr_eq(&kept, &known.text("order")));
        known.text(&"x".repeat(MAX_TEXT_BYTES));
        assert!(!Arc::ptr_eq(&kept, &known.text("order")));
        assert_eq!(locked(&known.texts).bytes, "order".len());
    }
}
