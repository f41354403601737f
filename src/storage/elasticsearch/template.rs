//! The index template of a model (storage 2.4, 2.5): settings, mapping, alias.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::options::ElasticsearchOptions;
use crate::model::schema::{Column, ColumnType, Model, ModelKind};

/// Records are refreshed at this pace whatever the options say.
const RECORD_REFRESH_S: u64 = 10;

/// Body of `PUT /_template/<name>`.
pub fn template(model: &Model, names: &Names, options: &ElasticsearchOptions) -> Value {
    let alias = names.alias(&model.name);
    json!({
        "index_patterns": [format!("{alias}-*")],
        "order": 0,
        "settings": settings(model, options),
        "mappings": {"properties": properties(model)},
        "aliases": {alias: {}},
    })
}

fn settings(model: &Model, options: &ElasticsearchOptions) -> Map<String, Value> {
    let factor = if model.is_super_dataset {
        options.super_dataset_shards_factor
    } else {
        1
    };
    let refresh_s = match model.kind {
        ModelKind::Metrics => options.flush_interval.as_secs().max(1),
        ModelKind::Record | ModelKind::Management => RECORD_REFRESH_S,
    };
    let mut settings = Map::new();
    let mut set = |key: &str, value: Value| settings.insert(key.to_owned(), value);
    set(
        "index.number_of_shards",
        options.index_shards.saturating_mul(factor).into(),
    );
    set("index.number_of_replicas", options.index_replicas.into());
    set("index.refresh_interval", format!("{refresh_s}s").into());
    set("index.analysis.analyzer.oap_analyzer.type", "stop".into());
    settings.extend(options.advanced_settings());
    settings
}

fn properties(model: &Model) -> Map<String, Value> {
    let mut properties = Map::new();
    for column in &model.columns {
        let mut property = field(column);
        if column.is_match_query {
            let copy = format!("{}_match", column.name);
            property["copy_to"] = copy.clone().into();
            properties.insert(copy, json!({"type": "text", "analyzer": "oap_analyzer"}));
        }
        properties.insert(column.name.to_owned(), property);
    }
    properties.insert("time_bucket".to_owned(), json!({"type": "long"}));
    properties
}

fn field(column: &Column) -> Value {
    let ty = match column.ty {
        ColumnType::Int => "integer",
        ColumnType::Long => "long",
        ColumnType::Double => "double",
        ColumnType::Keyword => "keyword",
        ColumnType::Table | ColumnType::Json => "text",
        ColumnType::Binary => "binary",
    };
    if column.is_storage_only {
        json!({"type": ty, "index": false})
    } else {
        json!({"type": ty})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metrics::{Function, MeterDefinition, MeterScope, Ranks};
    use crate::model::schema::Schema;

    fn of(name: &str, options: &ElasticsearchOptions) -> Value {
        let schema = Schema::build(&[], &[], &[], false);
        template(
            schema.model(name).unwrap(),
            &Names::new("sw").unwrap(),
            options,
        )
    }

    #[test]
    fn a_super_dataset_has_more_shards_and_its_words_are_indexed() {
        let body = of("segment", &ElasticsearchOptions::default());
        assert_eq!(body["index_patterns"], json!(["sw_segment-*"]));
        assert_eq!(body["aliases"], json!({"sw_segment": {}}));
        assert_eq!(
            body["settings"],
            json!({
                "index.number_of_shards": 5,
                "index.number_of_replicas": 0,
                "index.refresh_interval": "10s",
                "index.analysis.analyzer.oap_analyzer.type": "stop",
            })
        );
        let properties = &body["mappings"]["properties"];
        assert_eq!(
            properties["endpoint_name"],
            json!({"type": "keyword", "copy_to": "endpoint_name_match"})
        );
        assert_eq!(
            properties["endpoint_name_match"],
            json!({"type": "text", "analyzer": "oap_analyzer"})
        );
        assert_eq!(
            properties["data_binary"],
            json!({"type": "binary", "index": false})
        );
        assert_eq!(properties["time_bucket"], json!({"type": "long"}));
        assert_eq!(properties.as_object().unwrap().len(), 15);
    }

    #[test]
    fn meters_are_mapped_by_their_function() {
        let long = json!({"type": "long"});
        let quiet_long = json!({"type": "long", "index": false});
        let keyword = json!({"type": "keyword"});
        let table = json!({"type": "text", "index": false});
        let ranks = Ranks::new([50]).unwrap();
        for (function, service, columns) in [
            (
                Function::MeterAvg,
                true,
                vec![
                    ("summation", &quiet_long),
                    ("count", &quiet_long),
                    ("value", &long),
                ],
            ),
            (
                Function::AvgLabeled,
                true,
                vec![("summation", &table), ("count", &table), ("value", &table)],
            ),
            (Function::BucketSum, false, vec![("dataset", &table)]),
            (
                Function::BucketAvg,
                false,
                vec![
                    ("summation", &table),
                    ("count", &table),
                    ("dataset", &table),
                ],
            ),
            (
                Function::BucketPercentile { ranks },
                false,
                vec![("value", &table), ("dataset", &table), ("ranks", &table)],
            ),
            (
                Function::BucketAvgPercentile { ranks },
                false,
                vec![
                    ("value", &table),
                    ("summation", &table),
                    ("count", &table),
                    ("dataset", &table),
                    ("ranks", &table),
                ],
            ),
        ] {
            let meter = MeterDefinition {
                name: "meter_m".to_owned(),
                scope: MeterScope::Instance,
                function,
            };
            let model = Model::of_meter(&meter);
            let names = Names::new("sw").unwrap();
            let body = template(&model, &names, &ElasticsearchOptions::default());
            assert_eq!(body["index_patterns"], json!(["sw_meter_m-*"]));
            let mut want = columns;
            want.extend([("entity_id", &keyword), ("time_bucket", &long)]);
            want.extend(service.then_some(("service_id", &keyword)));
            let want: Map<String, Value> = want
                .into_iter()
                .map(|(name, mapping)| (name.to_owned(), mapping.clone()))
                .collect();
            assert_eq!(
                body["mappings"]["properties"],
                Value::Object(want),
                "{function:?}"
            );
        }
    }

    #[test]
    fn options_decide_settings_and_the_users_own_win() {
        let Value::Object(advanced) = json!({"number_of_replicas": 2, "index.codec": "default"})
        else {
            panic!("no object")
        };
        let options = ElasticsearchOptions {
            index_shards: 3,
            index_replicas: 1,
            flush_interval: std::time::Duration::from_secs(90),
            advanced,
            ..ElasticsearchOptions::default()
        };
        let traffic = of("service_traffic", &options);
        assert_eq!(
            traffic["settings"],
            json!({
                "index.number_of_shards": 3,
                "index.number_of_replicas": 2,
                "index.refresh_interval": "90s",
                "index.analysis.analyzer.oap_analyzer.type": "stop",
                "index.codec": "default",
            })
        );
        let segment = of("segment", &options);
        assert_eq!(segment["settings"]["index.refresh_interval"], "10s");
        assert_eq!(segment["settings"]["index.number_of_shards"], 15);
    }
}
