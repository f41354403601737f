//! An observability analysis platform server that takes the place of Apache SkyWalking OAP 8.1.0.
//!
//! Data flows one way: receiver or fetcher → journal → analyzer → stream → storage ← query. `app` is the only module that knows all of them.

pub mod alarm;
pub mod analyzer;
pub mod app;
pub mod cluster;
pub mod config;
pub mod dsl;
pub mod dynamic;
pub mod export;
pub mod fetcher;
pub mod journal;
pub mod model;
pub mod query;
pub mod receiver;
pub mod status;
pub mod storage;
pub mod stream;
pub mod telemetry;
pub mod util;
