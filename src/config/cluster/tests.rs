//! Coordinators: their defaults, who a node says it is, and what is wrong.

use super::*;
use crate::config::{Arguments, ConfigDirs, Configuration};

/// With the built-in `application.yml`, on a node that others can reach.
fn load(coordinator: &str, variables: &[(&str, &str)]) -> Result<ClusterSettings, String> {
    let own = [
        ("SW_CLUSTER", coordinator),
        ("SW_CORE_GRPC_HOST", "10.0.0.1"),
    ];
    let environment: Environment = own.iter().chain(variables).copied().collect();
    Configuration::load_from(
        &ConfigDirs::only(vec![]),
        &Arguments::default(),
        &environment,
    )
    .map(|loaded| loaded.settings.cluster)
    .map_err(|error| error.to_string())
}

fn announced(
    coordinator: &str,
    variables: &[(&str, &str)],
) -> (CoordinatorSettings, Option<OwnAddress>) {
    match load(coordinator, variables) {
        Ok(ClusterSettings::Announced { coordinator, own }) => (coordinator, own),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_coordinator_has_the_defaults_of_the_original() {
    for (provider, part) in [
        (
            "zookeeper",
            r#"servers: "localhost:2181", path: "/skywalking", login: None"#,
        ),
        (
            "etcd",
            r#"["http://localhost:2379/"], service: "SkyWalking_OAP_Cluster", api: Auto"#,
        ),
        (
            "consul",
            r#"["http://localhost:8500/"], service: "SkyWalking_OAP_Cluster", token: "", checks_tls: false"#,
        ),
        (
            "nacos",
            r#"["http://localhost:8848/"], service: "SkyWalking_OAP_Cluster", namespace: "public""#,
        ),
    ] {
        let (coordinator, own) = announced(provider, &[]);
        assert_eq!(coordinator.provider(), provider);
        let text = format!("{coordinator:?}");
        assert!(text.contains(part), "{text}");
        assert_eq!(own, Some(OwnAddress::new("10.0.0.1", 11800)));
    }
}

#[test]
fn keys_change_what_they_say() {
    for (provider, variables, part) in [
        (
            "zookeeper",
            &[
                ("SW_NAMESPACE", "/team/oap/"),
                ("SW_CLUSTER_ZK_HOST_PORT", "a:1,b:2"),
                ("SW_ZK_ENABLE_ACL", "true"),
            ][..],
            r#"servers: "a:1,b:2", path: "/skywalking/team/oap", login: Some(***)"#,
        ),
        (
            "etcd",
            &[
                ("SW_SERVICE_NAME", "/mine/"),
                ("SW_CLUSTER_ETCD_HOST_PORT", "a:1, b:2"),
                ("SW_CLUSTER_ETCD_IS_SSL", "true"),
                ("SW_CLUSTER_ETCD_API", "v3"),
                ("SW_CLUSTER_ETCD_TRUSTED_CA_PATH", "/ca.pem"),
            ],
            r#"["https://a:1/", "https://b:2/"], service: "mine", api: V3, trusted_ca_path: Some("/ca.pem")"#,
        ),
        (
            "consul",
            &[("SW_CLUSTER_CONSUL_ACLTOKEN", "t0ken")],
            "token: ***",
        ),
        (
            "nacos",
            &[
                ("SW_CLUSTER_NACOS_HOST_PORT", "a,b:2"),
                ("SW_CLUSTER_NACOS_NAMESPACE", ""),
            ],
            r#"["http://a:8848/", "http://b:2/"], service: "SkyWalking_OAP_Cluster", namespace: """#,
        ),
    ] {
        let (coordinator, _) = announced(provider, variables);
        let text = format!("{coordinator:?}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_node_is_where_the_settings_say() {
    for (variables, want) in [
        (&[][..], Some(("10.0.0.1", 11800))),
        (&[("SW_CORE_GRPC_PORT", "9")], Some(("10.0.0.1", 9))),
        (
            &[
                ("SW_CLUSTER_INTERNAL_COM_HOST", "oap-1"),
                ("SW_CLUSTER_INTERNAL_COM_PORT", "8"),
            ],
            Some(("oap-1", 8)),
        ),
        (
            &[("SW_CLUSTER_INTERNAL_COM_HOST", "[fd00::1]")],
            Some(("fd00::1", 11800)),
        ),
        (
            &[
                ("SW_CORE_GRPC_HOST", "0.0.0.0"),
                ("SW_CLUSTER_INTERNAL_COM_HOST", "oap-1"),
            ],
            Some(("oap-1", 11800)),
        ),
        // Who does not announce itself need not know where it is.
        (
            &[
                ("SW_CORE_ROLE", "Receiver"),
                ("SW_CORE_GRPC_HOST", "0.0.0.0"),
            ],
            None,
        ),
        (&[("SW_CORE_ROLE", "Aggregator")], Some(("10.0.0.1", 11800))),
    ] {
        let (_, own) = announced("nacos", variables);
        let want = want.map(|(host, port)| OwnAddress::new(host, port));
        assert_eq!(own, want, "{variables:?}");
    }
    let v6 = OwnAddress::new("fd00::1", 11800);
    assert_eq!(
        (v6.member(), v6.id()),
        ("[fd00::1]:11800".to_owned(), "fd00::1_11800".to_owned())
    );
}

#[test]
fn mistakes_are_named() {
    for (provider, variables, wanted) in [
        (
            "etcd",
            &[("SW_CORE_GRPC_HOST", "0.0.0.0")][..],
            &["cluster.etcd.internalComHost is \"\"", "SW_CORE_GRPC_HOST"][..],
        ),
        (
            "nacos",
            &[("SW_CORE_GRPC_HOST", "::")],
            &["nacos.internalComHost"],
        ),
        (
            "consul",
            &[("SW_CLUSTER_INTERNAL_COM_HOST", "0.0.0.0")],
            &["consul.internalComHost is \"0.0.0.0\""],
        ),
        (
            "consul",
            &[("SW_CORE_GRPC_PORT", "0")],
            &["consul.internalComPort is \"-1\"", "gRPCPort is 0"],
        ),
        (
            "consul",
            &[("SW_CLUSTER_INTERNAL_COM_PORT", "70000")],
            &["internalComPort is \"70000\"", "from -1 to 65535"],
        ),
        (
            "zookeeper",
            &[("SW_CLUSTER_ZK_HOST_PORT", "zk"), ("SW_NAMESPACE", "a//b")],
            &["hostPort is \"zk\"", "zookeeper.nameSpace is \"a//b\""],
        ),
        (
            "zookeeper",
            &[
                ("SW_ZK_ENABLE_ACL", "true"),
                ("SW_ZK_SCHEMA", "sasl"),
                ("SW_ZK_EXPRESSION", "secret"),
            ],
            &[
                "schema is \"sasl\"",
                "digest",
                "expression is \"***\"",
                "user:password",
            ],
        ),
        (
            "etcd",
            &[("SW_CLUSTER_ETCD_API", "v4"), ("SW_SERVICE_NAME", "/")],
            &["api is \"v4\"", "serviceName is \"/\""],
        ),
        (
            "etcd",
            &[("SW_CLUSTER_ETCD_HOST_PORT", "a:b")],
            &["hostPort is \"a:b\"", "host:port or a URL"],
        ),
        (
            "nacos",
            &[("SW_SERVICE_NAME", "a@@b")],
            &["serviceName is \"a@@b\""],
        ),
    ] {
        let error = load(provider, variables).unwrap_err();
        for part in wanted {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn one_mistake_in_a_list_of_members_is_one_message() {
    for (members, own, wanted) in [
        ("", "", &["members is \"\"", "host:port,host:port"][..]),
        (
            "10.0.0.1:11800;10.0.0.2:11800",
            "",
            &[
                "members is \"10.0.0.1:11800;10.0.0.2:11800\"",
                "commas between",
            ],
        ),
        (
            "10.0.0.1:11800,http://10.0.0.2:11800",
            "",
            &["\"http://10.0.0.2:11800\" is a URL"],
        ),
        (
            "10.0.0.3:11800,10.0.0.2:11800",
            "",
            &[
                "static.self is \"\"",
                "SW_CLUSTER_STATIC_SELF",
                "none is 10.0.0.1:11800",
            ],
        ),
        (
            "10.0.0.3:11800,10.0.0.2:11800",
            "10.0.0.1:11800",
            &[
                "static.self is \"10.0.0.1:11800\"",
                "SW_CLUSTER_STATIC_SELF",
                "one of the members 10.0.0.3:11800,10.0.0.2:11800",
            ],
        ),
    ] {
        let variables = [
            ("SW_CLUSTER_STATIC_MEMBERS", members),
            ("SW_CLUSTER_STATIC_SELF", own),
        ];
        let error = load("static", &variables).unwrap_err();
        assert!(error.starts_with("1 problem "), "{error}");
        for part in wanted {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let variables = [(
        "SW_CLUSTER_STATIC_MEMBERS",
        "10.0.0.1:11800,[fd00::1]:11800",
    )];
    let own = match load("static", &variables) {
        Ok(ClusterSettings::Static { own, .. }) => own,
        other => panic!("{other:?}"),
    };
    assert_eq!(own.as_deref(), Some("10.0.0.1:11800"));
}
