//! Partitions of all entities: what the nodes of a cluster divide among themselves. Every node, of every version, must find
//! the same partition for an entity.

use crate::model::entity::Entity;
use crate::model::fact::Fact;
use crate::model::scope::Scope;

/// How many there are. Many more than nodes, so that shares differ little; few enough to say a set of them in a few bytes.
pub const PARTITIONS: usize = 1024;
const WORDS: usize = PARTITIONS / 64;
/// Stands for a scope where there is none.
const ADDRESS: u64 = 0xFF;

/// A set of partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Partitions([u64; WORDS]);

impl Partitions {
    /// All of them.
    pub const ALL: Partitions = Partitions([u64::MAX; WORDS]);

    /// Those for which something holds.
    pub fn select(is_so: impl Fn(usize) -> bool) -> Partitions {
        let mut set = Partitions::default();
        for partition in (0..PARTITIONS).filter(|p| is_so(*p)) {
            set.insert(partition);
        }
        set
    }

    pub fn insert(&mut self, partition: usize) {
        if let Some(word) = self.0.get_mut(partition / 64) {
            *word |= 1 << (partition % 64);
        }
    }

    pub fn contains(&self, partition: usize) -> bool {
        self.0
            .get(partition / 64)
            .is_some_and(|word| word >> (partition % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Which are in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..PARTITIONS).filter(|partition| self.contains(*partition))
    }

    /// Those in both.
    pub fn and(self, other: Partitions) -> Partitions {
        self.zip(other, |a, b| a & b)
    }

    /// Those in one or both.
    pub fn or(self, other: Partitions) -> Partitions {
        self.zip(other, |a, b| a | b)
    }

    /// Those only in this.
    pub fn without(self, other: Partitions) -> Partitions {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(mut self, other: Partitions, merged: impl Fn(u64, u64) -> u64) -> Partitions {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = merged(*a, b);
        }
        self
    }

    /// For another node.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`Partitions::to_bytes`] made; whatever is missing is not in it.
    pub fn from_bytes(bytes: &[u8]) -> Partitions {
        let bit = |p: usize| {
            bytes
                .get(p / 8)
                .is_some_and(|byte| byte >> (p % 8) & 1 == 1)
        };
        Partitions::select(bit)
    }
}

/// The partition of an entity.
pub fn of_entity(entity: &Entity) -> usize {
    of(entity.scope, &entity.id)
}

/// The partition of an entity that is known by its id only.
pub fn of(scope: Scope, id: &str) -> usize {
    place(scope as u64, id)
}

/// The partition of a network address.
pub fn of_address(address: &str) -> usize {
    place(ADDRESS, address)
}

/// The partition of what a fact is about.
pub fn of_fact(fact: &Fact) -> usize {
    match fact {
        Fact::Source(source) => of_entity(&source.entity),
        Fact::Meter(value) => of_entity(&value.entity),
        Fact::Service { entity, .. }
        | Fact::Instance { entity, .. }
        | Fact::Endpoint { entity, .. } => of_entity(entity),
        Fact::Address { alias, .. } => of_address(&alias.address),
    }
}

fn place(kind: u64, text: &str) -> usize {
    (stable_hash(kind, text.as_bytes()) % PARTITIONS as u64) as usize
}

/// A hash that is the same on every machine and in every version: changing it breaks clusters of two versions.
pub fn stable_hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(seed ^ (bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(part) {
            *to = *from;
        }
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}

fn mix(mut hash: u64) -> u64 {
    const FACTOR: u64 = 0xD6E8_FEB8_6659_FD93;
    hash = (hash ^ hash >> 32).wrapping_mul(FACTOR);
    hash = (hash ^ hash >> 32).wrapping_mul(FACTOR);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        for (seed, text, want) in [
            (0, "", 0x0),
            (1, "c2hvcA==.1", 0x8D00501438845DB6),
            (3, "c2hvcA==.1_L29yZGVy", 0xF55B6ED359C3A4AE),
        ] {
            let hash = stable_hash(seed, text.as_bytes());
            assert_eq!(hash, want, "{seed} {text}");
        }
    }

    #[test]
    fn sets_have_the_laws_of_sets_and_come_back_out_of_their_bytes() {
        let even = Partitions::select(|p| p % 2 == 0);
        let third = Partitions::select(|p| p % 3 == 0);
        assert_eq!((even.len(), third.len()), (512, 342));
        assert_eq!(even.and(third).len(), 171);
        assert_eq!(even.or(third).len(), 512 + 342 - 171);
        assert_eq!(even.without(third).len(), 512 - 171);
        assert_eq!(Partitions::ALL.len(), PARTITIONS);
        assert_eq!(Partitions::from_bytes(&third.to_bytes()), third);
        assert!(Partitions::from_bytes(&[]).is_empty());
        assert!(third.contains(1023) && !third.contains(1024));
    }

    #[test]
    fn entities_spread_evenly() {
        let mut counts = [0_u32; 4];
        for n in 0..100_000 {
            let id = format!("c2hvcA==.1_{n}");
            counts[place(3, &id) % 4] += 1;
        }
        assert!(
            counts.iter().all(|n| n.abs_diff(25_000) < 1000),
            "{counts:?}"
        );
    }
}
