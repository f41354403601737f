//! What goes to those who look at minute values as they come, in order.

use tokio::sync::oneshot;

use super::partitions::Partitions;
use crate::model::minute_value::MinuteValue;

/// Minute values, or that no more of some entities will come.
#[derive(Debug)]
pub enum Watched {
    Values(Vec<MinuteValue>),
    /// Another node writes these from now on. To be answered when what that one must know of them is stored.
    Release(Partitions, oneshot::Sender<()>),
}
