//! Settings of module `cluster`: how nodes find each other (8.1.0 spec, K).

use std::net::IpAddr;
use std::path::PathBuf;

use super::core::{CoreSettings, Role};
use super::section::Section;
use super::servers::{host_ports, member_fault, needed, urls};
use super::{Environment, EtcdApi, Secret};

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
    /// Nodes announce themselves at a centre.
    Announced {
        coordinator: CoordinatorSettings,
        /// `None` for a receiver, which only looks who else is there.
        own: Option<OwnAddress>,
    },
}

/// Where nodes announce themselves. URLs are those of servers, all of which have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorSettings {
    /// `cluster.zookeeper`
    ZooKeeper {
        /// `host:port`, several with commas between.
        servers: String,
        /// Path of the node below which services are.
        path: String,
        /// `user:password` that everything belongs to; `None` belongs to everybody.
        login: Option<Secret>,
    },
    /// `cluster.etcd`
    Etcd {
        urls: Vec<String>,
        service: String,
        api: EtcdApi,
        /// PEM file with certificates to trust beside the public ones.
        trusted_ca_path: Option<PathBuf>,
    },
    /// `cluster.consul`
    Consul {
        urls: Vec<String>,
        service: String,
        token: Secret,
        /// Whether the core gRPC port that Consul checks speaks TLS.
        checks_tls: bool,
    },
    /// `cluster.nacos`
    Nacos {
        urls: Vec<String>,
        service: String,
        /// Id of a namespace.
        namespace: String,
    },
}

impl CoordinatorSettings {
    /// Name of the provider.
    pub fn provider(&self) -> &'static str {
        match self {
            CoordinatorSettings::ZooKeeper { .. } => "zookeeper",
            CoordinatorSettings::Etcd { .. } => "etcd",
            CoordinatorSettings::Consul { .. } => "consul",
            CoordinatorSettings::Nacos { .. } => "nacos",
        }
    }
}

/// Where others reach this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAddress {
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
}

impl OwnAddress {
    pub fn new(host: &str, port: u16) -> OwnAddress {
        OwnAddress {
            host: host.to_owned(),
            port,
        }
    }

    /// `host:port`, as members are called.
    pub fn member(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// `host_port`, as the original calls a node.
    pub fn id(&self) -> String {
        format!("{}_{}", self.host, self.port)
    }

    /// Reads `internalComHost` and `internalComPort`; what they do not say is that of the core gRPC port. `None` for receivers.
    fn read(s: &mut Section<'_>, core: Option<&CoreSettings>) -> Option<OwnAddress> {
        let host = s.text("internalComHost", "");
        let port: i64 = s.number("internalComPort", -1, -1..=u16::MAX.into());
        let core = core.filter(|core| core.role != Role::Receiver)?;
        let host = match host.as_str() {
            "" => core.grpc_host.clone(),
            host => host.trim_matches(['[', ']']).to_owned(),
        };
        let port = match u16::try_from(port) {
            Ok(port) if port > 0 => port,
            _ => core.grpc_port,
        };
        let is_everywhere = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if host.is_empty() || is_everywhere {
            s.problem(
                "internalComHost",
                "the address at which other nodes reach this one, as core.default.gRPCHost (SW_CORE_GRPC_HOST) is none",
            );
        }
        if port == 0 {
            s.problem(
                "internalComPort",
                "the port at which other nodes reach this one, as core.default.gRPCPort is 0",
            );
        }
        Some(OwnAddress { host, port })
    }
}

impl ClusterSettings {
    /// Reads `cluster.static`. Without the key `self` a node is the member at its own gRPC host and port.
    pub(super) fn read_static(s: &mut Section<'_>, core: Option<&CoreSettings>) -> ClusterSettings {
        let members = s.list("members", "");
        let own = s.text("self", "");
        let address = core.map(|core| {
            let host = core.grpc_host.trim_matches(['[', ']']);
            OwnAddress::new(host, core.grpc_port).member()
        });
        let is_told = !own.is_empty();
        let own = match is_told {
            false => address.clone().filter(|address| members.contains(address)),
            true => Some(own),
        };
        let is_receiver = core.is_some_and(|core| core.role == Role::Receiver);
        let is_member = own.as_ref().is_some_and(|own| members.contains(own));
        let fault = members.iter().find_map(|member| member_fault(member));
        if members.is_empty() || fault.is_some() {
            let form =
                "host:port,host:port (IPv6: [address]:port) of the gRPC ports of all members";
            let fault = fault.map(|fault| format!(": {fault}"));
            s.problem("members", &format!("{form}{}", fault.unwrap_or_default()));
        } else if !is_member && is_told {
            s.problem("self", &format!("one of the members {}", members.join(",")));
        } else if !is_member && !is_receiver {
            let sought = address.map(|own| format!(", as none is {own}, its gRPCHost:gRPCPort"));
            let expected = "the one of the members that this node is (SW_CLUSTER_STATIC_SELF)";
            s.problem("self", &format!("{expected}{}", sought.unwrap_or_default()));
        }
        ClusterSettings::Static { members, own }
    }

    /// Reads the keys of a coordinator; `None` if there is no such one.
    pub(super) fn read_announced(
        provider: &str,
        s: &mut Section<'_>,
        core: Option<&CoreSettings>,
    ) -> Option<ClusterSettings> {
        let coordinator = match provider {
            "zookeeper" => zookeeper(s),
            "etcd" => etcd(s),
            "consul" => consul(s, core),
            "nacos" => nacos(s),
            _ => return None,
        };
        Some(ClusterSettings::Announced {
            coordinator,
            own: OwnAddress::read(s, core),
        })
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

fn zookeeper(s: &mut Section<'_>) -> CoordinatorSettings {
    s.without_effect(&["baseSleepTimeMs", "maxRetries"]);
    let name_space = s.text("nameSpace", "");
    let path = match name_space.trim_matches('/') {
        "" => "/skywalking".to_owned(),
        name_space => format!("/skywalking/{name_space}"),
    };
    if path.contains("//") {
        s.problem("nameSpace", "part of a path, such as oap");
    }
    let servers = host_ports(s, "hostPort", "localhost:2181");
    let has_acl = s.flag("enableACL", false);
    let scheme = s.text("schema", "digest");
    let login = s.text("expression", "skywalking:skywalking");
    if has_acl && scheme != "digest" {
        s.problem("schema", "digest, there is no other scheme");
    }
    let user = login.split_once(':').map_or("", |(user, _)| user);
    if has_acl && user.is_empty() {
        s.problem("expression", "user:password");
    }
    CoordinatorSettings::ZooKeeper {
        servers,
        path,
        login: has_acl.then(|| Secret::new(login)),
    }
}

fn etcd(s: &mut Section<'_>) -> CoordinatorSettings {
    let mut urls = urls(s, "hostPort", "localhost:2379", None);
    if s.flag("isSSL", false) {
        for url in &mut urls {
            *url = url.replacen("http://", "https://", 1);
        }
    }
    CoordinatorSettings::Etcd {
        urls,
        service: service(s),
        api: EtcdApi::read(s),
        trusted_ca_path: s.file("trustedCAPath"),
    }
}

fn consul(s: &mut Section<'_>, core: Option<&CoreSettings>) -> CoordinatorSettings {
    CoordinatorSettings::Consul {
        urls: urls(s, "hostPort", "localhost:8500", None),
        service: service(s),
        token: s.secret("aclToken"),
        checks_tls: core.is_some_and(|core| core.grpc_ssl.is_some()),
    }
}

fn nacos(s: &mut Section<'_>) -> CoordinatorSettings {
    CoordinatorSettings::Nacos {
        urls: urls(s, "hostPort", "localhost:8848", Some(8848)),
        service: service(s),
        namespace: s.text("namespace", "public"),
    }
}

/// The name under which nodes are announced.
fn service(s: &mut Section<'_>) -> String {
    let name = needed(
        s,
        "serviceName",
        "SkyWalking_OAP_Cluster",
        "the name of a service",
    );
    let name = name.trim_matches('/').to_owned();
    if name.is_empty() || name.contains("//") || name.contains('@') {
        s.problem("serviceName", "the name of a service, without @");
    }
    name
}

#[cfg(test)]
mod tests;
