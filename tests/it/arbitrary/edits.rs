//! Random changes of an input: to its bytes, to its words, to its protobuf fields.

use proptest::prelude::*;
use proptest::sample::Index;

use super::Form;
use super::wire::{FieldEdit, field_edit};

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Flip {
        at: Index,
        bits: u8,
    },
    CutOff(Index),
    Remove {
        at: Index,
        length: usize,
    },
    Insert {
        at: Index,
        bytes: Vec<u8>,
    },
    /// A part of it several times.
    Repeat {
        at: Index,
        length: usize,
        times: usize,
    },
    /// Its begin, and the end of another input.
    Splice {
        at: Index,
        other: Index,
        from: Index,
    },
    Word {
        at: Index,
        word: Index,
        times: usize,
    },
    /// From one bracket, quote or separator to the next, a word instead.
    Replace {
        at: Index,
        word: Index,
    },
    Field(FieldEdit),
}

/// Texts that are odd everywhere.
const ODD: &[&str] = &[
    "",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "é",
    "批",
    "💥",
    "\u{10ffff}",
    "\u{fffd}",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\n",
    "\r\n",
    "\t",
    "-1",
    "0",
    "1e308",
    "-0.0",
    "NaN",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "2147483648",
    "18446744073709551616",
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ".",
    ";",
    ":",
    "|",
    "-",
    "_",
    "=",
    "%",
    "$",
    "#",
    "/*",
];

pub(super) fn edit(form: Form) -> BoxedStrategy<Edit> {
    let at = any::<Index>;
    let times = || prop_oneof![8 => 1..4_usize, 2 => 1..40_usize, 1 => 100..3000_usize];
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let any_form = prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(at, bits)| Edit::Flip { at, bits }),
        1 => at().prop_map(Edit::CutOff),
        2 => (at(), 1..60_usize).prop_map(|(at, length)| Edit::Remove { at, length }),
        1 => (at(), bytes).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        2 => (at(), 1..60_usize, times()).prop_map(|(at, length, times)| Edit::Repeat { at, length, times }),
        2 => (at(), at(), at()).prop_map(|(at, other, from)| Edit::Splice { at, other, from }),
        2 => (at(), at(), times()).prop_map(|(at, word, times)| Edit::Word { at, word, times }),
    ];
    match form {
        Form::Text | Form::Bytes => prop_oneof![
            2 => any_form,
            1 => (at(), at()).prop_map(|(at, word)| Edit::Replace { at, word }),
        ]
        .boxed(),
        Form::Message => {
            prop_oneof![1 => any_form, 3 => field_edit().prop_map(Edit::Field)].boxed()
        }
    }
}

/// Input that never was anything.
pub(super) fn noise(form: Form) -> BoxedStrategy<Vec<u8>> {
    match form {
        Form::Text => any::<String>().prop_map(String::into_bytes).boxed(),
        Form::Bytes | Form::Message => prop::collection::vec(any::<u8>(), 0..200).boxed(),
    }
}

impl Edit {
    pub(super) fn apply(&self, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        // One more than there are: the end is a place, too.
        let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        match self {
            Edit::Flip { at, bits } => {
                let at = place(at, input);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Edit::CutOff(at) => input.truncate(place(at, input)),
            Edit::Remove { at, length } => {
                let at = place(at, input);
                let end = (at + length).min(input.len());
                input.drain(at..end);
            }
            Edit::Insert { at, bytes } => insert(input, place(at, input), bytes),
            Edit::Repeat { at, length, times } => {
                let at = place(at, input);
                let end = (at + length).min(input.len());
                let part = input[at..end].repeat(*times);
                insert(input, end, &part);
            }
            Edit::Splice { at, other, from } => {
                input.truncate(place(at, input));
                if !seeds.is_empty() {
                    let other = other.get(seeds);
                    input.extend_from_slice(&other[place(from, other)..]);
                }
            }
            Edit::Word { at, word, times } => {
                let word = pick(word, words).repeat(*times);
                insert(input, place(at, input), word.as_bytes());
            }
            Edit::Replace { at, word } => {
                let at = place(at, input);
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"_.-/".contains(b);
                let start = input[..at].iter().rposition(|b| !is_part(b));
                let start = start.map_or(0, |start| start + 1);
                let end = input[at..].iter().position(|b| !is_part(b));
                let end = end.map_or(input.len(), |length| at + length);
                input.splice(start..end, pick(word, words).bytes());
            }
            Edit::Field(edit) => edit.apply(input),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// A word of the target, or an odd one.
fn pick<'a>(word: &Index, words: &[&'a str]) -> &'a str {
    let at = word.index(words.len() + ODD.len());
    words
        .get(at)
        .copied()
        .unwrap_or_else(|| ODD[at - words.len()])
}
