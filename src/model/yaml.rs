//! YAML as the original reads it: with merge keys, `<<`, by which a map takes over the entries of others.

use serde::de::Error as _;
use serde_norway::{Error, Mapping, Value};

const MERGE: &str = "<<";

/// One document. Fails if it is no YAML, or if a merge key has something else than a map or a list of maps.
pub fn parse(text: &str) -> Result<Value, Error> {
    merged(serde_norway::from_str(text)?)
}

fn merged(value: Value) -> Result<Value, Error> {
    match value {
        Value::Mapping(map) => {
            let mut whole = Mapping::new();
            take_over(&mut whole, map, true)?;
            Ok(Value::Mapping(whole))
        }
        Value::Sequence(items) => {
            let items = items.into_iter().map(merged);
            items.collect::<Result<_, _>>().map(Value::Sequence)
        }
        other => Ok(other),
    }
}

/// Own entries go before those that are taken over, and of these the first one.
fn take_over(whole: &mut Mapping, map: Mapping, is_own: bool) -> Result<(), Error> {
    for (key, value) in map {
        if key.as_str() != Some(MERGE) {
            if is_own || !whole.contains_key(&key) {
                whole.insert(key, merged(value)?);
            }
            continue;
        }
        let others = match value {
            Value::Sequence(others) => others,
            one => vec![one],
        };
        for other in others {
            let Value::Mapping(other) = other else {
                return Err(Error::custom("`<<` needs a map or a list of maps"));
            };
            take_over(whole, other, false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_take_over_what_they_do_not_say_themselves() {
        for (text, want) in [
            ("a: 1", "{a: 1}"),
            ("{x: {<<: {a: 1, b: 2}, b: 3}}", "{x: {a: 1, b: 3}}"),
            ("{x: {b: 3, <<: {a: 1, b: 2}}}", "{x: {b: 3, a: 1}}"),
            ("{x: {<<: [{a: 1}, {a: 2, b: 2}]}}", "{x: {a: 1, b: 2}}"),
            ("[{<<: {<<: {c: {<<: {d: 4}}}}}]", "[{c: {d: 4}}]"),
            (
                "p: &p {a: 1}\nq: &q {<<: *p, b: 2}\nr: {<<: *q}",
                "{p: {a: 1}, q: {a: 1, b: 2}, r: {a: 1, b: 2}}",
            ),
            ("", "~"),
        ] {
            let want: Value = serde_norway::from_str(want).unwrap();
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        for wrong in ["<<: 1", "a: {<<: }", "<<: [a]", "<<: [[{}]]"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("`<<` needs a map"), "{wrong}: {error}");
        }
        assert!(parse("a: [").is_err());
    }
}
