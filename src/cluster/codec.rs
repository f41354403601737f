//! Increments on the wire between nodes: metrics by name, values as the columns that are stored of them. Nodes may run
//! different scripts; what the other does not have is counted there.

use std::collections::HashMap;
use std::sync::Arc;

use oap_proto::cluster as proto;

use crate::model::entity::{Entity, EntityField};
use crate::model::fact::{AddressAlias, Fact};
use crate::model::metrics::{Function, Value};
use crate::model::row::Cell;
use crate::model::schema::ColumnType;
use crate::model::scope::{NodeType, Scope};
use crate::stream::{Increment, Plan, Portion};

/// Numbers of fields on the wire are places here: only ever append.
const FIELDS: [EntityField; 20] = [
    EntityField::Name,
    EntityField::ServiceName,
    EntityField::InstanceName,
    EntityField::EndpointName,
    EntityField::MetricName,
    EntityField::ServiceId,
    EntityField::SourceServiceId,
    EntityField::DestServiceId,
    EntityField::SourceServiceName,
    EntityField::DestServiceName,
    EntityField::SourceInstanceId,
    EntityField::DestInstanceId,
    EntityField::SourceInstanceName,
    EntityField::DestInstanceName,
    EntityField::SourceEndpointName,
    EntityField::ChildEndpointName,
    EntityField::ChildServiceId,
    EntityField::ChildServiceName,
    EntityField::SourceEndpointId,
    EntityField::DestEndpointId,
];
const METER_SCOPES: [Scope; 3] = [
    Scope::ServiceMeter,
    Scope::ServiceInstanceMeter,
    Scope::EndpointMeter,
];
const NODE_TYPES: [NodeType; 9] = [
    NodeType::Normal,
    NodeType::Database,
    NodeType::RpcFramework,
    NodeType::Http,
    NodeType::Mq,
    NodeType::Cache,
    NodeType::Browser,
    NodeType::User,
    NodeType::Unrecognized,
];

/// The scope of a number; `None` if there is no such scope.
fn scope(number: u32) -> Option<Scope> {
    let scopes = Scope::SOURCES.iter().map(|(_, scope)| *scope);
    scopes
        .chain(METER_SCOPES)
        .find(|scope| *scope as u32 == number)
}

/// The type of a number; one that a newer node may have is unrecognized.
pub(super) fn node_type(number: u32) -> NodeType {
    let found = NODE_TYPES.into_iter().find(|ty| *ty as u32 == number);
    found.unwrap_or(NodeType::Unrecognized)
}

/// Writes a batch without its addresses.
pub(super) fn encode(plan: &Plan, portion: &Portion) -> proto::Batch {
    let mut batch = proto::Batch::default();
    let mut places: HashMap<String, u32> = HashMap::new();
    for increment in &portion.increments {
        let mut slots = Vec::new();
        let items = plan.items(increment.entity.scope);
        for (value, item) in increment.values.iter().zip(items) {
            let Some(value) = value.as_ref().filter(|v| **v != Value::Component(None)) else {
                continue;
            };
            let place = match places.get(&item.model.name) {
                Some(place) => *place,
                None => {
                    let place = u32::try_from(batch.metrics.len()).unwrap_or(u32::MAX);
                    batch.metrics.push(item.model.name.clone());
                    places.insert(item.model.name.clone(), place);
                    place
                }
            };
            slots.push(slot(place, item.function, value, increment.minute));
        }
        batch.increments.push(proto::Increment {
            entity: Some(encode_entity(&increment.entity)),
            minute: increment.minute,
            is_seen: increment.is_seen,
            slots,
        });
    }
    batch.known = portion.known.iter().filter_map(encode_known).collect();
    batch
}

fn slot(metric: u32, function: Function, value: &Value, minute: u64) -> proto::Slot {
    let mut slot = proto::Slot {
        metric,
        ..proto::Slot::default()
    };
    for cell in function.to_cells(value, minute) {
        match cell {
            Cell::Long(n) => slot.longs.push(n),
            Cell::Double(n) => slot.doubles.push(n),
            Cell::Text(text) => slot.texts.push(text.to_string()),
            Cell::Null | Cell::Bytes(_) => {}
        }
    }
    slot
}

fn encode_entity(entity: &Entity) -> proto::Entity {
    let mut encoded = proto::Entity {
        scope: entity.scope as u32,
        node_type: entity.node_type as u32,
        id: entity.id.to_string(),
        ..proto::Entity::default()
    };
    for (number, field) in (0..).zip(FIELDS) {
        if let Some(value) = entity.shared_field(field) {
            encoded.fields.push(number);
            encoded.values.push(value.to_string());
        }
    }
    encoded
}

fn encode_known(fact: &Fact) -> Option<proto::Known> {
    use proto::known::What;
    let (minute, what) = match fact {
        Fact::Service { entity, minute } | Fact::Endpoint { entity, minute } => {
            (*minute, What::Entity(encode_entity(entity)))
        }
        Fact::Instance {
            entity,
            minute,
            last_ping,
            properties,
        } => {
            let instance = proto::Instance {
                entity: Some(encode_entity(entity)),
                last_ping: *last_ping,
                properties: properties.as_ref().map(|text| text.to_string()),
            };
            (*minute, What::Instance(instance))
        }
        Fact::Address { alias, minute } => {
            let address = proto::Address {
                address: alias.address.clone(),
                service_id: alias.service_id.clone(),
                instance_id: alias.instance_id.clone(),
                last_update: alias.last_update,
            };
            (*minute, What::Address(address))
        }
        Fact::Source(_) | Fact::Meter(_) => return None,
    };
    Some(proto::Known {
        minute,
        what: Some(what),
    })
}

/// Reads a batch; also returns how many values it has that this node has no metric for.
pub(super) fn decode(plan: &Plan, batch: proto::Batch) -> (Portion, u64) {
    let mut portion = Portion::default();
    let mut foreign = 0;
    let mut places: HashMap<(Scope, u32), Option<usize>> = HashMap::new();
    for increment in batch.increments {
        let entity = increment.entity.and_then(decode_entity);
        let Some(entity) = entity.filter(|_| increment.minute > 0) else {
            foreign += 1;
            continue;
        };
        let items = plan.items(entity.scope);
        let mut values: Box<[Option<Value>]> = items.iter().map(|_| None).collect();
        for slot in increment.slots {
            let key = (entity.scope, slot.metric);
            let place = places.entry(key).or_insert_with(|| {
                let name = batch.metrics.get(slot.metric as usize)?;
                items.iter().position(|item| item.model.name == *name)
            });
            let Some(item) = place.and_then(|at| items.get(at)) else {
                foreign += 1;
                continue;
            };
            let value = value(item.function, slot);
            foreign += u64::from(value.is_none());
            if let Some(to) = place.and_then(|at| values.get_mut(at)) {
                *to = value;
            }
        }
        portion.increments.push(Increment {
            entity: Arc::new(entity),
            minute: increment.minute,
            values,
            is_seen: increment.is_seen,
        });
    }
    for known in batch.known {
        match decode_known(known) {
            Some(fact) => portion.known.push(fact),
            None => foreign += 1,
        }
    }
    (portion, foreign)
}

fn value(function: Function, slot: proto::Slot) -> Option<Value> {
    let mut longs = slot.longs.into_iter();
    let mut doubles = slot.doubles.into_iter();
    let mut texts = slot.texts.into_iter();
    from_columns(function, |ty| {
        Some(match ty {
            ColumnType::Int | ColumnType::Long => Cell::Long(longs.next()?),
            ColumnType::Double => Cell::Double(doubles.next()?),
            _ => Cell::text(texts.next()?),
        })
    })
}

/// A value from its columns, the next of each type; `None` if one is missing.
pub(super) fn from_columns(
    function: Function,
    mut next: impl FnMut(ColumnType) -> Option<Cell>,
) -> Option<Value> {
    let columns = function.columns().into_iter();
    let cells: Option<Vec<Cell>> = columns.map(|column| next(column.ty)).collect();
    function.from_cells(&cells?)
}

fn decode_entity(entity: proto::Entity) -> Option<Entity> {
    let scope = scope(entity.scope)?;
    let fields = entity.fields.into_iter().zip(entity.values);
    let fields: Vec<(EntityField, Arc<str>)> = fields
        .filter_map(|(number, value)| Some((*FIELDS.get(number as usize)?, value.into())))
        .collect();
    let node_type = node_type(entity.node_type);
    Some(Entity::new(scope, node_type, entity.id, fields))
}

fn decode_known(known: proto::Known) -> Option<Fact> {
    use proto::known::What;
    let minute = Some(known.minute).filter(|minute| *minute > 0)?;
    Some(match known.what? {
        What::Entity(entity) => {
            let entity = Arc::new(decode_entity(entity)?);
            match entity.scope {
                Scope::Service => Fact::Service { entity, minute },
                Scope::Endpoint => Fact::Endpoint { entity, minute },
                _ => return None,
            }
        }
        What::Instance(instance) => {
            let entity = decode_entity(instance.entity?)?;
            Fact::Instance {
                entity: (entity.scope == Scope::ServiceInstance).then(|| Arc::new(entity))?,
                minute,
                last_ping: instance.last_ping,
                properties: instance.properties.map(Arc::from),
            }
        }
        What::Address(address) => {
            let alias = AddressAlias {
                address: address.address,
                service_id: address.service_id,
                instance_id: address.instance_id,
                last_update: address.last_update,
            };
            Fact::Address {
                alias: Arc::new(alias),
                minute,
            }
        }
    })
}

#[cfg(test)]
pub(super) mod tests;
