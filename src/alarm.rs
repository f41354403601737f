//! Alarms: rules over the minute values of metrics, who is told, and what is remembered (8.1.0 spec, H).
//!
//! One task owns what the rules remember. It is fed by the shards, checks once a minute, stores the alarms of a check and gives
//! them to the hooks, each of which is a task with a queue of its own.

pub mod entity;
pub mod hand_over;
mod hook;
mod hooks;
pub mod message;
mod minutes;
pub mod running;
pub mod stage;
mod state;
mod take_over;
mod target;
pub mod window;

pub use hook::{Hook, HookMetrics};
pub use hooks::{Hooks, NamedTarget};
pub use message::AlarmMessage;
pub use running::{Alarms, BYTES_PER_WINDOW, Minute};
pub use stage::{AlarmMetrics, AlarmProgram, AlarmStage};
pub use target::{Target, is_code_for_good};
