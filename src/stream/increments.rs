//! What this node saw of entities that another one writes, merged until it is sent there: the first of two steps of
//! aggregation (8.1.0 spec, F.2).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::partitions::{of_entity, of_fact};
use super::plan::Plan;
use super::rows::{Key, KeyMap};
use crate::model::entity::Entity;
use crate::model::fact::{AddressAlias, Fact};
use crate::model::metrics::Value;

/// What was seen of an entity in a minute.
#[derive(Debug, Clone)]
pub struct Increment {
    pub entity: Arc<Entity>,
    /// Minute bucket.
    pub minute: u64,
    /// One place for each item that the plan has for the scope of the entity.
    pub values: Box<[Option<Value>]>,
    /// Whether it says that the entity exists.
    pub is_seen: bool,
}

/// Increments, and what is known of services, instances, endpoints and addresses.
#[derive(Debug, Default)]
pub struct Portion {
    pub increments: Vec<Increment>,
    /// No sources and no meters.
    pub known: Vec<Fact>,
}

impl Portion {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.increments.len() + self.known.len()
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let increments = self.increments.iter();
        let increments = increments.map(|i| weight(&i.entity, &i.values));
        let known = self.known.iter().map(weight_of);
        increments.chain(known).sum()
    }

    /// Whether all of it is of partitions for which something holds.
    pub fn is_all_of(&self, is_so: impl Fn(usize) -> bool) -> bool {
        let increments = self.increments.iter().map(|i| of_entity(&i.entity));
        increments.chain(self.known.iter().map(of_fact)).all(is_so)
    }

    /// Puts what belongs to each partition where `sort` says, by a number below `places`; what is beyond is dropped.
    pub fn divide(self, places: usize, sort: impl Fn(usize) -> usize) -> Vec<Portion> {
        let mut parts: Vec<Portion> = (0..places).map(|_| Portion::default()).collect();
        for increment in self.increments {
            if let Some(part) = parts.get_mut(sort(of_entity(&increment.entity))) {
                part.increments.push(increment);
            }
        }
        for fact in self.known {
            if let Some(part) = parts.get_mut(sort(of_fact(&fact))) {
                part.known.push(fact);
            }
        }
        parts
    }
}

#[derive(Debug)]
struct Collected {
    values: Box<[Option<Value>]>,
    is_seen: bool,
}

/// What there is of an entity in a minute, in bytes of memory, about. Texts count as if nobody shared them.
fn weight(entity: &Entity, values: &[Option<Value>]) -> usize {
    size_of::<(Key, Collected)>()
        + entity.heap_bytes()
        + entity.text_bytes()
        + size_of_val(values)
        + heap_bytes(values)
}

fn heap_bytes(values: &[Option<Value>]) -> usize {
    values.iter().flatten().map(Value::heap_bytes).sum()
}

/// The same of something known.
fn weight_of(fact: &Fact) -> usize {
    let behind = match fact {
        Fact::Service { entity, .. } | Fact::Endpoint { entity, .. } => {
            entity.heap_bytes() + entity.text_bytes()
        }
        Fact::Instance {
            entity, properties, ..
        } => {
            let properties = properties.as_ref().map_or(0, |text| text.len());
            entity.heap_bytes() + entity.text_bytes() + properties
        }
        Fact::Address { alias, .. } => {
            size_of::<AddressAlias>()
                + alias.address.len()
                + alias.service_id.len()
                + alias.instance_id.len()
        }
        Fact::Source(_) | Fact::Meter(_) => 0,
    };
    size_of::<(u8, Arc<str>, Fact)>() + behind
}

/// How much is taken at once.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub increments: usize,
    /// As [`Portion::bytes`]; the last of them may be beyond.
    pub bytes: usize,
}

impl Limit {
    /// Everything.
    pub const NONE: Limit = Limit {
        increments: usize::MAX,
        bytes: usize::MAX,
    };
}

/// Collects facts and increments. Bounded by bytes of memory.
#[derive(Debug)]
pub struct Increments {
    collected: KeyMap<Collected>,
    /// By kind and id.
    known: HashMap<(u8, Arc<str>), Fact, foldhash::fast::RandomState>,
    /// What all of them weigh.
    bytes: usize,
    capacity: usize,
    /// Given up since this was last taken.
    shed: u64,
    /// Values of meters that do not fit to what is there, likewise.
    unfit: u64,
}

impl Increments {
    /// With room for so many bytes.
    pub fn new(capacity: usize) -> Increments {
        Increments {
            collected: KeyMap::default(),
            known: HashMap::default(),
            bytes: 0,
            capacity,
            shed: 0,
            unfit: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.collected.len() + self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether facts about something new find no room.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.capacity
    }

    /// Takes the numbers of values that found no room and that did not fit.
    pub fn take_lost(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.shed),
            std::mem::take(&mut self.unfit),
        )
    }

    /// Takes facts in as far as there is room.
    pub fn absorb(&mut self, plan: &Plan, facts: Vec<Fact>) {
        let thresholds = plan.thresholds();
        for fact in facts {
            match fact {
                Fact::Source(source) => {
                    self.change(plan, &source.entity, source.minute, false, |place| {
                        place.is_seen = true;
                        plan.apply(&source, &thresholds, &mut place.values);
                        0
                    });
                }
                Fact::Meter(value) => {
                    self.change(plan, &value.entity, value.minute, false, |place| {
                        u64::from(!plan.apply_meter(&value, &mut place.values))
                    })
                }
                known => self.learn(known, false),
            }
        }
    }

    /// Takes in what was collected elsewhere, whatever the bound: for whoever asks [`Increments::is_full`] first.
    pub fn merge(&mut self, plan: &Plan, portion: Portion) {
        for increment in portion.increments {
            let (entity, minute) = (&increment.entity, increment.minute);
            self.change(plan, entity, minute, true, |place| {
                place.is_seen |= increment.is_seen;
                merge(plan, entity, &mut place.values, increment.values)
            });
        }
        for fact in portion.known {
            self.learn(fact, true);
        }
    }

    /// Changes what there is of an entity in a minute; `change` says how many values did not fit. What is new needs room,
    /// unless it `has_room`.
    fn change(
        &mut self,
        plan: &Plan,
        entity: &Arc<Entity>,
        minute: u64,
        has_room: bool,
        change: impl FnOnce(&mut Collected) -> u64,
    ) {
        let is_full = self.is_full() && !has_room;
        let key = Key {
            entity: Arc::clone(entity),
            bucket: minute,
        };
        let place = match self.collected.entry(key) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(_) if is_full => {
                self.shed += 1;
                return;
            }
            Entry::Vacant(place) => {
                let items = plan.items(entity.scope).len();
                let values: Box<[Option<Value>]> =
                    std::iter::repeat_with(|| None).take(items).collect();
                self.bytes += weight(entity, &values);
                place.insert(Collected {
                    values,
                    is_seen: false,
                })
            }
        };
        let before = heap_bytes(&place.values);
        self.unfit += change(place);
        self.bytes = self.bytes + heap_bytes(&place.values) - before;
    }

    fn learn(&mut self, mut new: Fact, has_room: bool) {
        let key = match &new {
            Fact::Service { entity, .. } => (0, Arc::clone(&entity.id)),
            Fact::Endpoint { entity, .. } => (1, Arc::clone(&entity.id)),
            Fact::Instance { entity, .. } => (2, Arc::clone(&entity.id)),
            Fact::Address { alias, .. } => (3, Arc::from(alias.address.as_str())),
            Fact::Source(_) | Fact::Meter(_) => return,
        };
        if let Some(old) = self.known.get_mut(&key) {
            let before = weight_of(old);
            if let (
                Fact::Instance { properties, .. },
                Fact::Instance {
                    properties: old, ..
                },
            ) = (&mut new, &mut *old)
                && properties.is_none()
            {
                *properties = old.take();
            }
            let first = minute_of(old).min(minute_of(&new));
            set_minute(&mut new, first);
            *old = new;
            self.bytes = self.bytes + weight_of(old) - before;
        } else if has_room || !self.is_full() {
            self.bytes += weight_of(&new);
            self.known.insert(key, new);
        } else {
            self.shed += 1;
        }
    }

    /// Takes what is of the partitions that are wanted, up to `limit`.
    pub fn take(&mut self, limit: Limit, is_wanted: impl Fn(usize) -> bool) -> Portion {
        let mut taken = Portion::default();
        let (mut count, mut bytes) = (0, 0);
        let has_room = |count, bytes| count < limit.increments && bytes < limit.bytes;
        let wanted = self.collected.extract_if(|key, place| {
            let is_taken = has_room(count, bytes) && is_wanted(of_entity(&key.entity));
            if is_taken {
                count += 1;
                bytes += weight(&key.entity, &place.values);
            }
            is_taken
        });
        for (key, collected) in wanted {
            taken.increments.push(Increment {
                entity: key.entity,
                minute: key.bucket,
                values: collected.values,
                is_seen: collected.is_seen,
            });
        }
        let wanted = self.known.extract_if(|_, fact| {
            let is_taken = has_room(count, bytes) && is_wanted(of_fact(fact));
            if is_taken {
                count += 1;
                bytes += weight_of(fact);
            }
            is_taken
        });
        taken.known.extend(wanted.map(|(_, fact)| fact));
        self.bytes -= bytes;
        taken
    }
}

/// Merges values of the same entity; returns how many do not fit to what is there.
pub(super) fn merge(
    plan: &Plan,
    entity: &Entity,
    into: &mut [Option<Value>],
    from: Box<[Option<Value>]>,
) -> u64 {
    let mut unfit = 0;
    let items = plan.items(entity.scope);
    for ((into, from), item) in into.iter_mut().zip(from).zip(items) {
        match (into, from) {
            (_, None) => {}
            (Some(into), Some(from)) => unfit += u64::from(!item.function.merge(into, &from)),
            (none, from) => *none = from,
        }
    }
    unfit
}

fn minute_of(fact: &Fact) -> u64 {
    match fact {
        Fact::Source(source) => source.minute,
        Fact::Meter(value) => value.minute,
        Fact::Service { minute, .. }
        | Fact::Instance { minute, .. }
        | Fact::Endpoint { minute, .. }
        | Fact::Address { minute, .. } => *minute,
    }
}

fn set_minute(fact: &mut Fact, to: u64) {
    match fact {
        Fact::Source(source) => source.minute = to,
        Fact::Meter(value) => value.minute = to,
        Fact::Service { minute, .. }
        | Fact::Instance { minute, .. }
        | Fact::Endpoint { minute, .. }
        | Fact::Address { minute, .. } => *minute = to,
    }
}

#[cfg(test)]
mod tests;
