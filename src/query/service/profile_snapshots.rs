//! What snapshots were taken of, and what they say (query spec 2.10).

use std::sync::Arc;

use oap_proto::agent::{SegmentObject, ThreadStack};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::profile::{model, newest_by};
use super::profile_tree::{ProfileStackTree, Snapshot, Trees};
use super::trace::{BasicTrace, Trace, basic_trace, made_ms, spans_of};
use crate::model::row::{Cell, Row, RowKey};
use crate::query::{Cuts, QueryContext, QueryError};
use crate::storage::{Backend, Order, RecordFilter, SegmentBrief};

const SNAPSHOT: &str = "profile_task_segment_snapshot";
const SEGMENT: &str = "segment";
/// A profiled segment began so long before its first snapshot at most, else it takes longer to find.
const SEGMENT_MS: i64 = 3_600_000;

/// Instants of which snapshots are looked at, in milliseconds since the epoch, both included.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ProfileAnalyzeTimeRange {
    pub start: i64,
    pub end: i64,
}

/// What the snapshots say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProfileAnalyzation {
    pub tip: Option<String>,
    pub trees: Vec<ProfileStackTree>,
}

/// The segments of which a task took snapshots, newest first.
pub async fn segments<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    task_id: &str,
) -> Result<Vec<BasicTrace>, QueryError> {
    let first_ones = RecordFilter {
        any_of: vec![
            ("task_id", vec![Cell::text(task_id)]),
            ("sequence", vec![Cell::Long(0)]),
        ],
        ..newest_by("dump_time", cx.limits.profile_tasks)
    };
    let snapshots = cx
        .storage
        .records(model(cx, SNAPSHOT)?, &first_ones)
        .await?;
    let (snapshots, total) = (snapshots.items, snapshots.total);
    cx.note_if_cut(cuts, "profiled segments", snapshots.len(), total);
    let segments = segments_of(cx, &snapshots).await?;
    let text = |row: &Row, column| row.cell(column).as_text().unwrap_or_default().to_owned();
    let number = |row: &Row, column| row.cell(column).as_long().unwrap_or(0);
    let brief = |row: &Row| SegmentBrief {
        segment_id: text(row, "segment_id"),
        trace_id: text(row, "trace_id"),
        endpoint_name: text(row, "endpoint_name"),
        start_time: number(row, "start_time"),
        latency: number(row, "latency"),
        is_error: number(row, "is_error") == 1,
    };
    Ok(segments.iter().map(|row| basic_trace(brief(row))).collect())
}

/// The segments that snapshots were taken of, newest first, found by when that was.
async fn segments_of<S: Backend>(
    cx: &QueryContext<S>,
    snapshots: &[Row],
) -> Result<Vec<Row>, QueryError> {
    let times = || {
        snapshots
            .iter()
            .filter_map(|s| s.cell("dump_time").as_long())
    };
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(vec![]);
    };
    let bucket = |at: i64| cx.zone.second(at).unwrap_or(0).cast_signed();
    let ids = snapshots.iter().map(|s| s.cell("segment_id").clone());
    let filter = RecordFilter {
        any_of: vec![("segment_id", ids.collect())],
        between: Some(("time_bucket", bucket(first - SEGMENT_MS), bucket(last))),
        ..newest_by("start_time", snapshots.len())
    };
    let found = cx.storage.records(model(cx, SEGMENT)?, &filter).await?;
    Ok(found.items)
}

/// The spans of a segment; `None` if it is unknown.
pub async fn segment<S: Backend>(
    cx: &QueryContext<S>,
    segment_id: &str,
) -> Result<Option<Trace>, QueryError> {
    let one = RecordFilter {
        any_of: vec![("segment_id", vec![Cell::text(segment_id)])],
        order: Order::Ascending,
        ..newest_by("dump_time", 1)
    };
    let snapshots = cx.storage.records(model(cx, SNAPSHOT)?, &one).await?;
    let mut found = segments_of(cx, &snapshots.items).await?.into_iter().next();
    // On the day that its id tells, else on any.
    let made = made_ms(segment_id, cx.clock.now_ms()).and_then(|at| cx.zone.second(at));
    for time_bucket in made.into_iter().map(Some).chain([None]) {
        if found.is_none() {
            let key = RowKey {
                model: Arc::clone(model(cx, SEGMENT)?),
                id: segment_id.to_owned(),
                time_bucket,
            };
            found = cx.storage.load(&[key]).await?.into_iter().flatten().next();
        }
    }
    let Some(row) = found else { return Ok(None) };
    let Cell::Bytes(bytes) = row.cell("data_binary") else {
        return Ok(None);
    };
    let segment = SegmentObject::decode(bytes.clone()).map_err(|error| {
        QueryError::argument("segmentId", format!("cannot be decoded: {error}"))
    })?;
    Ok(Some(Trace {
        spans: spans_of(segment, &cx.components),
    }))
}

/// What the snapshots of a segment in some time ranges say.
pub async fn analyze<S: Backend>(
    cx: &QueryContext<S>,
    cuts: &Cuts,
    segment_id: &str,
    ranges: &[ProfileAnalyzeTimeRange],
) -> Result<ProfileAnalyzation, QueryError> {
    let mut sequences = vec![];
    for range in ranges {
        sequences.extend(sequences_of(cx, segment_id, *range).await?);
    }
    sequences.sort_unstable();
    let mut trees = Trees::default();
    let mut left = cx.limits.profile_snapshots;
    let (mut looked_at, mut left_out) = (0usize, 0i64);
    // One page is in memory at a time, and a sequence that is in several ranges counts once.
    let mut seen = i64::MIN;
    for (first, last) in sequences {
        let mut next = first.max(seen);
        while next <= last {
            if left == 0 {
                // As many as there can be: sequences may have gaps.
                left_out = last.saturating_sub(next).saturating_add(left_out + 1);
                seen = last.saturating_add(1);
                break;
            }
            let page = left.min(cx.limits.profile_snapshot_page.max(1));
            let end = last.min(next.saturating_add_unsigned(page as u64 - 1));
            let filter = RecordFilter {
                between: Some(("sequence", next, end)),
                order: Order::Ascending,
                ..of_segment(segment_id, "sequence", page)
            };
            let found = cx.storage.records(model(cx, SNAPSHOT)?, &filter).await?;
            for row in found.items {
                let snapshot = snapshot(&row)?;
                if snapshot.sequence >= seen {
                    seen = snapshot.sequence.saturating_add(1);
                    trees.add(&snapshot);
                    looked_at += 1;
                }
            }
            left -= page;
            next = end.saturating_add(1);
            seen = seen.max(next);
        }
    }
    let shown = looked_at - trees.cut();
    let total = left_out.saturating_add_unsigned(looked_at as u64);
    cx.note_if_cut(cuts, "profile snapshots", shown, total);
    Ok(ProfileAnalyzation {
        tip: (shown as i64 != total)
            .then(|| "there are too many snapshots; the last ones are left out".to_owned()),
        trees: trees.finished(),
    })
}

fn of_segment(segment_id: &str, sort_by: &'static str, limit: usize) -> RecordFilter {
    RecordFilter {
        any_of: vec![("segment_id", vec![Cell::text(segment_id)])],
        ..newest_by(sort_by, limit)
    }
}

/// The least and the greatest sequence of a time range.
async fn sequences_of<S: Backend>(
    cx: &QueryContext<S>,
    segment_id: &str,
    range: ProfileAnalyzeTimeRange,
) -> Result<Option<(i64, i64)>, QueryError> {
    let greatest = RecordFilter {
        between: Some(("dump_time", range.start, range.end)),
        ..of_segment(segment_id, "sequence", 1)
    };
    let least = RecordFilter {
        order: Order::Ascending,
        ..greatest.clone()
    };
    let mut ends = vec![];
    for filter in [least, greatest] {
        let rows = cx.storage.records(model(cx, SNAPSHOT)?, &filter).await?;
        ends.extend(
            rows.items
                .iter()
                .filter_map(|row| row.cell("sequence").as_long()),
        );
    }
    match ends.as_slice() {
        [least, greatest] => Ok(Some((*least, *greatest))),
        _ => Ok(None),
    }
}

fn snapshot(row: &Row) -> Result<Snapshot, QueryError> {
    let bytes = match row.cell("stack_binary") {
        Cell::Bytes(bytes) => bytes.clone(),
        _ => Default::default(),
    };
    let damaged = |error| QueryError::argument("segmentId", format!("{}: {error}", row.id));
    Ok(Snapshot {
        sequence: row.cell("sequence").as_long().unwrap_or(0),
        dump_time: row.cell("dump_time").as_long().unwrap_or(0),
        stack: ThreadStack::decode(bytes).map_err(damaged)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::service::fake::{FakeStore, context, row, schema};

    #[tokio::test]
    async fn no_more_snapshots_are_looked_at_than_allowed() {
        let schema = schema();
        let snapshot = |sequence: i64| {
            let stack = ThreadStack {
                code_signatures: vec!["f".into()],
            };
            let cells = [
                ("segment_id", Cell::text("s")),
                ("dump_time", Cell::Long(sequence)),
                ("sequence", Cell::Long(sequence)),
                ("stack_binary", Cell::Bytes(stack.encode_to_vec().into())),
            ];
            row(&schema, SNAPSHOT, &sequence.to_string(), &cells)
        };
        let rows = vec![snapshot(0), snapshot(1)];
        let mut cx = context(FakeStore {
            rows,
            ..FakeStore::default()
        });
        let range = ProfileAnalyzeTimeRange { start: 0, end: 9 };
        let all = analyze(&cx, &Cuts::default(), "s", &[range]).await.unwrap();
        assert_eq!((all.tip, all.trees[0].elements[0].count), (None, 2));
        cx.limits.profile_snapshots = 1;
        let some = analyze(&cx, &Cuts::default(), "s", &[range]).await.unwrap();
        assert!(some.tip.is_some());
    }
}
