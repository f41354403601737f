//! Values of every function, written to a store on disk and read back.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use oap::model::id::metrics_id;
use oap::model::metrics::{Function, Input, Value};
use oap::model::row::{Cell, Row, RowKey};
use oap::model::scope::Scope;
use oap::storage::Backend;
use oap::storage::embedded::Embedded;
use oap::stream::plan::Item;
use proptest::prelude::*;

use crate::elasticsearch_store::all_stored;
use crate::every_metric::compiled;

const ENTITY: &str = "c2hvcA==.1_L29yZGVy";

/// The same measures for every function, each in the form that it takes.
fn aggregated(function: Function, measures: &[i64]) -> Value {
    let mut value = function.empty();
    for n in measures {
        let apdex = Input::Apdex {
            latency: *n,
            is_ok: n % 3 != 0,
            threshold: 500,
        };
        for input in [
            Input::Long(*n),
            Input::Double(*n as f64 / 4.0),
            Input::Match(n % 2 == 0),
            apdex,
            Input::One,
        ] {
            function.accept(&mut value, input);
        }
    }
    value
}

fn row(item: &Item, value: &Value, bucket: u64) -> Row {
    let mut cells = vec![Cell::text(ENTITY); item.model.entity_columns.len()];
    cells.extend(item.function.to_cells(value, bucket));
    Row {
        model: Arc::clone(&item.model),
        id: metrics_id(bucket, ENTITY),
        time_bucket: bucket,
        cells,
    }
}

async fn come_back(store: &Embedded, measures: &[i64], bucket: u64) -> Result<()> {
    let items = compiled()?.plan.items(Scope::Endpoint);
    let values: Vec<Value> = items
        .iter()
        .map(|item| aggregated(item.function, measures))
        .collect();
    let rows: Vec<Row> = items
        .iter()
        .zip(&values)
        .map(|(item, value)| row(item, value, bucket))
        .collect();
    let outcomes = store.write(&rows).await?;
    all_stored(&outcomes)?;
    let keys = rows.into_iter().map(|row| RowKey {
        model: row.model,
        id: row.id,
        time_bucket: Some(bucket),
    });
    let found = store.load(&keys.collect::<Vec<_>>()).await?;
    ensure!(
        found.len() == items.len() && items.len() > 18,
        "{} metrics",
        items.len()
    );
    for ((item, wanted), found) in items.iter().zip(&values).zip(found) {
        let name = &item.model.name;
        let found = found.with_context(|| format!("no {name}"))?;
        let cells = &found.cells[item.model.entity_columns.len()..];
        let read = item.function.from_cells(cells);
        ensure!(
            read.as_ref() == Some(wanted),
            "{name}: {read:?}, not {wanted:?}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_function_comes_back_from_disk(
        lots in prop::collection::vec(
            prop::collection::vec(prop_oneof![0..3000_i64, any::<i32>().prop_map(i64::from)], 1..20),
            1..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let written = runtime.block_on(async {
            let folder = tempfile::tempdir()?;
            let store = Embedded::open(folder.path())?;
            store.install(&compiled()?.schema).await?;
            // Each replaces the one before.
            for measures in lots {
                for bucket in [202_009_151_059, 2_020_091_510, 20_200_915] {
                    come_back(&store, &measures, bucket).await?;
                }
            }
            anyhow::Ok(())
        });
        if let Err(difference) = written {
            prop_assert!(false, "{difference:#}");
        }
    }
}
