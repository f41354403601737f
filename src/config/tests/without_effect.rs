//! What somebody set although it means nothing is named.

use super::*;

/// The keys that are named as without effect.
fn named(variables: &[(&str, &str)]) -> Vec<String> {
    let loaded = load(None, variables).unwrap();
    let keys = loaded.notices.into_iter().find_map(|notice| match notice {
        Notice::KeysWithoutEffect(keys) => Some(keys),
        _ => None,
    });
    keys.unwrap_or_default()
}

#[test]
fn settings_that_mean_nothing_here_are_named_if_somebody_set_them() {
    let loaded = load(
        None,
        &[
            ("SW_CORE_REST_JETTY_MIN_THREADS", "5"),
            ("SW_STORAGE_H2_DRIVER", "x"),
        ],
    )
    .unwrap();
    let keys = ["core.default.restMinThreads", "storage.h2.driver"];
    assert!(
        loaded
            .notices
            .contains(&Notice::KeysWithoutEffect(keys.map(str::to_owned).to_vec()))
    );
}

#[test]
fn a_setting_that_another_one_makes_pointless_is_named_with_the_reason() {
    let es = ("SW_STORAGE", "elasticsearch7");
    let own_port = ("JAVA_OPTS", "-Dreceiver-sharing-server.default.port=1");
    let tls = (
        "JAVA_OPTS",
        "-Dreceiver-sharing-server.default.gRPCSslEnabled=false",
    );
    for (variables, want) in [
        (&[es][..], vec![]),
        (&[es, ("SW_ES_USER", "u"), ("SW_ES_PASSWORD", "p")], vec![]),
        (
            &[es, ("SW_ES_USER", "u")],
            vec!["storage.elasticsearch7.user (password is empty)"],
        ),
        (
            &[es, ("SW_ES_PASSWORD", "p")],
            vec!["storage.elasticsearch7.password (user is empty)"],
        ),
        (
            &[es, ("SW_STORAGE_ES_SSL_JKS_PATH", "/x")],
            vec!["storage.elasticsearch7.trustStorePath (protocol is http)"],
        ),
        (
            &[
                es,
                ("SW_STORAGE_ES_SSL_JKS_PATH", "/x"),
                ("SW_STORAGE_ES_HTTP_PROTOCOL", "https"),
            ],
            vec![],
        ),
        (
            &[("SW_CORE_GRPC_SSL_KEY_PATH", "/x")],
            vec!["core.default.gRPCSslKeyPath (gRPCSslEnabled is false)"],
        ),
        (
            &[("SW_RECEIVER_JETTY_CONTEXT_PATH", "/x")],
            vec!["receiver-sharing-server.default.contextPath (port is 0)"],
        ),
        (
            &[("SW_RECEIVER_JETTY_CONTEXT_PATH", "/x"), own_port],
            vec![],
        ),
        (
            &[tls],
            vec!["receiver-sharing-server.default.gRPCSslEnabled (gRPCPort is 0)"],
        ),
    ] {
        assert_eq!(named(variables), want, "{variables:?}");
    }
}

#[test]
fn a_step_that_nobody_knows_is_a_mistake() {
    let steps = |steps: &str| {
        let options = format!("-Dcore.default.downsampling={steps}");
        load(None, &[("JAVA_OPTS", options.as_str())]).map(|l| {
            let core = l.settings.core;
            (core.downsampling_hour, core.downsampling_day)
        })
    };
    for (text, want) in [
        ("Hour,Day", (true, true)),
        ("[day]", (false, true)),
        ("Minute", (false, false)),
        ("", (false, false)),
    ] {
        assert_eq!(steps(text).unwrap(), want, "{text}");
    }
    let error = steps("Hour,Dya").unwrap_err().to_string();
    assert!(error.contains("expected Hour, Day or both"), "{error}");
}
