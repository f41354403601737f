//! A table of numbers by key, stored as `key,value|key,value` (8.1.0 spec, D.4). Order carries no meaning.

/// Stands for the lowest key: a bucket without a lower edge.
const UNBOUNDED_BELOW: &str = "infinite-";

/// Sorted pairs; small in a minute bucket, a few thousand at most in a day bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    entries: Vec<(i32, i64)>,
}

impl Table {
    pub fn new() -> Table {
        Table::default()
    }

    /// Adds to the count of a key.
    pub fn add(&mut self, key: i32, count: i64) {
        match self.entries.binary_search_by_key(&key, |e| e.0) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = entry.1.wrapping_add(count);
                }
            }
            Err(at) => self.entries.insert(at, (key, count)),
        }
    }

    /// Adds every entry of another table.
    pub fn merge(&mut self, other: &Table) {
        for (key, count) in &other.entries {
            self.add(*key, *count);
        }
    }

    /// The number of a key; 0 if there is none.
    pub fn get(&self, key: i32) -> i64 {
        let at = self.entries.binary_search_by_key(&key, |e| e.0);
        let entry = at.ok().and_then(|at| self.entries.get(at));
        entry.map_or(0, |entry| entry.1)
    }

    /// Whether both have the same keys.
    pub fn has_keys_of(&self, other: &Table) -> bool {
        self.entries
            .iter()
            .map(|e| e.0)
            .eq(other.entries.iter().map(|e| e.0))
    }

    /// Ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        self.entries.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory behind this table.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(i32, i64)>()
    }

    /// The stored text; `""` when empty.
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(self.entries.len() * 6);
        for (i, (key, count)) in self.entries.iter().enumerate() {
            let separator = if i == 0 { "" } else { "|" };
            let written = match *key {
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
    use super::*;

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
