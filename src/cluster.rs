//! Other nodes and what the surroundings know: members of the cluster, what they share, pods of Kubernetes.

pub mod clients;
mod codec;
pub mod config_maps;
mod coordinator;
mod exchange;
pub mod kubernetes;
mod membership;
mod metrics;
mod peer;
mod relay;
mod remote;
mod view;

pub use coordinator::Coordinator;
pub use exchange::connect;
pub use membership::Membership;
pub use metrics::ClusterMetrics;
pub use peer::PeerOptions;
pub use relay::{Dependencies, Relay, RelayOptions};
