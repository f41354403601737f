//! What analysis emits.

use std::sync::Arc;

use crate::model::entity::Entity;
use crate::model::row::Row;
use crate::model::source::Source;
use crate::storage::AddressAlias;

/// Something that aggregation merges. The shard that owns a fact follows from [`Fact::hash`].
#[derive(Debug, Clone)]
pub enum Fact {
    /// A measurement; also keeps the service, instance or endpoint it is about alive.
    Source(Source),
    /// A service exists.
    Service {
        /// Of scope Service.
        entity: Arc<Entity>,
        minute: u64,
    },
    /// An instance is alive, and maybe what it says about itself.
    Instance {
        /// Of scope ServiceInstance.
        entity: Arc<Entity>,
        minute: u64,
        /// JSON object as text.
        properties: Option<Arc<str>>,
    },
    /// An instance answers at an address.
    Address { alias: AddressAlias, minute: u64 },
}

impl Fact {
    /// Equal for facts that must meet in one shard.
    pub fn hash(&self) -> u64 {
        use std::hash::BuildHasher;
        match self {
            Fact::Source(source) => source.entity.hash_code(),
            Fact::Service { entity, .. } | Fact::Instance { entity, .. } => entity.hash_code(),
            Fact::Address { alias, .. } => {
                foldhash::fast::FixedState::default().hash_one(&alias.address)
            }
        }
    }
}

/// Facts of a batch by shard, and records, which need no merging.
#[derive(Debug)]
pub struct Facts {
    shards: Vec<Vec<Fact>>,
    pub records: Vec<Row>,
}

impl Facts {
    pub fn new(shards: usize) -> Facts {
        Facts {
            shards: (0..shards.max(1)).map(|_| Vec::new()).collect(),
            records: Vec::new(),
        }
    }

    /// Adds a fact to its shard.
    pub fn push(&mut self, fact: Fact) {
        // The high bits: the low ones place it in the shard's own hash map.
        let shard = (fact.hash() >> 32) as usize % self.shards.len();
        if let Some(facts) = self.shards.get_mut(shard) {
            facts.push(fact);
        }
    }

    /// Takes the facts of each shard, in shard order, leaving this empty.
    pub fn take_shards(&mut self) -> impl Iterator<Item = Vec<Fact>> + '_ {
        self.shards.iter_mut().map(std::mem::take)
    }

    /// All facts, for tests and benchmarks.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        self.shards.iter().flatten()
    }
}
