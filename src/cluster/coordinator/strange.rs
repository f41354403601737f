//! What stands where nodes are announced and is none.
//!
//! Whoever else writes there must not keep nodes from finding each other; but it is named, or nobody would find out why a node is
//! missing.

use std::collections::BTreeSet;

/// How many are named at a time, and how much of each name.
const MAX_NAMED: usize = 10;
const MAX_NAME_CHARS: usize = 200;

/// What was there at the last look.
#[derive(Debug, Default)]
pub(super) struct Strange(BTreeSet<String>);

impl Strange {
    /// Names each once for as long as it is there.
    pub(super) fn name(&mut self, found: BTreeSet<String>, remedy: &str) {
        let new: Vec<&String> = found.difference(&self.0).collect();
        for name in new.iter().take(MAX_NAMED) {
            let name: String = name.chars().take(MAX_NAME_CHARS).collect();
            tracing::warn!(
                name,
                remedy,
                "what is announced here is no node, it is passed over"
            );
        }
        if let Some(more) = new.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            tracing::warn!(more, "so are others beside it");
        }
        self.0 = found;
    }
}
