//! The best segments of a day among very many, when nothing but times, durations and results narrow them: all of them are counted,
//! but few are looked at.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::file::FileKey;
use super::page::Hits;
use super::records::segment_conditions;
use super::table::SEGMENT;
use crate::storage::{BucketRange, SegmentFilter, TraceOrder};

/// An hour as a difference of second buckets. Where clocks are set back, what began later can have a bucket that is earlier by so
/// much.
const HOUR: i64 = 10_000;

/// Notes the best segments of a file and counts all that pass the filter.
pub(super) fn of_all(
    conn: &Connection,
    filter: &SegmentFilter,
    file: FileKey,
    hits: &mut Hits,
) -> rusqlite::Result<()> {
    let Some((first, last)) = extent(conn, filter)? else {
        return Ok(());
    };
    let Some(behind) = hits.kept().checked_sub(1) else {
        hits.count(count(conn, filter, (first, last))?);
        return Ok(());
    };
    match filter.order {
        TraceOrder::ByStartTime => {
            hits.count(count(conn, filter, (first, last))?);
            let from = bucket(conn, filter, "DESC", behind)?;
            let from = from.map_or(first, |bucket| bucket - HOUR);
            collect(conn, "start_time", filter, (from, last), file, hits)
        }
        TraceOrder::ByDuration => {
            let mut to = last;
            while to >= first {
                let from = to - to % HOUR;
                let (count, longest) = summary(conn, &part(filter, (from, to)))?;
                hits.count(count);
                // After the first hours few have any that is better than what is there.
                if longest.is_some_and(|longest| longest >= hits.threshold()) {
                    collect(conn, "latency", filter, (from, to), file, hits)?;
                }
                to = match latest(conn, from - 1)? {
                    Some(bucket) => bucket,
                    None => break,
                };
            }
            Ok(())
        }
    }
}

/// How many pass, and the longest of their durations.
fn summary(conn: &Connection, filter: &SegmentFilter) -> rusqlite::Result<(i64, Option<i64>)> {
    let conditions = segment_conditions(filter);
    let sql = format!(
        "SELECT count(*), max(latency) FROM {SEGMENT}{}",
        conditions.sql()
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let values = params_from_iter(&conditions.values);
    statement.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The first and the last bucket of what passes.
fn extent(conn: &Connection, filter: &SegmentFilter) -> rusqlite::Result<Option<(i64, i64)>> {
    let first = bucket(conn, filter, "ASC", 0)?;
    Ok(first.zip(bucket(conn, filter, "DESC", 0)?))
}

/// The bucket behind so many others of what passes.
fn bucket(
    conn: &Connection,
    filter: &SegmentFilter,
    direction: &str,
    behind: usize,
) -> rusqlite::Result<Option<i64>> {
    let conditions = segment_conditions(filter);
    let sql = format!(
        "SELECT time_bucket FROM {SEGMENT}{} ORDER BY time_bucket {direction} LIMIT 1 OFFSET ?",
        conditions.sql()
    );
    let behind = Value::Integer(i64::try_from(behind).unwrap_or(i64::MAX));
    let values = params_from_iter(conditions.values.iter().chain([&behind]));
    let mut statement = conn.prepare_cached(&sql)?;
    statement.query_row(values, |row| row.get(0)).optional()
}

/// The last bucket up to one.
fn latest(conn: &Connection, bucket: i64) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT max(time_bucket) FROM {SEGMENT} WHERE time_bucket <= ?1");
    let mut statement = conn.prepare_cached(&sql)?;
    statement.query_row([bucket], |row| row.get(0))
}

/// How many segments pass, from the first to the last bucket.
fn count(
    conn: &Connection,
    filter: &SegmentFilter,
    (first, last): (i64, i64),
) -> rusqlite::Result<i64> {
    let is_by_time_only =
        filter.min_duration == 0 && filter.max_duration == 0 && filter.is_error.is_none();
    if is_by_time_only && is_whole(conn, (first, last))? {
        // Without conditions SQLite counts by pages.
        let sql = format!("SELECT count(*) FROM {SEGMENT}");
        return conn.prepare_cached(&sql)?.query_row([], |row| row.get(0));
    }
    let conditions = segment_conditions(filter);
    let sql = format!("SELECT count(*) FROM {SEGMENT}{}", conditions.sql());
    let mut statement = conn.prepare_cached(&sql)?;
    statement.query_row(params_from_iter(&conditions.values), |row| row.get(0))
}

/// Whether nothing lies outside of these buckets.
fn is_whole(conn: &Connection, (first, last): (i64, i64)) -> rusqlite::Result<bool> {
    let exists = |condition| format!("EXISTS (SELECT 1 FROM {SEGMENT} WHERE {condition})");
    let sql = format!(
        "SELECT NOT {} AND NOT {}",
        exists("time_bucket < ?1"),
        exists("time_bucket > ?2")
    );
    let mut statement = conn.prepare_cached(&sql)?;
    statement.query_row((first, last), |row| row.get(0))
}

/// The filter for some buckets of its range. There is one lower bound, or SQLite would choose which to begin at.
fn part(filter: &SegmentFilter, (from, to): (i64, i64)) -> SegmentFilter {
    let bucket = |bucket: i64| u64::try_from(bucket).unwrap_or(0);
    let asked = filter.range.unwrap_or(BucketRange {
        start: 0,
        end: u64::MAX,
    });
    let range = BucketRange {
        start: bucket(from).max(asked.start),
        end: bucket(to).min(asked.end),
    };
    SegmentFilter {
        range: Some(range),
        ..filter.clone()
    }
}

/// Notes those of some buckets that are not worse than all that are there.
fn collect(
    conn: &Connection,
    sort_by: &str,
    filter: &SegmentFilter,
    buckets: (i64, i64),
    file: FileKey,
    hits: &mut Hits,
) -> rusqlite::Result<()> {
    let mut conditions = segment_conditions(&part(filter, buckets));
    conditions.add(&format!("{sort_by} >= ?"), hits.threshold());
    let sql = format!("SELECT rowid, {sort_by} FROM {SEGMENT}{}", conditions.sql());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&conditions.values))?;
    while let Some(row) = rows.next()? {
        hits.add(
            file,
            row.get(0)?,
            row.get::<_, Option<i64>>(1)?.unwrap_or(0),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::super::records::segments;
    use super::super::testing::{Store, row};
    use super::*;
    use crate::model::row::Cell;

    /// Day, bucket within it, start time, latency and result, in the order they are stored.
    type Stored = (i64, i64, i64, i64, bool);

    /// Segments of two days, some minutes apart. From two to three in the night clocks are set back: what begins later has the same
    /// buckets again. Equal times and durations are frequent.
    fn stored() -> Vec<Stored> {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut all = vec![];
        for n in 0..400i64 {
            let day = n / 200;
            // Twenty-five hours in 200 steps.
            let minutes = (n % 200) * 15 / 2 - random(10).cast_signed();
            let minutes = minutes.max(0);
            let wall = if minutes < 180 { minutes } else { minutes - 60 };
            let bucket = wall / 60 * 10_000 + wall % 60 * 100;
            let start = (day * 1500 + minutes) / 3;
            let latency = random(12).cast_signed();
            all.push((day, bucket, start, latency, random(5) == 0));
        }
        // Some come late.
        for at in (0..400).step_by(7) {
            all.swap(at, (at + 60) % 400);
        }
        all
    }

    #[test]
    fn pages_are_those_of_a_sorted_list() {
        const DAYS: [u64; 2] = [20_200_914_000_000, 20_200_915_000_000];
        let store = Store::new();
        let stored = stored();
        let bucket = |(day, bucket, ..): &Stored| DAYS[*day as usize] + bucket.unsigned_abs();
        let rows = stored.iter().enumerate().map(|(n, one)| {
            let cells = [
                ("segment_id", Cell::text(n.to_string())),
                ("trace_id", Cell::text("t")),
                ("endpoint_name", Cell::text("/e")),
                ("start_time", Cell::Long(one.2)),
                ("latency", Cell::Long(one.3)),
                ("is_error", Cell::Long(one.4.into())),
            ];
            row(&store.model("segment"), &n.to_string(), bucket(one), &cells)
        });
        store.write(&rows.collect::<Vec<_>>());
        let ranges = [
            Some((DAYS[0], DAYS[1] + 235_959)),
            Some((DAYS[0] + 15_000, DAYS[0] + 25_959)),
            Some((DAYS[0] + 230_000, DAYS[1] + 31_500)),
            Some((DAYS[1] + 240_000, DAYS[1] + 250_000)),
            None,
        ];
        for (range, order, offset, limit, durations, is_error) in ranges.iter().flat_map(|range| {
            use TraceOrder::{ByDuration, ByStartTime};
            [
                (range, ByStartTime, 0, 15, (0, 0), None),
                (range, ByStartTime, 30, 5, (3, 9), None),
                (range, ByStartTime, 0, 400, (0, 0), Some(true)),
                (range, ByStartTime, 0, 0, (0, 0), None),
                (range, ByDuration, 0, 15, (0, 0), None),
                (range, ByDuration, 7, 20, (0, 10), Some(false)),
                (range, ByDuration, 0, 400, (2, 0), None),
            ]
        }) {
            let range = range.map(|(start, end)| BucketRange { start, end });
            let filter = SegmentFilter {
                range,
                min_duration: durations.0,
                max_duration: durations.1,
                endpoint_name: None,
                service_id: None,
                instance_id: None,
                endpoint_id: None,
                trace_id: None,
                is_error,
                order,
                offset,
                limit,
            };
            let mut want: Vec<(usize, &Stored)> = stored.iter().enumerate().collect();
            want.retain(|(_, one)| {
                range.is_none_or(|r| (r.start..=r.end).contains(&bucket(one)))
                    && (durations.0 == 0 || one.3 >= durations.0)
                    && (durations.1 == 0 || one.3 <= durations.1)
                    && is_error.is_none_or(|e| e == one.4)
            });
            want.sort_by_key(|(_, one)| {
                let sort_by = match order {
                    TraceOrder::ByStartTime => one.2,
                    TraceOrder::ByDuration => one.3,
                };
                (Reverse(sort_by), one.0)
            });
            let total = want.len() as i64;
            let page = want.iter().skip(offset as usize).take(limit as usize);
            let page: Vec<String> = page.map(|(n, _)| n.to_string()).collect();
            let got = segments(&store.pool, &filter).unwrap();
            let ids: Vec<String> = got.items.into_iter().map(|s| s.segment_id).collect();
            assert_eq!((ids, got.total), (page, total), "{filter:?}");
        }
    }
}
