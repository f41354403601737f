//! A minute value as the receiver gets it: whole numbers, doubles, or the ranks of a percentile.

use oap_proto::export::{ExportMetricValue, ValueType};

use crate::alarm::entity::{AlarmEntity, EntityKind};
use crate::model::id::{IdError, parse_endpoint_id, parse_instance_id};
use crate::model::minute_value::{Calculated, MinuteValue};
use crate::model::schema::{ColumnType, Model};
use crate::model::scope::Scope;

/// `None` if the id of the entity cannot be taken apart.
pub(super) fn encode(value: &MinuteValue) -> Option<ExportMetricValue> {
    let mut encoded = ExportMetricValue {
        metric_name: value.metric.name.clone(),
        entity_name: entity_name(value.entity.scope, &value.entity.id).ok()?,
        entity_id: value.entity.id.to_string(),
        time_bucket: i64::try_from(value.minute).ok()?,
        ..ExportMetricValue::default()
    };
    match &value.value {
        Calculated::Number(number) if is_double(&value.metric) => {
            encoded.set_type(ValueType::Double);
            encoded.double_value = *number;
        }
        Calculated::Number(number) => {
            encoded.set_type(ValueType::Long);
            encoded.long_value = *number as i64;
        }
        Calculated::List(ranks) => {
            encoded.set_type(ValueType::MultiLong);
            encoded.long_values = ranks.iter().map(|rank| *rank as i64).collect();
        }
    }
    Some(encoded)
}

fn is_double(model: &Model) -> bool {
    let value = model.value.and_then(|value| model.column_index(value.name));
    let column = value.and_then(|at| model.columns.get(at));
    column.is_some_and(|column| column.ty == ColumnType::Double)
}

/// The name of the entity itself, without what it belongs to; relations as in alarms; nothing for `All`.
fn entity_name(scope: Scope, id: &str) -> Result<String, IdError> {
    match EntityKind::of(scope) {
        None => Ok(String::new()),
        Some(EntityKind::Instance) => parse_instance_id(id).map(|(_, name)| name),
        Some(EntityKind::Endpoint) => parse_endpoint_id(id).map(|(_, name)| name),
        Some(kind) => AlarmEntity::parse(kind, id).map(|entity| entity.name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dsl::oal;
    use crate::model::entity::Entity;
    use crate::model::id::{endpoint_id, instance_id, relation_id, service_id};
    use crate::model::schema::Schema;
    use crate::model::scope::NodeType;

    #[test]
    fn values_have_the_form_of_their_metric() {
        let script = "service_resp_time = from(Service.latency).longAvg();\n\
                      service_percentile = from(Service.latency).percentile(10);\n\
                      instance_cpu = from(ServiceInstanceJVMCPU.usePercent).doubleAvg();";
        let program = oal::compile(&[("test.oal".to_owned(), script.to_owned())]).unwrap();
        let schema = Schema::build(&program.metrics, &[], &[], false);
        let shop = service_id("shop", true);
        let pod = instance_id(&shop, "pod");
        for (metric, scope, id, value, want) in [
            (
                "service_resp_time",
                Scope::Service,
                &shop,
                Calculated::Number(1200.0),
                (ValueType::Long, 1200, 0.0, vec![], "shop"),
            ),
            (
                "instance_cpu",
                Scope::ServiceInstanceJvmCpu,
                &pod,
                Calculated::Number(0.5),
                (ValueType::Double, 0, 0.5, vec![], "pod"),
            ),
            (
                "service_percentile",
                Scope::Service,
                &shop,
                Calculated::List(vec![1.0, 2.0]),
                (ValueType::MultiLong, 0, 0.0, vec![1, 2], "shop"),
            ),
        ] {
            let value = MinuteValue {
                metric: Arc::clone(schema.model(metric).unwrap()),
                entity: Arc::new(Entity::new(scope, NodeType::Normal, &**id, [])),
                minute: 202_009_151_059,
                value,
            };
            let encoded = encode(&value).unwrap();
            let (ty, long, double, longs, name) = want;
            assert_eq!(encoded.r#type(), ty, "{metric}");
            assert_eq!(encoded.long_value, long, "{metric}");
            assert_eq!(encoded.double_value, double, "{metric}");
            assert_eq!(encoded.long_values, longs, "{metric}");
            assert_eq!(encoded.entity_name, name, "{metric}");
            assert_eq!(encoded.entity_id, *id, "{metric}");
            assert_eq!(encoded.time_bucket, 202_009_151_059, "{metric}");
        }
    }

    #[test]
    fn entities_have_their_own_names() {
        let (shop, db) = (service_id("shop", true), service_id("db", false));
        for (scope, id, want) in [
            (Scope::All, String::new(), ""),
            (Scope::ServiceInstance, instance_id(&shop, "pod"), "pod"),
            (Scope::Endpoint, endpoint_id(&shop, "/pay"), "/pay"),
            (
                Scope::ServiceRelation,
                relation_id(&shop, &db),
                "shop to db",
            ),
            (Scope::DatabaseAccess, db.clone(), "db"),
        ] {
            assert_eq!(entity_name(scope, &id).as_deref(), Ok(want));
        }
        assert!(entity_name(Scope::Service, "pod").is_err());
    }
}
