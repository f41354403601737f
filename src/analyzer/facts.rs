//! The output of analysis, sorted by the shard that takes it.

use super::Reject;
use crate::model::fact::Fact;
use crate::model::row::Row;

/// Facts of a batch by shard, and records, which need no merging.
#[derive(Debug)]
pub struct Facts {
    shards: Vec<Vec<Fact>>,
    /// In all shards.
    count: usize,
    pub records: Vec<Row>,
    /// Why parts of a message were rejected whose other parts were not.
    pub rejected: Vec<Reject>,
}

impl Facts {
    pub fn new(shards: usize) -> Facts {
        Facts {
            shards: (0..shards.max(1)).map(|_| Vec::new()).collect(),
            count: 0,
            records: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Adds a fact to its shard.
    pub fn push(&mut self, fact: Fact) {
        // The high bits: the low ones place it in the shard's own hash map.
        let shard = (fact.hash() >> 32) as usize % self.shards.len();
        if let Some(facts) = self.shards.get_mut(shard) {
            facts.push(fact);
            self.count += 1;
        }
    }

    /// Facts and records.
    pub fn len(&self) -> usize {
        self.count + self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the facts of each shard, in shard order, leaving this empty, with room for as many.
    pub fn take_shards(&mut self) -> impl Iterator<Item = Vec<Fact>> + '_ {
        self.count = 0;
        self.shards.iter_mut().map(|facts| {
            let room = Vec::with_capacity(facts.len());
            std::mem::replace(facts, room)
        })
    }
}
