//! JSON as the comparisons see it: canonical text, equality with tolerance, multisets.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Longest quoted part of a difference.
const QUOTE_CHARS: usize = 200;

/// Text that is equal for equal values whatever the order of keys.
pub fn canon(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(entries))
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Canonical text for a message, cut.
pub fn quote(value: Option<&Value>) -> String {
    value
        .map_or_else(|| "nothing".to_owned(), canon)
        .chars()
        .take(QUOTE_CHARS)
        .collect()
}

/// Equality of numbers within 1e-9 if one is fractional, of everything else exactly.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => {
            let (x, y) = (
                x.as_f64().unwrap_or(f64::NAN),
                y.as_f64().unwrap_or(f64::NAN),
            );
            (x - y).abs() <= 1e-9 * 1f64.max(x.abs()).max(y.abs())
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(k, v)| y.get(k).is_some_and(|other| same(v, other)))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(v, other)| same(v, other))
        }
        _ => a == b,
    }
}

/// Difference of two lists whose order has no meaning.
pub fn multiset(want: &[Value], got: &[Value], path: &str) -> Vec<String> {
    let (want, got) = (counts(want), counts(got));
    if want == got {
        return vec![];
    }
    let less = |a: &HashMap<String, usize>, b: &HashMap<String, usize>| {
        let mut rest: Vec<_> = a
            .iter()
            .map(|(k, n)| (k.clone(), n.saturating_sub(*b.get(k).unwrap_or(&0))))
            .filter(|(_, n)| *n > 0)
            .collect();
        rest.sort();
        let first: String = rest.first().map_or("-", |(k, _)| k.as_str()).into();
        let total: usize = rest.iter().map(|(_, n)| n).sum();
        (total, first.chars().take(QUOTE_CHARS).collect::<String>())
    };
    let (missing, first_missing) = less(&want, &got);
    let (extra, first_extra) = less(&got, &want);
    vec![format!(
        "{path}: missing {missing}, extra {extra}; first missing {first_missing}; first extra {first_extra}"
    )]
}

fn counts(items: &[Value]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(canon(item)).or_default() += 1;
    }
    counts
}
