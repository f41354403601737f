//! Settings of module `cluster`: how nodes find each other (8.1.0 spec, K).

use super::Environment;
use super::core::{CoreSettings, Role};
use super::section::Section;

/// How nodes find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterSettings {
    /// They do not: this one is alone.
    Standalone,
    /// A list that does not change, which 8.1.0 does not have.
    Static {
        /// `host:port` of the core gRPC port of each.
        members: Vec<String>,
        /// This node among them; `None` for a receiver that is none of them.
        own: Option<String>,
    },
    /// Pods of a namespace.
    Kubernetes {
        namespace: String,
        label_selector: String,
        /// `metadata.uid` of the own pod.
        uid: String,
    },
}

impl ClusterSettings {
    /// Reads `cluster.static`. Without the key `self` a node is the member at its own gRPC host and port.
    pub(super) fn read_static(s: &mut Section<'_>, core: Option<&CoreSettings>) -> ClusterSettings {
        let members = s.list("members", "");
        let own = s.text("self", "");
        let is_address = |member: &String| {
            let port = member
                .rsplit_once(':')
                .map(|(host, port)| (host, port.parse::<u16>()));
            matches!(port, Some((host, Ok(port))) if !host.is_empty() && port > 0)
        };
        if members.is_empty() || !members.iter().all(is_address) {
            s.problem(
                "members",
                "addresses host:port,host:port of the gRPC ports of all members",
            );
        }
        let address = core.map(|core| match core.grpc_host.contains(':') {
            true => format!("[{}]:{}", core.grpc_host, core.grpc_port),
            false => format!("{}:{}", core.grpc_host, core.grpc_port),
        });
        let own = match own.as_str() {
            "" => address.filter(|address| members.contains(address)),
            own => Some(own.to_owned()),
        };
        let is_receiver = core.is_some_and(|core| core.role == Role::Receiver);
        let is_member = own.as_ref().is_some_and(|own| members.contains(own));
        if !is_member && (own.is_some() || !is_receiver) {
            s.problem("self", "the one of the members that this node is");
        }
        ClusterSettings::Static { members, own }
    }

    /// Reads `cluster.kubernetes`.
    pub(super) fn read_kubernetes(
        s: &mut Section<'_>,
        environment: &Environment,
    ) -> ClusterSettings {
        let namespace = s.text("namespace", "default");
        let label_selector = s.text("labelSelector", "app=collector,release=skywalking");
        let variable = s.text("uidEnvName", "SKYWALKING_COLLECTOR_UID");
        let uid = environment
            .get(&variable)
            .map(str::trim)
            .unwrap_or_default();
        if uid.is_empty() {
            s.problem(
                "uidEnvName",
                "the name of a variable with metadata.uid of the own pod (fieldRef); it is not set",
            );
        }
        ClusterSettings::Kubernetes {
            namespace,
            label_selector,
            uid: uid.to_owned(),
        }
    }
}
