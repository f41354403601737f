//! What this version does with each module and provider of 8.1.0 (8.1.0 spec, 0 and K).

/// What selecting a provider leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Works,
    /// The server must not start as if it had it.
    Missing,
}

/// Every module with its providers.
const MODULES: &[(&str, &[(&str, Support)])] = {
    use Support::{Missing, Works};
    &[
        (
            "cluster",
            &[
                ("standalone", Works),
                ("static", Works),
                ("kubernetes", Works),
                ("zookeeper", Works),
                ("consul", Works),
                ("etcd", Works),
                ("nacos", Works),
            ],
        ),
        ("core", &[("default", Works)]),
        (
            "storage",
            &[
                ("h2", Works),
                ("elasticsearch7", Works),
                ("elasticsearch", Works),
                ("mysql", Missing),
                ("influxdb", Missing),
            ],
        ),
        ("agent-analyzer", &[("default", Works)]),
        ("receiver-sharing-server", &[("default", Works)]),
        ("receiver-register", &[("default", Works)]),
        ("receiver-trace", &[("default", Works)]),
        ("receiver-jvm", &[("default", Works)]),
        ("receiver-clr", &[("default", Works)]),
        ("receiver-profile", &[("default", Works)]),
        ("service-mesh", &[("default", Works)]),
        ("istio-telemetry", &[("default", Works)]),
        ("envoy-metric", &[("default", Works)]),
        ("prometheus-fetcher", &[("default", Works)]),
        ("kafka-fetcher", &[("default", Missing)]),
        ("receiver-meter", &[("default", Works)]),
        ("receiver-oc", &[("default", Missing)]),
        ("receiver_zipkin", &[("default", Missing)]),
        ("receiver_jaeger", &[("default", Missing)]),
        ("query", &[("graphql", Works)]),
        ("alarm", &[("default", Works)]),
        ("telemetry", &[("none", Works), ("prometheus", Works)]),
        (
            "configuration",
            &[
                ("none", Works),
                ("grpc", Works),
                ("apollo", Works),
                ("zookeeper", Works),
                ("etcd", Works),
                ("consul", Works),
                ("k8s-configmap", Works),
                ("nacos", Works),
            ],
        ),
        ("exporter", &[("grpc", Works)]),
        ("health-checker", &[("default", Works)]),
    ]
};

/// Modules that others cannot do without: who needs them, and what.
pub const NEEDS: &[(&str, &[&str])] = &[
    (
        "receiver-sharing-server",
        &[
            "receiver-register",
            "receiver-trace",
            "receiver-jvm",
            "receiver-clr",
            "receiver-profile",
            "receiver-meter",
            "service-mesh",
            "istio-telemetry",
            "envoy-metric",
        ],
    ),
    ("agent-analyzer", &["receiver-trace"]),
    ("service-mesh", &["istio-telemetry"]),
];

/// The providers of a module; `None` if there is no such module.
pub fn providers(module: &str) -> Option<&'static [(&'static str, Support)]> {
    MODULES
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, providers)| *providers)
}

/// What to select instead of a provider that this server does not have, for messages.
pub fn choices(providers: &[(&str, Support)]) -> String {
    let usable = providers.iter().filter(|(_, s)| *s != Support::Missing);
    let usable: Vec<&str> = usable.map(|(name, _)| *name).collect();
    match usable[..] {
        [] => "-, this server does not have the module".to_owned(),
        _ => format!("{}, this server has no other", usable.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_name_modules_that_exist() {
        for (needed, by) in NEEDS {
            assert!(providers(needed).is_some(), "{needed}");
            for module in *by {
                assert!(providers(module).is_some(), "{module}");
            }
        }
    }
}
