//! A cache of what is made from names: the same ones come again and again.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;
use hashbrown::HashMap;

/// Beyond this many the cache starts over, which costs time but no data.
const MAX_ENTRIES: usize = 50_000;
/// Length of all names: those of agents may be long. What is made of a name takes up to ten times as much.
const MAX_NAME_BYTES: usize = 16 << 20;

/// Makes keys of names. Each process has its own, so that nobody can choose names that share one.
#[derive(Debug, Default)]
pub(super) struct Keys {
    states: [RandomState; 2],
    text: Vec<u8>,
}

/// Stands for a tag and names: 128 bits, so that no two lists of names have the same one, at a fraction of their memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    hashes: [u64; 2],
    /// Length of tag and names.
    bytes: usize,
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
    name_bytes: usize,
}

impl<T> Default for ByNames<T> {
    fn default() -> Self {
        ByNames {
            by_key: HashMap::default(),
            name_bytes: 0,
        }
    }
}

impl<T: Clone> ByNames<T> {
    pub(super) fn get(&self, key: Key) -> Option<T> {
        self.by_key.get(&key.hashes).cloned()
    }

    pub(super) fn insert(&mut self, key: Key, value: T) -> T {
        let is_full = self.name_bytes + key.bytes > MAX_NAME_BYTES;
        if is_full || self.by_key.len() >= MAX_ENTRIES {
            self.by_key.clear();
            self.name_bytes = 0;
        }
        let old = self.by_key.insert(key.hashes, value.clone());
        if old.is_none() {
            self.name_bytes += key.bytes;
        }
        value
    }

    pub(super) fn cached(&mut self, key: Key, make: impl FnOnce() -> T) -> T {
        match self.get(key) {
            Some(found) => found,
            None => self.insert(key, make()),
        }
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
            known.insert(keys.of(0, &[&name]), i);
        }
        assert_eq!((known.by_key.len(), known.name_bytes), (10, 130));
        let mut known: ByNames<usize> = ByNames::default();
        for i in 0..20_u8 {
            let name = char::from(b'a' + i).to_string().repeat(1 << 20);
            known.insert(keys.of(0, &[&name]), i.into());
        }
        assert_eq!(
            (known.by_key.len(), known.name_bytes),
            (5, 5 * ((1 << 20) + 5))
        );
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
