//! The outward face: answers questions from the store. [`service`] holds the use cases, [`graphql`] and [`http`] one
//! language over them.
//!
//! Nothing here writes, except user interface templates. Nothing here knows receivers, analysis or aggregation.

mod answers;
pub mod component;
pub mod context;
pub mod error;
pub mod graphql;
pub mod http;
pub mod service;

pub use answers::{Answers, Share};
pub use component::Components;
pub use context::{AliasLookup, Cuts, QueryContext, QueryLimits, QueryMetrics};
pub use error::QueryError;
