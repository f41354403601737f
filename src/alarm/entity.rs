//! What alarms call an entity (8.1.0 spec, H.2).

use crate::model::id::{
    IdError, endpoint_id, parse_endpoint_id, parse_endpoint_relation_id, parse_instance_id,
    parse_relation_id, parse_service_id,
};
use crate::model::scope::Scope;

/// An entity with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmEntity {
    pub kind: EntityKind,
    pub name: String,
    pub id0: String,
    /// Empty unless it is a relation.
    pub id1: String,
}

/// The kinds of entities that alarms know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityKind {
    Service,
    Instance,
    Endpoint,
    ServiceRelation,
    InstanceRelation,
    EndpointRelation,
}

impl EntityKind {
    /// `None` for scopes that raise no alarms.
    pub fn of(scope: Scope) -> Option<EntityKind> {
        Some(match scope {
            Scope::Service | Scope::DatabaseAccess => EntityKind::Service,
            Scope::ServiceInstance
            | Scope::ServiceInstanceJvmCpu
            | Scope::ServiceInstanceJvmMemory
            | Scope::ServiceInstanceJvmMemoryPool
            | Scope::ServiceInstanceJvmGc
            | Scope::ServiceInstanceJvmThread
            | Scope::ServiceInstanceClrCpu
            | Scope::ServiceInstanceClrGc
            | Scope::ServiceInstanceClrThread
            | Scope::EnvoyInstanceMetric => EntityKind::Instance,
            Scope::Endpoint => EntityKind::Endpoint,
            Scope::ServiceRelation => EntityKind::ServiceRelation,
            Scope::ServiceInstanceRelation => EntityKind::InstanceRelation,
            Scope::EndpointRelation => EntityKind::EndpointRelation,
            Scope::All
            | Scope::ServiceMeter
            | Scope::ServiceInstanceMeter
            | Scope::EndpointMeter => return None,
        })
    }

    /// Stored number of the scope.
    pub fn scope_id(self) -> i64 {
        match self {
            EntityKind::Service => 1,
            EntityKind::Instance => 2,
            EntityKind::Endpoint => 3,
            EntityKind::ServiceRelation => 4,
            EntityKind::InstanceRelation => 5,
            EntityKind::EndpointRelation => 6,
        }
    }

    /// Name of the scope in messages.
    pub fn scope(self) -> &'static str {
        match self {
            EntityKind::Service => "SERVICE",
            EntityKind::Instance => "SERVICE_INSTANCE",
            EntityKind::Endpoint => "ENDPOINT",
            EntityKind::ServiceRelation => "SERVICE_RELATION",
            EntityKind::InstanceRelation => "SERVICE_INSTANCE_RELATION",
            EntityKind::EndpointRelation => "ENDPOINT_RELATION",
        }
    }
}

impl AlarmEntity {
    /// Takes the id of an entity apart; an error if it has not the form of its kind.
    pub fn parse(kind: EntityKind, id: &str) -> Result<AlarmEntity, IdError> {
        let both = |name: fn(&str) -> Result<String, IdError>| {
            let (source, dest) = parse_relation_id(id)?;
            Ok((name(&source)?, name(&dest)?, source, dest))
        };
        let (name, id0, id1) = match kind {
            EntityKind::Service => (service(id)?, id.to_owned(), String::new()),
            EntityKind::Instance => (instance(id)?, id.to_owned(), String::new()),
            EntityKind::Endpoint => {
                let (service_id, name) = parse_endpoint_id(id)?;
                let name = format!("{name} in {}", service(&service_id)?);
                (name, id.to_owned(), String::new())
            }
            EntityKind::ServiceRelation | EntityKind::InstanceRelation => {
                let name = match kind {
                    EntityKind::ServiceRelation => service,
                    _ => instance,
                };
                let (source, dest, id0, id1) = both(name)?;
                (format!("{source} to {dest}"), id0, id1)
            }
            EntityKind::EndpointRelation => {
                let parts = parse_endpoint_relation_id(id)?;
                let name = format!(
                    "{} in {} to {} in {}",
                    parts.source_endpoint,
                    service(&parts.source_service_id)?,
                    parts.dest_endpoint,
                    service(&parts.dest_service_id)?
                );
                let source = endpoint_id(&parts.source_service_id, &parts.source_endpoint);
                let dest = endpoint_id(&parts.dest_service_id, &parts.dest_endpoint);
                (name, source, dest)
            }
        };
        Ok(AlarmEntity {
            kind,
            name,
            id0,
            id1,
        })
    }
}

fn service(id: &str) -> Result<String, IdError> {
    parse_service_id(id).map(|(name, _)| name)
}

fn instance(id: &str) -> Result<String, IdError> {
    let (service_id, name) = parse_instance_id(id)?;
    Ok(format!("{name} of {}", service(&service_id)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{endpoint_relation_id, instance_id, relation_id, service_id};

    #[test]
    fn entities_have_the_names_of_the_original() {
        let (shop, db) = (service_id("shop", true), service_id("db", false));
        let (pod, node) = (instance_id(&shop, "pod"), instance_id(&db, "node"));
        let pay = endpoint_id(&shop, "/pay");
        for (kind, id, name, id0, id1) in [
            (EntityKind::Service, &shop, "shop", &shop, ""),
            (EntityKind::Instance, &pod, "pod of shop", &pod, ""),
            (EntityKind::Endpoint, &pay, "/pay in shop", &pay, ""),
            (
                EntityKind::ServiceRelation,
                &relation_id(&shop, &db),
                "shop to db",
                &shop,
                &*db,
            ),
            (
                EntityKind::InstanceRelation,
                &relation_id(&pod, &node),
                "pod of shop to node of db",
                &pod,
                &*node,
            ),
            (
                EntityKind::EndpointRelation,
                &endpoint_relation_id(&shop, "/pay", &db, "get"),
                "/pay in shop to get in db",
                &pay,
                &*endpoint_id(&db, "get"),
            ),
        ] {
            let want = AlarmEntity {
                kind,
                name: name.to_owned(),
                id0: id0.clone(),
                id1: id1.to_owned(),
            };
            assert_eq!(AlarmEntity::parse(kind, id), Ok(want));
            assert!(AlarmEntity::parse(kind, "pod").is_err(), "{kind:?}");
        }
    }
}
