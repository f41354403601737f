//! Which names stand for which entities.

use super::*;
use crate::model::metrics::{Entrance, Function, MetricDefinition};
use crate::model::schema::Schema;

#[test]
fn names_with_shifted_borders_are_different_requests() {
    let mut entities = Entities::new();
    let a = entities.request("ab", "c", "d");
    let b = entities.request("a", "bc", "d");
    assert_ne!(a.instance.id, b.instance.id);
    let other = entities.request("ab", "c", "e");
    assert!(Arc::ptr_eq(&a.instance, &other.instance));
    assert!(Arc::ptr_eq(&a, &entities.request("ab", "c", "d")));
}

#[test]
fn an_owner_without_a_name_is_not_the_caller() {
    let mut entities = Entities::new();
    let end = |service, endpoint_owner| End {
        service,
        node_type: NodeType::Normal,
        instance: service,
        endpoint: "/a",
        endpoint_owner,
    };
    let mut id = |owner| {
        let set = entities.relation(end("edge", owner), end("shop", None));
        set.endpoint.as_ref().unwrap().id.to_string()
    };
    let dest = "c2hvcA==.1-L2E=";
    assert_eq!(id(None), format!("ZWRnZQ==.1-L2E=-{dest}"));
    assert_eq!(id(Some("")), format!(".1-L2E=-{dest}"));
}

/// With `activeExtraModelColumns` each metric shows them (8.1.0 spec, D.1).
#[test]
fn every_display_name_of_a_metric_is_there() {
    let mut entities = Entities::new();
    let served = entities.request("shop", "shop-1", "/a");
    let end = |service, instance, endpoint| End {
        service,
        node_type: NodeType::Normal,
        instance,
        endpoint,
        endpoint_owner: None,
    };
    let called = entities.relation(end("web", "web-1", "/b"), end("shop", "shop-1", "/a"));
    let database = entities.database_access("db");
    let (instances, endpoints) = (&called.instance, &called.endpoint);
    for (entity, want) in [
        (&served.service, vec!["name=shop"]),
        (&served.instance, vec!["name=shop-1", "service_name=shop"]),
        (&served.endpoint, vec!["name=/a", "service_name=shop"]),
        (&database, vec!["name=db"]),
        (&called.service, vec!["source_name=web", "dest_name=shop"]),
        (
            instances.as_ref().unwrap(),
            vec![
                "source_service_name=web",
                "source_service_instance_name=web-1",
                "dest_service_name=shop",
                "dest_service_instance_name=shop-1",
            ],
        ),
        (
            endpoints.as_ref().unwrap(),
            vec!["source_service_name=web", "child_service_name=shop"],
        ),
    ] {
        let metric = MetricDefinition {
            name: "m".to_owned(),
            scope: entity.scope,
            filters: vec![],
            function: Function::Count,
            entrance: Entrance::One,
        };
        let columns = |extra| {
            let schema = Schema::build(std::slice::from_ref(&metric), &[], &[], extra);
            schema.model("m").unwrap().entity_columns.clone()
        };
        let names = columns(true).split_off(columns(false).len());
        let names: Vec<String> = names
            .iter()
            .map(|(column, field)| format!("{column}={}", entity.field(field.unwrap())))
            .collect();
        assert_eq!(names, want);
    }
}

#[test]
fn empty_ends_have_no_instance_or_endpoint_relation() {
    let mut entities = Entities::new();
    let end = |service, instance| End {
        service,
        node_type: NodeType::Normal,
        instance,
        endpoint: "",
        endpoint_owner: None,
    };
    let set = entities.relation(end("a", "i"), end("b", ""));
    assert_eq!(&*set.service.id, "YQ==.1-Yg==.1");
    assert!(set.instance.is_none() && set.endpoint.is_none());
}
