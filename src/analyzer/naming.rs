//! Names as they are stored: within their limits, counted in UTF-16 units as the original does, and endpoints joined by
//! rules (8.1.0 spec, B.1).

use std::sync::Arc;

use super::by_names::{ByNames, Keys};
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

/// Finds the group of an endpoint, without asking the rules for a name that was seen before.
#[derive(Debug)]
pub struct EndpointNames {
    grouping: Arc<EndpointGrouping>,
    keys: Keys,
    known: ByNames<Option<Arc<str>>>,
}

impl EndpointNames {
    pub fn new(grouping: Arc<EndpointGrouping>) -> EndpointNames {
        EndpointNames {
            grouping,
            keys: Keys::default(),
            known: ByNames::default(),
        }
    }

    /// The name that stands for an endpoint of a service, both already cut; `None` if the endpoint keeps its own.
    pub fn group(&mut self, service: &str, endpoint: &str) -> Option<Arc<str>> {
        if !self.grouping.has_rules(service) {
            return None;
        }
        let key = self.keys.of(0, &[service, endpoint]);
        let grouping = &self.grouping;
        self.known
            .cached(key, || grouping.group(service, endpoint).cloned())
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
