//! One copy of every entity and text in use, and of what combinations of names stand for, shared by all analyzers: the same
//! names come again and again. Bounded by bytes; what is full starts over, which costs time but no data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::hash_table::Entry;
use hashbrown::{HashSet, HashTable};

use super::by_names::{Keys, SharedByNames};
use super::entities::{InstanceEntities, RelationEntities, RequestEntities};
use crate::model::entity::Entity;
use crate::model::fact::AddressAlias;

type State = foldhash::fast::FixedState;

/// Bytes of all of it, if nothing else is said.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of a text beside its own, in the set that has it.
const TEXT_BYTES: usize = 48;

/// The copies.
#[derive(Debug)]
pub struct Known {
    /// Makes the same keys for all analyzers.
    pub(super) keys: Keys,
    pub(super) services: SharedByNames<Arc<Entity>>,
    pub(super) requests: SharedByNames<Arc<RequestEntities>>,
    pub(super) relations: SharedByNames<Arc<RelationEntities>>,
    pub(super) instances: SharedByNames<Arc<InstanceEntities>>,
    pub(super) aliases: SharedByNames<Arc<AddressAlias>>,
    entities: Mutex<Interned>,
    texts: Mutex<Texts>,
    max_entity_bytes: usize,
    max_text_bytes: usize,
}

#[derive(Debug, Default)]
struct Interned {
    all: HashTable<Arc<Entity>>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Texts {
    all: HashSet<Arc<str>, State>,
    bytes: usize,
}

impl Default for Known {
    fn default() -> Known {
        Known::new(MAX_BYTES)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// All of it takes at most so many bytes, about.
    pub fn new(max_bytes: usize) -> Known {
        let part = max_bytes / 16;
        Known {
            keys: Keys::default(),
            services: SharedByNames::new(part),
            requests: SharedByNames::new(2 * part),
            relations: SharedByNames::new(5 * part),
            instances: SharedByNames::new(part),
            aliases: SharedByNames::new(part),
            entities: Mutex::default(),
            texts: Mutex::default(),
            max_entity_bytes: 4 * part,
            max_text_bytes: 2 * part,
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.services.bytes()
            + self.requests.bytes()
            + self.relations.bytes()
            + self.instances.bytes()
            + self.aliases.bytes()
            + locked(&self.entities).bytes
            + locked(&self.texts).bytes
    }

    /// The entity, or the one like it that is there already.
    pub(super) fn entity(&self, entity: Entity) -> Arc<Entity> {
        let mut entities = locked(&self.entities);
        let bytes = entity.heap_bytes();
        if entities.bytes + bytes > self.max_entity_bytes {
            *entities = Interned::default();
        }
        let found = entities.all.entry(
            entity.hash_code(),
            |known| known.is_like(&entity),
            |known| known.hash_code(),
        );
        let place = match found {
            Entry::Occupied(known) => return Arc::clone(known.get()),
            Entry::Vacant(place) => place,
        };
        let entity = Arc::clone(place.insert(Arc::new(entity)).get());
        entities.bytes += bytes;
        entity
    }

    /// The text, shared.
    pub(super) fn text(&self, text: &str) -> Arc<str> {
        let mut texts = locked(&self.texts);
        if let Some(known) = texts.all.get(text) {
            return Arc::clone(known);
        }
        let bytes = text.len() + TEXT_BYTES;
        if texts.bytes + bytes > self.max_text_bytes {
            *texts = Texts::default();
        }
        let shared: Arc<str> = text.into();
        texts.bytes += bytes;
        texts.all.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::super::entities::Entities;
    use super::*;

    #[test]
    fn long_texts_start_the_copies_over() {
        let known = Known::new(16 << 10);
        let kept = known.text("order");
        assert!(Arc::ptr_eq(&kept, &known.text("order")));
        known.text(&"x".repeat(2 << 10));
        assert!(!Arc::ptr_eq(&kept, &known.text("order")));
        assert_eq!(locked(&known.texts).bytes, "order".len() + TEXT_BYTES);
    }

    #[test]
    fn endless_names_take_no_more_than_they_may() {
        let known = Arc::new(Known::new(1 << 20));
        let mut entities = Entities::sharing(Arc::clone(&known));
        for i in 0..20_000 {
            entities.request("shop", "shop-1", &format!("/order/{i}"));
            assert!(known.bytes() <= 1 << 20, "{} at {i}", known.bytes());
        }
        assert!(known.bytes() > 1 << 16);
        let entities = locked(&known.entities);
        let bytes: usize = entities.all.iter().map(|e| e.heap_bytes()).sum();
        assert!(entities.bytes == bytes && bytes <= 1 << 18);
    }
}
