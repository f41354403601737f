//! A cache of what is made from names: the same ones come again and again.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use hashbrown::HashMap;

/// Beyond this many the cache starts over, which costs time but no data.
const MAX_ENTRIES: usize = 50_000;
/// Bytes of all entries, if nothing else is said.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of an entry without what its value refers to, with the room that the table keeps free.
pub(super) const ENTRY_BYTES: usize = 40;
/// Parts of a cache that analyzers share, so that they seldom wait for each other.
const PARTS: usize = 8;

/// Makes keys of names. Each process has its own, so that nobody can choose names that share one.
#[derive(Debug, Default, Clone)]
pub(super) struct Keys {
    states: [RandomState; 2],
    text: Vec<u8>,
}

/// Stands for a tag and names: 128 bits, so that no two lists of names have the same one, at a fraction of their memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    hashes: [u64; 2],
    /// Length of tag and names.
    pub(super) bytes: usize,
}

impl Keys {
    pub(super) fn of(&mut self, tag: u8, names: &[&str]) -> Key {
        self.text.clear();
        self.text.push(tag);
        for name in names {
            self.text
                .extend_from_slice(&(name.len() as u32).to_le_bytes());
            self.text.extend_from_slice(name.as_bytes());
        }
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(&self.text);
            hasher.finish()
        };
        Key {
            hashes: self.states.each_ref().map(hash),
            bytes: self.text.len(),
        }
    }
}

/// What was made from names.
#[derive(Debug)]
pub(super) struct ByNames<T> {
    by_key: HashMap<[u64; 2], T, foldhash::fast::FixedState>,
    bytes: usize,
    max_bytes: usize,
}

impl<T> Default for ByNames<T> {
    fn default() -> Self {
        ByNames {
            by_key: HashMap::default(),
            bytes: 0,
            max_bytes: MAX_BYTES,
        }
    }
}

impl<T: Clone> ByNames<T> {
    pub(super) fn get(&self, key: Key) -> Option<T> {
        self.by_key.get(&key.hashes).cloned()
    }

    /// Remembers a value that takes so many bytes.
    pub(super) fn insert(&mut self, key: Key, value: T, bytes: usize) -> T {
        let is_full = self.bytes + bytes > self.max_bytes;
        if is_full || self.by_key.len() >= MAX_ENTRIES {
            // The table goes as well: it was made for as many.
            self.by_key = HashMap::default();
            self.bytes = 0;
        }
        let old = self.by_key.insert(key.hashes, value.clone());
        if old.is_none() {
            self.bytes += bytes;
        }
        value
    }

    /// The value, made if it is not there; one that is made counts as long as the names.
    pub(super) fn cached(&mut self, key: Key, make: impl FnOnce() -> T) -> T {
        match self.get(key) {
            Some(found) => found,
            None => self.insert(key, make(), key.bytes),
        }
    }
}

/// A cache that all analyzers share.
#[derive(Debug)]
pub(super) struct SharedByNames<T> {
    parts: [Mutex<ByNames<T>>; PARTS],
}

impl<T: Clone> SharedByNames<T> {
    /// What is in it takes at most so many bytes.
    pub(super) fn new(max_bytes: usize) -> SharedByNames<T> {
        SharedByNames {
            parts: std::array::from_fn(|_| {
                Mutex::new(ByNames {
                    max_bytes: max_bytes / PARTS,
                    ..ByNames::default()
                })
            }),
        }
    }

    fn part(&self, key: Key) -> Option<MutexGuard<'_, ByNames<T>>> {
        // The low bits place it in the part's own table.
        let part = self.parts.get((key.hashes[1] >> 32) as usize % PARTS)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn get(&self, key: Key) -> Option<T> {
        self.part(key).and_then(|part| part.get(key))
    }

    pub(super) fn insert(&self, key: Key, value: T, bytes: usize) -> T {
        match self.part(key) {
            Some(mut part) => part.insert(key, value, bytes),
            None => value,
        }
    }

    /// The value, made if it is not there, while nobody waits for that.
    pub(super) fn cached(
        &self,
        key: Key,
        make: impl FnOnce() -> T,
        bytes: impl FnOnce(&T) -> usize,
    ) -> T {
        match self.get(key) {
            Some(found) => found,
            None => {
                let value = make();
                let bytes = ENTRY_BYTES + bytes(&value);
                self.insert(key, value, bytes)
            }
        }
    }

    /// Bytes of what is in it, about.
    pub(super) fn bytes(&self) -> usize {
        let parts = self.parts.iter();
        let parts = parts.map(|part| part.lock().unwrap_or_else(PoisonError::into_inner));
        parts.map(|part| part.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_and_long_names_start_the_cache_over() {
        let mut keys = Keys::default();
        let mut known: ByNames<usize> = ByNames::default();
        for i in 0..MAX_ENTRIES + 10 {
            let name = format!("{i:08}");
            let key = keys.of(0, &[&name]);
            known.insert(key, i, key.bytes);
        }
        assert_eq!((known.by_key.len(), known.bytes), (10, 130));
        let mut known: ByNames<usize> = ByNames::default();
        for i in 0..20_u8 {
            let name = char::from(b'a' + i).to_string().repeat(1 << 20);
            let key = keys.of(0, &[&name]);
            known.insert(key, i.into(), key.bytes);
        }
        assert_eq!((known.by_key.len(), known.bytes), (5, 5 * ((1 << 20) + 5)));
    }

    #[test]
    fn a_shared_cache_stays_within_its_bytes_and_makes_a_value_once() {
        let mut keys = Keys::default();
        let shared = SharedByNames::new(PARTS * 1000);
        for i in 0..1000_usize {
            let key = keys.of(0, &[&i.to_string()]);
            assert_eq!(shared.cached(key, || i, |_| 60), i);
            assert_eq!(shared.cached(key, || unreachable!(), |_| 60), i);
            assert!(shared.bytes() <= PARTS * 1000);
        }
        assert!(shared.bytes() > 1000);
    }

    #[test]
    fn shifted_borders_and_tags_make_other_keys() {
        let mut keys = Keys::default();
        let mut of = |tag, names: &[&str]| keys.of(tag, names).hashes;
        let key = of(0, &["ab", "c"]);
        assert_eq!(key, of(0, &["ab", "c"]));
        for other in [of(0, &["a", "bc"]), of(0, &["abc"]), of(1, &["ab", "c"])] {
            assert_ne!(key, other);
        }
        assert_ne!(key, Keys::default().of(0, &["ab", "c"]).hashes);
    }
}
