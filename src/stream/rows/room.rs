//! Who may have new rows when there is little room: one service that invents endpoint names must not take that of all others.
//!
//! A part of the room is kept for everything but endpoints. Of the rest, the endpoints of one service may have as many rows as
//! are free: alone it gets half of it, and whoever has few rows finds room until there is none at all.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::entity::{Entity, EntityField};
use crate::model::scope::Scope;

/// The part of the room that endpoints cannot have: one of so many.
const RESERVED_PART: usize = 8;

/// Why there is no room for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stream) enum NoRoom {
    /// For nobody.
    Full,
    /// The endpoints of this service have their share.
    Share,
}

impl NoRoom {
    /// As a label of metrics.
    pub(in crate::stream) fn reason(self) -> &'static str {
        match self {
            NoRoom::Full => "rows_full",
            NoRoom::Share => "share_of_service_full",
        }
    }
}

/// Of an endpoint its service, of a call between endpoints those of both; nothing of everything else.
fn owners(entity: &Entity) -> impl Iterator<Item = &Arc<str>> {
    let field = |field| entity.shared_field(field);
    let (first, second) = match entity.scope {
        Scope::Endpoint | Scope::EndpointMeter => (field(EntityField::ServiceId), None),
        Scope::EndpointRelation => (
            field(EntityField::ServiceId),
            field(EntityField::ChildServiceId),
        ),
        _ => (None, None),
    };
    let second = second.filter(|second| first != Some(second));
    first.into_iter().chain(second)
}

/// Rows of endpoints by service, and what there is room for. Counted in rows.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    by_service: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    /// Whether a service found its share used up since room was last made.
    is_wanting: bool,
}

impl Room {
    pub(super) fn new(max: usize) -> Room {
        Room {
            max,
            by_service: HashMap::default(),
            is_wanting: false,
        }
    }

    /// What endpoints may take of it.
    pub(super) fn for_endpoints(&self) -> usize {
        self.max - self.max / RESERVED_PART
    }

    /// Whether so much is taken that changes should be written at once: what is stored can be forgotten.
    pub(super) fn is_tight(&self, taken: usize) -> bool {
        taken > self.max / 4 * 3 || self.is_wanting
    }

    /// Counts a new row if there is room for it.
    pub(super) fn take(&mut self, entity: &Entity, taken: usize) -> Result<(), NoRoom> {
        let free = match owners(entity).next().is_some() {
            true => self.for_endpoints(),
            false => self.max,
        }
        .saturating_sub(taken);
        if free == 0 {
            return Err(NoRoom::Full);
        }
        for service in owners(entity) {
            if self.rows_of(service) >= free {
                self.is_wanting = true;
                return Err(NoRoom::Share);
            }
        }
        for service in owners(entity) {
            *self.by_service.entry(Arc::clone(service)).or_default() += 1;
        }
        Ok(())
    }

    fn rows_of(&self, service: &Arc<str>) -> usize {
        self.by_service.get(service).copied().unwrap_or(0)
    }

    /// The service with the most endpoint rows, its id and how many.
    pub(super) fn largest(&self) -> Option<(&Arc<str>, usize)> {
        let services = self.by_service.iter();
        let largest = services.max_by_key(|(_, rows)| **rows);
        largest.map(|(service, rows)| (service, *rows))
    }

    /// A row is gone.
    pub(super) fn give_back(&mut self, entity: &Entity) {
        for service in owners(entity) {
            if let Some(rows) = self.by_service.get_mut(service) {
                *rows -= 1;
                if *rows == 0 {
                    self.by_service.remove(service);
                }
            }
        }
    }

    /// Whose rows are to be forgotten first, given how many are held and how many are to come.
    pub(super) fn shortage(&mut self, taken: usize, wanted: usize) -> Shortage {
        let is_wanting = std::mem::take(&mut self.is_wanting);
        if taken + wanted > self.for_endpoints() {
            return Shortage::Everyones;
        }
        match is_wanting {
            true => Shortage::Greedy(self.for_endpoints().saturating_sub(taken) / 2),
            false => Shortage::None,
        }
    }

    /// Whether a row is among those of a service that has more than so many.
    pub(super) fn is_greedy(&self, entity: &Entity, share: usize) -> bool {
        owners(entity).any(|service| self.rows_of(service) > share)
    }
}

/// Whose rows make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    None,
    Everyones,
    /// Those of services with more endpoint rows than this.
    Greedy(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scope::NodeType;

    fn entity(scope: Scope, services: [&str; 2]) -> Entity {
        let fields = [EntityField::ServiceId, EntityField::ChildServiceId];
        let fields: Vec<_> = fields.into_iter().zip(services.map(Arc::from)).collect();
        Entity::new(scope, NodeType::Normal, "id", fields)
    }

    /// How many rows are taken until there is no room, and why there is none.
    fn fill(room: &mut Room, taken: &mut usize, entity: &Entity) -> (usize, NoRoom) {
        let before = *taken;
        loop {
            match room.take(entity, *taken) {
                Ok(()) => *taken += 1,
                Err(reason) => return (*taken - before, reason),
            }
        }
    }

    #[test]
    fn a_service_that_takes_what_it_can_leaves_room_for_others() {
        let (mut room, mut taken) = (Room::new(800), 0);
        let endpoint = |service| entity(Scope::Endpoint, [service, ""]);
        let mut fill = |entity: &Entity| fill(&mut room, &mut taken, entity);
        // 700 are for endpoints.
        assert_eq!(fill(&endpoint("a")), (350, NoRoom::Share));
        assert_eq!(fill(&endpoint("b")), (175, NoRoom::Share));
        // Calls of the first service count for it, whoever is called.
        let call = entity(Scope::EndpointRelation, ["a", "c"]);
        assert_eq!(fill(&call), (0, NoRoom::Share));
        let call = entity(Scope::EndpointRelation, ["d", "a"]);
        assert_eq!(fill(&call), (0, NoRoom::Share));
        assert_eq!(fill(&endpoint("c")), (88, NoRoom::Share));
        for service in ["d", "e", "f", "g", "h", "i", "j"] {
            fill(&endpoint(service));
        }
        assert_eq!(fill(&endpoint("k")), (0, NoRoom::Full));
        let service = entity(Scope::Service, ["", ""]);
        assert_eq!(fill(&service), (100, NoRoom::Full));
        assert_eq!(room.largest(), Some((&"a".into(), 350)));
    }

    #[test]
    fn rows_of_both_sides_of_a_call_are_given_back() {
        let mut room = Room::new(100);
        let call = entity(Scope::EndpointRelation, ["a", "b"]);
        let own_call = entity(Scope::EndpointRelation, ["a", "a"]);
        assert!(room.take(&call, 0).is_ok() && room.take(&own_call, 1).is_ok());
        assert_eq!(
            (room.rows_of(&"a".into()), room.rows_of(&"b".into())),
            (2, 1)
        );
        room.give_back(&call);
        room.give_back(&own_call);
        assert!(room.by_service.is_empty());
    }

    #[test]
    fn those_who_want_too_much_make_room_first() {
        let mut room = Room::new(80);
        let mut taken = 0;
        let greedy = entity(Scope::Endpoint, ["a", ""]);
        assert_eq!(fill(&mut room, &mut taken, &greedy), (35, NoRoom::Share));
        assert!(room.is_tight(taken));
        let shortage = room.shortage(taken, 10);
        let Shortage::Greedy(share) = shortage else {
            panic!("{shortage:?}");
        };
        assert!(room.is_greedy(&greedy, share));
        assert!(!room.is_greedy(&entity(Scope::Endpoint, ["b", ""]), share));
        assert!(!room.is_greedy(&entity(Scope::Service, ["a", ""]), share));
        assert_eq!(room.shortage(taken, 10), Shortage::None);
        assert_eq!(room.shortage(taken, 36), Shortage::Everyones);
    }
}
