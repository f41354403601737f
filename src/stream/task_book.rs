//! Which profile tasks there are now, shared by those who tell agents and those who log what agents do.

use std::sync::{Arc, PoisonError, RwLock};

use crate::model::profile::ProfileTask;

/// The tasks of the last look at the store; empty until the first.
#[derive(Debug, Default)]
pub struct TaskBook {
    tasks: RwLock<Arc<[ProfileTask]>>,
}

impl TaskBook {
    /// Takes the place of what was known.
    pub fn replace(&self, tasks: Vec<ProfileTask>) {
        let mut known = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        *known = tasks.into();
    }

    /// All that are known.
    pub fn all(&self) -> Arc<[ProfileTask]> {
        let known = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known)
    }
}
