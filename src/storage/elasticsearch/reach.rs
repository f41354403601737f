//! How far the rows of metrics reach: which indices there are, and the newest buckets in those of the last days.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::names::day_of_index;
use super::search::{Completeness, Found, search};
use super::{Answer, Elasticsearch};
use crate::model::schema::Model;
use crate::model::time_bucket::day_of;
use crate::storage::Reach;

#[derive(Debug, Deserialize)]
struct Aggregations {
    indices: Indices,
}

#[derive(Debug, Deserialize)]
struct Indices {
    buckets: Vec<OfIndex>,
}

#[derive(Debug, Deserialize)]
struct OfIndex {
    key: String,
    minutes: Part,
    hours: Part,
    days: Part,
}

#[derive(Debug, Deserialize)]
struct Part {
    newest: Number,
}

#[derive(Debug, Deserialize)]
struct Number {
    /// `null` if there is none.
    value: Option<f64>,
}

/// An index that is looked into.
struct Open<'a> {
    model: &'a str,
    last_day: u64,
}

impl Elasticsearch {
    pub(super) async fn reach_of(&self, models: &[Arc<Model>], since: u64) -> Answer<Reach> {
        let by_alias: HashMap<String, &str> = models
            .iter()
            .map(|model| (self.names.alias(&model.name), model.name.as_str()))
            .collect();
        let path = format!(
            "/{}*/_alias?expand_wildcards=open,closed",
            self.names.prefix()
        );
        let mut reach = Reach::since(since);
        let mut open: HashMap<String, Open<'_>> = HashMap::new();
        let mut days = BTreeSet::new();
        for index in self.keys(&path).await? {
            let alias = index.rsplit_once('-').map_or("", |(alias, _)| alias);
            let (Some(model), day @ 1..) = (by_alias.get(alias).copied(), day_of_index(&index))
            else {
                continue;
            };
            let last_day = self.names.last_day(day);
            reach.add_days(model, day, last_day);
            if last_day >= day_of(since) {
                days.insert(day);
                open.insert(index, Open { model, last_day });
            }
        }
        if open.is_empty() {
            return Ok(reach);
        }
        match self.newest_buckets(&days, open.len(), since).await {
            Ok(found) => {
                for (index, bucket) in found {
                    if let Some(Open { model, .. }) = open.get(&index) {
                        reach.add_bucket(model, bucket);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "stored values cannot be looked at, each is read");
                for Open { model, last_day } in open.values() {
                    reach.add_whole_day(model, *last_day);
                }
            }
        }
        Ok(reach)
    }

    /// The newest bucket of each precision since a minute, by index, of all indices of some days.
    async fn newest_buckets(
        &self,
        days: &BTreeSet<u64>,
        indices: usize,
        since: u64,
    ) -> Answer<Vec<(String, u64)>> {
        let prefix = self.names.prefix();
        let target: Vec<String> = days.iter().map(|day| format!("{prefix}*-{day}")).collect();
        let target = target.join(",");
        // What was written a moment ago counts, too.
        let refresh = format!("/{target}/_refresh?ignore_unavailable=true");
        self.client.post::<Value>(&refresh, &json!({})).await?;
        let minutes = json!({"gte": since, "lt": 1_000_000_000_000_u64});
        let hours = json!({"gte": since / 100, "lt": 10_000_000_000_u64});
        let days = json!({"gte": since / 10_000, "lt": 100_000_000_u64});
        let within = |range: &Value| json!({"range": {"time_bucket": range}});
        let newest = |range: &Value| {
            json!({
                "filter": within(range),
                "aggs": {"newest": {"max": {"field": "time_bucket"}}},
            })
        };
        let body = json!({
            "size": 0,
            "query": {"bool": {"should": [within(&minutes), within(&hours), within(&days)], "minimum_should_match": 1}},
            "aggs": {"indices": {
                // There may be new ones by now.
                "terms": {"field": "_index", "size": indices + 1000},
                "aggs": {"minutes": newest(&minutes), "hours": newest(&hours), "days": newest(&days)},
            }},
        });
        let found: Found<Value, Aggregations> =
            search(&self.client, &target, Completeness::Required, &body).await?;
        let of_indices = found.aggregations.map(|found| found.indices.buckets);
        let of_indices = of_indices.into_iter().flatten();
        Ok(of_indices
            .flat_map(|of| {
                let newest = [of.minutes, of.hours, of.days].map(|part| part.newest.value);
                let newest = newest.into_iter().flatten();
                newest.map(move |bucket| (of.key.clone(), bucket as u64))
            })
            .collect())
    }
}
