//! Clients of centres that nodes register at and that settings come from: what both uses have in common.

mod etcd;
mod http;
mod zookeeper;

pub use etcd::{Etcd, Older, bytes};
pub use http::{Answer, Body, Http, Question};
pub use zookeeper::connect;

/// Why a centre could not be asked, or what it answered instead. Nothing is known of what it has then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CenterError(pub String);

impl CenterError {
    /// The server answered something that it should not.
    pub fn answer(what: impl std::fmt::Display) -> CenterError {
        CenterError(format!("the answer makes no sense: {what}"))
    }

    /// An error with all that caused it.
    pub fn because(error: &dyn std::error::Error) -> CenterError {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let inner = error.to_string();
            if !text.contains(&inner) {
                text = format!("{text}: {inner}");
            }
            cause = error.source();
        }
        CenterError(text)
    }
}
