//! The embedded store of a real process: killed under load, on a disk that takes no more, with a damaged day.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use oap_proto::agent::KeyStringValuePair;
use rusqlite::{Connection, OpenFlags};

use crate::cluster::has_logged;
use crate::graphql::GraphQl;
use crate::oap_process::{OapCommand, OapProcess};
use crate::questions::{buckets_from, service_value, trace_count};
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::waiting::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

/// Sends segments in one stream, which must be acknowledged.
async fn report(sender: &Sender, segments: Vec<Bytes>) -> Result<()> {
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    Ok(())
}

/// The database files of a data folder.
fn databases(data: &Path) -> Result<Vec<PathBuf>> {
    let entries = data.read_dir()?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|e| e.path());
    Ok(paths
        .filter(|p| p.extension().is_some_and(|e| e == "db"))
        .collect())
}

/// As any SQLite tool opens it.
fn opened(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(DEADLINE)?;
    Ok(conn)
}

/// What is stored: ids of segments, and rows of minutes with their calls.
#[derive(Debug, Default)]
struct Stored {
    segments: BTreeSet<String>,
    calls: Vec<(String, i64)>,
}

impl Stored {
    fn read(data: &Path) -> Result<Stored> {
        let mut stored = Stored::default();
        for path in databases(data)? {
            let conn = opened(&path)?;
            let has = |table: &str| {
                let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
                conn.query_row(sql, [table], |row| row.get::<_, i64>(0))
            };
            if has("segment")? > 0 {
                let mut ids = conn.prepare("SELECT id FROM segment")?;
                for id in ids.query_map([], |row| row.get(0))? {
                    stored.segments.insert(id?);
                }
            }
            if has("service_cpm")? > 0 {
                let sql = "SELECT time_bucket || entity_id, total FROM service_cpm ORDER BY 1";
                let mut rows = conn.prepare(sql)?;
                for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
                    stored.calls.push(row?);
                }
            }
        }
        Ok(stored)
    }

    /// Everything of an earlier look is here.
    fn check_has(&self, earlier: &Stored) -> Result<()> {
        let lost: Vec<_> = earlier.segments.difference(&self.segments).collect();
        ensure!(
            lost.is_empty(),
            "{} segments, as {:?}",
            lost.len(),
            lost.first()
        );
        for (bucket, calls) in &earlier.calls {
            let now = self.calls.iter().find(|(b, _)| b == bucket);
            let (_, now) = now.with_context(|| format!("{bucket} is gone"))?;
            ensure!(now >= calls, "{bucket}: {now} of {calls} calls");
        }
        Ok(())
    }
}

/// All calls were of one minute: its hour and its day must have what it has.
fn check_levels(data: &Path) -> Result<()> {
    let metrics = databases(data)?.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("metrics-")
    });
    let conn = opened(&metrics.context("no metrics")?)?;
    for (table, column) in [
        ("service_cpm", "total"),
        ("service_resp_time", "summation"),
        ("service_percentile", "dataset"),
        ("endpoint_sla", "total"),
        ("service_apdex", "total_num"),
    ] {
        let sql = format!("SELECT length(time_bucket), {column} FROM {table} ORDER BY 1");
        let mut rows = conn.prepare(&sql)?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<Result<Vec<(i64, rusqlite::types::Value)>, _>>()?;
        let levels: Vec<i64> = rows.iter().map(|(level, _)| *level).collect();
        ensure!(levels == [8, 10, 12], "{table}: {rows:?}");
        let is_equal = rows.iter().all(|(_, value)| *value == rows[0].1);
        ensure!(is_equal, "{table}: {rows:?}");
    }
    Ok(())
}

/// A number below `end` that is another one in each run.
fn any_below(end: u64) -> u64 {
    RandomState::new().build_hasher().finish() % end
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_survives_a_kill_at_any_moment() -> Result<()> {
    const ROUNDS: usize = 6;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let command = OapCommand::new(folder.path());
    let now = Timestamp::now().as_millisecond();
    let mut earlier = Stored::default();
    for round in 0..ROUNDS {
        let process = command.start().await?;
        let sender = Sender::connect(process.grpc(), process.http()).await?;
        let load = tokio::spawn(async move {
            for batch in 0.. {
                let served = |n| Served::new(format!("{round}-{batch}-{n}"), "shop", now, 20);
                let segments = (0..50).map(|n| served(n).bytes()).collect();
                // Until the process is gone.
                if report(&sender, segments).await.is_err() {
                    break;
                }
            }
        });
        let moment = Duration::from_millis(500 + any_below(4000));
        tokio::time::sleep(moment).await;
        let before = Stored::read(&data)?;
        process.kill()?;
        load.await?;
        for path in databases(&data)? {
            let sql = "PRAGMA integrity_check";
            let verdict: String = opened(&path)?.query_row(sql, [], |row| row.get(0))?;
            ensure!(verdict == "ok", "after {moment:?}, {path:?}: {verdict}");
        }
        let after = Stored::read(&data)?;
        for stored in [&earlier, &before] {
            let lost = || format!("round {round}, killed after {moment:?}");
            after.check_has(stored).with_context(lost)?;
        }
        eprintln!("killed after {moment:?}: {} segments", after.segments.len());
        earlier = after;
    }
    ensure!(
        earlier.segments.len() > 1000,
        "{} segments",
        earlier.segments.len()
    );

    let process = command.start().await?;
    let graphql = GraphQl::new(process.http())?;
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    let count = trace_count(&graphql, "shop", &minute).await?;
    ensure!(count == earlier.segments.len() as u64, "{count} segments");
    has_logged(&process, "hours and days have again").await?;
    process.stop().await?;
    check_levels(&data)?;
    let process = command.start().await?;
    let log = process.log();
    ensure!(!log.contains("was killed"), "it ended by itself: {log}");
    process.stop().await
}

/// A segment of some 50 kB.
fn large(n: usize, at_ms: i64) -> Bytes {
    let mut segment = Served::new(n.to_string(), "shop", at_ms, 20).segment();
    segment.spans[0].tags.push(KeyStringValuePair {
        key: "body".into(),
        value: "x".repeat(50_000),
    });
    bytes(&segment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_degrades_and_recovers() -> Result<()> {
    const SEGMENTS: usize = 400;
    let folder = tempfile::tempdir()?;
    let process = OapCommand::new(folder.path())
        .file_limit_kib(8 * 1024)
        .start()
        .await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    let graphql = GraphQl::new(process.http())?;
    let now = Timestamp::now().as_millisecond();
    let minute = buckets_from(now, "UTC", "MINUTE")?;
    report(&sender, vec![large(0, now)]).await?;
    wait_until("the first is stored", DEADLINE, async || {
        let count = trace_count(&graphql, "shop", &minute).await?;
        ensure!(count == 1, "{count} segments");
        Ok(())
    })
    .await?;
    for batch in (1..SEGMENTS).collect::<Vec<_>>().chunks(20) {
        report(&sender, batch.iter().map(|n| large(*n, now)).collect()).await?;
    }
    wait_until("it says that it waits", DEADLINE, async || {
        let log = process.log();
        let waits = log.lines().find(|l| l.contains("does not take writes"));
        let waits = waits.with_context(|| log.clone())?;
        ensure!(waits.contains(".db"), "{waits}");
        Ok(())
    })
    .await?;
    let count = trace_count(&graphql, "shop", &minute).await?;
    ensure!((1..SEGMENTS as u64).contains(&count), "{count} segments");

    process.lift_file_limit()?;
    wait_until("everything is stored", DEADLINE, async || {
        let count = trace_count(&graphql, "shop", &minute).await?;
        ensure!(count == SEGMENTS as u64, "{count} segments");
        let calls = service_value(&graphql, "service_cpm", "shop", &minute).await?;
        ensure!(calls == SEGMENTS as i64, "{calls} calls");
        Ok(())
    })
    .await?;
    ensure!(
        process.log().contains("writing resumes"),
        "{}",
        process.log()
    );
    process.stop().await
}

/// Answers how many segments there are.
async fn count(process: &OapProcess, at_ms: i64) -> Result<u64> {
    let graphql = GraphQl::new(process.http())?;
    trace_count(&graphql, "shop", &buckets_from(at_ms, "UTC", "MINUTE")?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_day_is_named_and_the_others_go_on() -> Result<()> {
    const DAY_MS: i64 = 86_400_000;
    let folder = tempfile::tempdir()?;
    let command = OapCommand::new(folder.path());
    let now = Timestamp::now().as_millisecond();
    let days = [now - DAY_MS, now];
    let process = command.start().await?;
    let sender = Sender::connect(process.grpc(), process.http()).await?;
    for at_ms in days {
        let served = Served::new(at_ms.to_string(), "shop", at_ms, 20);
        report(&sender, vec![served.bytes()]).await?;
    }
    process.stop().await?;
    let data = folder.path().join("data");
    let yesterday = Timestamp::from_millisecond(days[0])?.strftime("records-%Y%m%d.db");
    let yesterday = yesterday.to_string();
    std::fs::write(data.join(&yesterday), "no database ".repeat(1000))?;

    let process = command.start().await?;
    let log = process.log();
    let error = log.lines().find(|line| line.contains("ERROR"));
    let error = error.with_context(|| log.clone())?;
    for text in [&yesterday, ".damaged-1", ".recover"] {
        ensure!(error.contains(text), "{text}: {error}");
    }
    ensure!(count(&process, days[1]).await? == 1);
    ensure!(count(&process, days[0]).await? == 0);
    process.stop().await
}
