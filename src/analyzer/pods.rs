//! Which pod has which address, for traffic that only says addresses (8.1.0 spec, A.9).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What a pod is called as an instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub service: String,
    pub instance: String,
}

/// Pods by IP address, shared by all analyzers. Replaced as a whole by whoever watches the cluster, who also bounds it.
#[derive(Debug, Default)]
pub struct PodMap(RwLock<Arc<HashMap<String, Pod>>>);

impl PodMap {
    /// What is known now; empty before the first look.
    pub fn current(&self) -> Arc<HashMap<String, Pod>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets all that was known for this.
    pub fn replace(&self, pods: HashMap<String, Pod>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pods);
    }
}
