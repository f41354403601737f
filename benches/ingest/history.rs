//! A store with a past: a minute of a shop, brought to rows as the server does it, repeated for the minutes, hours and days
//! that queries look back on, and its segments under other ids and times.

use std::sync::Arc;

use anyhow::{Context, ensure};
use oap::journal::Message;
use oap::model::row::{Cell, Row};
use oap::model::schema::Model;
use oap::model::time_bucket::{Downsampling, Zone};
use oap::storage::embedded::Embedded;
use oap::storage::{Backend, WriteOutcome};
use prost::Message as _;

use crate::pipeline::{BATCH, Pipeline, schema_and_plan};
use crate::process::runtime;
use crate::shop::Shop;
use crate::stages::FLUSH;

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// What queries look back on.
const MINUTES: i64 = 120;
const HOURS: i64 = 7 * 24;
const DAYS: i64 = 7;
/// Segments are kept for three days.
const SEGMENTS_MS: i64 = 2 * DAY_MS;
const BATCH_ROWS: usize = 5000;

/// Trace and segment id of the n-th segment.
pub(crate) fn segment_name(n: usize) -> String {
    format!("bench-{n}")
}

/// Fills a store up to `now_ms`; gives the number of rows.
pub(crate) async fn fill<S: Backend>(
    store: &S,
    base: &Embedded,
    segments: usize,
    now_ms: i64,
) -> anyhow::Result<usize> {
    let (schema, _) = schema_and_plan()?;
    store.install(&schema).await?;
    let buckets = buckets(now_ms)?;
    let mut writer = Writer {
        store,
        rows: vec![],
        count: 0,
    };
    for model in schema.models() {
        let rows = minute_rows(base, model).await?;
        if model.name == "segment" {
            ensure!(!rows.is_empty(), "no segments");
            for n in 0..segments {
                let from_end = SEGMENTS_MS * (segments - n) as i64 / segments as i64;
                let row = segment(&rows[n % rows.len()], n, now_ms - from_end)?;
                writer.write(row).await?;
            }
            continue;
        }
        for row in &rows {
            if !model.is_downsampled {
                writer.write(row.clone()).await?;
                continue;
            }
            for bucket in &buckets {
                writer.write(moved(row, *bucket)).await?;
            }
        }
    }
    writer.flush().await?;
    store.refresh().await?;
    Ok(writer.count)
}

/// Rows of a minute in which each endpoint of a shop was asked once.
pub(crate) fn base(dir: &std::path::Path, shop: Shop, now_ms: i64) -> anyhow::Result<()> {
    let start_ms = now_ms - now_ms % MINUTE_MS - 2 * MINUTE_MS;
    runtime()?.block_on(async {
        let mut pipeline = Pipeline::start(Embedded::open(dir)?, start_ms).await?;
        let messages = (0..shop.services * shop.endpoints)
            .map(|n| Message::Segment(shop.segment(n, start_ms).encode_to_vec().into()));
        let messages: Vec<Message> = messages.collect();
        for lot in messages.chunks(16 * BATCH) {
            pipeline.accept(lot).await?;
        }
        pipeline.pass(FLUSH).await;
        pipeline.finish().await
    })
}

/// Rows of a model, of a downsampled one those of minutes.
async fn minute_rows(base: &Embedded, model: &Arc<Model>) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![];
    for day in base.days(model).await? {
        let mut after = None;
        loop {
            let page = base.page(model, day, after.as_deref()).await?;
            let is_wanted = |row: &Row| {
                !model.is_downsampled
                    || Downsampling::of(row.time_bucket) == Some(Downsampling::Minute)
            };
            rows.extend(page.rows.into_iter().filter(is_wanted));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(rows)
}

fn buckets(now_ms: i64) -> anyhow::Result<Vec<u64>> {
    let zone = Zone::utc();
    let minutes = (0..MINUTES).map(|i| zone.minute(now_ms - i * MINUTE_MS));
    let hours = (0..HOURS).map(|i| zone.minute(now_ms - i * HOUR_MS).map(|m| m / 100));
    let days = (0..DAYS).map(|i| zone.day(now_ms - i * DAY_MS));
    let all = minutes.chain(hours).chain(days);
    all.map(|bucket| bucket.context("time is out of range"))
        .collect()
}

/// The row in another bucket, with which its id begins.
fn moved(row: &Row, bucket: u64) -> Row {
    let rest = row.id.split_once('_').map(|(_, rest)| rest);
    Row {
        id: rest.map_or_else(|| bucket.to_string(), |rest| format!("{bucket}_{rest}")),
        time_bucket: bucket,
        ..row.clone()
    }
}

fn segment(row: &Row, n: usize, at_ms: i64) -> anyhow::Result<Row> {
    let name = segment_name(n);
    let mut row = Row {
        id: name.clone(),
        time_bucket: Zone::utc().second(at_ms).context("no time")?,
        ..row.clone()
    };
    let cells = [
        ("segment_id", Cell::text(name.as_str())),
        ("trace_id", Cell::text(name.as_str())),
        ("start_time", Cell::Long(at_ms)),
    ];
    for (column, cell) in cells {
        let index = row.model.column_index(column).context(column)?;
        row.cells[index] = cell;
    }
    Ok(row)
}

struct Writer<'a, S> {
    store: &'a S,
    rows: Vec<Row>,
    count: usize,
}

impl<S: Backend> Writer<'_, S> {
    async fn write(&mut self, row: Row) -> anyhow::Result<()> {
        self.rows.push(row);
        match self.rows.len() {
            BATCH_ROWS => self.flush().await,
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let outcomes = self.store.write(&self.rows).await?;
        let other = outcomes.iter().find(|o| **o != WriteOutcome::Stored);
        ensure!(other.is_none(), "{other:?}");
        self.count += self.rows.len();
        self.rows.clear();
        Ok(())
    }
}
