//! Writing and reading rows by id.

use anyhow::{Result, ensure};
use bytes::Bytes;
use oap::model::id;
use oap::model::row::{Cell, Row, RowKey};
use oap::storage::{Backend, TraceFilter, WriteOutcome};
use std::sync::Arc;

use super::{DAY, MINUTE, NEXT_DAY, Store, ensure_same, text};
use crate::elasticsearch_store::all_stored;

/// Names that a careless store would trip over.
const ODD_NAMES: [&str; 5] = [
    "quote ' \" \\ and ; -- comment",
    "größe/日本語/🦀",
    "line\nbreak\tand tab",
    "% and _ and * and ?",
    "",
];

fn segment<B: Backend>(store: &Store<B>, id: &str) -> Result<Row> {
    let second = 20_200_915_105_930;
    store.row(
        "segment",
        id,
        second,
        &[
            ("segment_id", text(id)),
            ("trace_id", text("trace 1")),
            ("statement", text("/order")),
            ("service_id", text("b3JkZXI=.1")),
            ("endpoint_name", text("/order/größe")),
            ("start_time", Cell::Long(1_600_167_570_005)),
            ("end_time", Cell::Long(i64::MAX)),
            ("latency", Cell::Long(i32::MIN.into())),
            ("is_error", Cell::Long(1)),
            (
                "data_binary",
                Cell::Bytes(Bytes::from_static(b"\x00\xff\x0a\x7f'")),
            ),
            ("version", Cell::Long(3)),
        ],
    )
}

fn cpm<B: Backend>(store: &Store<B>, entity: &str, bucket: u64, value: i64) -> Result<Row> {
    store.row(
        "service_cpm",
        &id::metrics_id(bucket, entity),
        bucket,
        &[
            ("entity_id", text(entity)),
            ("value", Cell::Long(value)),
            ("total", Cell::Long(value)),
        ],
    )
}

pub async fn every_column_type_comes_back<B: Backend>(store: &Store<B>) -> Result<()> {
    let entity = "b3JkZXI=.1";
    let cpu = |bucket, value: f64| {
        store.row(
            "instance_cpu",
            &id::metrics_id(bucket, entity),
            bucket,
            &[
                ("entity_id", text(entity)),
                ("service_id", text(entity)),
                ("summation", Cell::Double(value * 3.0)),
                ("count", Cell::Long(3)),
                ("value", Cell::Double(value)),
            ],
        )
    };
    let rows = [
        segment(store, "one")?,
        cpu(MINUTE, 0.1)?,
        cpu(MINUTE / 100, 12_773.0)?,
        cpu(DAY, -1.5e-9)?,
        store.row(
            "service_percentile",
            &id::metrics_id(MINUTE, entity),
            MINUTE,
            &[
                ("entity_id", text(entity)),
                ("value", text("0,10|1,90|2,430|3,430|4,430")),
                ("precision", Cell::Long(10)),
                ("dataset", text("0,1|1,2|9,1|43,1")),
            ],
        )?,
        store.row(
            "all_cpm",
            &id::metrics_id(MINUTE, ""),
            MINUTE,
            &[("value", Cell::Long(7)), ("total", Cell::Long(7))],
        )?,
        store.row(
            "instance_traffic",
            "b3JkZXI=.1_YQ==",
            MINUTE,
            &[
                ("service_id", text(entity)),
                ("name", text("a")),
                ("last_ping", Cell::Long(MINUTE as i64)),
                (
                    "properties",
                    text(r#"{"language":"java","ipv4s":"[\"10.0.0.1\"]"}"#),
                ),
            ],
        )?,
        store.row(
            "service_traffic",
            entity,
            MINUTE,
            &[("name", text("order")), ("node_type", Cell::Long(0))],
        )?,
    ];
    store.write(&rows).await?;
    for row in &rows {
        let loaded = store
            .load(&row.model.name, &row.id, Some(row.time_bucket))
            .await?;
        ensure_same(row, loaded.as_ref())?;
        let has_bucket = row.model.stores_time_bucket;
        let bucket = loaded.map(|r| r.time_bucket);
        ensure!(
            !has_bucket || bucket == Some(row.time_bucket),
            "{}: {bucket:?}",
            row.id
        );
    }
    Ok(())
}

pub async fn odd_texts_come_back<B: Backend>(store: &Store<B>) -> Result<()> {
    let service = id::service_id("order", true);
    let mut rows = vec![];
    for name in ODD_NAMES {
        rows.push(store.row(
            "endpoint_traffic",
            &id::endpoint_id(&service, name),
            MINUTE,
            &[("service_id", text(&service)), ("name", text(name))],
        )?);
    }
    store.write(&rows).await?;
    for row in &rows {
        let loaded = store
            .load("endpoint_traffic", &row.id, Some(MINUTE))
            .await?;
        ensure_same(row, loaded.as_ref())?;
    }
    let mut names: Vec<String> = store
        .backend
        .endpoints(&service, "", 100)
        .await?
        .into_iter()
        .map(|e| e.name)
        .collect();
    names.sort();
    let mut expected = ODD_NAMES.map(str::to_owned);
    expected.sort();
    ensure!(names == expected, "{names:?}");
    Ok(())
}

pub async fn a_row_is_there_as_soon_as_it_is_written<B: Backend>(store: &Store<B>) -> Result<()> {
    let row = cpm(store, "a.1", MINUTE, 1)?;
    store.backend.write(std::slice::from_ref(&row)).await?;
    let loaded = store.load("service_cpm", &row.id, Some(MINUTE)).await?;
    ensure_same(&row, loaded.as_ref())
}

pub async fn writing_again_replaces<B: Backend>(store: &Store<B>) -> Result<()> {
    let first = segment(store, "one")?;
    store
        .write(&[first.clone(), cpm(store, "a.1", MINUTE, 1)?])
        .await?;
    let mut changed = segment(store, "one")?;
    if let Some(i) = changed.model.column_index("statement") {
        changed.cells[i] = Cell::Null;
    }
    let value = cpm(store, "a.1", MINUTE, 5)?;
    // Twice in one batch: the later one counts.
    let rows = [
        cpm(store, "a.1", MINUTE, 3)?,
        value.clone(),
        changed.clone(),
    ];
    store.write(&rows).await?;
    store.write(&rows).await?;
    let loaded = store.load("service_cpm", &value.id, Some(MINUTE)).await?;
    ensure_same(&value, loaded.as_ref())?;
    let bucket = Some(changed.time_bucket);
    ensure_same(
        &changed,
        store.load("segment", "one", bucket).await?.as_ref(),
    )?;
    let trace = store
        .backend
        .trace(&TraceFilter::first("trace 1", 10))
        .await?;
    ensure!(trace.items.len() == 1, "{trace:?}");
    Ok(())
}

pub async fn rows_are_found_on_their_day_or_on_every_day<B: Backend>(
    store: &Store<B>,
) -> Result<()> {
    let traffic = |name: &str, day: u64| {
        store.row(
            "service_traffic",
            &id::service_id(name, true),
            day * 10_000,
            &[("name", text(name)), ("node_type", Cell::Long(0))],
        )
    };
    let rows = [
        traffic("first", DAY)?,
        traffic("second", NEXT_DAY)?,
        cpm(store, "a.1", MINUTE, 1)?,
    ];
    store.write(&rows).await?;
    let key = |model: &str, id: &str, time_bucket| -> Result<RowKey> {
        Ok(RowKey {
            model: Arc::clone(store.model(model)?),
            id: id.to_owned(),
            time_bucket,
        })
    };
    let keys = [
        key("service_traffic", &rows[1].id, None)?,
        key("service_traffic", "absent", None)?,
        key("service_cpm", &rows[2].id, Some(MINUTE))?,
        key("service_traffic", &rows[0].id, None)?,
        key("service_traffic", &rows[0].id, Some(NEXT_DAY))?,
        key("service_cpm", &rows[2].id, Some(20_210_101))?,
    ];
    let found: Vec<Option<String>> = store
        .backend
        .load(&keys)
        .await?
        .into_iter()
        .map(|row| row.map(|r| r.id))
        .collect();
    let expected = [Some(1), None, Some(2), Some(0), None, None];
    let expected = expected.map(|i: Option<usize>| i.map(|i| rows[i].id.clone()));
    ensure!(found == expected, "{found:?}");
    ensure!(store.backend.load(&[]).await?.is_empty());
    Ok(())
}

pub async fn a_row_that_cannot_be_stored_does_not_harm_the_others<B: Backend>(
    store: &Store<B>,
) -> Result<()> {
    let rows = [
        cpm(store, "a.1", MINUTE, 1)?,
        store.unstorable.clone(),
        cpm(store, "b.1", MINUTE, 2)?,
    ];
    let outcomes = store.backend.write(&rows).await?;
    let [
        WriteOutcome::Stored,
        WriteOutcome::Rejected(reason),
        WriteOutcome::Stored,
    ] = outcomes.as_slice()
    else {
        anyhow::bail!("{outcomes:?}");
    };
    ensure!(!reason.is_empty());
    for row in [&rows[0], &rows[2]] {
        let loaded = store.load("service_cpm", &row.id, Some(MINUTE)).await?;
        ensure_same(row, loaded.as_ref())?;
    }
    Ok(())
}

pub async fn a_large_batch_keeps_its_order<B: Backend>(store: &Store<B>) -> Result<()> {
    let filler: String = "x".repeat(1000);
    let mut rows = vec![];
    for i in 0..6000 {
        rows.push(cpm(store, &format!("{i}-{filler:.300}.1"), MINUTE, i)?);
    }
    rows.insert(3000, store.unstorable.clone());
    let outcomes = store.backend.write(&rows).await?;
    ensure!(outcomes.len() == rows.len(), "{} outcomes", outcomes.len());
    for (i, outcome) in outcomes.iter().enumerate() {
        let is_right = match outcome {
            WriteOutcome::Stored => i != 3000,
            WriteOutcome::Rejected(_) => i == 3000,
            WriteOutcome::Retry(_) => false,
        };
        ensure!(is_right, "{i}: {outcome:?}");
    }
    ensure!(store.backend.write(&[]).await?.is_empty());
    Ok(())
}

pub async fn installing_twice_keeps_the_data<B: Backend>(store: &Store<B>) -> Result<()> {
    store.write(&[cpm(store, "a.1", MINUTE, 1)?]).await?;
    store.backend.install(&store.schema).await?;
    let id = id::metrics_id(MINUTE, "a.1");
    ensure!(
        store
            .load("service_cpm", &id, Some(MINUTE))
            .await?
            .is_some()
    );
    store.backend.ping().await?;
    Ok(())
}

pub async fn how_far_rows_reach_is_known<B: Backend>(store: &Store<B>) -> Result<()> {
    let models = ["service_cpm", "endpoint_avg", "service_sum"];
    let models: Result<Vec<_>> = models
        .map(|name| store.model(name).cloned())
        .into_iter()
        .collect();
    let models = models?;
    let nothing = store.backend.reach(&models, MINUTE).await?;
    ensure!(nothing.newest_minute() == 0, "{nothing:?}");
    for bucket in [MINUTE, DAY, NEXT_DAY - 2] {
        ensure!(
            !nothing.includes("service_cpm", bucket),
            "{bucket}: {nothing:?}"
        );
    }
    // Written a moment ago, not refreshed: an old day, a minute of the future, an hour, and another model's.
    let mut rows = vec![];
    for (model, bucket) in [
        ("service_cpm", MINUTE - 20_000),
        ("service_cpm", MINUTE - 1),
        ("service_cpm", MINUTE + 5),
        ("service_cpm", MINUTE / 100),
        ("endpoint_avg", MINUTE - 5),
        ("endpoint_avg", DAY),
    ] {
        let (id, entity) = (format!("{bucket}_a"), ("entity_id", Cell::text("a")));
        rows.push(store.row(model, &id, bucket, &[entity, ("value", Cell::Long(1))])?);
    }
    let outcomes = store.backend.write(&rows).await?;
    all_stored(&outcomes)?;
    let reach = store.backend.reach(&models, MINUTE - 10).await?;
    ensure!(reach.newest_minute() == MINUTE + 5, "{reach:?}");
    for (model, bucket, want) in [
        ("service_cpm", MINUTE + 5, true),
        ("service_cpm", MINUTE, true),
        ("service_cpm", MINUTE + 6, false),
        ("service_cpm", MINUTE / 100, true),
        ("service_cpm", MINUTE / 100 + 1, false),
        ("service_cpm", DAY, false),
        ("service_cpm", DAY - 1, false),
        // A day that is there, but was not looked at.
        ("service_cpm", DAY - 2, true),
        ("service_cpm", MINUTE - 20_000, true),
        ("endpoint_avg", MINUTE - 5, true),
        ("endpoint_avg", MINUTE - 4, false),
        ("endpoint_avg", DAY, true),
        ("endpoint_avg", MINUTE / 100, false),
        ("endpoint_avg", MINUTE - 20_000, false),
        ("service_sum", MINUTE, false),
    ] {
        let is = reach.includes(model, bucket);
        ensure!(is == want, "{model} {bucket}: {is}, {reach:?}");
    }
    Ok(())
}
