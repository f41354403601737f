//! The vocabulary: ids, time buckets, scopes, sources, metric values, storage models. Pure data: no I/O, no clock, no async.

pub mod attr;
pub mod decimal;
pub mod entity;
pub mod fact;
pub mod id;
pub mod message;
pub mod metrics;
pub mod minute_value;
pub mod profile;
pub mod row;
pub mod schema;
pub mod scope;
pub mod source;
pub mod table;
pub mod time_bucket;
pub mod yaml;
