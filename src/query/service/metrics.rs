//! Values of metrics over time (query spec 2.4).
//!
//! An unknown metric and an entity without the needed names are no errors: the answer has its usual form, with zeros.
//! Sorted lists are in [`super::top_n`], heat maps in [`super::heat_map`].

use std::sync::Arc;

use serde::Serialize;

use super::duration::Duration;
use crate::model::id::metrics_id;
use crate::model::row::{Cell, Row, RowKey};
use crate::model::schema::{ColumnType, Model, ValueColumn, ValueKind};
use crate::model::table;
use crate::query::{QueryContext, QueryError};
use crate::storage::Backend;

/// Stands in row ids for an entity whose names are incomplete.
const ILLEGAL_ENTITY: &str = "ILLEGAL_ENTITY";
/// Points of all series of one answer together.
const MAX_LABELED_POINTS: usize = 50_000;
/// Ids of the longest names fit.
const MAX_ID_BYTES: usize = 2048;

/// What kind of answer a metric can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MetricsType {
    Unknown,
    RegularValue,
    LabeledValue,
    Heatmap,
    SampledRecord,
}

/// A value and the id of its row or entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KvInt {
    pub id: String,
    pub value: i64,
}

/// A series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IntValues {
    pub values: Vec<KvInt>,
}

/// A series with its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetricsValues {
    pub label: Option<String>,
    pub values: IntValues,
}

/// A metric that has a value column.
pub(super) struct Metric {
    pub(super) model: Arc<Model>,
    pub(super) value: ValueColumn,
}

impl Metric {
    pub(super) fn find<S>(cx: &QueryContext<S>, name: &str) -> Option<Metric> {
        let model = cx.schema.model(name)?;
        Some(Metric {
            model: Arc::clone(model),
            value: model.value?,
        })
    }

    /// Fails if the value is no number.
    pub(super) fn check_is_number(&self) -> Result<(), QueryError> {
        let column = self
            .model
            .columns
            .iter()
            .find(|c| c.name == self.value.name);
        let is_number = column.is_some_and(|c| {
            matches!(
                c.ty,
                ColumnType::Int | ColumnType::Long | ColumnType::Double
            )
        });
        if is_number {
            Ok(())
        } else {
            Err(self.kind_error("single value"))
        }
    }

    fn kind_error(&self, expected: &'static str) -> QueryError {
        QueryError::MetricKind {
            name: self.model.name.clone(),
            expected,
        }
    }

    /// The rows of an entity at these buckets, in their order.
    pub(super) async fn rows<S: Backend>(
        &self,
        cx: &QueryContext<S>,
        entity_id: &str,
        points: &[u64],
    ) -> Result<Vec<Option<Row>>, QueryError> {
        check_id(Some(entity_id))?;
        let keys: Vec<RowKey> = points
            .iter()
            .map(|bucket| RowKey {
                model: Arc::clone(&self.model),
                id: metrics_id(*bucket, entity_id),
                time_bucket: Some(*bucket),
            })
            .collect();
        Ok(cx.storage.load(&keys).await?)
    }
}

/// Kind of a metric or sampled record; never fails.
pub fn type_of_metrics<S>(cx: &QueryContext<S>, name: &str) -> MetricsType {
    match Metric::find(cx, name).map(|m| m.value.kind) {
        None => MetricsType::Unknown,
        Some(ValueKind::Common) => MetricsType::RegularValue,
        Some(ValueKind::Labeled) => MetricsType::LabeledValue,
        Some(ValueKind::Histogram) => MetricsType::Heatmap,
        Some(ValueKind::Sampled) => MetricsType::SampledRecord,
    }
}

/// One number for the whole range: average or sum, whatever the function of the metric says.
pub async fn value<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_id: Option<&str>,
    duration: &Duration,
) -> Result<i64, QueryError> {
    let Some(entity_id) = entity_id else {
        return Ok(0);
    };
    let values = numbers(cx, name, &[entity_id], duration).await?;
    Ok(values.first().copied().unwrap_or(0))
}

/// [`value`] for several entities, in their order, with one read.
pub async fn values_of_entities<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_ids: Vec<String>,
    duration: &Duration,
) -> Result<IntValues, QueryError> {
    let ids: Vec<&str> = entity_ids.iter().map(String::as_str).collect();
    let values = numbers(cx, name, &ids, duration).await?;
    let values = entity_ids.into_iter().zip(values);
    Ok(IntValues {
        values: values.map(|(id, value)| KvInt { id, value }).collect(),
    })
}

async fn numbers<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_ids: &[&str],
    duration: &Duration,
) -> Result<Vec<i64>, QueryError> {
    let Some(metric) = Metric::find(cx, name).filter(|_| !entity_ids.is_empty()) else {
        return Ok(vec![0; entity_ids.len()]);
    };
    duration.points()?;
    metric.check_is_number()?;
    let range = duration.range()?;
    let values = cx
        .storage
        .aggregates(&metric.model, entity_ids, range)
        .await?;
    // The protocol's Int: fractions are cut, larger values stop at the limit.
    let number = |value: Option<f64>| i64::from(value.unwrap_or(0.0) as i32);
    Ok(values.into_iter().map(number).collect())
}

/// One number per point.
pub async fn values<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_id: Option<&str>,
    duration: &Duration,
) -> Result<IntValues, QueryError> {
    let points = duration.points()?;
    check_id(entity_id)?;
    let (Some(metric), Some(id)) = (Metric::find(cx, name), entity_id) else {
        return Ok(zeros(&points, entity_id));
    };
    let rows = metric.rows(cx, id, &points).await?;
    let mut values = zeros(&points, entity_id);
    for (value, row) in values.values.iter_mut().zip(&rows) {
        match row.as_ref().map(|row| row.cell(metric.value.name)) {
            None | Some(Cell::Null) => {}
            Some(cell) => {
                let number = cell.as_long();
                value.value = number.ok_or_else(|| metric.kind_error("single values"))?;
            }
        }
    }
    Ok(values)
}

/// One series per label, in the order asked for.
pub async fn labeled_values<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
    entity_id: Option<&str>,
    labels: &[String],
    duration: &Duration,
) -> Result<Vec<MetricsValues>, QueryError> {
    let points = duration.points()?;
    check_id(entity_id)?;
    if labels.len().saturating_mul(points.len()) > MAX_LABELED_POINTS {
        let reason = format!("more than {MAX_LABELED_POINTS} points in all");
        return Err(QueryError::argument("labels", reason));
    }
    let mut series: Vec<MetricsValues> = labels
        .iter()
        .map(|label| MetricsValues {
            label: Some(label.clone()),
            values: zeros(&points, entity_id),
        })
        .collect();
    let (Some(metric), Some(id)) = (Metric::find(cx, name), entity_id) else {
        return Ok(series);
    };
    let rows = metric.rows(cx, id, &points).await?;
    for (at, row) in rows.iter().enumerate() {
        let text = match row.as_ref().map(|row| row.cell(metric.value.name)) {
            None | Some(Cell::Null) => continue,
            Some(cell) => cell.as_text().ok_or_else(|| metric.kind_error("labels"))?,
        };
        for (label, number) in table::pairs(text) {
            let Ok(number) = number.parse() else { continue };
            for one in &mut series {
                if one.label.as_deref() == Some(label)
                    && let Some(point) = one.values.values.get_mut(at)
                {
                    point.value = number;
                }
            }
        }
    }
    Ok(series)
}

/// Answers repeat the id of an entity for each point.
pub(super) fn check_id(entity_id: Option<&str>) -> Result<(), QueryError> {
    if entity_id.is_some_and(|id| id.len() > MAX_ID_BYTES) {
        let reason = format!("is longer than {MAX_ID_BYTES} bytes");
        return Err(QueryError::argument("id", reason));
    }
    Ok(())
}

fn zeros(points: &[u64], entity_id: Option<&str>) -> IntValues {
    let entity_id = entity_id.unwrap_or(ILLEGAL_ENTITY);
    let zero = |bucket: &u64| KvInt {
        id: metrics_id(*bucket, entity_id),
        value: 0,
    };
    IntValues {
        values: points.iter().map(zero).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::duration::Step;
    use super::*;
    use crate::query::service::fake::{FakeStore, context, row, schema};

    const SERVICE: &str = "YQ==.1";

    async fn labeled(metric: &str, labels: &[String]) -> Result<Vec<MetricsValues>, QueryError> {
        let cx = context(store());
        labeled_values(&cx, metric, Some(SERVICE), labels, &minutes()).await
    }

    fn minutes() -> Duration {
        Duration {
            start: "2020-09-15 1058".into(),
            end: "2020-09-15 1100".into(),
            step: Step::Minute,
        }
    }

    fn store() -> FakeStore {
        let schema = schema();
        let id = "202009151059_YQ==.1";
        FakeStore {
            rows: vec![
                row(&schema, "service_cpm", id, &[("value", Cell::Long(7))]),
                row(
                    &schema,
                    "service_percentile",
                    id,
                    &[("value", Cell::text("0,50|4,630"))],
                ),
            ],
            value: Some(16.9),
            ..FakeStore::default()
        }
    }

    fn numbers(values: &IntValues) -> Vec<i64> {
        values.values.iter().map(|v| v.value).collect()
    }

    #[tokio::test]
    async fn points_without_a_row_are_zero() {
        let cx = context(store());
        let series = values(&cx, "service_cpm", Some(SERVICE), &minutes())
            .await
            .unwrap();
        assert_eq!(numbers(&series), [0, 7, 0]);
        assert_eq!(series.values[0].id, "202009151058_YQ==.1");
        let labels = ["4", "9", "0"].map(String::from);
        let found = labeled("service_percentile", &labels).await.unwrap();
        let lines: Vec<_> = found.iter().map(|s| numbers(&s.values)).collect();
        assert_eq!(lines, [[0, 630, 0], [0, 0, 0], [0, 50, 0]]);
        let number = value(&cx, "service_cpm", Some(SERVICE), &minutes())
            .await
            .unwrap();
        assert_eq!(number, 16, "fractions are cut");
    }

    #[tokio::test]
    async fn the_unknown_is_zero_and_no_error() {
        let cx = context(store());
        let unknown = values(&cx, "nope", Some(SERVICE), &minutes())
            .await
            .unwrap();
        assert_eq!(numbers(&unknown), [0, 0, 0]);
        let invalid = values(&cx, "service_cpm", None, &minutes()).await.unwrap();
        assert_eq!(invalid.values[0].id, "202009151058_ILLEGAL_ENTITY");
        assert_eq!(
            value(&cx, "nope", Some(SERVICE), &minutes()).await.unwrap(),
            0
        );
        assert_eq!(
            type_of_metrics(&cx, "service_traffic"),
            MetricsType::Unknown
        );
        assert_eq!(type_of_metrics(&cx, "segment"), MetricsType::SampledRecord);
    }

    #[tokio::test]
    async fn questions_of_the_wrong_kind_are_errors() {
        let cx = context(store());
        let labels = ["0".to_owned()];
        assert!(
            value(&cx, "service_percentile", Some(SERVICE), &minutes())
                .await
                .is_err()
        );
        assert!(
            value(&cx, "all_heatmap", Some(""), &minutes())
                .await
                .is_err()
        );
        assert!(
            values(&cx, "service_percentile", Some(SERVICE), &minutes())
                .await
                .is_err()
        );
        assert!(labeled("service_cpm", &labels).await.is_err());
        let many = vec!["0".to_owned(); MAX_LABELED_POINTS];
        assert!(labeled("service_percentile", &many).await.is_err());
    }
}
