//! Other nodes and what the surroundings know: members of the cluster, what they share, pods of Kubernetes.

mod balance;
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

pub use balance::{Balance, Verdict};
pub use coordinator::Coordinator;
pub use exchange::connect;
pub use membership::Membership;
pub use metrics::ClusterMetrics;
pub use peer::PeerOptions;
pub use relay::{Connections, Dependencies, Relay, RelayOptions};
