//! GraphQL over the use cases.
//!
//! A document is read, bounded, checked against the schema and then executed here. The checks and introspection are
//! async-graphql's; execution is ours, because async-graphql leaves a failed field out where the language (and the
//! original) let a missing non-null value take its parent with it.

mod execute;
mod limits;
mod project;
mod resolver;
mod schema;
mod variables;

pub use execute::{Api, GraphqlRequest};
