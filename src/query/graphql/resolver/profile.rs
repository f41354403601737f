//! Fields of `profile.graphqls`, which are not answered yet.

use super::Answer;
use crate::query::QueryError;

/// Every one of them.
pub(super) const FIELDS: [&str; 5] = [
    "getProfileTaskList",
    "getProfileTaskSegmentList",
    "getProfiledSegment",
    "getProfileAnalyze",
    "createProfileTask",
];

/// An error that says so; an empty list would look like an answer.
pub(super) fn unsupported() -> Answer {
    Err(QueryError::Unsupported("profiling"))
}
