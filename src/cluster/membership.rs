//! What a coordinator knows about the members.

use std::collections::BTreeSet;

/// Who is there. Addresses are `host:port` of the core gRPC port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// All members, this node among them if it is one.
    pub members: BTreeSet<String>,
    /// This node among them; `None` if it is not.
    pub own: Option<String>,
}

impl Membership {
    /// A list that does not change.
    pub fn fixed(members: &[String], own: Option<&str>) -> Membership {
        Membership {
            members: members.iter().cloned().collect(),
            own: own.map(str::to_owned),
        }
    }
}
