//! Segments, traces, alarms and sampled statements.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::file::{Family, FileKey};
use super::metadata::{number, optional_text, text};
use super::metrics::positive;
use super::newest::of_all;
use super::page::Hits;
use super::pool::ReadPool;
use super::table::{self, SEGMENT, quoted, sql_bucket};
use super::text::{TextFilter, passes};
use crate::model::schema::{Model, ValueKind};
use crate::storage::{
    AlarmFilter, AlarmRow, Order, Page, SampledRecord, SegmentBrief, SegmentData, SegmentFilter,
    StorageError, TopNFilter, TraceFilter, TraceOrder,
};

const ALARM: &str = "alarm_record";

/// Conditions of a query, ANDed.
#[derive(Debug, Default)]
pub(super) struct Where {
    sql: Vec<String>,
    pub(super) values: Vec<Value>,
    is_by_region: bool,
}

impl Where {
    pub(super) fn add(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push(condition.to_owned());
        self.values.push(value.into());
    }

    /// The values to ask with, one set after the other.
    fn per_region(&self, conn: &Connection) -> rusqlite::Result<Vec<Vec<Value>>> {
        if !self.is_by_region {
            return Ok(vec![self.values.clone()]);
        }
        let rest = self.values.get(1..).unwrap_or_default();
        let regions = table::regions(conn, SEGMENT)?;
        Ok(regions
            .map(|r| [&[Value::Integer(r)], rest].concat())
            .collect())
    }

    pub(super) fn sql(&self) -> String {
        match self.sql.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.sql.join(" AND ")),
        }
    }
}

/// A page of the trace list.
pub(super) fn segments(
    pool: &ReadPool,
    filter: &SegmentFilter,
) -> Result<Page<SegmentBrief>, StorageError> {
    let mut hits = Hits::new(filter.offset, filter.limit)?;
    let mut phrase = TextFilter::phrase(filter.endpoint_name.as_deref());
    let conditions = segment_conditions(filter);
    let sort_by = match filter.order {
        TraceOrder::ByStartTime => "start_time",
        TraceOrder::ByDuration => "latency",
    };
    // The name only when it is asked for: without it the index alone answers.
    let name = if phrase.is_some() {
        "endpoint_name"
    } else {
        "NULL"
    };
    let scan = format!(
        "SELECT rowid, {sort_by}, {name} FROM {SEGMENT}{}",
        conditions.sql()
    );
    let columns = [
        "start_time",
        "latency",
        "is_error",
        "endpoint_name",
        "trace_id",
    ];
    // Newest first: what is older then has to be better than what is there.
    for file in pool
        .files
        .days(Family::Records, filter.range)
        .into_iter()
        .rev()
    {
        pool.query(file, |conn| {
            if !table::has(conn, SEGMENT, &columns)? {
                return Ok(());
            }
            if !conditions.is_by_region && phrase.is_none() {
                return of_all(conn, filter, file, &mut hits);
            }
            for values in conditions.per_region(conn)? {
                collect(conn, &scan, &values, &mut phrase, file, &mut hits)?;
            }
            Ok(())
        })?;
    }
    hits.page(pool, |conn, rowid| {
        let sql = "SELECT segment_id, trace_id, endpoint_name, start_time, latency, is_error FROM segment WHERE rowid = ?1";
        let mut statement = conn.prepare_cached(sql)?;
        let brief = statement.query_row([rowid], |row| {
            Ok(SegmentBrief {
                segment_id: text(row, 0)?,
                trace_id: text(row, 1)?,
                endpoint_name: text(row, 2)?,
                start_time: number(row, 3)?,
                latency: number(row, 4)?,
                is_error: number(row, 5)? == 1,
            })
        });
        brief.optional()
    })
}

/// The narrowest condition may use its index; `+` keeps the planner from guessing another one. `is_by_region` asks for a query
/// per region, its first parameter. Instances and endpoints are found through their service, which begins their ids.
pub(super) fn segment_conditions(filter: &SegmentFilter) -> Where {
    let mut conditions = Where::default();
    let members = [
        ("service_instance_id", &filter.instance_id),
        ("endpoint_id", &filter.endpoint_id),
    ];
    let parent = |id: &Option<String>| Some(id.as_deref()?.split_once('_')?.0.to_owned());
    let service_id = filter.service_id.clone();
    let service_id = service_id.or_else(|| members.iter().find_map(|(_, id)| parent(id)));
    for (column, value) in [("trace_id", &filter.trace_id), ("service_id", &service_id)] {
        let Some(value) = value else { continue };
        if conditions.is_by_region {
            conditions.add(&format!("+{column} = ?"), value.clone());
        } else {
            conditions.is_by_region = true;
            conditions.add(&format!("{} = ?", table::REGION), 0);
            conditions.add(&format!("{column} = ?"), value.clone());
        }
    }
    for (column, value) in members {
        if let Some(value) = value {
            conditions.add(&format!("{column} = ?"), value.clone());
        }
    }
    if let Some(range) = filter.range {
        conditions.add("time_bucket >= ?", sql_bucket(range.start));
        conditions.add("time_bucket <= ?", sql_bucket(range.end));
    }
    if filter.min_duration != 0 {
        conditions.add("latency >= ?", filter.min_duration);
    }
    if filter.max_duration != 0 {
        conditions.add("latency <= ?", filter.max_duration);
    }
    if let Some(is_error) = filter.is_error {
        conditions.add("is_error = ?", i64::from(is_error));
    }
    conditions
}

/// Notes the rows of a query for row id, sort number and text.
fn collect(
    conn: &Connection,
    sql: &str,
    values: &[Value],
    phrase: &mut Option<TextFilter>,
    file: FileKey,
    hits: &mut Hits,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if passes(phrase, row.get_ref(2)?.as_str_or_null()?) {
            hits.count(1);
            hits.add(file, row.get(0)?, number(row, 1)?);
        }
    }
    Ok(())
}

/// A page of the segments of a trace.
pub(super) fn trace(
    pool: &ReadPool,
    filter: &TraceFilter,
) -> Result<Page<SegmentData>, StorageError> {
    let columns = [
        "segment_id",
        "service_id",
        "service_instance_id",
        "start_time",
        "data_binary",
    ];
    let condition = format!(
        "FROM {SEGMENT} WHERE {} = ?1 AND trace_id = ?2",
        table::REGION
    );
    let count = format!("SELECT count(*) {condition}");
    let select = format!(
        "SELECT {} {condition} LIMIT ?3 OFFSET ?4",
        columns.join(", ")
    );
    let mut items = Vec::new();
    let mut total = 0;
    for file in pool.files.days(Family::Records, filter.days) {
        pool.query(file, |conn| {
            if !table::has(conn, SEGMENT, &columns)? {
                return Ok(());
            }
            let mut count = conn.prepare_cached(&count)?;
            let mut select = conn.prepare_cached(&select)?;
            for region in table::regions(conn, SEGMENT)? {
                let before = total;
                total += count.query_row((region, &filter.trace_id), |row| row.get::<_, i64>(0))?;
                let offset = sql_count(filter.offset);
                let left = sql_count(filter.limit - items.len());
                if left == 0 || total <= offset {
                    continue;
                }
                let skipped = (offset - before).max(0);
                let mut rows = select.query((region, &filter.trace_id, left, skipped))?;
                while let Some(row) = rows.next()? {
                    let data = row.get_ref(4)?.as_blob_or_null()?.unwrap_or_default();
                    items.push(SegmentData {
                        segment_id: text(row, 0)?,
                        service_id: text(row, 1)?,
                        instance_id: text(row, 2)?,
                        start_time: number(row, 3)?,
                        data: Bytes::copy_from_slice(data),
                    });
                }
            }
            Ok(())
        })?;
    }
    Ok(Page { items, total })
}

fn sql_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A page of alarms, newest first.
pub(super) fn alarms(
    pool: &ReadPool,
    filter: &AlarmFilter,
) -> Result<Page<AlarmRow>, StorageError> {
    let mut hits = Hits::new(filter.offset, filter.limit)?;
    let mut phrase = TextFilter::phrase(filter.keyword.as_deref());
    let mut conditions = Where::default();
    conditions.add("time_bucket >= ?", sql_bucket(filter.range.start));
    conditions.add("time_bucket <= ?", sql_bucket(filter.range.end));
    if let Some(scope) = filter.scope {
        conditions.add("scope = ?", scope);
    }
    let scan = format!(
        "SELECT rowid, start_time, alarm_message FROM {ALARM}{}",
        conditions.sql()
    );
    let columns = ["scope", "id0", "alarm_message", "start_time"];
    for file in pool.files.days(Family::Records, Some(filter.range)) {
        pool.query(file, |conn| {
            if table::has(conn, ALARM, &columns)? {
                collect(
                    conn,
                    &scan,
                    &conditions.values,
                    &mut phrase,
                    file,
                    &mut hits,
                )?;
            }
            Ok(())
        })?;
    }
    hits.page(pool, |conn, rowid| {
        let sql = format!(
            "SELECT {} FROM {ALARM} WHERE rowid = ?1",
            columns.join(", ")
        );
        let mut statement = conn.prepare_cached(&sql)?;
        let alarm = statement.query_row([rowid], |row| {
            Ok(AlarmRow {
                scope: number(row, 0)?,
                id0: text(row, 1)?,
                message: text(row, 2)?,
                start_time: number(row, 3)?,
            })
        });
        alarm.optional()
    })
}

/// Records by latency.
pub(super) fn sampled(
    pool: &ReadPool,
    model: &Model,
    filter: &TopNFilter,
) -> Result<Vec<SampledRecord>, StorageError> {
    let limit = positive(filter.limit)?;
    let latency = match model.value {
        Some(value) if value.kind == ValueKind::Sampled => value.name,
        _ => {
            let text = format!("{} is not a list of sampled records", model.name);
            return Err(StorageError::InvalidQuery(text));
        }
    };
    let mut columns = vec!["statement", latency, "trace_id"];
    let mut conditions = Where::default();
    conditions.add("time_bucket >= ?", sql_bucket(filter.range.start));
    conditions.add("time_bucket <= ?", sql_bucket(filter.range.end));
    if let Some(service) = &filter.service_id {
        columns.push("service_id");
        conditions.add("+service_id = ?", service.clone());
    }
    let direction = match filter.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let sql = format!(
        "SELECT statement, {0}, trace_id FROM {1}{2} ORDER BY {0} {direction}, rowid LIMIT {limit}",
        quoted(latency),
        quoted(&model.name),
        conditions.sql()
    );
    let mut found: Vec<SampledRecord> = Vec::new();
    for file in pool.files.days(Family::Records, Some(filter.range)) {
        pool.query(file, |conn| {
            if !table::has(conn, &model.name, &columns)? {
                return Ok(());
            }
            let mut statement = conn.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(&conditions.values))?;
            while let Some(row) = rows.next()? {
                found.push(SampledRecord {
                    statement: optional_text(row, 0)?,
                    latency: number(row, 1)?,
                    trace_id: optional_text(row, 2)?,
                });
            }
            Ok(())
        })?;
        match filter.order {
            Order::Ascending => found.sort_by_key(|r| r.latency),
            Order::Descending => found.sort_by_key(|r| std::cmp::Reverse(r.latency)),
        }
        found.truncate(limit);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
