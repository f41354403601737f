//! What this node saw of entities that another one writes, merged until it is sent there: the first of two steps of
//! aggregation (8.1.0 spec, F.2).

use std::collections::HashMap;
use std::sync::Arc;

use super::partitions::{of_address, of_entity};
use super::plan::Plan;
use super::rows::{Key, KeyMap};
use crate::model::entity::Entity;
use crate::model::fact::Fact;
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

    /// Puts what belongs to each partition where `sort` says, by a number below `places`; what is beyond is dropped.
    pub fn divide(self, places: usize, sort: impl Fn(usize) -> usize) -> Vec<Portion> {
        let mut parts: Vec<Portion> = (0..places).map(|_| Portion::default()).collect();
        for increment in self.increments {
            if let Some(part) = parts.get_mut(sort(of_entity(&increment.entity))) {
                part.increments.push(increment);
            }
        }
        for fact in self.known {
            if let Some(part) = parts.get_mut(sort(super::partitions::of_fact(&fact))) {
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

/// Collects facts and increments. Bounded by the number of entities and minutes.
#[derive(Debug)]
pub struct Increments {
    collected: KeyMap<Collected>,
    /// By kind and id.
    known: HashMap<(u8, Arc<str>), Fact, foldhash::fast::RandomState>,
    capacity: usize,
    /// Given up since this was last taken.
    shed: u64,
    /// Values of meters that do not fit to what is there, likewise.
    unfit: u64,
}

impl Increments {
    pub fn new(capacity: usize) -> Increments {
        Increments {
            collected: KeyMap::default(),
            known: HashMap::default(),
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

    /// Takes the numbers of values that found no room and that did not fit.
    pub fn take_lost(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.shed),
            std::mem::take(&mut self.unfit),
        )
    }

    /// Takes facts in.
    pub fn absorb(&mut self, plan: &Plan, facts: Vec<Fact>) {
        let thresholds = plan.thresholds();
        for fact in facts {
            match fact {
                Fact::Source(source) => {
                    if let Some(place) = self.place(plan, &source.entity, source.minute) {
                        place.is_seen = true;
                        plan.apply(&source, &thresholds, &mut place.values);
                    }
                }
                Fact::Meter(value) => {
                    let is_fit = self
                        .place(plan, &value.entity, value.minute)
                        .is_none_or(|place| plan.apply_meter(&value, &mut place.values));
                    self.unfit += u64::from(!is_fit);
                }
                known => self.learn(known),
            }
        }
    }

    /// Takes in what was collected elsewhere.
    pub fn merge(&mut self, plan: &Plan, portion: Portion) {
        for increment in portion.increments {
            let Some(place) = self.place(plan, &increment.entity, increment.minute) else {
                continue;
            };
            place.is_seen |= increment.is_seen;
            let unfit = merge(plan, &increment.entity, &mut place.values, increment.values);
            self.unfit += unfit;
        }
        for fact in portion.known {
            self.learn(fact);
        }
    }

    fn place(&mut self, plan: &Plan, entity: &Arc<Entity>, minute: u64) -> Option<&mut Collected> {
        let key = Key {
            entity: Arc::clone(entity),
            bucket: minute,
        };
        if self.len() >= self.capacity && !self.collected.contains_key(&key) {
            self.shed += 1;
            return None;
        }
        let items = plan.items(entity.scope).len();
        let empty = || Collected {
            values: std::iter::repeat_with(|| None).take(items).collect(),
            is_seen: false,
        };
        Some(self.collected.entry(key).or_insert_with(empty))
    }

    fn learn(&mut self, mut new: Fact) {
        let key = match &new {
            Fact::Service { entity, .. } => (0, Arc::clone(&entity.id)),
            Fact::Endpoint { entity, .. } => (1, Arc::clone(&entity.id)),
            Fact::Instance { entity, .. } => (2, Arc::clone(&entity.id)),
            Fact::Address { alias, .. } => (3, Arc::from(alias.address.as_str())),
            Fact::Source(_) | Fact::Meter(_) => return,
        };
        if let Some(old) = self.known.get_mut(&key) {
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
        } else if self.len() < self.capacity {
            self.known.insert(key, new);
        } else {
            self.shed += 1;
        }
    }

    /// Takes what is of the partitions that are wanted, up to `limit`.
    pub fn take(&mut self, limit: usize, is_wanted: impl Fn(usize) -> bool) -> Portion {
        let mut taken = Portion::default();
        let mut room = limit;
        let wanted = self.collected.extract_if(|key, _| {
            let is_taken = room > 0 && is_wanted(of_entity(&key.entity));
            room -= usize::from(is_taken);
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
        let mut room = limit.saturating_sub(taken.increments.len());
        let wanted = self.known.extract_if(|_, fact| {
            let partition = match fact {
                Fact::Address { alias, .. } => of_address(&alias.address),
                fact => super::partitions::of_fact(fact),
            };
            let is_taken = room > 0 && is_wanted(partition);
            room -= usize::from(is_taken);
            is_taken
        });
        taken.known.extend(wanted.map(|(_, fact)| fact));
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
