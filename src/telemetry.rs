//! What the server says about itself: the log, and metrics for Prometheus.
//!
//! Handles are made from a [`Registry`] that is passed in and are kept by those who count; nothing here is global but the log.

pub mod ledger;
pub mod log;
mod probes;
mod process;
pub mod registry;
pub mod server;
mod stay;
pub mod throttle;

pub use ledger::Ledger;
pub use log::{LogFormat, LogSettings};
pub use registry::{Registers, Registry};
pub use stay::Stay;
pub use throttle::Throttle;
