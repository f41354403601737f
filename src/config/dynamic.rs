//! Settings of module `configuration`: where settings come from that change while the server runs (8.1.0 spec, I, K).

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::section::Section;
use super::servers::{host_ports, needed, urls};

/// `configuration`, unless it is `none`.
#[derive(Debug, Clone)]
pub struct DynamicSettings {
    pub center: CenterSettings,
    /// Between two looks.
    pub period: Duration,
}

/// A configuration centre. URLs are those of servers, all of which have the same.
#[derive(Debug, Clone)]
pub enum CenterSettings {
    /// `configuration.grpc`
    Grpc {
        host: String,
        port: u16,
        cluster: String,
    },
    /// `configuration.apollo`
    Apollo {
        meta_urls: Vec<String>,
        cluster: String,
        app_id: String,
    },
    /// `configuration.zookeeper`
    ZooKeeper {
        /// `host:port`, several with commas between.
        servers: String,
        /// Path of the node whose children are the keys.
        path: String,
    },
    /// `configuration.etcd`
    Etcd {
        urls: Vec<String>,
        group: String,
        api: EtcdApi,
        /// PEM file with certificates to trust beside the public ones.
        trusted_ca_path: Option<PathBuf>,
    },
    /// `configuration.consul`
    Consul { urls: Vec<String>, token: Secret },
    /// `configuration.k8s-configmap`
    ConfigMap {
        namespace: String,
        label_selector: String,
    },
    /// `configuration.nacos`
    Nacos {
        urls: Vec<String>,
        group: String,
        /// Empty is the public one.
        namespace: String,
    },
}

/// Which of its two interfaces etcd is asked by; what was written by one cannot be read by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdApi {
    /// The older one if it is served (for settings: and knows the group), else the newer one.
    Auto,
    V2,
    V3,
}

impl EtcdApi {
    pub(super) fn read(s: &mut Section<'_>) -> EtcdApi {
        match s.text("api", "auto").as_str() {
            "" | "auto" => EtcdApi::Auto,
            "v2" => EtcdApi::V2,
            "v3" => EtcdApi::V3,
            _ => {
                s.problem("api", "auto, v2 or v3");
                EtcdApi::Auto
            }
        }
    }
}

impl DynamicSettings {
    /// Reads the keys of a provider; `None` if there is no such centre.
    pub(super) fn read(provider: &str, s: &mut Section<'_>) -> Option<DynamicSettings> {
        let (center, period_s) = match provider {
            "grpc" => (grpc(s), 20),
            "apollo" => (apollo(s), 5),
            "zookeeper" => (zookeeper(s), 60),
            "etcd" => (etcd(s), 60),
            "consul" => (consul(s), 60),
            "k8s-configmap" => (config_map(s), 60),
            "nacos" => (nacos(s), 60),
            _ => return None,
        };
        Some(DynamicSettings {
            center,
            period: s.seconds("period", period_s),
        })
    }
}

fn grpc(s: &mut Section<'_>) -> CenterSettings {
    let host = needed(s, "host", "", "the host of the configuration service");
    CenterSettings::Grpc {
        host,
        port: s.number("port", 80, 1..=u16::MAX.into()),
        cluster: s.text("clusterName", "SkyWalking"),
    }
}

fn apollo(s: &mut Section<'_>) -> CenterSettings {
    s.without_effect(&["apolloEnv"]);
    CenterSettings::Apollo {
        meta_urls: urls(s, "apolloMeta", "http://106.12.25.204:8080", None),
        cluster: needed(s, "apolloCluster", "default", "the name of a cluster"),
        app_id: needed(s, "appId", "skywalking", "the id of an application"),
    }
}

fn zookeeper(s: &mut Section<'_>) -> CenterSettings {
    s.without_effect(&["baseSleepTimeMs", "maxRetries"]);
    let path = s.text("nameSpace", "/default");
    let path = format!("/{}", path.trim_matches('/'));
    if path.contains("//") {
        s.problem("nameSpace", "the path of a node, such as /default");
    }
    CenterSettings::ZooKeeper {
        servers: host_ports(s, "hostPort", "localhost:2181"),
        path,
    }
}

fn etcd(s: &mut Section<'_>) -> CenterSettings {
    s.without_effect(&["clusterName"]);
    let api = EtcdApi::read(s);
    let group = s.text("group", "skywalking");
    let group = group.trim_matches('/').to_owned();
    if group.is_empty() {
        s.problem("group", "the name of a folder, such as skywalking");
    }
    CenterSettings::Etcd {
        urls: urls(s, "serverAddr", "localhost:2379", None),
        group,
        api,
        trusted_ca_path: s.file("trustedCAPath"),
    }
}

fn consul(s: &mut Section<'_>) -> CenterSettings {
    CenterSettings::Consul {
        urls: urls(s, "hostAndPorts", "1.2.3.4:8500", None),
        token: s.secret("aclToken"),
    }
}

fn config_map(s: &mut Section<'_>) -> CenterSettings {
    CenterSettings::ConfigMap {
        namespace: needed(s, "namespace", "default", "the name of a namespace"),
        label_selector: s.text("labelSelector", "app=collector,release=skywalking"),
    }
}

fn nacos(s: &mut Section<'_>) -> CenterSettings {
    let port = s.number("port", 8848, 1..=u16::MAX.into());
    CenterSettings::Nacos {
        urls: urls(s, "serverAddr", "127.0.0.1", Some(port)),
        group: needed(s, "group", "skywalking", "the name of a group"),
        namespace: s.text("namespace", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arguments, ConfigDirs, Configuration, Environment};

    /// With the built-in `application.yml`.
    fn load(variables: &[(&str, &str)]) -> Result<Option<DynamicSettings>, String> {
        let variables = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let environment: Environment = variables.collect();
        let dirs = ConfigDirs::only(vec![]);
        Configuration::load_from(&dirs, &Arguments::default(), &environment)
            .map(|loaded| loaded.settings.dynamic)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_centre_has_the_defaults_of_the_original() {
        assert!(load(&[]).unwrap().is_none());
        for (provider, period_s, part) in [
            (
                "grpc",
                20,
                r#"Grpc { host: "dcs", port: 80, cluster: "SkyWalking" }"#,
            ),
            (
                "apollo",
                5,
                r#"["http://106.12.25.204:8080/"], cluster: "default", app_id: "skywalking""#,
            ),
            (
                "zookeeper",
                60,
                r#"servers: "localhost:2181", path: "/default""#,
            ),
            (
                "etcd",
                60,
                r#"["http://localhost:2379/"], group: "skywalking", api: Auto"#,
            ),
            ("consul", 60, r#"["http://1.2.3.4:8500/"], token: ***"#),
            (
                "k8s-configmap",
                60,
                r#"namespace: "default", label_selector: "app=collector,release=skywalking""#,
            ),
            (
                "nacos",
                60,
                r#"["http://127.0.0.1:8848/"], group: "skywalking", namespace: """#,
            ),
        ] {
            let settings = load(&[
                ("SW_CONFIGURATION", provider),
                ("SW_DCS_SERVER_HOST", "dcs"),
                ("SW_CONFIG_CONSUL_ACL_TOKEN", "t0ken"),
            ]);
            let settings = settings.unwrap().unwrap();
            assert_eq!(settings.period.as_secs(), period_s, "{provider}");
            let center = format!("{:?}", settings.center);
            assert!(center.contains(part), "{center}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (provider, variables, wanted) in [
            ("grpc", vec![], vec!["configuration.grpc.host is \"\""]),
            (
                "grpc",
                vec![("SW_DCS_SERVER_PORT", "0"), ("SW_DCS_PERIOD", "0")],
                vec!["grpc.port is \"0\"", "grpc.period is \"0\""],
            ),
            (
                "etcd",
                vec![("SW_CONFIG_ETCD_API", "v4"), ("SW_CONFIG_ETCD_GROUP", "/")],
                vec!["api is \"v4\"", "auto, v2 or v3", "group is \"/\""],
            ),
            (
                "etcd",
                vec![("SW_CONFIG_ETCD_SERVER_ADDR", "a:b")],
                vec!["serverAddr is \"a:b\"", "host:port or a URL"],
            ),
            (
                "zookeeper",
                vec![
                    ("SW_CONFIG_ZK_HOST_PORT", "zk"),
                    ("SW_CONFIG_ZK_NAMESPACE", "/a//b"),
                ],
                vec!["hostPort is \"zk\"", "nameSpace is \"/a//b\""],
            ),
            (
                "nacos",
                vec![("SW_CONFIG_NACOS_SERVER_PORT", "x")],
                vec!["nacos.port is \"x\""],
            ),
        ] {
            let all = [&[("SW_CONFIGURATION", provider)], &variables[..]].concat();
            let error = load(&all).unwrap_err();
            for part in wanted {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }
}
