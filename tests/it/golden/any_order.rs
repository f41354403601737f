//! Whatever the order and the batches, the same segments become the same rows.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use jiff::ToSpan;
use jiff::civil::date;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::replay::{self, Step};
use super::times::Times;
use super::transform::Transform;
use super::{order, server};
use crate::server::Store;

const PERMUTATIONS: u64 = 24;
/// One of so many segments takes part.
const THINNING: usize = 5;

/// Each permutation has a day of its own on the same server, so their rows lie side by side.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_and_any_batches_store_the_same() -> Result<()> {
    let server = server("golden_any_order", Store::Embedded, "UTC")
        .start()
        .await?;
    let mut expected = BTreeSet::new();
    for seed in 0..=PERMUTATIONS {
        let day = date(2021, 1, 1) + i64::try_from(seed)?.days();
        let transform = Transform::new(false, Some(Times::same_wall_clock(day, "UTC")?))?;
        let steps = some_segments()?.into_iter();
        let steps = steps
            .map(|step| transform.step(step))
            .collect::<Result<_>>()?;
        let actions = match seed {
            0 => replay::as_recorded(steps),
            seed => order::shuffled(steps, seed),
        };
        replay::play(&server, actions).await?;
        let file = format!("metrics-{}.db", day.strftime("%Y%m%d"));
        let rows = rows(
            &server.data_dir().join(file),
            &day.strftime("%Y%m%d").to_string(),
        )?;
        if seed == 0 {
            ensure!(rows.len() > 2000, "{} rows", rows.len());
            expected = rows;
            continue;
        }
        let missing = expected.difference(&rows).next();
        let extra = rows.difference(&expected).next();
        ensure!(
            rows == expected,
            "seed {seed}: missing {missing:?}, extra {extra:?}"
        );
    }
    server.stop().await
}

/// First the segments that teach addresses, then some of the others.
fn some_segments() -> Result<Vec<Step>> {
    let steps = replay::steps()?;
    let end = steps.iter().position(|step| matches!(step, Step::Wait));
    let (teaching, rest) = steps.split_at(end.unwrap_or_default());
    let is_segment = |step: &&Step| match step {
        Step::Wait => false,
        Step::Send { rpc, .. } => rpc == "TraceSegmentReportService/collect",
    };
    let some = rest.iter().filter(is_segment).step_by(THINNING);
    let teaching = teaching.iter().chain([&Step::Wait]);
    Ok(teaching.chain(some).cloned().collect())
}

/// Every row of metrics and relations of a day, as text without the day.
fn rows(file: &Path, day: &str) -> Result<BTreeSet<String>> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut tables = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?;
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut texts = BTreeSet::new();
    // Services, instances, endpoints and addresses are those of the first day.
    let tables = tables
        .iter()
        .filter(|name| !name.contains("_traffic") && !name.contains("_alias"));
    for table in tables {
        let mut query = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = query.column_count();
        let mut found = query.query([])?;
        while let Some(row) = found.next()? {
            let mut text = table.clone();
            for column in 0..columns {
                text.push_str(" | ");
                text.push_str(&cell(row.get_ref(column)?, day));
            }
            texts.insert(text);
        }
    }
    Ok(texts)
}

/// A value; a bucket without its day, the pairs of a table in one order.
fn cell(value: ValueRef<'_>, day: &str) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(n) => n.to_string().replacen(day, "day ", 1),
        ValueRef::Real(n) => n.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            let text = String::from_utf8_lossy(text);
            let mut pairs: Vec<&str> = text.split('|').collect();
            pairs.sort_unstable();
            pairs.join("|")
        }
    }
}
