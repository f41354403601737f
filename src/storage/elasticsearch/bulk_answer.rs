//! What a bulk request came to, document by document.

use serde::Deserialize;

use super::client::{Cause, parse};
use crate::storage::{StorageError, WriteOutcome};

/// Makes answers short: per document only what decides its outcome.
pub const FILTER: &str = "filter_path=error,status,errors,items.*.status,items.*.error";

/// Refusals that say that the index is not there and cannot come into being (its alias is the name of another index, the
/// cluster has no room for its shards), or that it is closed or has no primary shard.
const OF_THE_INDEX: [&str; 4] = [
    "unavailable_shards_exception",
    "invalid_alias_name_exception",
    "validation_exception",
    "index_closed_exception",
];

/// Result of one action.
#[derive(Debug, Deserialize)]
pub struct Item {
    pub status: u16,
    pub error: Option<Cause>,
}

/// `{"index": {…}}` and the like: one entry, whatever the action was.
#[derive(Debug, Deserialize)]
struct Action {
    #[serde(alias = "create", alias = "update")]
    index: Item,
}

#[derive(Debug, Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    items: Vec<Action>,
}

impl Item {
    /// Whether there is no index for the document, and none may come into being by itself.
    pub fn lacks_index(&self) -> bool {
        self.status == 404 && self.ty() == "index_not_found_exception"
    }

    /// Whether the index was made read-only on purpose, not because its disk is full (blocks 5 and 8 of Elasticsearch).
    pub fn is_read_only(&self) -> bool {
        let reason = self.error.as_ref().map_or("", |cause| &cause.reason);
        self.status == 403
            && ["/5/index read-only", "/8/index write"]
                .iter()
                .any(|b| reason.contains(b))
    }

    fn ty(&self) -> &str {
        self.error.as_ref().map_or("", |cause| cause.ty.as_str())
    }

    /// Whether the document is stored, may be sent again or never will be. An index of a day that is over and was made
    /// read-only will not become writable again; it must not hold up what goes to others.
    pub fn outcome(&self, is_of_past_day: bool) -> WriteOutcome {
        let reason = || match &self.error {
            Some(cause) => format!("status {}, {cause}", self.status),
            None => format!("status {}", self.status),
        };
        match self.status {
            200..=299 => WriteOutcome::Stored,
            _ if is_of_past_day && self.is_read_only() => WriteOutcome::Rejected(reason()),
            // A block, missing rights or an index that must not be created are mended by an operator, not by losing data.
            401 | 403 | 408 | 409 | 429 | 500.. => WriteOutcome::Retry(reason()),
            404 if self.lacks_index() => WriteOutcome::Retry(reason()),
            // Closed on purpose, as one that is read-only.
            _ if self.ty() == "index_closed_exception" && is_of_past_day => {
                WriteOutcome::Rejected(reason())
            }
            // There is nothing wrong with the document, but with its index.
            _ if OF_THE_INDEX.contains(&self.ty()) => WriteOutcome::Retry(reason()),
            _ => WriteOutcome::Rejected(reason()),
        }
    }
}

/// The results in the order of the actions. An answer of another length says nothing about any of them.
pub fn items(body: &[u8], expected: usize) -> Result<Vec<Item>, StorageError> {
    let answer: BulkAnswer = parse(body)?;
    if answer.items.len() != expected {
        return Err(StorageError::Unavailable(format!(
            "elasticsearch answered {} of {expected} bulk items",
            answer.items.len()
        )));
    }
    Ok(answer.items.into_iter().map(|a| a.index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_failure_keeps_what_is_stored() {
        let body = br#"{"errors":true,"items":[
            {"index":{"status":201}},
            {"index":{"status":200}},
            {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue full"}}},
            {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse",
                "caused_by":{"type":"illegal_argument_exception","reason":"For input string"}}}},
            {"index":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard"}}},
            {"index":{"status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}},
            {"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}},
            {"update":{"status":404,"error":{"type":"document_missing_exception","reason":"missing"}}}]}"#;
        let items = items(body, 8).unwrap();
        let outcomes: Vec<WriteOutcome> = items.iter().map(|item| item.outcome(false)).collect();
        let retry = |text: &str| WriteOutcome::Retry(text.to_owned());
        let rejected = |text: &str| WriteOutcome::Rejected(text.to_owned());
        assert_eq!(
            outcomes,
            [
                WriteOutcome::Stored,
                WriteOutcome::Stored,
                retry("status 429, es_rejected_execution_exception: queue full"),
                rejected("status 400, mapper_parsing_exception: failed to parse: For input string"),
                retry("status 503, unavailable_shards_exception: primary shard"),
                retry("status 403, cluster_block_exception: read-only"),
                retry("status 404, index_not_found_exception: no such index"),
                rejected("status 404, document_missing_exception: missing"),
            ]
        );
    }

    #[test]
    fn a_past_day_that_was_made_read_only_takes_no_more() {
        let blocked = |block: &str| Item {
            status: 403,
            error: Some(Cause {
                ty: "cluster_block_exception".to_owned(),
                reason: format!("index [i-20200915] blocked by: [FORBIDDEN/{block} (api)];"),
            }),
        };
        for (block, is_past, is_final) in [
            ("8/index write", true, true),
            ("5/index read-only", true, true),
            ("8/index write", false, false),
            ("12/index read-only / allow delete", true, false),
        ] {
            let outcome = blocked(block).outcome(is_past);
            let is_rejected = matches!(outcome, WriteOutcome::Rejected(_));
            assert_eq!(is_rejected, is_final, "{block} {is_past}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_index_is_not_the_fault_of_the_document() {
        for (ty, of_past_day) in [
            ("unavailable_shards_exception", true),
            ("invalid_alias_name_exception", true),
            ("validation_exception", true),
            ("index_closed_exception", false),
        ] {
            let item: Item = serde_json::from_value(serde_json::json!({
                "status": 400, "error": {"type": ty, "reason": "index"},
            }))
            .unwrap();
            let is_retried = |outcome| matches!(outcome, WriteOutcome::Retry(_));
            assert!(is_retried(item.outcome(false)), "{ty}");
            assert_eq!(is_retried(item.outcome(true)), of_past_day, "{ty}");
        }
    }

    #[test]
    fn an_answer_of_another_length_is_no_answer() {
        let one = br#"{"errors":false,"items":[{"index":{"status":201}}]}"#;
        assert!(matches!(items(one, 2), Err(StorageError::Unavailable(_))));
        assert!(matches!(items(b"{}", 1), Err(StorageError::Unavailable(_))));
        assert!(matches!(items(b"<html>", 1), Err(StorageError::Damaged(_))));
    }
}
