//! The columns of metrics by scope, with and without display names (8.1.0 spec, D.1).

use super::*;
use crate::model::metrics::Entrance;

fn columns(scope: Scope, with_extra: bool) -> Vec<&'static str> {
    let metric = MetricDefinition {
        name: "m".to_owned(),
        scope,
        filters: vec![],
        function: Function::Count,
        entrance: Entrance::One,
    };
    let schema = Schema::build(&[metric], &[], &[], with_extra);
    let columns = &schema.model("m").unwrap().columns;
    let (value, rest) = columns.split_last().unwrap();
    assert_eq!(value.name, "value");
    rest.iter().map(|c| c.name).collect()
}

#[test]
fn display_names_are_columns_only_if_asked_for() {
    let instance: (&[&str], &[&str]) = (&["entity_id", "service_id"], &["name", "service_name"]);
    for (scope, (always, extra)) in [
        (Scope::All, (&[][..], &[][..])),
        (Scope::Service, (&["entity_id"], &["name"])),
        (Scope::ServiceInstance, instance),
        (Scope::Endpoint, instance),
        (
            Scope::ServiceRelation,
            (&["entity_id"], &["source_name", "dest_name"]),
        ),
        (
            Scope::ServiceInstanceRelation,
            (
                &[
                    "entity_id",
                    "source_service_instance_id",
                    "source_service_id",
                    "dest_service_instance_id",
                    "dest_service_id",
                ],
                &[
                    "source_service_name",
                    "source_service_instance_name",
                    "dest_service_name",
                    "dest_service_instance_name",
                ],
            ),
        ),
        (
            Scope::EndpointRelation,
            (
                &[
                    "entity_id",
                    "source_endpoint_name",
                    "service_id",
                    "child_endpoint_name",
                    "child_service_id",
                ],
                &["source_service_name", "child_service_name"],
            ),
        ),
        (Scope::ServiceInstanceJvmCpu, instance),
        (Scope::ServiceInstanceJvmMemory, instance),
        (Scope::ServiceInstanceJvmMemoryPool, instance),
        (Scope::ServiceInstanceJvmGc, instance),
        (Scope::ServiceInstanceJvmThread, instance),
        (Scope::DatabaseAccess, (&["entity_id"], &["name"])),
        (Scope::ServiceInstanceClrCpu, instance),
        (Scope::ServiceInstanceClrGc, instance),
        (Scope::ServiceInstanceClrThread, instance),
        (
            Scope::EnvoyInstanceMetric,
            (&["entity_id", "service_id"], &["name"]),
        ),
    ] {
        assert_eq!(columns(scope, false), always, "{scope:?}");
        assert_eq!(columns(scope, true), [always, extra].concat(), "{scope:?}");
    }
}

#[test]
fn relation_streams_never_have_display_names() {
    let (plain, extra) = (
        Schema::build(&[], &[], &[], false),
        Schema::build(&[], &[], &[], true),
    );
    assert_eq!(plain.models(), extra.models());
    for relation in plain.relations() {
        assert!(relation.model.is_downsampled);
        let name = &relation.model.name;
        let is_server = name.ends_with("_server_side");
        assert_eq!(relation.is_server_side, is_server, "{name}");
    }
    let downsampled = plain.models().iter().filter(|m| m.is_downsampled);
    assert_eq!(downsampled.count(), 5);
}
