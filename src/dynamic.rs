//! Settings that change while the server runs: a configuration centre is asked again and again, and what is new there is
//! handed to whoever runs with it (8.1.0 spec, I).
//!
//! A centre that is away changes nothing. What a value means is not decided here.

mod apollo;
mod center;
mod config_map;
mod consul;
mod dcs;
mod etcd;
mod key;
mod nacos;
mod watch;
mod zookeeper;

pub use center::{Center, Values};
pub use key::Key;
pub use watch::{Apply, DynamicMetrics, Watch};
