//! Random messages, and what a second reading of the spec says that they come to (`tests/oracle`, in another language and with
//! nothing of the server's code): every column of every row is compared, and there must be no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::peers;
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;

#[derive(Debug, Deserialize)]
struct Call {
    /// `flush`: what came before is known; `restart`: the server is another one, on the same data.
    before: Option<String>,
    method: String,
    is_stream: bool,
    messages: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Row {
    table: String,
    /// Of rows that are known by bucket and entity.
    bucket: Option<i64>,
    key: String,
    columns: BTreeMap<String, Value>,
}

/// Table, bucket and entity; or table and id.
type Key = (String, Option<i64>, String);

#[tokio::test(flavor = "multi_thread")]
async fn random_messages_come_to_what_a_second_reading_says() -> Result<()> {
    for (seed, zone, offset) in [
        (1, "UTC", 0),
        (2, "Asia/Kathmandu", 345),
        (3, "America/New_York", -240),
    ] {
        let told = told_and_stored(seed, zone, offset).await;
        told.with_context(|| format!("seed {seed}, {zone}"))?;
    }
    Ok(())
}

/// `offset` is that of the zone by then, in minutes.
async fn told_and_stored(seed: u32, zone: &str, offset: i32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = peers::python()
        .arg(root.join("tests/oracle/oracle.py"))
        .args([seed.to_string(), NOW_MS.to_string(), offset.to_string()])
        .args([&root.join("config/oal"), folder])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .context("failed to run Python")?;
    ensure!(status.success(), "the second reading failed: {status}");
    let environment = std::fs::read_to_string(folder.join("environment.json"))?;
    let environment: BTreeMap<String, String> = serde_json::from_str(&environment)?;
    let mut server = TestServer::builder("second_reading", Store::Embedded)
        .env("TZ", zone)
        .config_dir(&folder.join("config"))
        .clock(&Arc::new(AtomicI64::new(NOW_MS)));
    for (variable, value) in &environment {
        server = server.env(variable, value);
    }
    let mut server = server.start().await?;
    let mut sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let calls: Vec<Call> = lines(&folder.join("calls.jsonl"))?;
    for call in calls {
        match call.before.as_deref() {
            None => {}
            Some("restart") => {
                server = server.restart(|builder| builder).await?;
                sender = Sender::connect(&server.grpc(), &server.http()).await?;
            }
            Some(_) => server.flush().await?,
        }
        let messages = call.messages.iter().map(|text| STANDARD.decode(text));
        let messages = messages.map(|bytes| Ok(Bytes::from(bytes?)));
        let calling = match call.is_stream {
            true => Calling::ClientStream,
            false => Calling::Unary,
        };
        let messages = messages.collect::<Result<_>>()?;
        let outcome = sender.call(&call.method, calling, messages).await?;
        ensure!(outcome.is_ok(), "{}: {outcome:?}", call.method);
    }
    server.flush().await?;
    let expected: Vec<Row> = lines(&folder.join("expected.jsonl"))?;
    compare(&expected, server.data_dir())?;
    server.stop().await
}

fn lines<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(file)?;
    let objects = text.lines().map(serde_json::from_str);
    Ok(objects.collect::<serde_json::Result<_>>()?)
}

fn compare(expected: &[Row], folder: &Path) -> Result<()> {
    let tables: BTreeSet<&str> = expected.iter().map(|row| row.table.as_str()).collect();
    ensure!(tables.len() > 100, "only {tables:?}");
    let mut stored = stored_rows(folder, &tables)?;
    let mut problems = vec![];
    for row in expected {
        let key = (row.table.clone(), row.bucket, row.key.clone());
        let Some(found) = stored.remove(&key) else {
            problems.push(format!("{key:?} is missing"));
            continue;
        };
        for (column, want) in &row.columns {
            let value = found.get(column);
            if !value.is_some_and(|value| fits(want, value)) {
                problems.push(format!("{key:?} {column}: {value:?}, not {want}"));
            }
        }
    }
    problems.extend(stored.keys().map(|key| format!("{key:?} is one too many")));
    let count = problems.len();
    problems.truncate(20);
    ensure!(count == 0, "{count} differences:\n{}", problems.join("\n"));
    Ok(())
}

fn stored_rows(
    folder: &Path,
    tables: &BTreeSet<&str>,
) -> Result<BTreeMap<Key, BTreeMap<String, Stored>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let file = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        for table in tables {
            if !file.table_exists(None, *table)? {
                continue;
            }
            let mut statement = file.prepare(&format!("SELECT * FROM {table}"))?;
            let names: Vec<String> = statement
                .column_names()
                .into_iter()
                .map(str::to_owned)
                .collect();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let mut columns = BTreeMap::new();
                for (i, name) in names.iter().enumerate() {
                    columns.insert(name.clone(), row.get::<_, Stored>(i)?);
                }
                all.insert(key(table, &columns)?, columns);
            }
        }
    }
    Ok(all)
}

/// Rows have an id, or else a bucket and an entity.
fn key(table: &str, columns: &BTreeMap<String, Stored>) -> Result<Key> {
    let table = table.to_owned();
    let text = |name| match columns.get(name) {
        Some(Stored::Text(text)) => Some(text.clone()),
        _ => None,
    };
    if let Some(id) = text("id") {
        return Ok((table, None, id));
    }
    let Some(Stored::Integer(bucket)) = columns.get("time_bucket") else {
        anyhow::bail!("{table} without a bucket");
    };
    Ok((table, Some(*bucket), text("entity_id").unwrap_or_default()))
}

/// Whether a value is what is wanted: itself, a table of numbers in any order, or one of several.
fn fits(want: &Value, stored: &Stored) -> bool {
    match (want, stored) {
        (Value::Object(form), _) => match (form.get("table"), form.get("any"), stored) {
            (Some(Value::Object(table)), None, Stored::Text(text)) => {
                let items = text.split('|').filter_map(|item| item.split_once(','));
                // Stands for the lowest edge.
                let items = items.map(|(key, n)| (key.replace("infinite-", "-2147483648"), n));
                let found: BTreeMap<String, Option<i64>> =
                    items.map(|(key, n)| (key, n.parse().ok())).collect();
                let table = table.iter().map(|(key, n)| (key.clone(), n.as_i64()));
                found == table.collect()
            }
            (None, Some(Value::Array(any)), _) => any.iter().any(|want| fits(want, stored)),
            _ => false,
        },
        (Value::Null, Stored::Null) => true,
        (Value::String(want), Stored::Text(text)) => want == text,
        (Value::String(want), Stored::Blob(bytes)) => *want == STANDARD.encode(bytes),
        (Value::Number(want), Stored::Integer(n)) => want.as_i64() == Some(*n),
        // Doubles are added in any order.
        (Value::Number(want), Stored::Real(n)) => want
            .as_f64()
            .is_some_and(|want| (want - n).abs() <= 1e-9 * want.abs()),
        _ => false,
    }
}
