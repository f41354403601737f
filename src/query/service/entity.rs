//! An entity as clients name it, and its id (query spec 2.3); names of entities out of their ids.

use serde::{Deserialize, Serialize};

use crate::model::id;
use crate::query::QueryError;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    All,
    Service,
    ServiceInstance,
    Endpoint,
    ServiceRelation,
    ServiceInstanceRelation,
    EndpointRelation,
}

impl Scope {
    /// Every scope of the protocol, in the order of the stored numbers.
    pub const ALL: [Scope; 7] = [
        Scope::All,
        Scope::Service,
        Scope::ServiceInstance,
        Scope::Endpoint,
        Scope::ServiceRelation,
        Scope::ServiceInstanceRelation,
        Scope::EndpointRelation,
    ];

    /// The stored number.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// The scope of a stored number.
    pub fn from_number(number: i64) -> Option<Scope> {
        Scope::ALL.into_iter().find(|s| s.number() == number)
    }
}

/// Names of an entity; a scope looks at those it needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    pub scope: Scope,
    pub service_name: Option<String>,
    /// Whether the service is real.
    pub normal: Option<bool>,
    pub service_instance_name: Option<String>,
    pub endpoint_name: Option<String>,
    pub dest_service_name: Option<String>,
    pub dest_normal: Option<bool>,
    pub dest_service_instance_name: Option<String>,
    pub dest_endpoint_name: Option<String>,
}

impl Entity {
    /// The id, `""` for scope All; `None` if a name is missing that the scope needs.
    pub fn id(&self) -> Option<String> {
        Some(match self.scope {
            Scope::All => String::new(),
            Scope::Service => self.service()?,
            Scope::ServiceInstance => self.instance()?,
            Scope::Endpoint => id::endpoint_id(&self.service()?, self.endpoint_name.as_ref()?),
            Scope::ServiceRelation => id::relation_id(&self.service()?, &self.dest_service()?),
            Scope::ServiceInstanceRelation => {
                let dest = self.dest_service_instance_name.as_ref()?;
                let dest = id::instance_id(&self.dest_service()?, dest);
                id::relation_id(&self.instance()?, &dest)
            }
            Scope::EndpointRelation => id::endpoint_relation_id(
                &self.service()?,
                self.endpoint_name.as_ref()?,
                &self.dest_service()?,
                self.dest_endpoint_name.as_ref()?,
            ),
        })
    }

    fn service(&self) -> Option<String> {
        Some(id::service_id(self.service_name.as_ref()?, self.normal?))
    }

    fn instance(&self) -> Option<String> {
        let instance = self.service_instance_name.as_ref()?;
        Some(id::instance_id(&self.service()?, instance))
    }

    fn dest_service(&self) -> Option<String> {
        let name = self.dest_service_name.as_ref()?;
        Some(id::service_id(name, self.dest_normal?))
    }
}

/// Name to show for an entity in a sorted list; members of a service carry its name unless the list is of one service.
pub fn display_name(
    scope: Scope,
    entity_id: &str,
    is_of_one_service: bool,
) -> Result<String, QueryError> {
    let member = |(service_id, name): (String, String)| {
        if is_of_one_service {
            return Ok(name);
        }
        let (service, _) = id::parse_service_id(&service_id)?;
        Ok(format!("{service} - {name}"))
    };
    match scope {
        Scope::Service => Ok(id::parse_service_id(entity_id)?.0),
        Scope::ServiceInstance => member(id::parse_instance_id(entity_id)?),
        Scope::Endpoint => member(id::parse_endpoint_id(entity_id)?),
        _ => Ok("Unknown".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(scope: Scope) -> Entity {
        Entity {
            scope,
            service_name: Some("a".into()),
            normal: Some(true),
            service_instance_name: Some("i".into()),
            endpoint_name: Some("e".into()),
            dest_service_name: Some("b".into()),
            dest_normal: Some(false),
            dest_service_instance_name: Some("j".into()),
            dest_endpoint_name: Some("f".into()),
        }
    }

    #[test]
    fn every_scope_has_its_id() {
        for (scope, want) in [
            (Scope::All, ""),
            (Scope::Service, "YQ==.1"),
            (Scope::ServiceInstance, "YQ==.1_aQ=="),
            (Scope::Endpoint, "YQ==.1_ZQ=="),
            (Scope::ServiceRelation, "YQ==.1-Yg==.0"),
            (Scope::ServiceInstanceRelation, "YQ==.1_aQ==-Yg==.0_ag=="),
            (Scope::EndpointRelation, "YQ==.1-ZQ==-Yg==.0-Zg=="),
        ] {
            assert_eq!(entity(scope).id().as_deref(), Some(want), "{scope:?}");
        }
    }

    #[test]
    fn a_missing_name_makes_the_entity_invalid() {
        for scope in &Scope::ALL[1..] {
            let mut nameless = entity(*scope);
            nameless.normal = None;
            assert_eq!(nameless.id(), None, "{scope:?}");
        }
    }

    #[test]
    fn members_show_their_service_unless_it_is_given() {
        let name = |scope, id, one| display_name(scope, id, one).unwrap();
        assert_eq!(name(Scope::Endpoint, "YQ==.1_ZQ==", false), "a - e");
        assert_eq!(name(Scope::ServiceInstance, "YQ==.1_aQ==", true), "i");
        assert_eq!(
            name(Scope::ServiceRelation, "YQ==.1-Yg==.0", true),
            "Unknown"
        );
        assert!(display_name(Scope::Endpoint, "YQ==.1_", false).is_err());
    }
}
