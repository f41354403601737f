//! The use cases, one file per kind of question. Inputs and answers carry the names of the query protocol, so a face
//! only has to read and write them.

pub mod alarm;
pub mod call;
pub mod duration;
pub mod endpoint_topology;
pub mod entity;
#[cfg(test)]
pub(in crate::query) mod fake;
pub mod heat_map;
pub mod instance_topology;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod paging;
pub mod profile;
pub mod profile_snapshots;
pub mod profile_tree;
pub mod template;
pub mod template_file;
pub mod top_n;
pub mod topology;
pub mod trace;
pub mod trace_tree;
