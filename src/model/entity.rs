//! What a source is about: an id and the names and ids that go with it. Shared by every source of the entity.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use super::scope::{NodeType, Scope};

/// A name or id of an entity that documents or scripts can refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntityField {
    Name,
    ServiceName,
    InstanceName,
    EndpointName,
    MetricName,
    ServiceId,
    SourceServiceId,
    DestServiceId,
    SourceServiceName,
    DestServiceName,
    SourceInstanceId,
    DestInstanceId,
    SourceInstanceName,
    DestInstanceName,
    SourceEndpointName,
    ChildEndpointName,
    ChildServiceId,
    ChildServiceName,
    SourceEndpointId,
    DestEndpointId,
}

/// One entity of one scope. Equal when scope and id are equal.
#[derive(Debug)]
pub struct Entity {
    pub scope: Scope,
    /// Node type of the service it is or belongs to.
    pub node_type: NodeType,
    /// Entity id as stored; `""` for scope All.
    pub id: Arc<str>,
    fields: Box<[(EntityField, Arc<str>)]>,
    hash: u64,
}

impl Entity {
    pub fn new(
        scope: Scope,
        node_type: NodeType,
        id: impl Into<Arc<str>>,
        fields: impl Into<Box<[(EntityField, Arc<str>)]>>,
    ) -> Entity {
        let id = id.into();
        let hash = foldhash::fast::FixedState::default().hash_one((scope as u8, &*id));
        Entity {
            scope,
            node_type,
            id,
            fields: fields.into(),
            hash,
        }
    }

    /// Value of a field; `""` if entities of this scope do not have it.
    pub fn field(&self, field: EntityField) -> &str {
        self.shared_field(field).map_or("", |v| v)
    }

    /// Value of a field, shareable.
    pub fn shared_field(&self, field: EntityField) -> Option<&Arc<str>> {
        self.fields
            .iter()
            .find(|(f, _)| *f == field)
            .map(|(_, v)| v)
    }

    /// Whether this is the other one in everything, not only in what makes entities equal.
    pub fn is_like(&self, other: &Entity) -> bool {
        self == other && self.node_type == other.node_type && self.fields == other.fields
    }

    /// Bytes of memory that it takes, without the texts of its fields, which others share.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Entity>() + size_of_val(&*self.fields) + self.id.len() + 4 * size_of::<usize>()
    }

    /// Bytes of the texts of its fields.
    pub fn text_bytes(&self) -> usize {
        self.fields.iter().map(|(_, text)| text.len()).sum()
    }

    /// Hash of scope and id, computed once; decides the shard.
    pub fn hash_code(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for Entity {
    fn eq(&self, other: &Entity) -> bool {
        self.hash == other.hash && self.scope == other.scope && self.id == other.id
    }
}

impl Eq for Entity {}

impl Hash for Entity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
