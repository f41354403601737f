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

    /// Forgets the rows of some entities, stored or not; how many values were changed and not handed over to be stored.
    pub(in crate::stream) fn forget(&mut self, is_gone: impl Fn(&Entity) -> bool) -> u64 {
        let Rows { rows, room, .. } = self;
        let mut unsaved = 0;
        rows.retain(|key, row| {
            let is_gone = is_gone(&key.entity);
            if is_gone {
                room.give_back(&key.entity);
                unsaved += row.slots.iter().filter(|slot| slot.is_dirty).count() as u64;
            }
            !is_gone
        });
        self.news.retain(|key| !is_gone(&key.entity));
        unsaved
    }
}
