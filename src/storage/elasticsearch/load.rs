//! Reads by id. With a known day they see every acknowledged write at once; without, only what was refreshed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Cause, Client};
use super::document::Source;
use super::gather::all_failed;
use super::names::{Names, day_of_index};
use super::search::{Completeness, Found, search};
use super::stored_id::stored_id;
use super::{Answer, Elasticsearch, document};
use crate::model::row::{Row, RowKey};
use crate::model::schema::{Model, ModelKind};
use crate::model::time_bucket::day_of;
use crate::storage::StorageError;

/// Ids of one request.
pub(super) const MAX_IDS: usize = 1000;
const MULTI_GET: &str = "/_mget?filter_path=error,status,docs.found,docs._index,docs._source,docs.error.type,docs.error.reason";
/// Requests in flight.
const SLOTS: usize = 4;
/// The same when the server stops.
const SLOTS_IN_HASTE: usize = 16;
/// An index that was created a moment ago has no shard that answers yet: how long to wait for it, each time.
const STARTING_MS: [u64; 4] = [50, 100, 200, 400];

#[derive(Debug, Deserialize)]
struct MultiGet {
    #[serde(default)]
    docs: Vec<Doc>,
}

/// What was found of an id.
#[derive(Debug, Deserialize)]
pub(super) struct Doc {
    #[serde(default, rename = "_index")]
    index: String,
    #[serde(rename = "_source")]
    source: Option<Source>,
    error: Option<Cause>,
}

impl Doc {
    fn is_of_starting_index(&self) -> bool {
        let error = self.error.as_ref();
        error.is_some_and(|error| error.ty == "no_shard_available_action_exception")
    }
}

/// Position of a row in the answer, and the row.
type Placed = (usize, Option<Row>);

impl Elasticsearch {
    /// Reads rows in the order of their keys.
    pub(super) async fn load_rows(&self, keys: &[RowKey]) -> Answer<Vec<Option<Row>>> {
        let mut direct = vec![];
        let mut on_any_day: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, key) in keys.iter().enumerate() {
            if self.index_of_key(key).is_some() {
                direct.push(i);
            } else {
                let name = key.model.name.as_str();
                on_any_day.entry(name).or_default().push(i);
            }
        }
        let gets = direct
            .chunks(MAX_IDS)
            .map(|chunk| (chunk.to_vec(), true))
            .collect::<Vec<_>>();
        let searches = on_any_day
            .values()
            .flat_map(|positions| positions.chunks(MAX_IDS).map(|c| (c.to_vec(), false)));
        let requests: Vec<_> = gets.into_iter().chain(searches).collect();
        let slots = match self.is_hasty.load(Ordering::Relaxed) {
            true => SLOTS_IN_HASTE,
            false => SLOTS,
        };
        let found: Vec<Vec<Placed>> = stream::iter(requests)
            .map(|(positions, is_direct)| async move {
                if is_direct {
                    self.multi_get(keys, positions).await
                } else {
                    self.search_ids(keys, positions).await
                }
            })
            .buffer_unordered(slots)
            .try_collect()
            .await?;
        let mut rows = vec![None; keys.len()];
        for (i, row) in found.into_iter().flatten() {
            if let Some(slot) = rows.get_mut(i) {
                *slot = row;
            }
        }
        Ok(rows)
    }

    /// The one index that can hold a key, if that is known.
    fn index_of_key(&self, key: &RowKey) -> Option<String> {
        let model = &key.model.name;
        match (key.model.kind, key.time_bucket) {
            (ModelKind::Management, _) => Some(self.names.alias(model)),
            (_, Some(bucket)) => Some(self.names.daily(model, day_of(bucket))),
            (_, None) => None,
        }
    }

    async fn multi_get(&self, keys: &[RowKey], positions: Vec<usize>) -> Answer<Vec<Placed>> {
        let asked: Vec<(usize, &RowKey)> = positions
            .into_iter()
            .filter_map(|i| Some((i, keys.get(i)?)))
            .collect();
        let docs: Vec<Value> = asked
            .iter()
            .map(|(_, key)| json!({"_index": self.index_of_key(key), "_id": stored_id(&key.id)}))
            .collect();
        let weight = docs.len();
        let client = Arc::clone(&self.client);
        let send = move |groups| async move { get_groups(&client, groups).await };
        let docs = self.getting.ask(docs, weight, send).await?;
        asked
            .into_iter()
            .zip(docs)
            .map(|((i, key), doc)| Ok((i, self.row_of(key, doc)?)))
            .collect()
    }

    fn row_of(&self, key: &RowKey, doc: Doc) -> Answer<Option<Row>> {
        match (doc.source, doc.error) {
            (_, Some(error)) if error.ty == "index_not_found_exception" => Ok(None),
            // Anything else that is wrong with a shard does not mean that the document is not there.
            (_, Some(error)) => Err(StorageError::Unavailable(format!(
                "elasticsearch cannot read from index {}: {error}",
                doc.index
            ))),
            (Some(source), None) => {
                to_row(&self.names, &key.model, key.id.clone(), &doc.index, &source).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    async fn search_ids(&self, keys: &[RowKey], positions: Vec<usize>) -> Answer<Vec<Placed>> {
        let Some(model) = positions.first().and_then(|i| keys.get(*i)) else {
            return Ok(vec![]);
        };
        let model = &model.model;
        let ids: Vec<Cow<'_, str>> = positions
            .iter()
            .filter_map(|i| keys.get(*i))
            .map(|key| stored_id(&key.id))
            .collect();
        let body = json!({
            "query": {"ids": {"values": ids}},
            // An id may be on several days if servers raced; there is room for all of them.
            "size": self.options.result_window().min(ids.len() as i64 * 10),
        });
        let target = self.names.alias(&model.name);
        let found: Found<Source> =
            search(&self.client, &target, Completeness::Required, &body).await?;
        let mut newest: HashMap<String, (String, Source)> = HashMap::new();
        for hit in found.hits() {
            let is_newer = newest
                .get(&hit.id)
                .is_none_or(|(index, _)| day_of_index(index) < day_of_index(&hit.index));
            if is_newer {
                newest.insert(hit.id, (hit.index, hit.source));
            }
        }
        positions
            .into_iter()
            .filter_map(|i| Some((i, keys.get(i)?)))
            .map(|(i, key)| {
                let row = newest
                    .get(stored_id(&key.id).as_ref())
                    .map(|(index, source)| {
                        to_row(&self.names, model, key.id.clone(), index, source)
                    });
                Ok((i, row.transpose()?))
            })
            .collect()
    }
}

/// Documents of some groups of ids, with one request.
async fn get_groups(client: &Client, groups: Vec<Vec<Value>>) -> Vec<Answer<Vec<Doc>>> {
    let lengths: Vec<usize> = groups.iter().map(Vec::len).collect();
    let count = lengths.iter().sum::<usize>();
    let docs: Vec<Value> = groups.into_iter().flatten().collect();
    let body = json!({"docs": docs});
    let mut answer: Answer<MultiGet> = client.post(MULTI_GET, &body).await;
    for pause in STARTING_MS.map(Duration::from_millis) {
        let starts = |answer: &MultiGet| answer.docs.iter().any(Doc::is_of_starting_index);
        if !answer.as_ref().is_ok_and(starts) {
            break;
        }
        tokio::time::sleep(pause).await;
        answer = client.post(MULTI_GET, &body).await;
    }
    let mut docs = match answer {
        Ok(answer) if answer.docs.len() == count => answer.docs.into_iter(),
        Ok(answer) => {
            let text = format!(
                "elasticsearch answered {} of {count} documents",
                answer.docs.len()
            );
            return all_failed(lengths.len(), &StorageError::Damaged(text));
        }
        Err(error) => return all_failed(lengths.len(), &error),
    };
    let group = |length| Ok(docs.by_ref().take(length).collect());
    lengths.into_iter().map(group).collect()
}

/// A row that goes back to the index it came from when it is written again.
pub(super) fn to_row(
    names: &Names,
    model: &Arc<Model>,
    id: String,
    index: &str,
    source: &Source,
) -> Answer<Row> {
    let day = day_of_index(index);
    let stored = source
        .get("time_bucket")
        .and_then(|raw| raw.get().parse().ok())
        .unwrap_or(0);
    let time_bucket = if names.first_day(day_of(stored)) == names.first_day(day) || day == 0 {
        stored
    } else {
        // The first minute of that day.
        day * 10_000
    };
    Ok(Row {
        model: Arc::clone(model),
        id,
        time_bucket,
        cells: document::cells(model, source)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::row::Cell;
    use crate::model::schema::Schema;

    #[test]
    fn a_row_keeps_the_day_of_its_index() {
        let schema = Schema::build(&[], &[], &[], false);
        let names = Names::new("sw").unwrap();
        for (model, bucket, want) in [
            ("endpoint_traffic", "202009151059", 202_009_151_059),
            ("endpoint_traffic", "202009141059", 202_009_150_000),
            ("service_traffic", "null", 202_009_150_000),
        ] {
            let model = schema.model(model).unwrap();
            let document = format!(r#"{{"time_bucket":{bucket},"name":"n"}}"#);
            let source: Source = serde_json::from_str(&document).unwrap();
            let row = to_row(&names, model, "id".to_owned(), "sw_x-20200915", &source).unwrap();
            assert_eq!(row.time_bucket, want);
            assert_eq!(row.cell("name"), &Cell::text("n"));
        }
    }
}
