//! Services, instances, endpoints and address aliases, over all days: a quiet one is still listed.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::search::{Completeness, Found, search, term};
use super::{Answer, Elasticsearch};
use crate::storage::query::{
    AddressAlias, EndpointTraffic, InstanceTraffic, Page, ServiceFilter, ServiceTraffic,
};

/// Setting that decides how many services and instances are listed.
const QUERY_MAX_SIZE: &str = "SW_STORAGE_ES_QUERY_MAX_SIZE";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    name: Option<String>,
    node_type: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Member {
    service_id: Option<String>,
    name: Option<String>,
    properties: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Alias {
    address: Option<String>,
    represent_service_id: Option<String>,
    represent_service_instance_id: Option<String>,
    last_update_time_bucket: Option<u64>,
}

impl Elasticsearch {
    pub(super) async fn find_services(
        &self,
        filter: &ServiceFilter,
        limit: usize,
    ) -> Answer<Page<ServiceTraffic>> {
        let mut clauses = vec![term("node_type", filter.node_type)];
        if let Some(name) = &filter.name {
            clauses.push(term("name", name.as_str()));
        }
        let keyword = filter.keyword.as_deref().unwrap_or_default();
        let body = self.by_name(clauses, keyword, limit);
        let target = self.names.alias("service_traffic");
        let found: Found<Service> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        if filter.name.is_none() {
            self.note_if_cut("services", &found, QUERY_MAX_SIZE);
        }
        let total = found.total();
        let services = found.sources().map(|service| ServiceTraffic {
            name: service.name.unwrap_or_default(),
            node_type: service.node_type.unwrap_or(filter.node_type),
        });
        Ok(listed(services, total, |s| s.name.clone()))
    }

    pub(super) async fn find_instances(
        &self,
        service_id: &str,
        alive_since: u64,
        limit: usize,
    ) -> Answer<Page<InstanceTraffic>> {
        let clauses = vec![
            term("service_id", service_id),
            json!({"range": {"last_ping": {"gte": alive_since}}}),
        ];
        let mut body = self.by_name(clauses, "", limit);
        // Of two days with the same instance the one with the later ping is told.
        body["sort"] = json!([{"name": "asc"}, {"last_ping": "desc"}]);
        let target = self.names.alias("instance_traffic");
        let found: Found<Member> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        self.note_if_cut("instances", &found, QUERY_MAX_SIZE);
        let total = found.total();
        let instances = found.sources().map(|member| InstanceTraffic {
            service_id: member.service_id.unwrap_or_default(),
            name: member.name.unwrap_or_default(),
            properties: member.properties.unwrap_or_default(),
        });
        Ok(listed(instances, total, |i| i.name.clone()))
    }

    pub(super) async fn find_endpoints(
        &self,
        service_id: &str,
        keyword: &str,
        limit: usize,
    ) -> Answer<Vec<EndpointTraffic>> {
        let body = self.by_name(vec![term("service_id", service_id)], keyword, limit);
        let target = self.names.alias("endpoint_traffic");
        let found: Found<Member> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        let endpoints = found.sources().map(|member| EndpointTraffic {
            service_id: member.service_id.unwrap_or_default(),
            name: member.name.unwrap_or_default(),
        });
        Ok(distinct(endpoints, |e| e.name.clone()))
    }

    pub(super) async fn find_address_aliases(
        &self,
        since: u64,
        limit: usize,
    ) -> Answer<Vec<AddressAlias>> {
        let body = json!({
            "query": {"range": {"last_update_time_bucket": {"gte": since}}},
            "sort": [{"last_update_time_bucket": "desc"}, {"address": "asc"}],
            "size": self.size(limit),
        });
        let target = self.names.alias("network_address_alias");
        let found: Found<Alias> =
            search(&self.client, &target, Completeness::BestEffort, &body).await?;
        self.note_if_cut(
            "address aliases",
            &found,
            "SW_STORAGE_ES_QUERY_MAX_WINDOW_SIZE",
        );
        let aliases = found.sources().map(|alias| AddressAlias {
            address: alias.address.unwrap_or_default(),
            service_id: alias.represent_service_id.unwrap_or_default(),
            instance_id: alias.represent_service_instance_id.unwrap_or_default(),
            last_update: alias.last_update_time_bucket.unwrap_or(0),
        });
        Ok(distinct(aliases, |a| a.address.clone()))
    }

    /// Documents by name; with a keyword, those where more of its words match come first.
    fn by_name(&self, clauses: Vec<Value>, keyword: &str, limit: usize) -> Value {
        let mut query = json!({"bool": {"filter": clauses}});
        let mut sort = json!([{"name": "asc"}]);
        if !keyword.is_empty() {
            query["bool"]["must"] = json!({"match": {"name_match": keyword}});
            sort = json!(["_score", {"name": "asc"}]);
        }
        json!({"query": query, "sort": sort, "size": self.size(limit), "track_total_hits": true})
    }

    fn size(&self, limit: usize) -> i64 {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        limit.min(self.options.result_window())
    }
}

/// The first of each key, of `total` documents.
fn listed<T>(items: impl Iterator<Item = T>, total: i64, key: impl Fn(&T) -> String) -> Page<T> {
    let mut documents = 0;
    let items = distinct(items.inspect(|_| documents += 1), key);
    // Those beyond the limit are taken for different ones.
    let repeated = documents - i64::try_from(items.len()).unwrap_or(documents);
    Page {
        items,
        total: total - repeated,
    }
}

/// The first of each key: a document may be on two days if servers raced.
fn distinct<T>(items: impl Iterator<Item = T>, key: impl Fn(&T) -> String) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(key(item))).collect()
}
