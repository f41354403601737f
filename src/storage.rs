//! Durable truth: one interface, two backends. No word of SQL or of Elasticsearch leaves this folder.

pub mod backend;
pub mod dead_letters;
pub mod elasticsearch;
pub mod embedded;
mod last_templates;
pub mod query;
mod reach;
mod store;
pub mod transfer;
pub mod writer;

pub use backend::Backend;
pub use dead_letters::DeadLetters;
pub use query::*;
pub use reach::Reach;
pub use store::{Store, StoreKind};
pub use transfer::{Inspection, RowPage};

/// Why a storage call failed as a whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The store cannot be reached or is not ready; trying again later can succeed.
    #[error("storage is not available: {0}")]
    Unavailable(String),
    /// The store refused the request; trying again cannot succeed.
    #[error("storage refused the request: {0}")]
    Refused(String),
    /// The question itself is wrong.
    #[error("{0}")]
    InvalidQuery(String),
    /// Stored data that cannot be read.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

/// What became of one row of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    Stored,
    /// Not now: write it again later.
    Retry(String),
    /// Never: the reason.
    Rejected(String),
}
