//! The metric rows of a shard: minute, hour and day values by entity, with what is read, changed and written of each.

mod room;
mod tenure;
mod unread;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::BYTES_PER_ROW;
use super::partitions::{Partitions, of_entity};
use super::plan::{Item, Plan};
use crate::model::entity::Entity;
use crate::model::id::metrics_id;
use crate::model::metrics::Value;
use crate::model::minute_value::{Calculated, MinuteValue};
use crate::model::row::{Cell, Row};
use crate::model::time_bucket::Downsampling;
pub(super) use room::NoRoom;
use room::{Room, Shortage};
pub(super) use unread::Missing;
use unread::{Stored, Unread};

/// An entity in a bucket of any precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub entity: Arc<Entity>,
    pub bucket: u64,
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.entity.hash_code() ^ self.bucket.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
}

/// Passes on the hash that a [`Key`] already has.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

pub(super) type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<Ready>>;

/// One metric of a row.
#[derive(Debug)]
struct Slot {
    value: Option<Value>,
    /// Holds everything there is for this bucket; if not, the stored part must be read first.
    is_whole: bool,
    is_dirty: bool,
    /// Changed and not handed on to whoever watches it.
    is_news: bool,
}

#[derive(Debug)]
struct MetricRow {
    slots: Box<[Slot]>,
    /// Epoch milliseconds of the last change.
    touched_ms: i64,
    /// The pass in which it was last handed over to be written; 0 if it never was.
    handed_in: u64,
    /// When the oldest change came that was not handed over, as [`Now::uptime_ms`]; [`UNCHANGED`] if all was.
    changed_ms: i64,
    /// Whether a slot is news; it is in [`Rows::news`] then.
    has_news: bool,
    /// Whether it is in [`Rows::unread`].
    is_queued: bool,
}

const UNCHANGED: i64 = i64::MAX;

/// The buckets of an instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    pub minute: u64,
    pub hour: u64,
    pub day: u64,
}

impl Horizon {
    fn of(self, bucket: u64) -> u64 {
        match Downsampling::of(bucket) {
            Some(Downsampling::Day) => self.day,
            Some(Downsampling::Hour) => self.hour,
            _ => self.minute,
        }
    }
}

/// How long a row stays after its last change, if its bucket is over.
const LINGER_MS: i64 = 15_000;
/// How long a row must have been left alone to be forgotten when room is short.
const QUIET_MS: i64 = 5_000;

impl MetricRow {
    fn is_changed(&self) -> bool {
        self.changed_ms != UNCHANGED
    }

    /// Everything handed over in passes up to `stored` is stored, and nothing changed since or waits for who watches it.
    fn is_stored(&self, stored: u64) -> bool {
        self.handed_in <= stored && !self.is_changed() && !self.has_news
    }

    /// Bytes of tables that are larger than a whole row usually is.
    fn large_table_bytes(&self) -> usize {
        let sizes = self.slots.iter().map(|slot| match &slot.value {
            Some(Value::Table(table)) => table.heap_bytes(),
            _ => 0,
        });
        sizes.filter(|bytes| *bytes > BYTES_PER_ROW).sum()
    }
}

/// All rows of a shard.
#[derive(Debug)]
pub(super) struct Rows {
    rows: KeyMap<MetricRow>,
    /// What may be in the store and not here.
    stored: Stored,
    /// Rows whose stored part is to be read.
    unread: Unread,
    room: Room,
    /// Values left out since this was last taken, because they do not fit to what is there.
    unfit: u64,
    /// Large tables, counted in rows; as of the last look at all rows.
    large_tables: usize,
    /// Minutes with watched values that changed.
    news: VecDeque<Key>,
}

/// Which changes are old enough to be written: those until then, as [`Now::uptime_ms`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub minutes: i64,
    /// Hours and days.
    pub coarse: i64,
}

impl Due {
    /// Every change.
    pub(super) const ALL: Due = Due {
        minutes: UNCHANGED - 1,
        coarse: UNCHANGED - 1,
    };
}

/// When a merge happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Epoch milliseconds.
    pub ms: i64,
    /// Milliseconds since the shard began.
    pub uptime_ms: i64,
}

impl Rows {
    pub(super) fn new(max_rows: usize) -> Rows {
        Rows {
            rows: KeyMap::default(),
            stored: Stored::default(),
            unread: Unread::default(),
            room: Room::new(max_rows),
            unfit: 0,
            large_tables: 0,
            news: VecDeque::new(),
        }
    }

    /// Takes the number of values that were left out because they do not fit to what is there.
    pub(super) fn take_unfit(&mut self) -> u64 {
        std::mem::take(&mut self.unfit)
    }

    /// Rows that memory has to be found for.
    fn weight(&self) -> usize {
        self.rows.len() + self.large_tables
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.weight() * BYTES_PER_ROW
    }

    /// Makes room for new rows by forgetting those that are stored and were not touched for some seconds, over or not. They
    /// are read back when they change again, which costs time but no data.
    pub(super) fn make_room(&mut self, wanted: usize, now_ms: i64, stored_pass: u64) {
        let taken = self.weight();
        let shortage = self.room.shortage(taken, wanted);
        if shortage == Shortage::None {
            return;
        }
        let Rows {
            rows, room, stored, ..
        } = self;
        rows.retain(|key, row| {
            let is_chosen = match shortage {
                Shortage::Greedy(share) => room.is_greedy(&key.entity, share),
                _ => true,
            };
            let is_quiet = now_ms - row.touched_ms > QUIET_MS;
            let stays = !is_chosen || !is_quiet || !row.is_stored(stored_pass);
            if !stays {
                stored.forget(key.bucket);
                room.give_back(&key.entity);
            }
            stays
        });
    }

    /// Merges increments into the row of a bucket, if that is there or there is room for it.
    pub(super) fn merge(
        &mut self,
        plan: &Plan,
        entity: &Arc<Entity>,
        bucket: u64,
        increments: &[Option<Value>],
        now: Now,
    ) -> Result<(), NoRoom> {
        let taken = self.weight();
        let items = plan.items(entity.scope);
        let key = Key {
            entity: Arc::clone(entity),
            bucket,
        };
        let is_watched =
            plan.watches(entity.scope) && Downsampling::of(bucket) == Some(Downsampling::Minute);
        let row = match self.rows.entry(key) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(place) => {
                self.room.take(entity, taken)?;
                let stored = &self.stored;
                let slot = |item: &Item| Slot {
                    value: None,
                    is_whole: !stored.may_have(&item.model, bucket),
                    is_dirty: false,
                    is_news: false,
                };
                place.insert(MetricRow {
                    slots: items.iter().map(slot).collect(),
                    touched_ms: now.ms,
                    handed_in: 0,
                    changed_ms: UNCHANGED,
                    has_news: false,
                    is_queued: false,
                })
            }
        };
        row.touched_ms = now.ms;
        let mut has_news = false;
        let mut waits = false;
        for ((slot, increment), item) in row.slots.iter_mut().zip(increments).zip(items) {
            let Some(increment) = increment else { continue };
            match &mut slot.value {
                Some(value) => self.unfit += u64::from(!item.function.merge(value, increment)),
                none => *none = Some(increment.clone()),
            }
            slot.is_dirty = true;
            waits |= !slot.is_whole;
            slot.is_news |= is_watched && item.is_watched();
            has_news |= slot.is_news;
            row.changed_ms = row.changed_ms.min(now.uptime_ms);
        }
        if has_news && !row.has_news {
            row.has_news = true;
            self.news.push_back(Key {
                entity: Arc::clone(entity),
                bucket,
            });
        }
        if waits {
            self.note_unread(Key {
                entity: Arc::clone(entity),
                bucket,
            });
        }
        Ok(())
    }

    /// Takes watched minute values that changed and are whole, of about `limit` of the rows that changed first.
    pub(super) fn take_news(&mut self, plan: &Plan, limit: usize) -> Vec<MinuteValue> {
        let mut values = Vec::new();
        for _ in 0..self.news.len() {
            if values.len() >= limit {
                break;
            }
            let Some(key) = self.news.pop_front() else {
                break;
            };
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            row.has_news = false;
            for (slot, item) in row.slots.iter_mut().zip(plan.items(key.entity.scope)) {
                if !slot.is_news {
                    continue;
                }
                if !slot.is_whole {
                    row.has_news = true;
                    continue;
                }
                slot.is_news = false;
                let cells = slot.value.as_ref();
                let cells = cells.map(|value| item.function.to_cells(value, key.bucket));
                let model = &item.model;
                if let Some(value) = cells.and_then(|c| Calculated::from_cells(model, &c)) {
                    values.push(MinuteValue {
                        metric: Arc::clone(model),
                        entity: Arc::clone(&key.entity),
                        minute: key.bucket,
                        value,
                    });
                }
            }
            if row.has_news {
                self.news.push_back(key);
            }
        }
        values
    }

    /// The same of some entities only, all of them.
    pub(super) fn take_news_of(&mut self, plan: &Plan, entities: Partitions) -> Vec<MinuteValue> {
        let is_wanted = |key: &Key| entities.contains(of_entity(&key.entity));
        let news = std::mem::take(&mut self.news);
        let (wanted, others): (VecDeque<_>, VecDeque<_>) = news.into_iter().partition(is_wanted);
        self.news = wanted;
        let values = self.take_news(plan, usize::MAX);
        self.news.extend(others);
        values
    }

    /// The service with the most endpoint rows, its id and how many.
    pub(super) fn largest_service(&self) -> Option<(&Arc<str>, usize)> {
        self.room.largest()
    }

    /// Whether room is so short that changes should be written at once: what is stored can be forgotten.
    pub(super) fn is_tight(&self) -> bool {
        self.room.is_tight(self.weight())
    }

    /// Where something changed that is due.
    pub(super) fn changed(&self, due: Due) -> Vec<Key> {
        let is_due = |key: &Key, row: &MetricRow| {
            let due = match Downsampling::of(key.bucket) {
                Some(Downsampling::Minute) => due.minutes,
                _ => due.coarse,
            };
            row.changed_ms <= due
        };
        self.rows
            .iter()
            .filter(|(key, row)| row.is_changed() && is_due(key, row))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Takes what is whole and changed of these rows, to write it in this pass: about `limit` rows, none only if no keys
    /// are left.
    pub(super) fn take_changed(
        &mut self,
        plan: &Plan,
        keys: &mut impl Iterator<Item = Key>,
        limit: usize,
        pass: u64,
    ) -> Vec<Row> {
        let mut changed = Vec::new();
        while changed.len() < limit
            && let Some(key) = keys.next()
        {
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            let items = plan.items(key.entity.scope);
            let mut is_all = true;
            for (slot, item) in row.slots.iter_mut().zip(items) {
                is_all &= !slot.is_dirty || slot.is_whole;
                if slot.is_dirty
                    && slot.is_whole
                    && let Some(value) = &slot.value
                {
                    slot.is_dirty = false;
                    row.handed_in = pass;
                    changed.push(to_row(&key, item, value));
                }
            }
            if is_all {
                row.changed_ms = UNCHANGED;
            }
        }
        changed
    }

    /// Forgets rows that are over, quiet and stored: all that was handed over in passes up to `stored` is. Their buckets are
    /// read back should they change again, which must not find an older version.
    pub(super) fn evict(&mut self, now: Horizon, now_ms: i64, stored_pass: u64) {
        let Rows {
            rows, room, stored, ..
        } = self;
        let mut table_bytes = 0;
        rows.retain(|key, row| {
            let is_quiet = now_ms - row.touched_ms > LINGER_MS;
            let is_over = key.bucket < now.of(key.bucket);
            let stays = !is_quiet || !is_over || !row.is_stored(stored_pass);
            if stays {
                table_bytes += row.large_table_bytes();
            } else {
                stored.forget(key.bucket);
                room.give_back(&key.entity);
            }
            stays
        });
        self.large_tables = table_bytes / BYTES_PER_ROW;
    }
}

fn to_row(key: &Key, item: &Item, value: &Value) -> Row {
    let entity = &key.entity;
    let values = item.function.to_cells(value, key.bucket);
    let columns = &item.model.entity_columns;
    let mut cells = Vec::with_capacity(columns.len() + values.len());
    cells.extend(columns.iter().map(|(_, field)| {
        Cell::Text(match field {
            None => Arc::clone(&entity.id),
            Some(field) => match entity.shared_field(*field) {
                Some(text) => Arc::clone(text),
                None => Arc::from(""),
            },
        })
    }));
    cells.extend(values);
    Row {
        model: Arc::clone(&item.model),
        id: metrics_id(key.bucket, &entity.id),
        time_bucket: key.bucket,
        cells,
    }
}

#[cfg(test)]
mod tests;
