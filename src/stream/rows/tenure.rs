//! Rows of entities that come from another node or go to one.

use super::{Horizon, Rows};
use crate::model::entity::Entity;

impl Rows {
    /// Another process may have stored rows of buckets until then: those that are not held are read before they are written.
    pub(in crate::stream) fn read_back_until(&mut self, horizon: Horizon) {
        for bucket in [horizon.minute, horizon.hour, horizon.day] {
            self.stored.expect_of_others(bucket);
        }
    }

    /// Forgets the rows of some entities, stored or not.
    pub(in crate::stream) fn forget(&mut self, is_gone: impl Fn(&Entity) -> bool) {
        let Rows { rows, room, .. } = self;
        rows.retain(|key, _| {
            let is_gone = is_gone(&key.entity);
            if is_gone {
                room.give_back(&key.entity);
            }
            !is_gone
        });
        self.news.retain(|key| !is_gone(&key.entity));
    }
}
