//! Plays the recorded scenario and compares what comes of it with what the original server made of it.

mod allow_list;
mod compare_answers;
mod compare_docs;
mod compare_layout;
mod json;
mod judgement;
pub mod recording;
mod segment_bytes;
