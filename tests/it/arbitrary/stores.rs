//! What stores give back: answers of an Elasticsearch, names of files.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use oap::model::row::{Cell, Row, RowKey};
use oap::model::schema::Schema;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::embedded::Embedded;
use oap::storage::*;
use oap::util::clock::Clock;

use super::{Form, Target, text};
use crate::every_metric::compiled;

const RANGE: BucketRange = BucketRange {
    start: 202_009_151_000,
    end: 202_009_151_100,
};

/// Asks everything that reads an answer; how many things came back.
async fn ask_everything(store: &Elasticsearch, schema: &Schema) -> Result<usize> {
    let model = |name: &str| schema.model(name).with_context(|| format!("no {name}"));
    let cpm = model("service_cpm")?;
    let traffic = model("service_traffic")?;
    let rows = vec![
        Row {
            model: Arc::clone(cpm),
            id: "202009151059_a".to_owned(),
            time_bucket: 202_009_151_059,
            cells: vec![Cell::text("a"), Cell::Long(1), Cell::Long(1)],
        };
        2
    ];
    let keys = [
        (cpm, Some(202_009_151_059)),
        (traffic, None),
        (model("service_percentile")?, Some(20_200_915)),
    ];
    let keys = keys.map(|(model, time_bucket)| RowKey {
        model: Arc::clone(model),
        id: "a".to_owned(),
        time_bucket,
    });
    let top = TopNFilter {
        service_id: None,
        range: RANGE,
        limit: 3,
        order: Order::Descending,
    };
    let services = ServiceFilter {
        node_type: 0,
        name: None,
        keyword: None,
    };
    let alarms = AlarmFilter {
        range: RANGE,
        scope: None,
        keyword: None,
        offset: 0,
        limit: 3,
    };
    let template = UiTemplate {
        name: "a".to_owned(),
        ty: "DASHBOARD".to_owned(),
        configuration: "[]".to_owned(),
        is_activated: true,
        is_disabled: false,
    };
    let relations = model("service_relation_server_side")?;
    let counts = [
        store.write(&rows).await.map_or(0, |found| found.len()),
        store.load(&keys).await.map_or(0, |found| found.len()),
        store.aggregate(cpm, "a", RANGE).await.map_or(0, |_| 1),
        store.top_n(cpm, &top).await.map_or(0, |found| found.len()),
        store
            .sampled_records(model("top_n_database_statement")?, &top)
            .await
            .map_or(0, |found| found.len()),
        store
            .services(&services, 3)
            .await
            .map_or(0, |found| found.items.len()),
        store
            .instances("a", 1, 3)
            .await
            .map_or(0, |found| found.items.len()),
        store
            .endpoints("a", "b", 3)
            .await
            .map_or(0, |found| found.len()),
        store
            .address_aliases(1, 3)
            .await
            .map_or(0, |found| found.len()),
        store
            .relations(relations, RANGE, &RelationFilter::All)
            .await
            .map_or(0, |found| found.items.len()),
        store
            .trace(&TraceFilter::first("a", 3))
            .await
            .map_or(0, |found| found.items.len()),
        store
            .alarms(&alarms)
            .await
            .map_or(0, |found| found.items.len()),
        store
            .ui_templates(true)
            .await
            .map_or(0, |found| found.len()),
        store
            .add_ui_template(&template)
            .await
            .map_or(0, usize::from),
        store
            .replace_ui_template(&template)
            .await
            .map_or(0, usize::from),
    ];
    Ok(counts.iter().sum())
}

#[test]
fn elasticsearch_answers() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer: Arc<Mutex<Vec<u8>>> = Arc::default();
    let given = Arc::clone(&answer);
    let respond = move || {
        let body = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move { ([(CONTENT_TYPE, "application/json; charset=UTF-8")], body) }
    };
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(axum::serve(listener, Router::new().fallback(respond)).into_future());
        anyhow::Ok(address)
    })?;
    let options = ElasticsearchOptions {
        cluster_nodes: vec![address.to_string()],
        ..ElasticsearchOptions::default()
    };
    let store = Elasticsearch::new(options, Zone::utc(), Clock::System)?;
    let schema = &compiled()?.schema;
    let seeds = [
        r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":429,"error":{"type":"a","reason":"b","caused_by":{"type":"c","reason":"d"}}}}]}"#,
        r#"{"docs":[{"_id":"a","found":true,"_index":"service_cpm-20200915","_source":{"entity_id":"a","value":1,"total":2,"time_bucket":202009151059}},{"_id":"a","found":false},{"error":{"type":"index_not_found_exception","reason":"no"}}]}"#,
        r#"{"_shards":{"failed":1,"failures":[{"reason":{"type":"a","reason":"b"}}]},"hits":{"total":{"value":7},"hits":[{"_index":"service_traffic-20200915","_id":"x","_source":{"name":"n","node_type":0,"service_id":"YQ==.1","entity_id":"a","time_bucket":202009151059,"properties":"{}","address":"b:1","represent_service_id":"YQ==.1","represent_service_instance_id":"YQ==.1_aQ==","last_update_time_bucket":1,"last_ping":1,"segment_id":"s","trace_id":"t","data_binary":"AA==","service_instance_id":"i","start_time":1,"latency":2,"is_error":0,"statement":"x","endpoint_name":"e","type":"DASHBOARD","configuration":"[]","activated":1,"disabled":0,"scope":1,"id0":"a","alarm_message":"m"}}]},"aggregations":{"entity_id":{"buckets":[{"key":"a","doc_count":1,"value":{"value":1.5},"component_id":{"buckets":[{"key":3}]}}]},"value":{"value":2.5}}}"#,
        r#"{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index","root_cause":[]}}"#,
        r#"{"error":"text","status":500}"#,
    ];
    Target::of(Form::Bytes, "elasticsearch-answers")
        .slow()
        .seeds(seeds)
        .words(&[
            "\"hits\":{\"hits\":[",
            "{\"_source\":{",
            "\"_source\":null,",
            "null",
            "[]",
            "{}",
            "1e999",
            "-1",
            "\"caused_by\":{",
            "\"items\":[",
            "\"aggregations\":{",
            "\"buckets\":[",
            "\"value\":{\"value\":null}",
            "\"found\":true,",
            "{\"_index\":\"segment-20200915\",\"_id\":\"a\",",
        ])
        .check(|input| {
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = input.to_vec();
            let found = runtime.block_on(ask_everything(&store, schema))?;
            // Each of the questions reads the same answer.
            ensure!(found <= 15 * (input.len() / 2 + 3), "{found} things");
            Ok(())
        })
}

/// One name per line.
#[test]
fn embedded_file_names() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let schema = &compiled()?.schema;
    Target::of(Form::Text, "embedded-file-names")
        .slow()
        .seeds(["metrics-2020091.db\nrecords-20200931.db\nmetrics-00000000.db\nmetrics-+2020091.db\nmeta.db-wal\nnotes.txt\nmetrics-20200915\n"])
        .words(&["metrics-", "records-", ".db", "20200915", "99999999", "19700101", "-1", "\nmetrics-20200229.dbx\n", "\nlock\n"])
        .check(|input| {
            let folder = tempfile::tempdir()?;
            let mut others = Vec::new();
            for name in text(input)?.lines().take(50) {
                let is_own = name == "lock" || name.starts_with("meta.db") || is_day_file(name);
                let path = folder.path().join(name);
                // Not every text is the name of a file.
                if !is_own && !name.contains(['/', '\0']) && std::fs::write(&path, name).is_ok() {
                    others.push((path, name));
                }
            }
            let store = Embedded::open(folder.path())?;
            runtime.block_on(async {
                store.install(schema).await?;
                let expiry = Expiry {
                    records: 99_991_231,
                    metrics: 99_991_231,
                };
                let removed = store.remove_expired(schema, expiry).await?;
                ensure!(removed.is_empty(), "{removed:?}");
                anyhow::Ok(())
            })?;
            for (path, name) in others {
                ensure!(std::fs::read_to_string(&path)? == name, "{name} was changed");
            }
            Ok(())
        })
}

/// Whether the store would take it for its own.
fn is_day_file(name: &str) -> bool {
    let own = ["metrics-", "records-"]
        .iter()
        .find_map(|family| name.strip_prefix(family));
    let digits = own.map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    // Its own, and those that SQLite puts beside it.
    digits == Some(8)
}
