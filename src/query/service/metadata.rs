//! What exists: services, instances, endpoints, databases, and the server itself (query spec 2.6).

use serde::Serialize;

use super::duration::Duration;
use crate::model::id;
use crate::model::scope::NodeType;
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::{Backend, EndpointTraffic, InstanceTraffic, ServiceFilter, ServiceTraffic};

/// Version of the query protocol.
pub const PROTOCOL_VERSION: &str = "8.0";

/// A service or an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    pub id: String,
    pub name: String,
}

/// An instance and what its agent said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceInstance {
    pub id: String,
    pub name: String,
    pub attributes: Vec<Attribute>,
    pub language: &'static str,
    #[serde(rename = "instanceUUID")]
    pub instance_uuid: String,
}

/// A property of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attribute {
    pub name: String,
    pub value: String,
}

/// What an endpoint id says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointInfo {
    pub id: String,
    pub name: String,
    pub service_id: String,
    pub service_name: String,
}

/// A database. Nothing stored says of which type it is, so it never has one, as in 8.1.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Option<String>,
}

/// Time at the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeInfo {
    /// Offset such as `+0800`.
    pub timezone: String,
    /// Epoch milliseconds.
    pub current_timestamp: i64,
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// 0 is healthy; above, how many parts are not; below, nothing is known yet.
    pub score: i64,
    /// The parts that are not, each with a comma after it.
    pub details: String,
}

/// Counts that no version from 8 on fills.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBrief {
    pub num_of_service: i64,
    pub num_of_endpoint: i64,
    pub num_of_database: i64,
    pub num_of_cache: i64,
    #[serde(rename = "numOfMQ")]
    pub num_of_mq: i64,
}

/// Now.
pub fn time_info<S>(cx: &QueryContext<S>) -> TimeInfo {
    let now = cx.clock.now_ms();
    TimeInfo {
        timezone: cx.zone.offset_text(now),
        current_timestamp: now,
    }
}

/// What the health checker found last; whether the store answers, if there is none (8.1.0 spec, J).
pub async fn check_health<S: Backend>(cx: &QueryContext<S>) -> HealthStatus {
    let Some(registry) = &cx.health else {
        return health(cx).await;
    };
    let (score, parts) = registry.unhealthy();
    let details = parts.iter().map(|part| format!("{part},")).collect();
    HealthStatus { score, details }
}

/// Whether the store answers.
pub async fn health<S: Backend>(cx: &QueryContext<S>) -> HealthStatus {
    let (score, details) = match cx.storage.ping().await {
        Ok(()) => (0, ""),
        Err(_) => (1, "storage,"),
    };
    HealthStatus {
        score,
        details: details.to_owned(),
    }
}

/// Services of a type. Time plays no role.
pub async fn services<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    node_type: NodeType,
) -> Result<Vec<Named>, QueryError> {
    list(cx, cuts, filter(node_type)).await
}

/// Real services with a word in their name; no keyword finds all.
pub async fn search_services<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    keyword: String,
) -> Result<Vec<Named>, QueryError> {
    let mut filter = filter(NodeType::Normal);
    filter.keyword = Some(keyword).filter(|k| !k.is_empty());
    list(cx, cuts, filter).await
}

/// The real service of this name.
pub async fn service<S: Backend>(
    cx: &QueryContext<S>,
    name: String,
) -> Result<Option<Named>, QueryError> {
    let mut filter = filter(NodeType::Normal);
    filter.name = Some(name);
    let found = cx.storage.services(&filter, 1).await?;
    Ok(found.items.into_iter().map(named).next())
}

/// Databases that services talk to.
pub async fn databases<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
) -> Result<Vec<Database>, QueryError> {
    let found = services(cx, cuts, NodeType::Database).await?;
    let database = |Named { id, name }| Database { id, name, ty: None };
    Ok(found.into_iter().map(database).collect())
}

fn filter(node_type: NodeType) -> ServiceFilter {
    ServiceFilter {
        node_type: node_type as i64,
        name: None,
        keyword: None,
    }
}

async fn list<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    filter: ServiceFilter,
) -> Result<Vec<Named>, QueryError> {
    let found = cx.storage.services(&filter, cx.limits.metadata).await?;
    cx.note_if_cut(cuts, "services", found.items.len(), found.total);
    Ok(found.items.into_iter().map(named).collect())
}

fn named(service: ServiceTraffic) -> Named {
    Named {
        id: id::service_id(&service.name, service.node_type == NodeType::Normal as i64),
        name: service.name,
    }
}

/// Instances that were alive when the range started or later.
pub async fn instances<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    service_id: &str,
    duration: &Duration,
) -> Result<Vec<ServiceInstance>, QueryError> {
    let since = duration.start_minute()?;
    let limit = cx.limits.metadata;
    let found = cx.storage.instances(service_id, since, limit).await?;
    cx.note_if_cut(cuts, "instances", found.items.len(), found.total);
    Ok(found.items.into_iter().map(instance).collect())
}

fn instance(traffic: InstanceTraffic) -> ServiceInstance {
    let id = id::instance_id(&traffic.service_id, &traffic.name);
    let (language, attributes) = properties(&traffic.properties);
    ServiceInstance {
        instance_uuid: id.clone(),
        id,
        name: traffic.name,
        attributes,
        language,
    }
}

/// Language and the other properties in stored order. Text that is no JSON object says nothing.
fn properties(json: &str) -> (&'static str, Vec<Attribute>) {
    let stored: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).unwrap_or_default();
    let mut language = "UNKNOWN";
    let mut attributes = Vec::new();
    for (name, value) in stored {
        let value = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        if name == "language" {
            language = language_of(&value);
        } else {
            attributes.push(Attribute { name, value });
        }
    }
    (language, attributes)
}

fn language_of(text: &str) -> &'static str {
    match text {
        "java" => "JAVA",
        ".net" => "DOTNET",
        "nodejs" => "NODEJS",
        "python" => "PYTHON",
        "ruby" => "RUBY",
        "go" => "GO",
        "lua" => "LUA",
        "php" => "PHP",
        _ => "UNKNOWN",
    }
}

/// Endpoints of a service with a word in their name; no keyword finds all.
pub async fn endpoints<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    service_id: &str,
    keyword: &str,
    wanted: i64,
) -> Result<Vec<Named>, QueryError> {
    let limit = usize::try_from(wanted.min(cx.limits.result_window))
        .map_err(|_| QueryError::argument("limit", "must not be negative"))?;
    if limit == 0 {
        return Ok(vec![]);
    }
    let found = cx.storage.endpoints(service_id, keyword, limit).await?;
    if found.len() == limit {
        cx.note_if_cut(cuts, "endpoints", limit, wanted);
    }
    let endpoint = |e: EndpointTraffic| Named {
        id: id::endpoint_id(&e.service_id, &e.name),
        name: e.name,
    };
    Ok(found.into_iter().map(endpoint).collect())
}

/// What the id of an endpoint says; the endpoint need not exist.
pub fn endpoint_info(endpoint_id: String) -> Result<EndpointInfo, QueryError> {
    let (service_id, name) = id::parse_endpoint_id(&endpoint_id)?;
    let (service_name, _) = id::parse_service_id(&service_id)?;
    Ok(EndpointInfo {
        id: endpoint_id,
        name,
        service_id,
        service_name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_leaves_the_attributes_and_order_stays() {
        let (language, attributes) =
            properties(r#"{"OS Name":"Linux","language":".net","n":7,"ipv4s":""}"#);
        assert_eq!(language, "DOTNET");
        let names: Vec<_> = attributes.iter().map(|a| (&*a.name, &*a.value)).collect();
        assert_eq!(names, [("OS Name", "Linux"), ("n", "7"), ("ipv4s", "")]);
        for text in ["", "[]", "broken"] {
            assert_eq!(properties(text), ("UNKNOWN", vec![]), "{text}");
        }
    }

    #[test]
    fn an_endpoint_id_tells_its_service() {
        let info = endpoint_info("YQ==.1_ZQ==".into()).unwrap();
        assert_eq!((&*info.name, &*info.service_name), ("e", "a"));
        for id in ["abc", "bad_ZQ==", "YQ==.1_"] {
            assert!(endpoint_info(id.into()).is_err(), "{id}");
        }
    }
}
