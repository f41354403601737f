//! Distributions over time (query spec 2.4, 2.5).

use serde::Serialize;

use super::duration::Duration;
use super::metrics::{Metric, check_id};
use crate::model::id::metrics_id;
use crate::model::table;
use crate::query::{QueryContext, QueryError};
use crate::storage::Backend;

/// Upper edge of the last bucket.
const UNBOUNDED: &str = "infinite+";
/// Lower edge of a first bucket without one.
const UNBOUNDED_BELOW: &str = "infinite-";
/// Column with the counts; percentiles have one too, and show as heat maps for that reason.
const DATASET: &str = "dataset";
/// Height of a row of the older form when the data does not say.
const DEFAULT_AXIS_STEP: i64 = 200;

/// Columns by time, rows by bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeatMap {
    pub values: Vec<HeatMapColumn>,
    pub buckets: Vec<Bucket>,
}

/// One point of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeatMapColumn {
    /// Id of the row.
    pub id: String,
    pub values: Vec<i64>,
}

/// A range of values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    pub min: String,
    pub max: String,
}

/// The older form of a heat map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Thermodynamic {
    /// Column, row, value.
    pub nodes: Vec<[i64; 3]>,
    pub axis_y_step: i64,
}

/// Distribution of a metric per point.
pub async fn heat_map<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_id: Option<&str>,
    duration: &Duration,
) -> Result<HeatMap, QueryError> {
    let points = duration.points()?;
    check_id(entity_id)?;
    let entity = entity_id.unwrap_or("ILLEGAL_ENTITY");
    let column = |bucket: &u64, values| HeatMapColumn {
        id: metrics_id(*bucket, entity),
        values,
    };
    let (Some(metric), Some(_)) = (Metric::find(cx, name), entity_id) else {
        return Ok(HeatMap {
            values: points.iter().map(|p| column(p, vec![0])).collect(),
            buckets: edges(&[(0, 0)]),
        });
    };
    let rows = metric.rows(cx, entity, &points).await?;
    let datasets: Vec<Option<Vec<(i64, i64)>>> = rows
        .into_iter()
        .map(|row| Some(dataset(row?.cell(DATASET).as_text().unwrap_or_default())))
        .collect();
    let first = datasets.iter().flatten().next();
    let height = first.map_or(0, Vec::len);
    let buckets = first.map(|f| edges(f)).unwrap_or_default();
    let counts = |dataset: &Option<Vec<(i64, i64)>>| match dataset {
        Some(dataset) => dataset.iter().map(|(_, count)| *count).collect(),
        None => vec![0; height],
    };
    let values = points.iter().zip(&datasets);
    Ok(HeatMap {
        values: values.map(|(p, d)| column(p, counts(d))).collect(),
        buckets,
    })
}

/// [`heat_map`] as a list of cells.
pub async fn thermodynamic<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_id: &str,
    duration: &Duration,
) -> Result<Thermodynamic, QueryError> {
    let map = heat_map(cx, name, Some(entity_id), duration).await?;
    let mut nodes = Vec::new();
    for (x, column) in (0..).zip(&map.values) {
        for (y, value) in (0..).zip(&column.values) {
            nodes.push([x, y, *value]);
        }
    }
    Ok(Thermodynamic {
        nodes,
        axis_y_step: axis_step(&map.buckets),
    })
}

/// Height of the second bucket.
fn axis_step(buckets: &[Bucket]) -> i64 {
    let Some(second) = buckets.get(1) else {
        return DEFAULT_AXIS_STEP;
    };
    match (second.min.parse::<i64>(), second.max.parse::<i64>()) {
        (Ok(min), Ok(max)) => max.saturating_sub(min),
        _ => i64::from(i32::MAX),
    }
}

/// Lower edge and count, by edge. An edge that is no number is left out.
fn dataset(text: &str) -> Vec<(i64, i64)> {
    let mut dataset: Vec<(i64, i64)> = table::pairs(text)
        .filter_map(|(edge, count)| {
            let edge = match edge {
                UNBOUNDED_BELOW => i64::MIN,
                edge => edge.parse().ok()?,
            };
            Some((edge, count.parse().ok()?))
        })
        .collect();
    dataset.sort_unstable();
    dataset
}

fn edges(dataset: &[(i64, i64)]) -> Vec<Bucket> {
    let text = |edge: i64| match edge {
        i64::MIN => UNBOUNDED_BELOW.to_owned(),
        edge => edge.to_string(),
    };
    let upper = dataset.iter().skip(1).map(|(edge, _)| text(*edge));
    dataset
        .iter()
        .zip(upper.chain([UNBOUNDED.to_owned()]))
        .map(|((edge, _), max)| Bucket {
            min: text(*edge),
            max,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_follow_the_keys_in_numeric_order() {
        let dataset = dataset("100,2|20,1|infinite-,4|broken|x,1");
        assert_eq!(dataset, [(i64::MIN, 4), (20, 1), (100, 2)]);
        let edges: Vec<_> = edges(&dataset)
            .into_iter()
            .map(|b| (b.min, b.max))
            .collect();
        let want = [("infinite-", "20"), ("20", "100"), ("100", "infinite+")];
        assert_eq!(edges, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn the_axis_step_is_the_height_of_the_second_bucket() {
        for (text, step) in [
            ("", 200),
            ("0,1", 200),
            ("0,1|100,1", i64::from(i32::MAX)),
            ("0,1|100,1|300,1", 200),
            ("0,1|50,1|100,1", 50),
        ] {
            assert_eq!(axis_step(&edges(&dataset(text))), step, "{text}");
        }
    }
}
