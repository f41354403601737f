//! Searches: how they are asked, what comes back, and the clauses that queries are made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Cause, Client, accepted, parse, refusal};
use super::gather::{Gather, all_failed};
use super::node::Reply;
use super::{Answer, Elasticsearch};
use crate::model::time_bucket::day_of;
use crate::storage::StorageError;
use crate::storage::query::{BucketRange, Order};

/// Options of every search: days without an index are days without data.
const OPTIONS: &str = "ignore_unavailable=true&allow_no_indices=true";
/// What is read of an answer; nothing else is sent.
const PARTS: [&str; 9] = [
    "error",
    "status",
    "_shards.failed",
    "_shards.failures.reason",
    "hits.total",
    "hits.hits._index",
    "hits.hits._id",
    "hits.hits._source",
    "aggregations",
];

/// Whether an answer from only some of the shards is better than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// For people: show what there is.
    BestEffort,
    /// For decisions: what is not found must not exist.
    Required,
}

/// Answer to a search for documents of type `S`, with aggregations of type `A`.
#[derive(Debug, Deserialize)]
#[serde(bound = "S: DeserializeOwned, A: DeserializeOwned")]
pub struct Found<S, A = Value> {
    #[serde(default, rename = "_shards")]
    shards: Shards,
    #[serde(default)]
    hits: Hits<S>,
    pub aggregations: Option<A>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shards {
    failed: u64,
    failures: Vec<ShardFailure>,
}

#[derive(Debug, Deserialize)]
struct ShardFailure {
    reason: Cause,
}

#[derive(Debug, Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
struct Hits<S> {
    total: Option<Total>,
    #[serde(default = "Vec::new")]
    hits: Vec<Hit<S>>,
}

impl<S> Default for Hits<S> {
    fn default() -> Self {
        Hits {
            total: None,
            hits: vec![],
        }
    }
}

#[derive(Debug, Deserialize)]
struct Total {
    value: i64,
    /// `gte` if the server stopped counting there.
    #[serde(default)]
    relation: String,
}

/// A found document.
#[derive(Debug, Deserialize)]
pub struct Hit<S> {
    #[serde(rename = "_index")]
    pub index: String,
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(rename = "_source")]
    pub source: S,
}

impl<S, A> Found<S, A> {
    /// How many documents match in all, as far as the search counted.
    pub fn total(&self) -> i64 {
        self.hits.total.as_ref().map_or(0, |t| t.value)
    }

    /// The documents.
    pub fn hits(self) -> Vec<Hit<S>> {
        self.hits.hits
    }

    /// What the documents hold.
    pub fn sources(self) -> impl Iterator<Item = S> {
        self.hits.hits.into_iter().map(|hit| hit.source)
    }
}

impl Elasticsearch {
    /// Says when more matches than the limit let through, and which setting decides that.
    pub(super) fn note_if_cut<S, A>(
        &self,
        question: &'static str,
        found: &Found<S, A>,
        setting: &'static str,
    ) {
        let shown = found.hits.hits.len();
        let total = found.hits.total.as_ref();
        let has_more = |total: &Total| {
            usize::try_from(total.value).is_ok_and(|n| n > shown) || total.relation == "gte"
        };
        if total.is_some_and(has_more) {
            self.counters.note_cut(question, shown, setting);
        }
    }

    /// Makes what was written to today's index of a model visible, if a question is about today: metrics are refreshed as
    /// seldom as in 8.1.0, but what is asked for should be there. Just after midnight the same holds for yesterday's. A refresh that
    /// fails leaves what was visible before.
    pub(super) async fn freshen(&self, model: &str, range: BucketRange) {
        let now_ms = self.clock.now_ms();
        let asked = day_of(range.start)..=day_of(range.end);
        let today = self.zone.day(now_ms);
        let ending = self.zone.day(now_ms - STILL_WRITTEN_MS);
        let ending = ending.filter(|day| Some(*day) != today);
        let days = [today, ending].into_iter().flatten();
        for day in days.filter(|day| asked.contains(day)) {
            self.freshen_index(self.names.daily(model, day), now_ms)
                .await;
        }
    }

    async fn freshen_index(&self, index: String, now_ms: i64) {
        if !self.freshened.is_due(&index, now_ms) {
            return;
        }
        self.counters.refreshes.inc();
        let client = Arc::clone(&self.client);
        let send = move |indices: Vec<String>| async move {
            let names = indices.join(",");
            let path = format!("/{names}/_refresh?ignore_unavailable=true");
            if let Err(error) = client.post::<Value>(&path, &json!({})).await {
                tracing::debug!(%error, index.names = names, "refresh failed");
            }
            indices.iter().map(|_| Ok(())).collect()
        };
        // Its failure was said.
        self.refreshing.ask(index, 1, send).await.ok();
    }
}

/// When indices were last refreshed for a question.
#[derive(Debug, Default)]
pub(super) struct Freshened(Mutex<HashMap<String, i64>>);

/// A day that is over for less than this is written as often as today, milliseconds: its last minutes come late.
const STILL_WRITTEN_MS: i64 = 10 * 60 * 1_000;
/// Pause between two refreshes of an index, milliseconds.
const REFRESH_PAUSE_MS: i64 = 5_000;
/// Indices whose last refresh is remembered; more than there are models of today.
const MAX_FRESHENED: usize = 1_000;

impl Freshened {
    /// Whether an index is to be refreshed now, which is remembered.
    fn is_due(&self, index: &str, now_ms: i64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: i64| now_ms.abs_diff(at) < REFRESH_PAUSE_MS.unsigned_abs();
        if last.get(index).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if last.len() >= MAX_FRESHENED {
            last.retain(|_, at| is_recent(*at));
        }
        last.insert(index.to_owned(), now_ms);
        true
    }
}

/// A search on its way.
#[derive(Debug)]
pub struct Question {
    target: String,
    is_partial_allowed: bool,
    body: Value,
}

/// Searches of one request at most.
const MANY: usize = 64;

/// Searches that are asked at the same moment.
pub type Searches = Gather<Question, Bytes>;

/// None yet.
pub fn searches() -> Searches {
    Gather::new(MANY)
}

/// Asks indices or an alias, together with other searches of this moment.
pub async fn search<S: DeserializeOwned, A: DeserializeOwned>(
    client: &Arc<Client>,
    target: &str,
    completeness: Completeness,
    body: &Value,
) -> Result<Found<S, A>, StorageError> {
    let question = Question {
        target: target.to_owned(),
        is_partial_allowed: completeness == Completeness::BestEffort,
        body: body.clone(),
    };
    let asking = Arc::clone(client);
    let send = move |questions: Vec<Question>| async move {
        match questions.as_slice() {
            [one] => vec![search_one(&asking, one).await],
            several => match search_several(&asking, several).await {
                Ok(answers) => answers,
                Err(error) => all_failed(several.len(), &error),
            },
        }
    };
    let answer = client.searches.ask(question, 1, send).await;
    let found: Found<S, A> = answer.and_then(|body| parse(&body)).map_err(|e| match e {
        StorageError::Refused(text) => StorageError::InvalidQuery(text),
        other => other,
    })?;
    if let Some(failure) = found.shards.failures.first() {
        let reason = failure.reason.to_string();
        client.warn_of_incomplete_search(target, found.shards.failed, &reason);
    }
    Ok(found)
}

async fn search_one(client: &Client, question: &Question) -> Answer<Bytes> {
    let Question {
        target,
        is_partial_allowed,
        body,
    } = question;
    let path = format!(
        "/{target}/_search?{OPTIONS}&filter_path={}&allow_partial_search_results={is_partial_allowed}",
        PARTS.join(",")
    );
    accepted(client.post_json(&path, body).await?)
}

#[derive(Deserialize)]
struct Several {
    responses: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    status: u16,
    error: Option<IgnoredAny>,
}

async fn search_several(client: &Client, questions: &[Question]) -> Answer<Vec<Answer<Bytes>>> {
    let mut lines = String::new();
    for question in questions {
        let header = json!({
            "index": question.target,
            "ignore_unavailable": true,
            "allow_no_indices": true,
            "allow_partial_search_results": question.is_partial_allowed,
        });
        for line in [&header, &question.body] {
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    let parts: Vec<String> = PARTS.iter().map(|p| format!("responses.{p}")).collect();
    let path = format!("/_msearch?filter_path=error,status,{}", parts.join(","));
    let reply = client.post_lines(&path, lines.into()).await?;
    let body = accepted(reply)?;
    let several: Several = parse(&body)?;
    let answer = |response: Box<RawValue>| {
        let body = Bytes::from(String::from(Box::<str>::from(response)));
        match parse::<Outcome>(&body)? {
            Outcome { error: None, .. } => Ok(body),
            Outcome { status, .. } => Err(refusal(&Reply { status, body })),
        }
    };
    Ok(several.responses.into_iter().map(answer).collect())
}

/// A query where every clause must hold and none counts for the score.
pub fn all_of(clauses: Vec<Value>) -> Value {
    json!({"bool": {"filter": clauses}})
}

/// A clause that holds if one of these does.
pub fn any_of(clauses: Vec<Value>) -> Value {
    json!({"bool": {"should": clauses, "minimum_should_match": 1}})
}

/// A column has a value.
pub fn term(column: &str, value: impl Into<Value>) -> Value {
    json!({"term": {column: value.into()}})
}

/// `time_bucket` lies in a range.
pub fn within(range: BucketRange) -> Value {
    json!({"range": {"time_bucket": {"gte": range.start, "lte": range.end}}})
}

/// Sort direction in the words of the server.
pub fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "asc",
        Order::Descending => "desc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Name {
        name: String,
    }

    #[test]
    fn an_answer_without_hits_is_empty() {
        // What is left of the answer for indices that do not exist.
        let text = r#"{"_shards":{"failed":0},"hits":{"total":{"value":0,"relation":"eq"}}}"#;
        let found: Found<Name> = serde_json::from_str(text).unwrap();
        assert_eq!((found.total(), found.hits().len()), (0, 0));
    }

    #[test]
    fn hits_and_failed_shards_are_read() {
        let text = r#"{"_shards":{"failed":1,"failures":[{"reason":{"type":"a","reason":"b"}}]},
            "hits":{"total":{"value":7},"hits":[{"_index":"i-1","_id":"x","_source":{"name":"n"}}]}}"#;
        let found: Found<Name> = serde_json::from_str(text).unwrap();
        assert_eq!(found.shards.failed, 1);
        assert_eq!(found.shards.failures[0].reason.to_string(), "a: b");
        assert_eq!(found.total(), 7);
        let names: Vec<Name> = found.sources().collect();
        assert_eq!(names, [Name { name: "n".into() }]);
    }
}
