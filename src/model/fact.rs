//! What analysis finds out and aggregation merges.

use std::sync::Arc;

use super::entity::Entity;
use super::metrics::MeterInput;
use super::source::Source;

/// Who answers at a network address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAlias {
    pub address: String,
    pub service_id: String,
    pub instance_id: String,
    /// Minute bucket.
    pub last_update: u64,
}

/// What a meter says about its entity in a minute. Keeps nothing alive.
#[derive(Debug, Clone)]
pub struct MeterValue {
    /// Of a scope of meters.
    pub entity: Arc<Entity>,
    /// Minute bucket.
    pub minute: u64,
    /// Name of the metric, `meter_<rule name>`.
    pub name: Arc<str>,
    pub input: MeterInput,
}

/// Something that aggregation merges. The shard that owns a fact follows from [`Fact::hash`].
#[derive(Debug, Clone)]
pub enum Fact {
    /// A measurement; also keeps the service, instance or endpoint it is about alive.
    Source(Source),
    /// A value that came ready-made.
    Meter(MeterValue),
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
        /// Stored as it is: a minute bucket, but epoch milliseconds where the original has them.
        last_ping: u64,
        /// JSON object as text.
        properties: Option<Arc<str>>,
    },
    /// An endpoint exists.
    Endpoint {
        /// Of scope Endpoint.
        entity: Arc<Entity>,
        minute: u64,
    },
    /// An instance answers at an address.
    Address {
        alias: Arc<AddressAlias>,
        minute: u64,
    },
}

impl Fact {
    /// Equal for facts that must meet in one shard.
    pub fn hash(&self) -> u64 {
        use std::hash::BuildHasher;
        match self {
            Fact::Source(source) => source.entity.hash_code(),
            Fact::Meter(value) => value.entity.hash_code(),
            Fact::Service { entity, .. }
            | Fact::Instance { entity, .. }
            | Fact::Endpoint { entity, .. } => entity.hash_code(),
            Fact::Address { alias, .. } => {
                foldhash::fast::FixedState::default().hash_one(&alias.address)
            }
        }
    }
}
