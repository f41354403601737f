//! Names as they are stored: within their limits, counted in UTF-16 units as the original does, and endpoints joined by
//! rules (8.1.0 spec, B.1).

use std::sync::Arc;

use hashbrown::HashMap;

use super::entities::write_key;
use super::grouping::EndpointGrouping;

/// Units that a name may have; longer ones are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    pub service: usize,
    pub instance: usize,
    pub endpoint: usize,
}

impl Default for NameLimits {
    fn default() -> NameLimits {
        NameLimits {
            service: 70,
            instance: 70,
            endpoint: 150,
        }
    }
}

/// The name up to `limit` UTF-16 units. A character that would be cut in half is left out.
pub fn cut(name: &str, limit: usize) -> &str {
    if name.len() <= limit {
        return name;
    }
    let mut units = 0;
    for (at, c) in name.char_indices() {
        units += c.len_utf16();
        if units > limit {
            return &name[..at];
        }
    }
    name
}

/// Names that the rules were asked about and the answers; beyond this many the rules are asked again.
const MAX_KNOWN: usize = 20_000;

/// Finds the group of an endpoint, without asking the rules for a name that was seen before.
#[derive(Debug)]
pub struct EndpointNames {
    grouping: Arc<EndpointGrouping>,
    key: Vec<u8>,
    known: HashMap<Box<[u8]>, Option<Arc<str>>, foldhash::fast::FixedState>,
}

impl EndpointNames {
    pub fn new(grouping: Arc<EndpointGrouping>) -> EndpointNames {
        EndpointNames {
            grouping,
            key: Vec::new(),
            known: HashMap::default(),
        }
    }

    /// The name that stands for an endpoint of a service, both already cut; `None` if the endpoint keeps its own.
    pub fn group(&mut self, service: &str, endpoint: &str) -> Option<Arc<str>> {
        if !self.grouping.has_rules(service) {
            return None;
        }
        write_key(&mut self.key, 0, &[service, endpoint]);
        if let Some(group) = self.known.get(self.key.as_slice()) {
            return group.clone();
        }
        let group = self.grouping.group(service, endpoint).cloned();
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(self.key.as_slice().into(), group.clone());
        group
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn names_are_cut_at_utf16_units() {
        for (name, limit, want) in [
            ("order", 5, "order"),
            ("order-service", 5, "order"),
            ("批处理-report", 4, "批处理-"),
            ("ab😀cd", 3, "ab"),
            ("ab😀cd", 4, "ab😀"),
        ] {
            assert_eq!(cut(name, limit), want, "{name} {limit}");
        }
    }
}
