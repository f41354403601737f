//! The few helpers that every stage shares. A closed list.

pub mod clock;
pub mod file;
pub mod text;
