//! What every store must do, as one list of cases that runs on each: the embedded store and a real Elasticsearch.
//!
//! Each case has a store of its own with only the models it needs.

mod metadata;
mod metrics;
mod records;
mod relations;
mod rows;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use oap::config::Secret;
use oap::model::attr::Attr;
use oap::model::id;
use oap::model::metrics::{Entrance, Function, MetricDefinition};
use oap::model::row::{Cell, Row, RowKey};
use oap::model::schema::{Model, Schema};
use oap::model::scope::Scope;
use oap::model::time_bucket::Zone;
use oap::storage::elasticsearch::{Elasticsearch, ElasticsearchOptions};
use oap::storage::embedded::Embedded;
use oap::storage::{Backend, StorageError, WriteOutcome};
use oap::util::clock::Clock;

use crate::es_console::EsConsole;
use crate::peers;

/// One test per case and store; after `on`, the models that the case needs.
macro_rules! storage_contract {
    ($($file:ident::$case:ident on $models:expr;)*) => {
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() -> anyhow::Result<()> {
                let store = super::embedded(&$models).await?;
                super::$file::$case(&store).await
            })*
        }

        mod on_elasticsearch {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() -> anyhow::Result<()> {
                let store = super::elasticsearch(stringify!($case), &$models).await?;
                let outcome = super::$file::$case(&store).await;
                store.clean().await?;
                outcome
            })*
        }
    };
}

storage_contract! {
    rows::every_column_type_comes_back on [
        "segment", "instance_cpu", "service_percentile", "all_cpm", "instance_traffic", "service_traffic",
    ];
    rows::odd_texts_come_back on ["endpoint_traffic"];
    rows::a_row_is_there_as_soon_as_it_is_written on ["service_cpm"];
    rows::writing_again_replaces on ["segment", "service_cpm"];
    rows::rows_are_found_on_their_day_or_on_every_day on ["service_traffic", "service_cpm"];
    rows::a_row_that_cannot_be_stored_does_not_harm_the_others on ["service_cpm"];
    rows::a_large_batch_keeps_its_order on ["service_cpm"];
    rows::installing_twice_keeps_the_data on ["service_cpm"];
    rows::how_far_rows_reach_is_known on ["service_cpm", "service_sum", "endpoint_avg"];
    metrics::values_are_combined_within_one_precision on ["service_cpm", "service_sum", "instance_cpu"];
    metrics::what_cannot_be_averaged_is_an_error_or_nothing on ["all_cpm", "service_percentile"];
    metrics::the_top_is_sorted_by_average_then_entity on ["endpoint_avg"];
    metrics::sampled_records_are_sorted_by_latency on ["top_n_database_statement"];
    metadata::services_are_found_by_type_name_and_words on ["service_traffic"];
    metadata::instances_are_found_while_alive on ["instance_traffic"];
    metadata::endpoints_are_found_by_words on ["endpoint_traffic"];
    metadata::aliases_are_read_since_a_minute on ["network_address_alias"];
    metadata::dashboards_are_added_once_and_replaced on ["ui_template"];
    relations::edges_have_their_most_frequent_component on ["service_relation_server_side"];
    relations::edges_beyond_the_limit_are_counted on ["service_relation_server_side"];
    relations::instance_edges_are_found_between_two_services on [
        "service_instance_relation_client_side",
    ];
    relations::endpoint_edges_are_found_by_either_end on ["endpoint_relation_server_side"];
    records::segments_are_filtered_sorted_and_paged on ["segment"];
    records::impossible_pages_are_errors on ["segment"];
    records::a_trace_has_all_its_segments_with_bytes on ["segment"];
    records::alarms_are_filtered_and_paged on ["alarm_record"];
    records::an_empty_store_answers on [
        "segment", "service_cpm", "service_relation_server_side", "service_traffic", "instance_traffic",
        "endpoint_traffic", "network_address_alias",
    ];
}

/// Scenario day of most cases, long ago so that nothing depends on today.
const DAY: u64 = 20_200_915;
/// A minute of that day.
const MINUTE: u64 = 202_009_151_050;
/// The day after.
const NEXT_DAY: u64 = 20_200_916;

/// A store under test.
struct Store<B> {
    backend: B,
    schema: Schema,
    /// A row that this store cannot take.
    unstorable: Row,
    /// Set for Elasticsearch, where reads see a write only after a refresh.
    console: Option<EsConsole>,
    _folder: Option<tempfile::TempDir>,
}

impl<B: Backend> Store<B> {
    fn model(&self, name: &str) -> Result<&Arc<Model>> {
        self.schema
            .model(name)
            .with_context(|| format!("no model {name}"))
    }

    /// A row with these cells; the others are null.
    fn row(&self, model: &str, id: &str, bucket: u64, cells: &[(&str, Cell)]) -> Result<Row> {
        row(self.model(model)?, id, bucket, cells)
    }

    /// Writes rows that must all be stored, and waits until reads see them.
    async fn write(&self, rows: &[Row]) -> Result<()> {
        let outcomes = self.backend.write(rows).await?;
        ensure!(outcomes.len() == rows.len(), "{outcomes:?}");
        for (row, outcome) in rows.iter().zip(outcomes) {
            ensure!(outcome == WriteOutcome::Stored, "{}: {outcome:?}", row.id);
        }
        self.refresh().await
    }

    async fn refresh(&self) -> Result<()> {
        match &self.console {
            Some(console) => console.refresh().await,
            None => Ok(()),
        }
    }

    async fn load(&self, model: &str, id: &str, bucket: Option<u64>) -> Result<Option<Row>> {
        let key = RowKey {
            model: Arc::clone(self.model(model)?),
            id: id.to_owned(),
            time_bucket: bucket,
        };
        let mut rows = self.backend.load(&[key]).await?;
        ensure!(rows.len() == 1, "{rows:?}");
        Ok(rows.remove(0))
    }

    /// Removes what the case left on the shared node.
    async fn clean(self) -> Result<()> {
        match &self.console {
            Some(console) => console.clean().await,
            None => Ok(()),
        }
    }
}

async fn embedded(models: &[&str]) -> Result<Store<Embedded>> {
    let folder = tempfile::tempdir()?;
    let schema = schema_of(models);
    let backend = Embedded::open(folder.path())?;
    backend.install(&schema).await?;
    // A day that no calendar has.
    let unstorable = unstorable("x.1", 7)?;
    Ok(Store {
        backend,
        schema,
        unstorable,
        console: None,
        _folder: Some(folder),
    })
}

async fn elasticsearch(namespace: &str, models: &[&str]) -> Result<Store<Elasticsearch>> {
    let node = tokio::task::block_in_place(peers::Elasticsearch::shared);
    let (user, password) = node.credentials().context("the shared node is open")?;
    let options = ElasticsearchOptions {
        name_space: namespace.to_owned(),
        cluster_nodes: vec![node.address()],
        user: user.to_owned(),
        password: Secret::new(password),
        ..ElasticsearchOptions::default()
    };
    let schema = schema_of(models);
    let backend = Elasticsearch::new(options, Zone::utc(), Clock::System)?;
    backend.install(&schema).await?;
    // A keyword above the limit of 32,766 bytes.
    let unstorable = unstorable(&"x".repeat(32_767), MINUTE)?;
    Ok(Store {
        backend,
        schema,
        unstorable,
        console: Some(EsConsole::new(namespace)?),
        _folder: None,
    })
}

fn unstorable(entity: &str, bucket: u64) -> Result<Row> {
    let schema = schema_of(&["service_cpm"]);
    let model = schema.model("service_cpm").context("no model")?;
    let cells = [
        ("entity_id", text(entity)),
        ("value", Cell::Long(1)),
        ("total", Cell::Long(1)),
    ];
    row(model, &id::metrics_id(bucket, entity), bucket, &cells)
}

fn row(model: &Arc<Model>, id: &str, bucket: u64, cells: &[(&str, Cell)]) -> Result<Row> {
    let mut row = Row {
        model: Arc::clone(model),
        id: id.to_owned(),
        time_bucket: bucket,
        cells: vec![Cell::Null; model.columns.len()],
    };
    for (column, cell) in cells {
        let index = model.column_index(column);
        let slot = index.and_then(|i| row.cells.get_mut(i));
        *slot.with_context(|| format!("{} has no column {column}", model.name))? = cell.clone();
    }
    Ok(row)
}

/// The rows have the same cells; a double may come back as an integer.
fn ensure_same(want: &Row, got: Option<&Row>) -> Result<()> {
    let got = got.with_context(|| format!("{} was not found", want.id))?;
    ensure!(got.id == want.id && got.model.name == want.model.name);
    for (column, cell) in want.model.columns.iter().zip(&want.cells) {
        let other = got.cell(column.name);
        let is_same = match cell {
            Cell::Double(_) => cell.as_double() == other.as_double(),
            _ => cell == other,
        };
        let name = column.name;
        ensure!(
            is_same,
            "{}.{name}: {cell:?}, got {other:?}",
            want.model.name
        );
    }
    Ok(())
}

fn ensure_invalid<T: std::fmt::Debug>(name: &str, answer: Result<T, StorageError>) -> Result<()> {
    ensure!(
        matches!(answer, Err(StorageError::InvalidQuery(_))),
        "{name}: {answer:?}"
    );
    Ok(())
}

/// Metrics of every kind of column.
fn definitions() -> Vec<MetricDefinition> {
    let metric = |name: &str, scope, function| MetricDefinition {
        name: name.to_owned(),
        scope,
        filters: vec![],
        function,
        entrance: Entrance::Long(Attr::Latency),
    };
    vec![
        metric("service_cpm", Scope::Service, Function::Cpm),
        metric("service_sum", Scope::Service, Function::Sum),
        metric("endpoint_avg", Scope::Endpoint, Function::LongAvg),
        metric(
            "instance_cpu",
            Scope::ServiceInstanceJvmCpu,
            Function::DoubleAvg,
        ),
        metric(
            "service_percentile",
            Scope::Service,
            Function::Percentile { precision: 10 },
        ),
        metric("all_cpm", Scope::All, Function::Cpm),
    ]
}

/// A schema of only these models.
fn schema_of(models: &[&str]) -> Schema {
    let metrics: Vec<MetricDefinition> = definitions()
        .into_iter()
        .filter(|m| models.contains(&m.name.as_str()))
        .collect();
    let everything = Schema::build(&metrics, &[], &[], false);
    let disabled: Vec<String> = everything
        .models()
        .iter()
        .map(|m| m.name.clone())
        .filter(|name| !models.contains(&name.as_str()))
        .collect();
    Schema::build(&metrics, &[], &disabled, false)
}

fn text(value: &str) -> Cell {
    Cell::text(value)
}
