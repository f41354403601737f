//! What the surroundings of a node know: who else runs in the cluster.

pub mod config_maps;
pub mod kubernetes;
