//! Rows of entities that come from another node or go to one.

use super::{Horizon, Rows};
use crate::model::entity::Entity;

impl Rows {
    /// Another process may have stored rows of buckets until then: those that are not held are read before they are written.
    pub(in crate::stream) fn read_back_until(&mut self, horizon: Horizon) {
        self.horizon.minute = self.horizon.minute.max(horizon.minute);
        self.horizon.hour = self.horizon.hour.max(horizon.hour);
        self.horizon.day = self.horizon.day.max(horizon.day);
    }

    /// Forgets the rows of some entities, stored or not.
    pub(in crate::stream) fn forget(&mut self, is_gone: impl Fn(&Entity) -> bool) {
        self.rows.retain(|key, _| !is_gone(&key.entity));
        self.news.retain(|key| !is_gone(&key.entity));
    }
}
