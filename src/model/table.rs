//! A table of numbers by key, stored as `key,value|key,value` (8.1.0 spec, D.4). Order carries no meaning.

/// Stands for the lowest key: a bucket without a lower edge.
const UNBOUNDED_BELOW: &str = "infinite-";
/// Keys of a table at most: an agent may send any latency. Real ones make a few thousand on a day.
const MAX_KEYS: usize = 10_000;

/// Sorted pairs; small in a minute bucket, a few thousand at most in a day bucket. A full table counts further keys at
/// the next lower one that it has.
#[derive(Debug, Clone)]
pub struct Table {
    entries: Entries,
}

/// There is a table or more in every row held, and counts are small: eight bytes an entry until one does not fit.
#[derive(Debug, Clone)]
enum Entries {
    Narrow(Vec<Narrow>),
    Wide(Box<Wide>),
}

type Narrow = (i32, u32);

#[derive(Debug, Clone)]
struct Wide(Vec<(i32, i64)>);

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Table {}

impl Table {
    pub fn new() -> Table {
        Table {
            entries: Entries::Narrow(Vec::new()),
        }
    }

    /// Adds to the count of a key.
    pub fn add(&mut self, key: i32, count: i64) {
        let place = match &self.entries {
            Entries::Narrow(entries) => entries.binary_search_by_key(&key, |e| e.0),
            Entries::Wide(entries) => entries.0.binary_search_by_key(&key, |e| e.0),
        };
        let at = match place {
            Ok(at) => at,
            Err(at) if self.len() < MAX_KEYS => return self.insert(at, key, count),
            Err(at) => at.saturating_sub(1),
        };
        if let Entries::Narrow(entries) = &mut self.entries
            && let Some((_, old)) = entries.get_mut(at)
        {
            match u32::try_from(i64::from(*old).wrapping_add(count)) {
                Ok(sum) => return *old = sum,
                Err(_) => self.widen(),
            }
        }
        if let Entries::Wide(entries) = &mut self.entries
            && let Some((_, old)) = entries.0.get_mut(at)
        {
            *old = old.wrapping_add(count);
        }
    }

    fn insert(&mut self, at: usize, key: i32, count: i64) {
        if let Entries::Narrow(entries) = &mut self.entries {
            match u32::try_from(count) {
                Ok(count) => return entries.insert(at, (key, count)),
                Err(_) => self.widen(),
            }
        }
        if let Entries::Wide(entries) = &mut self.entries {
            entries.0.insert(at, (key, count));
        }
    }

    fn widen(&mut self) {
        self.entries = Entries::Wide(Box::new(Wide(self.iter().collect())));
    }

    /// Adds every entry of another table.
    pub fn merge(&mut self, other: &Table) {
        for (key, count) in other.iter() {
            self.add(key, count);
        }
    }

    /// The number of a key; 0 if there is none.
    pub fn get(&self, key: i32) -> i64 {
        match &self.entries {
            Entries::Narrow(entries) => {
                let at = entries.binary_search_by_key(&key, |e| e.0).ok();
                at.and_then(|at| entries.get(at)).map_or(0, |e| e.1.into())
            }
            Entries::Wide(entries) => {
                let at = entries.0.binary_search_by_key(&key, |e| e.0).ok();
                at.and_then(|at| entries.0.get(at)).map_or(0, |e| e.1)
            }
        }
    }

    /// Whether both have the same keys.
    pub fn has_keys_of(&self, other: &Table) -> bool {
        self.iter().map(|e| e.0).eq(other.iter().map(|e| e.0))
    }

    /// Ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        let (narrow, wide) = match &self.entries {
            Entries::Narrow(entries) => (entries.as_slice(), &[][..]),
            Entries::Wide(entries) => (&[][..], entries.0.as_slice()),
        };
        let narrow = narrow.iter().map(|(key, count)| (*key, (*count).into()));
        narrow.chain(wide.iter().copied())
    }

    fn len(&self) -> usize {
        match &self.entries {
            Entries::Narrow(entries) => entries.len(),
            Entries::Wide(entries) => entries.0.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory behind this table.
    pub fn heap_bytes(&self) -> usize {
        match &self.entries {
            Entries::Narrow(entries) => entries.capacity() * size_of::<(i32, u32)>(),
            Entries::Wide(entries) => entries.0.capacity() * size_of::<(i32, i64)>(),
        }
    }

    /// The stored text; `""` when empty.
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(self.len() * 6);
        for (i, (key, count)) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { "|" };
            let written = match key {
                i32::MIN => write!(text, "{separator}{UNBOUNDED_BELOW},{count}"),
                key => write!(text, "{separator}{key},{count}"),
            };
            if written.is_err() {
                break;
            }
        }
        text
    }

    /// Reads stored text; an item that is not two numbers is ignored, as the original's reader does.
    pub fn from_text(text: &str) -> Table {
        let mut table = Table::new();
        for (key, value) in pairs(text) {
            let key = match key {
                UNBOUNDED_BELOW => Ok(i32::MIN),
                key => key.parse(),
            };
            if let (Ok(key), Ok(value)) = (key, value.parse()) {
                table.add(key, value);
            }
        }
        table
    }
}

/// The `key,value` items of a stored table, keys as text (labels may be words).
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('|').filter_map(|item| {
        let (key, value) = item.split_once(',')?;
        (!value.contains(',')).then_some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(i32, i64)]) -> Table {
        let mut table = Table::new();
        for (key, count) in entries {
            table.add(*key, *count);
        }
        table
    }

    fn entries() -> impl Strategy<Value = Vec<(i32, i64)>> {
        let keys = prop_oneof![any::<i32>(), -5..20_i32];
        let counts = prop_oneof![any::<i64>(), 0..9_i64];
        prop::collection::vec((keys, counts), 0..30)
    }

    proptest! {
        #[test]
        fn any_table_comes_back_out_of_its_text(entries in entries(), order in any::<prop::sample::Index>()) {
            let table = table(&entries);
            let text = table.to_text();
            prop_assert_eq!(&Table::from_text(&text), &table);
            let mut items: Vec<&str> = text.split('|').collect();
            let middle = order.index(items.len());
            items.rotate_left(middle);
            prop_assert_eq!(&Table::from_text(&items.join("|")), &table);
        }

        #[test]
        fn merging_is_adding_in_any_order([a, b, c] in [entries(), entries(), entries()]) {
            let merged = |parts: &[&Table]| {
                let mut all = Table::new();
                parts.iter().for_each(|part| all.merge(part));
                all
            };
            let all = table(&[a.as_slice(), &b, &c].concat());
            let [a, b, c] = [a, b, c].map(|entries| table(&entries));
            prop_assert_eq!(&merged(&[&a, &b, &c]), &all);
            prop_assert_eq!(&merged(&[&c, &merged(&[&b, &a])]), &all);
        }

        #[test]
        fn any_text_is_a_table_no_larger_than_itself(text in "[0-9,|-]{0,60}|.*") {
            let read = Table::from_text(&text);
            prop_assert!(2 * read.iter().count() <= text.len());
            prop_assert_eq!(&Table::from_text(&read.to_text()), &read);
        }
    }

    #[test]
    fn a_full_table_counts_everything_under_the_keys_it_has() {
        let mut table = Table::new();
        for key in 0..3 * MAX_KEYS as i32 {
            table.add(key, 1);
        }
        table.add(-7, 1);
        let counts: Vec<(i32, i64)> = table.iter().collect();
        assert_eq!(counts.len(), MAX_KEYS);
        assert_eq!(counts[0], (0, 2));
        assert_eq!(
            counts[MAX_KEYS - 1],
            (MAX_KEYS as i32 - 1, 2 * MAX_KEYS as i64 + 1)
        );
    }

    #[test]
    fn text_round_trips_in_any_order() {
        let table = Table::from_text("10,2|0,175|1000,1|broken|1,2,3");
        assert_eq!(table.to_text(), "0,175|10,2|1000,1");
        assert_eq!(Table::from_text("").to_text(), "");
        let unbounded = Table::from_text("5,1|infinite-,3");
        assert_eq!(unbounded.get(i32::MIN), 3);
        assert_eq!(unbounded.to_text(), "infinite-,3|5,1");
    }
}
