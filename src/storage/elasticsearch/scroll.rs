//! Reading everything: the documents of an index, page by page.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::client::parse;
use super::document::Source;
use super::load::to_row;
use super::names::{Names, day_of_index};
use super::search::Hit;
use super::{Answer, Elasticsearch};
use crate::model::id::metrics_id;
use crate::model::row::Row;
use crate::model::schema::{ColumnType, Model, ModelKind};
use crate::storage::StorageError;
use crate::storage::transfer::RowPage;

/// How long the server remembers where a page ended.
const KEEP: &str = "5m";
/// Documents of a page.
const MANY: usize = 1000;
/// Documents of a page if they may have megabytes each: an answer has a bound.
const FEW: usize = 40;
const FILTER: &str =
    "filter_path=_scroll_id,_shards.failed,hits.hits._index,hits.hits._id,hits.hits._source";

#[derive(Deserialize)]
struct ScrollPage {
    #[serde(rename = "_scroll_id")]
    id: String,
    #[serde(default, rename = "_shards")]
    shards: Shards,
    #[serde(default)]
    hits: Hits,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Shards {
    failed: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hits {
    hits: Vec<Hit<Source>>,
}

impl Elasticsearch {
    /// Days (`yyyyMMdd`) on which a model has an index, 0 for one without days.
    pub async fn days(&self, model: &Model) -> Answer<Vec<u64>> {
        let alias = self.names.alias(&model.name);
        let pattern = match model.kind {
            ModelKind::Management => alias,
            _ => format!("{alias}-*"),
        };
        let Some(body) = self.client.find(&format!("/{pattern}/_alias")).await? else {
            return Ok(vec![]);
        };
        let indices: HashMap<String, IgnoredAny> = parse(&body)?;
        let mut days: Vec<u64> = indices
            .keys()
            .map(|index| (day_of_index(index), index))
            .filter(|(day, index)| **index == self.index_of_day(model, *day))
            .map(|(day, _)| day)
            .collect();
        days.sort_unstable();
        Ok(days)
    }

    fn index_of_day(&self, model: &Model, day: u64) -> String {
        match model.kind {
            ModelKind::Management => self.names.alias(&model.name),
            _ => self.names.daily(&model.name, day),
        }
    }

    /// The rows of an index behind a page, the name of whose end `after` is.
    pub async fn page(&self, model: &Arc<Model>, day: u64, after: Option<&str>) -> Answer<RowPage> {
        let page: ScrollPage = match after {
            None => {
                let is_large = model.columns.iter().any(|c| c.ty == ColumnType::Binary);
                let size = if is_large { FEW } else { MANY };
                let index = self.index_of_day(model, day);
                let path = format!("/{index}/_search?scroll={KEEP}&{FILTER}");
                let body = json!({"size": size, "sort": ["_doc"]});
                self.client.post(&path, &body).await?
            }
            Some(id) => {
                let path = format!("/_search/scroll?{FILTER}");
                let body = json!({"scroll": KEEP, "scroll_id": id});
                self.client.post(&path, &body).await?
            }
        };
        if page.shards.failed > 0 {
            let index = self.index_of_day(model, day);
            let text = format!(
                "{} shards of index {index} do not answer",
                page.shards.failed
            );
            return Err(StorageError::Unavailable(text));
        }
        if page.hits.hits.is_empty() {
            self.client
                .delete(&format!("/_search/scroll/{}", page.id))
                .await?;
            return Ok(RowPage {
                rows: vec![],
                next: None,
            });
        }
        let rows = page.hits.hits.into_iter();
        let rows = rows
            .map(|hit| row(&self.names, model, hit))
            .collect::<Answer<_>>()?;
        Ok(RowPage {
            rows,
            next: Some(page.id),
        })
    }
}

/// A document may have a shortened id if its own was too long; a metric's consists of bucket and entity.
fn row(names: &Names, model: &Arc<Model>, hit: Hit<Source>) -> Answer<Row> {
    let mut row = to_row(names, model, hit.id, &hit.index, &hit.source)?;
    if model.is_downsampled {
        let entity = row.cell("entity_id").as_text().unwrap_or_default();
        row.id = metrics_id(row.time_bucket, entity);
    }
    Ok(row)
}
