//! Services, instances, endpoints and addresses of a shard: inserted once, or kept up to date where they live
//! (8.1.0 spec, E; corrections 1, 2).

use std::collections::HashMap;
use std::sync::Arc;

use super::BYTES_PER_METADATA;
use super::partitions::{Partitions, of_address, of_entity};
use super::read_back::Found;
use crate::model::entity::{Entity, EntityField};
use crate::model::fact::AddressAlias;
use crate::model::id;
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::{Model, Schema};
use crate::model::scope::Scope;
use crate::model::time_bucket::day_of;

/// What a metadata row says.
#[derive(Debug, Clone)]
enum Content {
    /// Written only if the store does not have it.
    Service(Arc<Entity>),
    /// Written only if the store does not have it.
    Endpoint(Arc<Entity>),
    Instance {
        entity: Arc<Entity>,
        last_ping: u64,
        properties: Option<Arc<str>>,
    },
    Address(Arc<AddressAlias>),
}

#[derive(Debug)]
struct Known {
    content: Content,
    /// Bucket that decides the day it lives under.
    time_bucket: u64,
    /// What is stored was read, or is known not to exist.
    is_read: bool,
    is_dirty: bool,
    /// Day of the clock when it was last looked up: the store forgets old days, so each day asks again.
    checked_day: u64,
}

/// The metadata of a shard.
#[derive(Debug)]
pub(super) struct Metadata {
    /// By model name and id.
    known: HashMap<(&'static str, Arc<str>), Known, foldhash::fast::RandomState>,
    models: HashMap<&'static str, Arc<Model>>,
    capacity: usize,
    /// Of all properties of instances.
    property_bytes: usize,
}

/// The part of what all metadata may take that properties may take: one of so many. What an instance says about itself has a
/// few kilobytes.
const PROPERTY_PART: usize = 2;

const SERVICE: &str = "service_traffic";
const INSTANCE: &str = "instance_traffic";
const ENDPOINT: &str = "endpoint_traffic";
const ADDRESS: &str = "network_address_alias";

impl Metadata {
    pub(super) fn new(schema: &Schema, capacity: usize) -> Metadata {
        let models = [SERVICE, INSTANCE, ENDPOINT, ADDRESS]
            .into_iter()
            .filter_map(|name| Some((name, Arc::clone(schema.model(name)?))))
            .collect();
        Metadata {
            known: HashMap::default(),
            models,
            capacity,
            property_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.known.len() * BYTES_PER_METADATA + self.property_bytes
    }

    fn max_property_bytes(&self) -> usize {
        self.capacity / PROPERTY_PART * BYTES_PER_METADATA
    }

    /// A source was about this entity. `false` if there was no room to remember it.
    pub(super) fn touch(&mut self, entity: &Arc<Entity>, minute: u64, today: u64) -> bool {
        match entity.scope {
            Scope::Service => self.insert_once(SERVICE, entity, minute, today),
            Scope::Endpoint => self.insert_once(ENDPOINT, entity, minute, today),
            Scope::ServiceInstance => self.instance(entity, minute, minute, None, today),
            _ => true,
        }
    }

    fn insert_once(
        &mut self,
        model: &'static str,
        entity: &Arc<Entity>,
        minute: u64,
        today: u64,
    ) -> bool {
        let key = (model, Arc::clone(&entity.id));
        if let Some(known) = self.known.get_mut(&key) {
            if known.checked_day != today && !known.is_dirty {
                known.is_dirty = true;
                known.is_read = false;
                known.time_bucket = minute;
                known.checked_day = today;
            }
            return true;
        }
        let content = match model {
            SERVICE => Content::Service(Arc::clone(entity)),
            _ => Content::Endpoint(Arc::clone(entity)),
        };
        self.remember(key, content, minute, today)
    }

    /// An instance is alive. The newest arrival decides `last_ping`, as in the original.
    pub(super) fn instance(
        &mut self,
        entity: &Arc<Entity>,
        minute: u64,
        new_ping: u64,
        new_properties: Option<Arc<str>>,
        today: u64,
    ) -> bool {
        let key = (INSTANCE, Arc::clone(&entity.id));
        let new_bytes = new_properties.as_ref().map_or(0, |text| text.len());
        if new_bytes > 0 && !self.has_room(0, new_bytes) {
            return false;
        }
        let Some(known) = self.known.get_mut(&key) else {
            let content = Content::Instance {
                entity: Arc::clone(entity),
                last_ping: new_ping,
                properties: new_properties,
            };
            return self.remember(key, content, minute, today);
        };
        if let Content::Instance {
            last_ping,
            properties,
            ..
        } = &mut known.content
        {
            let has_news = new_properties.is_some() && new_properties != *properties;
            if *last_ping != new_ping || has_news {
                known.is_dirty = true;
                *last_ping = new_ping;
            }
            if has_news {
                self.property_bytes += new_bytes;
                self.property_bytes -= properties.as_ref().map_or(0, |text| text.len());
                *properties = new_properties;
            }
        }
        known.see(minute, today);
        true
    }

    /// An instance answers at an address.
    pub(super) fn address(&mut self, alias: Arc<AddressAlias>, minute: u64, today: u64) -> bool {
        let key = (ADDRESS, Arc::from(id::encode(&alias.address)));
        let Some(known) = self.known.get_mut(&key) else {
            return self.remember(key, Content::Address(alias), minute, today);
        };
        if let Content::Address(old) = &mut known.content
            && *old != alias
        {
            *old = alias;
            known.is_dirty = true;
        }
        known.see(minute, today);
        true
    }

    fn remember(
        &mut self,
        key: (&'static str, Arc<str>),
        content: Content,
        minute: u64,
        today: u64,
    ) -> bool {
        if !self.has_room(1, 0) {
            return false;
        }
        let known = Known {
            content,
            time_bucket: minute,
            is_read: false,
            is_dirty: true,
            checked_day: today,
        };
        self.property_bytes += known.property_bytes();
        self.known.insert(key, known);
        true
    }

    /// Whether there is room for so much more, if need be by forgetting what is stored.
    fn has_room(&mut self, entries: usize, property_bytes: usize) -> bool {
        let is_room = |metadata: &Metadata| {
            metadata.known.len() + entries <= metadata.capacity
                && metadata.property_bytes + property_bytes <= metadata.max_property_bytes()
        };
        if !is_room(self) {
            self.known.retain(|_, known| known.is_dirty);
            self.property_bytes = self.known.values().map(Known::property_bytes).sum();
        }
        is_room(self)
    }

    /// Forgets what another node writes.
    pub(super) fn forget(&mut self, gone: Partitions) {
        self.known.retain(|_, known| match &known.content {
            Content::Address(alias) => !gone.contains(of_address(&alias.address)),
            Content::Service(entity)
            | Content::Endpoint(entity)
            | Content::Instance { entity, .. } => !gone.contains(of_entity(entity)),
        });
        self.property_bytes = self.known.values().map(Known::property_bytes).sum();
    }

    /// What must be read before it can be written, at most `limit`.
    pub(super) fn missing(&self, limit: usize) -> Vec<RowKey> {
        self.known
            .iter()
            .filter(|(_, known)| known.is_dirty && !known.is_read)
            .filter_map(|((model, id), _)| {
                Some(RowKey {
                    model: Arc::clone(self.models.get(model)?),
                    id: id.to_string(),
                    time_bucket: None,
                })
            })
            .take(limit)
            .collect()
    }

    /// Takes in what the store has for keys of [`Metadata::missing`].
    pub(super) fn complete(&mut self, keys: Vec<RowKey>, found: Vec<Found>) {
        for (key, found) in keys.into_iter().zip(found) {
            let Some((name, _)) = self.models.get_key_value(key.model.name.as_str()) else {
                continue;
            };
            let key = (*name, Arc::from(key.id));
            if let (Some(known), Found::Row(_) | Found::Nothing) =
                (self.known.get_mut(&key), &found)
            {
                known.is_read = true;
                if let Found::Row(row) = found {
                    self.property_bytes -= known.property_bytes();
                    known.merge_stored(&row);
                    self.property_bytes += known.property_bytes();
                }
            }
        }
    }

    /// Takes rows to write, at most `limit`.
    pub(super) fn take_changed(&mut self, limit: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((model, id), known) in &mut self.known {
            if !known.is_dirty || !known.is_read {
                continue;
            }
            if rows.len() == limit {
                break;
            }
            known.is_dirty = false;
            if let Some(model) = self.models.get(model) {
                rows.push(Row {
                    model: Arc::clone(model),
                    id: id.to_string(),
                    time_bucket: known.time_bucket,
                    cells: cells(&known.content),
                });
            }
        }
        rows
    }
}

impl Known {
    fn property_bytes(&self) -> usize {
        match &self.content {
            Content::Instance { properties, .. } => {
                properties.as_ref().map_or(0, |text| text.len())
            }
            _ => 0,
        }
    }

    /// An earlier bucket counts only within the day that the row lives under: moving it would leave a copy behind.
    fn see(&mut self, minute: u64, today: u64) {
        if minute < self.time_bucket
            && (!self.is_read || day_of(minute) == day_of(self.time_bucket))
        {
            self.time_bucket = minute;
            self.is_dirty = true;
        }
        if self.checked_day != today {
            self.checked_day = today;
            self.is_read = false;
            self.is_dirty = true;
            self.time_bucket = minute;
        }
    }

    fn merge_stored(&mut self, row: &Row) {
        match &mut self.content {
            Content::Service(_) | Content::Endpoint(_) => self.is_dirty = false,
            Content::Instance { properties, .. } => {
                if properties.is_none() {
                    *properties = row
                        .cell("properties")
                        .as_text()
                        .filter(|text| !text.is_empty())
                        .map(Arc::from);
                }
            }
            Content::Address(_) => {}
        }
        if day_of(self.time_bucket) != day_of(row.time_bucket) || row.time_bucket < self.time_bucket
        {
            self.time_bucket = row.time_bucket;
        }
    }
}

fn cells(content: &Content) -> Vec<Cell> {
    let long = |n: u64| Cell::Long(i64::try_from(n).unwrap_or(i64::MAX));
    let field = |entity: &Entity, field| Cell::text(entity.field(field));
    match content {
        Content::Service(entity) => vec![
            field(entity, EntityField::Name),
            Cell::Long(entity.node_type as i64),
        ],
        Content::Endpoint(entity) => vec![
            field(entity, EntityField::ServiceId),
            field(entity, EntityField::Name),
        ],
        Content::Instance {
            entity,
            last_ping,
            properties,
        } => vec![
            field(entity, EntityField::ServiceId),
            field(entity, EntityField::Name),
            long(*last_ping),
            Cell::text(properties.as_deref().unwrap_or_default()),
        ],
        Content::Address(alias) => vec![
            Cell::text(alias.address.as_str()),
            Cell::text(alias.service_id.as_str()),
            Cell::text(alias.instance_id.as_str()),
            long(alias.last_update),
        ],
    }
}

#[cfg(test)]
mod tests;
