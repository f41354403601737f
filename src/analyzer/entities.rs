//! Interned entities: the ids of a request are built once, then found again by its names.
//!
//! Encoding ids is the dearest part of analysis, so a cache per analyzer maps the raw names of a request to all
//! entities that it touches: one look-up per request instead of one per id.

use std::sync::Arc;

use super::by_names::{ENTRY_BYTES, Keys};
use super::known::Known;
use crate::model::entity::{Entity, EntityField as F};
use crate::model::fact::AddressAlias;
use crate::model::id;
use crate::model::metrics::MeterScope;
use crate::model::scope::{NodeType, Scope};
use crate::model::source::{CallNames, RequestNames};

/// A served request: who served it.
#[derive(Debug)]
pub struct RequestEntities {
    pub all: Arc<Entity>,
    pub service: Arc<Entity>,
    pub instance: Arc<Entity>,
    pub endpoint: Arc<Entity>,
    pub names: Arc<RequestNames>,
}

/// A call: both ends.
#[derive(Debug)]
pub struct RelationEntities {
    pub service: Arc<Entity>,
    pub instance: Option<Arc<Entity>>,
    pub endpoint: Option<Arc<Entity>>,
    pub names: Arc<CallNames>,
}

/// One end of a call, by names that are already cut.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub service: &'a str,
    pub node_type: NodeType,
    pub instance: &'a str,
    /// Empty at the client side of a call.
    pub endpoint: &'a str,
    /// Service (real) that owns the endpoint where it is not `service`.
    pub endpoint_owner: Option<&'a str>,
}

/// A process that reports runtime metrics.
#[derive(Debug)]
pub struct InstanceEntities {
    entities: Box<[Arc<Entity>]>,
}

impl InstanceEntities {
    /// The entity of a runtime scope.
    pub fn of(&self, scope: Scope) -> Option<&Arc<Entity>> {
        self.entities.iter().find(|e| e.scope == scope)
    }
}

/// Tag of endpoints.
const ENDPOINT: u8 = 99;
/// First of the tags of metered entities.
const METERED: u8 = 100;

/// Finds entities by names.
#[derive(Debug)]
pub struct Entities {
    known: Arc<Known>,
    keys: Keys,
}

impl Default for Entities {
    fn default() -> Entities {
        Entities::sharing(Arc::default())
    }
}

impl Entities {
    pub fn new() -> Entities {
        Entities::default()
    }

    /// Finds what others who share `known` have found.
    pub fn sharing(known: Arc<Known>) -> Entities {
        Entities {
            keys: known.keys.clone(),
            known,
        }
    }

    /// A service, or a database as a service.
    pub fn service(&mut self, name: &str, node_type: NodeType) -> Arc<Entity> {
        let key = self.keys.of(node_type as u8, &[name]);
        let known = &self.known;
        known.services.cached(
            key,
            || {
                let id = id::service_id(name, node_type.is_normal());
                service_entity(known, Scope::Service, node_type, &id, name)
            },
            fresh_bytes,
        )
    }

    /// A database as what is accessed.
    pub fn database_access(&mut self, name: &str) -> Arc<Entity> {
        let key = self.keys.of(u8::MAX, &[name]);
        let known = &self.known;
        known.services.cached(
            key,
            || {
                let id = id::service_id(name, false);
                service_entity(known, Scope::DatabaseAccess, NodeType::Database, &id, name)
            },
            fresh_bytes,
        )
    }

    /// An endpoint of a real service by itself.
    pub fn endpoint(&mut self, service: &str, endpoint: &str) -> Arc<Entity> {
        let key = self.keys.of(ENDPOINT, &[service, endpoint]);
        let known = &self.known;
        known.services.cached(
            key,
            || {
                let service_id = id::service_id(service, true);
                let id = id::endpoint_id(&service_id, endpoint);
                let fields = [
                    (F::ServiceId, &known.text(&service_id)),
                    (F::Name, &known.text(endpoint)),
                ];
                entity(known, Scope::Endpoint, NodeType::Normal, &id, fields)
            },
            fresh_bytes,
        )
    }

    /// What a meter of a real service measures; `member` is the name of the instance or endpoint.
    pub fn metered(&mut self, scope: MeterScope, service: &str, member: &str) -> Arc<Entity> {
        let member = match scope {
            MeterScope::Service => "",
            MeterScope::Instance | MeterScope::Endpoint => member,
        };
        let key = self.keys.of(METERED + scope as u8, &[service, member]);
        let known = &self.known;
        known.services.cached(
            key,
            || {
                let service_id = id::service_id(service, true);
                let id = match scope {
                    MeterScope::Service => service_id.clone(),
                    MeterScope::Instance => id::instance_id(&service_id, member),
                    MeterScope::Endpoint => id::endpoint_id(&service_id, member),
                };
                let fields = [(F::ServiceId, &known.text(&service_id))];
                entity(known, scope.scope(), NodeType::Normal, &id, fields)
            },
            fresh_bytes,
        )
    }

    /// All that a request served by a real service is about.
    pub fn request(
        &mut self,
        service: &str,
        instance: &str,
        endpoint: &str,
    ) -> Arc<RequestEntities> {
        let key = self.keys.of(0, &[service, instance, endpoint]);
        let known = &self.known;
        known.requests.cached(
            key,
            || {
                let names = RequestNames {
                    service: known.text(service),
                    instance: known.text(instance),
                    endpoint: known.text(endpoint),
                };
                let service_id = known.text(&id::service_id(service, true));
                let member = |scope, id: &str, name| {
                    let fields = [
                        (F::ServiceId, &service_id),
                        (F::Name, name),
                        (F::ServiceName, &names.service),
                    ];
                    entity(known, scope, NodeType::Normal, id, fields)
                };
                Arc::new(RequestEntities {
                    all: entity(known, Scope::All, NodeType::Normal, "", []),
                    service: service_entity(
                        known,
                        Scope::Service,
                        NodeType::Normal,
                        &service_id,
                        service,
                    ),
                    instance: member(
                        Scope::ServiceInstance,
                        &id::instance_id(&service_id, instance),
                        &names.instance,
                    ),
                    endpoint: member(
                        Scope::Endpoint,
                        &id::endpoint_id(&service_id, endpoint),
                        &names.endpoint,
                    ),
                    names: Arc::new(names),
                })
            },
            request_bytes,
        )
    }

    /// All that a call is about.
    pub fn relation(&mut self, source: End<'_>, dest: End<'_>) -> Arc<RelationEntities> {
        // An owner without a name is still one: the endpoint is not the caller's then.
        let kinds = [
            source.node_type.is_normal(),
            dest.node_type.is_normal(),
            source.endpoint_owner.is_some(),
        ];
        let key = self.keys.of(
            kinds.iter().fold(0, |bits, is| bits << 1 | u8::from(*is)),
            &[
                source.service,
                source.instance,
                source.endpoint,
                source.endpoint_owner.unwrap_or_default(),
                dest.service,
                dest.instance,
                dest.endpoint,
            ],
        );
        let known = &self.known;
        let make = || Arc::new(relation_entities(known, source, dest));
        known.relations.cached(key, make, relation_bytes)
    }

    /// The entities of an instance's runtime metrics, made by `make` from its service id and its own id. `tag` tells kinds
    /// of runtime apart.
    pub fn runtime(
        &mut self,
        tag: u8,
        service: &str,
        instance: &str,
        make: impl FnOnce(&str, &str) -> Vec<Entity>,
    ) -> Arc<InstanceEntities> {
        let key = self.keys.of(tag, &[service, instance]);
        let known = &self.known;
        known.instances.cached(
            key,
            || {
                let service_id = id::service_id(service, true);
                let instance_id = id::instance_id(&service_id, instance);
                let entities = make(&service_id, &instance_id).into_iter();
                Arc::new(InstanceEntities {
                    entities: entities.map(|entity| known.entity(entity)).collect(),
                })
            },
            instance_bytes,
        )
    }

    /// An instance of a real service answers at an address, seen in a minute bucket.
    pub fn alias(
        &mut self,
        address: &str,
        service: &str,
        instance: &str,
        minute: u64,
    ) -> Arc<AddressAlias> {
        let key = self.keys.of(0, &[address, service, instance]);
        let known = self.known.aliases.get(key);
        if let Some(alias) = known.filter(|alias| alias.last_update == minute) {
            return alias;
        }
        let service_id = id::service_id(service, true);
        let alias = AddressAlias {
            address: address.to_owned(),
            instance_id: id::instance_id(&service_id, instance),
            service_id,
            last_update: minute,
        };
        let texts = alias.address.len() + alias.instance_id.len() + alias.service_id.len();
        let bytes = ENTRY_BYTES + size_of::<AddressAlias>() + texts;
        self.known.aliases.insert(key, Arc::new(alias), bytes)
    }

    /// An instance by itself.
    pub fn instance(&mut self, service: &str, instance: &str) -> Option<Arc<Entity>> {
        let set = self.runtime(u8::MAX, service, instance, |service_id, instance_id| {
            vec![Entity::new(
                Scope::ServiceInstance,
                NodeType::Normal,
                instance_id,
                vec![
                    (F::ServiceId, service_id.into()),
                    (F::Name, instance.into()),
                ],
            )]
        });
        set.of(Scope::ServiceInstance).cloned()
    }
}

/// What an entity adds to memory; nothing if others refer to it already, beside who made it and the copies of [`Known`].
fn fresh_bytes(entity: &Arc<Entity>) -> usize {
    match Arc::strong_count(entity) {
        0..=2 => entity.heap_bytes(),
        _ => 0,
    }
}

fn request_bytes(request: &Arc<RequestEntities>) -> usize {
    let entities = fresh_bytes(&request.instance) + fresh_bytes(&request.endpoint);
    size_of::<RequestEntities>() + size_of::<RequestNames>() + entities
}

fn relation_bytes(relation: &Arc<RelationEntities>) -> usize {
    let others = [&relation.instance, &relation.endpoint];
    let others = others.into_iter().flatten().map(fresh_bytes);
    let entities = fresh_bytes(&relation.service) + others.sum::<usize>();
    size_of::<RelationEntities>() + size_of::<CallNames>() + entities
}

fn instance_bytes(instance: &Arc<InstanceEntities>) -> usize {
    let entities = instance.entities.iter().map(fresh_bytes);
    size_of::<InstanceEntities>() + entities.sum::<usize>()
}

fn entity<const N: usize>(
    known: &Known,
    scope: Scope,
    node_type: NodeType,
    id: &str,
    fields: [(F, &Arc<str>); N],
) -> Arc<Entity> {
    let fields = fields.map(|(field, text)| (field, Arc::clone(text)));
    known.entity(Entity::new(scope, node_type, known.text(id), fields))
}

fn service_entity(
    known: &Known,
    scope: Scope,
    node_type: NodeType,
    id: &str,
    name: &str,
) -> Arc<Entity> {
    let fields = [
        (F::Name, &known.text(name)),
        (F::ServiceId, &known.text(id)),
    ];
    entity(known, scope, node_type, id, fields)
}

fn relation_entities(known: &Known, source: End<'_>, dest: End<'_>) -> RelationEntities {
    let text = |s: &str| known.text(s);
    let source_service = text(&id::service_id(
        source.service,
        source.node_type.is_normal(),
    ));
    let dest_service = text(&id::service_id(dest.service, dest.node_type.is_normal()));
    let names = [
        (F::SourceServiceName, text(source.service)),
        (F::DestServiceName, text(dest.service)),
    ];
    let ids = [
        (F::SourceServiceId, Arc::clone(&source_service)),
        (F::DestServiceId, Arc::clone(&dest_service)),
    ];
    let call = CallNames {
        source_instance: text(source.instance),
        dest_instance: text(dest.instance),
        dest_endpoint: text(dest.endpoint),
    };
    let relation = |scope, id: String, fields: Vec<_>| {
        known.entity(Entity::new(scope, NodeType::Normal, text(&id), fields))
    };
    let instance = (!source.instance.is_empty() && !dest.instance.is_empty()).then(|| {
        let source_id = id::instance_id(&source_service, source.instance);
        let dest_id = id::instance_id(&dest_service, dest.instance);
        let instances = [
            (F::SourceInstanceName, Arc::clone(&call.source_instance)),
            (F::DestInstanceName, Arc::clone(&call.dest_instance)),
            (F::SourceInstanceId, text(&source_id)),
            (F::DestInstanceId, text(&dest_id)),
        ];
        relation(
            Scope::ServiceInstanceRelation,
            id::relation_id(&source_id, &dest_id),
            [&names[..], &ids, &instances].concat(),
        )
    });
    let endpoint = (!source.endpoint.is_empty() && !dest.endpoint.is_empty()).then(|| {
        let (owner, owner_id) = match source.endpoint_owner {
            Some(owner) => (text(owner), text(&id::service_id(owner, true))),
            None => (text(source.service), Arc::clone(&source_service)),
        };
        let id = id::endpoint_relation_id(&owner_id, source.endpoint, &dest_service, dest.endpoint);
        let fields = vec![
            (
                F::SourceEndpointId,
                text(&id::endpoint_id(&owner_id, source.endpoint)),
            ),
            (
                F::DestEndpointId,
                text(&id::endpoint_id(&dest_service, dest.endpoint)),
            ),
            (F::SourceEndpointName, text(source.endpoint)),
            (F::ChildEndpointName, text(dest.endpoint)),
            (F::ServiceId, owner_id),
            (F::ChildServiceId, Arc::clone(&dest_service)),
            (F::SourceServiceName, owner),
            (F::ChildServiceName, text(dest.service)),
        ];
        relation(Scope::EndpointRelation, id, fields)
    });
    RelationEntities {
        service: relation(
            Scope::ServiceRelation,
            id::relation_id(&source_service, &dest_service),
            [names, ids].concat(),
        ),
        instance,
        endpoint,
        names: Arc::new(call),
    }
}

#[cfg(test)]
mod tests;
