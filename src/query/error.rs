//! Why a question has no answer. The text reaches the client.

use crate::model::id::IdError;
use crate::storage::StorageError;

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store could not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An id does not have the parts its kind has.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A time range that cannot be read or is not allowed here.
    #[error("{reason}, step: {step}, start: {start:?}, end: {end:?}")]
    Duration {
        reason: &'static str,
        step: &'static str,
        start: String,
        end: String,
    },
    /// A metric of another kind than the question needs.
    #[error("metric {name:?} has no {expected}")]
    MetricKind {
        name: String,
        expected: &'static str,
    },
    /// An argument that is valid by its type but makes no sense.
    #[error("{argument}: {reason}")]
    Argument {
        argument: &'static str,
        reason: String,
    },
    /// Part of the protocol, but this server does not do it.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
}

impl QueryError {
    pub(super) fn argument(argument: &'static str, reason: impl Into<String>) -> QueryError {
        QueryError::Argument {
            argument,
            reason: reason.into(),
        }
    }
}
