//! Models that exist without any script: traffic, relations, records, management (8.1.0 spec, E; storage 2.7, 2.10, 2.11).

use std::sync::Arc;

use super::ColumnType::{Binary, Int, Json, Keyword, Long};
use super::{Column, Model, ModelKind, QueryFunction, RelationStream, ValueColumn, ValueKind};
use crate::model::entity::EntityField as F;
use crate::model::metrics::Function;
use crate::model::scope::Scope;

type EntityColumns = Vec<(&'static str, Option<F>)>;

/// The leading columns of a metric of a scope, in wire order; `extra` adds the display names
/// (`activeExtraModelColumns`).
pub(super) fn entity_columns(scope: Scope, extra: bool) -> EntityColumns {
    let entity = ("entity_id", None);
    let service = ("service_id", Some(F::ServiceId));
    let name = ("name", Some(F::Name));
    let service_name = ("service_name", Some(F::ServiceName));
    let (base, names): (EntityColumns, EntityColumns) = match scope {
        Scope::All => (vec![], vec![]),
        Scope::Service | Scope::DatabaseAccess => (vec![entity], vec![name]),
        Scope::EnvoyInstanceMetric => (vec![entity, service], vec![name]),
        Scope::ServiceRelation => (
            vec![entity],
            vec![
                ("source_name", Some(F::SourceServiceName)),
                ("dest_name", Some(F::DestServiceName)),
            ],
        ),
        Scope::ServiceInstanceRelation => (
            vec![
                entity,
                ("source_service_instance_id", Some(F::SourceInstanceId)),
                ("source_service_id", Some(F::SourceServiceId)),
                ("dest_service_instance_id", Some(F::DestInstanceId)),
                ("dest_service_id", Some(F::DestServiceId)),
            ],
            vec![
                ("source_service_name", Some(F::SourceServiceName)),
                ("source_service_instance_name", Some(F::SourceInstanceName)),
                ("dest_service_name", Some(F::DestServiceName)),
                ("dest_service_instance_name", Some(F::DestInstanceName)),
            ],
        ),
        Scope::EndpointRelation => (
            vec![
                entity,
                ("source_endpoint_name", Some(F::SourceEndpointName)),
                ("service_id", Some(F::ServiceId)),
                ("child_endpoint_name", Some(F::ChildEndpointName)),
                ("child_service_id", Some(F::ChildServiceId)),
            ],
            vec![
                ("source_service_name", Some(F::SourceServiceName)),
                ("child_service_name", Some(F::ChildServiceName)),
            ],
        ),
        _ => (vec![entity, service], vec![name, service_name]),
    };
    let mut columns = base;
    if extra {
        columns.extend(names);
    }
    columns
}

/// The leading columns of a meter. Only averages can be sorted by parent service (storage 2.9).
pub(super) fn meter_entity_columns(function: Function) -> EntityColumns {
    let mut columns = vec![("entity_id", None)];
    if matches!(function, Function::MeterAvg | Function::AvgLabeled) {
        columns.push(("service_id", Some(F::ServiceId)));
    }
    columns
}

/// The five relation streams.
pub(super) fn relations() -> Vec<RelationStream> {
    let stream = |name: &str, scope, is_server_side, columns: &[(&'static str, Option<F>)]| {
        let mut model = Model::metrics(name, columns.to_vec(), Function::Component);
        model.value = None;
        RelationStream {
            scope,
            is_server_side,
            model: Arc::new(model),
        }
    };
    let service: &[_] = &[
        ("entity_id", None),
        ("source_service_id", Some(F::SourceServiceId)),
        ("dest_service_id", Some(F::DestServiceId)),
    ];
    let instance: &[_] = &[
        ("entity_id", None),
        ("source_service_id", Some(F::SourceServiceId)),
        ("source_service_instance_id", Some(F::SourceInstanceId)),
        ("dest_service_id", Some(F::DestServiceId)),
        ("dest_service_instance_id", Some(F::DestInstanceId)),
    ];
    let endpoint: &[_] = &[
        ("entity_id", None),
        ("source_endpoint", Some(F::SourceEndpointId)),
        ("dest_endpoint", Some(F::DestEndpointId)),
    ];
    use Scope::{EndpointRelation, ServiceInstanceRelation, ServiceRelation};
    vec![
        stream(
            "service_relation_server_side",
            ServiceRelation,
            true,
            service,
        ),
        stream(
            "service_relation_client_side",
            ServiceRelation,
            false,
            service,
        ),
        stream(
            "service_instance_relation_server_side",
            ServiceInstanceRelation,
            true,
            instance,
        ),
        stream(
            "service_instance_relation_client_side",
            ServiceInstanceRelation,
            false,
            instance,
        ),
        stream(
            "endpoint_relation_server_side",
            EndpointRelation,
            true,
            endpoint,
        ),
    ]
}

fn model(name: &str, kind: ModelKind, columns: Vec<Column>) -> Model {
    Model {
        name: name.to_owned(),
        kind,
        columns,
        stores_time_bucket: kind != ModelKind::Management,
        is_downsampled: false,
        is_super_dataset: false,
        value: None,
        entity_columns: vec![],
    }
}

fn sampled(mut model: Model) -> Model {
    model.value = Some(ValueColumn {
        name: "latency",
        kind: ValueKind::Sampled,
        function: QueryFunction::Avg,
    });
    model
}

/// Traffic, records and management; relations are separate.
pub(super) fn models() -> Vec<Model> {
    use ModelKind::{Management, Metrics, Record};
    let k = |name| Column::new(name, Keyword);
    let l = |name| Column::new(name, Long);
    let i = |name| Column::new(name, Int);
    let quiet = |c: Column| c.storage_only();
    let mut service_traffic = model(
        "service_traffic",
        Metrics,
        vec![k("name").match_query(), i("node_type")],
    );
    service_traffic.stores_time_bucket = false;
    let mut segment = sampled(model(
        "segment",
        Record,
        vec![
            k("segment_id"),
            k("trace_id"),
            k("statement"),
            k("service_id"),
            k("service_instance_id"),
            k("endpoint_name").match_query(),
            k("endpoint_id"),
            l("start_time"),
            l("end_time"),
            i("latency"),
            i("is_error"),
            quiet(Column::new("data_binary", Binary)),
            quiet(i("version")),
        ],
    ));
    segment.is_super_dataset = true;
    vec![
        service_traffic,
        model(
            "instance_traffic",
            Metrics,
            vec![
                k("service_id"),
                quiet(k("name")),
                l("last_ping"),
                quiet(Column::new("properties", Json)),
            ],
        ),
        model(
            "endpoint_traffic",
            Metrics,
            vec![k("service_id"), k("name").match_query()],
        ),
        model(
            "network_address_alias",
            Metrics,
            vec![
                k("address"),
                k("represent_service_id"),
                k("represent_service_instance_id"),
                l("last_update_time_bucket"),
            ],
        ),
        segment,
        model(
            "alarm_record",
            Record,
            vec![
                i("scope"),
                quiet(k("name")),
                quiet(k("id0")),
                quiet(k("id1")),
                l("start_time"),
                k("alarm_message").match_query(),
            ],
        ),
        sampled(model(
            "top_n_database_statement",
            Record,
            vec![
                quiet(k("statement")),
                l("latency"),
                k("trace_id"),
                k("service_id"),
            ],
        )),
        model(
            "profile_task",
            Record,
            vec![
                k("service_id"),
                k("endpoint_name"),
                l("start_time"),
                i("duration"),
                i("min_duration_threshold"),
                i("dump_period"),
                l("create_time"),
                i("max_sampling_count"),
            ],
        ),
        model(
            "profile_task_log",
            Record,
            vec![
                quiet(k("task_id")),
                quiet(k("instance_id")),
                quiet(i("operation_type")),
                l("operation_time"),
            ],
        ),
        model(
            "profile_task_segment_snapshot",
            Record,
            vec![
                k("task_id"),
                k("segment_id"),
                l("dump_time"),
                i("sequence"),
                quiet(Column::new("stack_binary", Binary)),
            ],
        ),
        model(
            "http_access_log",
            Record,
            vec![
                i("service_id"),
                i("service_instance_id"),
                k("endpoint_id"),
                k("endpoint_name"),
                k("trace_id"),
                i("is_error"),
                k("status_code"),
                i("content_type"),
                k("content"),
                l("timestamp"),
            ],
        ),
        // Of this server only: what rules of alarms remember, see `alarm::state`.
        model(
            "alarm_state",
            Management,
            vec![quiet(Column::new("state", Binary))],
        ),
        model(
            "ui_template",
            Management,
            vec![
                k("name"),
                quiet(k("type")),
                quiet(k("configuration")),
                quiet(i("activated")),
                i("disabled"),
            ],
        ),
    ]
}
