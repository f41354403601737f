//! The integration tests, one binary: real servers, real agents, a real Elasticsearch, recorded data of the original.

mod agents;
mod arbitrary;
mod bad_input;
mod bad_questions;
mod captures;
mod elasticsearch_store;
mod es_console;
mod every_metric;
mod failures;
mod gate;
mod golden;
mod graphql;
mod lanes;
mod layering;
mod memory_store;
mod oal_edit;
mod oap_process;
mod peers;
mod process;
mod questions;
mod segments;
mod sender;
mod server;
mod shards;
mod storage_contract;
mod waiting;
