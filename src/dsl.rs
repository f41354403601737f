//! The rule languages, from text to something that can be evaluated.
//!
//! Pure: no I/O, no clock, no storage. A language reports every mistake of a file at once, each with its position.

pub mod alarm;
pub mod diag;
pub mod duration;
pub mod java_regex;
pub mod lex;
pub mod meter;
pub mod oal;
pub mod prometheus;
pub mod yaml;
