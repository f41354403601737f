//! Which use case answers which root field, one file per area of the protocol.
//!
//! A field that the definitions have and this list has not is an error of ours, which a test finds.

mod alarm;
mod common;
mod metadata;
mod metrics_v1;
mod metrics_v2;
mod profile;
mod topology;
mod trace;
mod ui;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::schema::MUTATION;
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::Backend;

type Answer = Result<Value, QueryError>;

/// Resolves a root field whose arguments are in the form of the schema; `cuts` learns what a limit kept from the answer.
pub(super) async fn resolve<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    root: &str,
    field: &str,
    arguments: Value,
) -> Answer {
    let a = Arguments(arguments);
    match (root == MUTATION, field) {
        (_, "version") => common::version(),
        (false, "checkHealth") => common::check_health(cx).await,
        (false, "getTimeInfo") => common::time_info(cx),

        (false, "getAllServices") => metadata::all_services(cx, cuts).await,
        (false, "searchServices") => metadata::search_services(cx, cuts, a).await,
        (false, "searchService") => metadata::search_service(cx, a).await,
        (false, "getAllBrowserServices") => metadata::browser_services(cx, cuts).await,
        (false, "getServiceInstances") => metadata::instances(cx, cuts, a).await,
        (false, "searchEndpoint") => metadata::search_endpoint(cx, cuts, a).await,
        (false, "getEndpointInfo") => metadata::endpoint_info(a),
        (false, "getAllDatabases") => metadata::databases(cx, cuts).await,
        (false, "getGlobalBrief") => metadata::global_brief(),

        (false, "typeOfMetrics") => metrics_v2::type_of_metrics(cx, a),
        (false, "readMetricsValue") => metrics_v2::value(cx, a).await,
        (false, "readMetricsValues") => metrics_v2::values(cx, a).await,
        (false, "sortMetrics") => metrics_v2::sort(cx, cuts, a).await,
        (false, "readLabeledMetricsValues") => metrics_v2::labeled_values(cx, a).await,
        (false, "readHeatMap") => metrics_v2::heat_map(cx, a).await,
        (false, "readSampledRecords") => metrics_v2::sampled_records(cx, cuts, a).await,

        (false, "getValues") => metrics_v1::values(cx, a).await,
        (false, "getLinearIntValues") => metrics_v1::linear(cx, a).await,
        (false, "getMultipleLinearIntValues") => metrics_v1::multiple_linear(cx, a).await,
        (false, "getSubsetOfMultipleLinearIntValues") => metrics_v1::subset_linear(cx, a).await,
        (false, "getThermodynamic") => metrics_v1::thermodynamic(cx, a).await,
        (false, "getServiceTopN") => metrics_v1::service_top_n(cx, cuts, a).await,
        (false, "getAllServiceInstanceTopN" | "getServiceInstanceTopN") => {
            metrics_v1::instance_top_n(cx, cuts, a).await
        }
        (false, "getAllEndpointTopN" | "getEndpointTopN") => {
            metrics_v1::endpoint_top_n(cx, cuts, a).await
        }
        (false, "getTopNRecords") => metrics_v1::top_n_records(cx, cuts, a).await,

        (false, "getGlobalTopology") => topology::global(cx, cuts, a).await,
        (false, "getServiceTopology") => topology::service(cx, cuts, a).await,
        (false, "getServicesTopology") => topology::services(cx, cuts, a).await,
        (false, "getServiceInstanceTopology") => topology::instances(cx, cuts, a).await,
        (false, "getEndpointTopology") => topology::endpoint(cx, cuts, a).await,
        (false, "getEndpointDependencies") => topology::dependencies(cx, cuts, a).await,

        (false, "queryBasicTraces") => trace::basic_traces(cx, a).await,
        (false, "queryTrace") => trace::trace(cx, cuts, a).await,
        (false, "queryLogs") => trace::logs(cx, a),

        (false, "getAlarmTrend") => alarm::trend(),
        (false, "getAlarm") => alarm::alarms(cx, a).await,

        (false, "getAllTemplates") => ui::all_templates(cx, a).await,
        (true, "addTemplate") => ui::add_template(cx, a).await,
        (true, "changeTemplate") => ui::change_template(cx, a).await,
        (true, "disableTemplate") => ui::disable_template(cx, a).await,

        (false, "getProfileTaskList") => profile::tasks(cx, cuts, a).await,
        (false, "getProfileTaskSegmentList") => profile::segments(cx, cuts, a).await,
        (false, "getProfiledSegment") => profile::segment(cx, a).await,
        (false, "getProfileAnalyze") => profile::analyze(cx, cuts, a).await,
        (true, "createProfileTask") => profile::create(cx, a).await,

        _ => Err(QueryError::Unsupported("this field")),
    }
}

/// Arguments of a field.
struct Arguments(Value);

impl Arguments {
    /// Reads them into a struct with the argument names in camel case.
    fn read<T: DeserializeOwned>(self) -> Result<T, QueryError> {
        serde_json::from_value(self.0)
            .map_err(|error| QueryError::argument("arguments", error.to_string()))
    }
}

/// An answer in JSON.
fn answer(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| QueryError::argument("answer", error.to_string()))
}

#[cfg(test)]
mod tests {
    use oap_proto::QUERY_SDL;

    use super::super::schema::{Definition, QUERY, Schema};
    use super::*;
    use crate::query::service::fake::{FakeStore, context};

    #[tokio::test]
    async fn every_field_of_the_definitions_has_a_resolver() {
        let schema = Schema::build(QUERY_SDL).unwrap();
        let cx = context(FakeStore::default());
        let mut count = 0;
        for root in [QUERY, MUTATION] {
            let Some(Definition::Object(fields)) = schema.definition(root) else {
                panic!("{root}");
            };
            for field in fields.keys() {
                let answer = resolve(
                    &cx,
                    &Cuts::default(),
                    root,
                    field,
                    Value::Object(Default::default()),
                )
                .await;
                let is_missing = matches!(answer, Err(QueryError::Unsupported("this field")));
                assert!(!is_missing, "{root}.{field}");
                count += 1;
            }
        }
        assert!(count > 40, "{count}");
    }
}
