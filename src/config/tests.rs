//! The whole way from files and variables to settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

mod original;
mod without_effect;

fn load(
    application: Option<&str>,
    variables: &[(&str, &str)],
) -> Result<Configuration, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    if let Some(text) = application {
        std::fs::write(dir.path().join("application.yml"), text).unwrap();
    }
    Configuration::load_from(
        &ConfigDirs::only(vec![dir.path().to_owned()]),
        &Arguments::default(),
        &variables.iter().copied().collect(),
    )
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    load(None, variables).unwrap().settings
}

fn es(variables: &[(&str, &str)]) -> EsSettings {
    let storage = [("SW_STORAGE", "elasticsearch7")];
    let all: Vec<_> = storage.iter().chain(variables).copied().collect();
    match settings(&all).storage {
        StorageSettings::Elasticsearch(es) => *es,
        other => panic!("{other:?}"),
    }
}

/// The lines of the error for a configuration that must not start.
fn problems(application: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
    match load(application, variables) {
        Err(ConfigError::Invalid(problems)) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secrets_file_wins_over_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.properties");
    std::fs::write(
        &path,
        "# rotated\nuser = elastic\npassword: a=b:c\n\nother=1\n",
    )
    .unwrap();
    let load_with = |path: &str| {
        load(
            None,
            &[
                ("SW_STORAGE", "elasticsearch7"),
                ("SW_ES_USER", "old"),
                ("SW_ES_SECRETS_MANAGEMENT_FILE", path),
            ],
        )
    };
    let loaded = load_with(path.to_str().unwrap()).unwrap();
    let StorageSettings::Elasticsearch(es) = &loaded.settings.storage else {
        panic!("{loaded:?}");
    };
    assert_eq!(
        (es.user.as_str(), es.password.expose()),
        ("elastic", "a=b:c")
    );
    let error = load_with("/no/such/file").unwrap_err().to_string();
    assert!(error.contains("secretsManagementFile"), "{error}");
}

#[test]
fn a_secrets_file_has_the_escapes_of_properties() {
    let mut es = es(&[("SW_ES_USER", "old")]);
    es.take_secrets("! x\npassword = a\\=b\\\\c\\u0041\\:\ntrustStorePass changeit\nempty\n");
    assert_eq!(
        (
            es.user.as_str(),
            es.password.expose(),
            es.trust_store_pass.expose()
        ),
        ("old", "a=b\\cA:", "changeit")
    );
}

#[test]
fn own_settings_of_elasticsearch_are_off_by_default() {
    let plain = es(&[("SW_STORAGE_DAY_STEP", "5")]);
    assert!(!plain.update_templates && !plain.apply_day_step);
    let all = es(&[
        ("SW_STORAGE_DAY_STEP", "5"),
        ("SW_STORAGE_ES_APPLY_DAY_STEP", "true"),
        ("SW_STORAGE_ES_UPDATE_TEMPLATES", "true"),
    ]);
    assert!(all.update_templates && all.apply_day_step);
    assert_eq!((plain.day_step, all.day_step), (5, 5));
}

#[test]
fn without_any_setting_the_server_stands_alone() {
    let loaded = load(None, &[]).unwrap();
    let s = &loaded.settings;
    assert_eq!((s.core.rest_port, s.core.grpc_port), (12800, 11800));
    assert_eq!((s.core.record_data_ttl, s.core.metrics_data_ttl), (3, 7));
    assert!(s.core.downsampling_hour && s.core.downsampling_day);
    assert_eq!(s.core.persistent_period, Duration::from_secs(3));
    assert_eq!(
        (s.core.max_message_size, s.core.grpc_ssl.clone()),
        (None, None)
    );
    assert_eq!(s.mode, RunMode::Normal);
    assert_eq!(s.telemetry, TelemetrySettings::None);
    assert_eq!(s.query.as_ref().unwrap().path, "/graphql");
    let analyzer = s.agent_analyzer.as_ref().unwrap();
    assert_eq!(analyzer.slow_db_access_threshold.of("mongodb"), 100);
    assert_eq!(
        s.oal_scripts(),
        ["core", "java-agent", "dotnet-agent", "envoy"]
    );
    let StorageSettings::Embedded(embedded) = &s.storage else {
        panic!("{:?}", s.storage)
    };
    assert_eq!(embedded.dir, Path::new("data"));
    assert!(loaded.files.iter().all(|f| f.source == FileSource::BuiltIn));
    assert_eq!(loaded.oal_scripts().len(), 4);
    assert_eq!(loaded.notices, [Notice::EmbeddedServesH2]);
}

#[test]
fn the_environment_of_the_chart_is_understood() {
    let es = es(&[
        ("JAVA_OPTS", "-Xmx2g -Xms2g -Dmode=no-init"),
        ("SW_STORAGE_ES_CLUSTER_NODES", "a:9200, [::1]:9201,"),
        ("SW_ES_USER", "elastic"),
        ("SW_ES_PASSWORD", "123456"),
        ("SW_NAMESPACE", "SkyWalking"),
        (
            "SW_STORAGE_ES_ADVANCED",
            r#"{"index.codec":"best_compression"}"#,
        ),
        ("SW_STORAGE_ES_HTTP_PROTOCOL", "https"),
        ("SW_OAP_SERVICE_HOST", "10.0.0.1"),
    ]);
    assert_eq!(es.cluster_nodes, ["a:9200", "[::1]:9201"]);
    assert_eq!(
        (es.user.as_str(), es.password.expose()),
        ("elastic", "123456")
    );
    assert_eq!(
        (es.name_space.as_str(), es.protocol),
        ("skywalking", EsProtocol::Https)
    );
    assert_eq!(es.advanced["index.codec"], "best_compression");
    assert_eq!(es.bulk_actions, 1000);
    assert!(!format!("{es:?}").contains("123456"));
}

#[test]
fn texts_stay_what_they_are_and_numbers_and_flags_are_read_generously() {
    for (value, want) in [
        ("123456", "123456"),
        ("007", "007"),
        ("\"quoted\"", "quoted"),
        ("'quo''ted'", "quo'ted"),
        ("true", "true"),
        ("null", "null"),
        ("#hash", "#hash"),
        ("@at", "@at"),
        ("!bang", "!bang"),
        ("*star", "*star"),
        ("%percent", "%percent"),
        ("a: b", "a: b"),
        ("{unclosed", "{unclosed"),
        ("root@1234", "root@1234"),
        ("", ""),
    ] {
        assert_eq!(
            es(&[("SW_ES_PASSWORD", value)]).password.expose(),
            want,
            "{value}"
        );
    }
    let s = settings(&[
        ("SW_CORE_REST_PORT", "\"13000\""),
        ("SW_CORE_ENABLE_DATA_KEEPER_EXECUTOR", "No"),
    ]);
    assert_eq!(
        (s.core.rest_port, s.core.enable_data_keeper_executor),
        (13000, false)
    );
}

#[test]
fn dead_letters_have_a_file_and_a_bound() {
    let loaded = load(None, &[]).unwrap();
    let core = &loaded.settings.core;
    assert_eq!(core.dead_letter_file, Path::new("data/dead-letters.jsonl"));
    let shown = |s: &Setting| {
        s.to_string()
            .starts_with("core.default.deadLetterFile = data/dead-letters.jsonl")
    };
    assert!(loaded.effective.iter().any(shown));
    assert_eq!(core.dead_letter_bytes, 64 << 20);
    let core = settings(&[
        ("SW_CORE_DEAD_LETTER_FILE", "/tmp/d.jsonl"),
        ("SW_CORE_DEAD_LETTER_MEGABYTES", "0"),
    ])
    .core;
    assert_eq!(core.dead_letter_file, Path::new("/tmp/d.jsonl"));
    assert_eq!(core.dead_letter_bytes, 0);
}

#[test]
fn properties_come_before_variables_and_override_keys() {
    let opts = "-DSW_CORE_REST_PORT=1 -Dcore.default.gRPCPort=2 -Dcore.default.persistentPeriod=4 \
        -Dstorage.elasticsearch7.user=unselected -Dcore.default.nonsense=1 -Djava.io.tmpdir=/tmp -Xss1m -Duser.timezone=Asia/Tokyo";
    let loaded = load(
        None,
        &[
            ("JAVA_OPTS", opts),
            ("SW_CORE_REST_PORT", "3"),
            ("SW_CORE_GRPC_PORT", "4"),
            ("TZ", "UTC"),
        ],
    )
    .unwrap();
    let core = &loaded.settings.core;
    assert_eq!((core.rest_port, core.grpc_port), (1, 2));
    assert_eq!(core.persistent_period, Duration::from_secs(4));
    assert_eq!(loaded.settings.time_zone.as_deref(), Some("Asia/Tokyo"));
    let unused = [
        "-Xss1m",
        "-Dstorage.elasticsearch7.user",
        "-Djava.io.tmpdir",
    ];
    assert!(loaded.notices.contains(&Notice::JavaOptsWithoutEffect(
        unused.map(str::to_owned).to_vec()
    )));
    assert!(loaded.notices.contains(&Notice::UnknownKeys(vec![
        "core.default.nonsense".to_owned()
    ])));
}

#[test]
fn a_selector_picks_one_provider_or_none() {
    let s = settings(&[
        ("SW_AGENT_ANALYZER", "-"),
        ("SW_RECEIVER_TRACE", "-"),
        ("SW_RECEIVER_JVM", "-"),
        ("SW_ENVOY_METRIC_SERVICE", "false"),
        ("SW_QUERY", "-"),
        ("SW_TELEMETRY", "prometheus"),
    ]);
    assert!(s.agent_analyzer.is_none() && s.query.is_none());
    assert!(!s.receivers.trace && !s.receivers.jvm && s.receivers.clr);
    // The mesh receiver needs core.oal too.
    assert_eq!(s.oal_scripts(), ["core", "dotnet-agent"]);
    let host = "0.0.0.0".to_owned();
    assert_eq!(
        s.telemetry,
        TelemetrySettings::Prometheus { host, port: 1234 }
    );
}

#[test]
fn istio_needs_the_mesh() {
    let lines = problems(None, &[("SW_SERVICE_MESH", "-")]);
    let wanted = "module service-mesh is missing, expected a provider, istio-telemetry needs it";
    assert_eq!(lines, [wanted]);
}

#[test]
fn every_problem_is_listed_with_path_value_and_expectation() {
    let lines = problems(
        None,
        &[
            ("SW_CORE_REST_PORT", "http"),
            ("SW_CORE_GRPC_PORT", "65536"),
            ("SW_CORE_RECORD_DATA_TTL", ""),
            ("SW_CORE_GRPC_SSL_ENABLED", "maybe"),
            ("SW_STORAGE", "elasticsearch"),
            ("SW_STORAGE_ES_CLUSTER_NODES", "localhost"),
            ("SW_STORAGE_ES_ADVANCED", "[1]"),
            ("SW_CLUSTER", "eureka"),
            ("SW_RECEIVER_ZIPKIN", "default"),
            ("SW_RECEIVER_SHARING_SERVER", "-"),
            ("SW_AGENT_ANALYZER", "-"),
            ("SW_TELEMETRY", "so11y"),
            ("OAP_LOG_FORMAT", "xml"),
            ("OAP_LOG", "oap=loud"),
            ("TZ", "Mars/Base"),
            ("JAVA_OPTS", "-Xmx1g -Dmode=bogus"),
        ],
    );
    insta::assert_snapshot!(lines.join("\n"), @r#"
    cluster.selector is "eureka" (from SW_CLUSTER), expected standalone or static or kubernetes or zookeeper or consul or etcd or nacos, this server has no other
    telemetry.selector is "so11y" (from SW_TELEMETRY), expected none or prometheus, this server has no other
    OAP_LOG_FORMAT is "xml", expected plain or json
    OAP_LOG is "oap=loud", expected levels as info or info,oap::storage=debug
    -Dmode is "bogus" (from JAVA_OPTS), expected init, no-init or default
    TZ is "Mars/Base", expected a time zone such as UTC or Asia/Shanghai
    receiver_zipkin.selector is "default" (from SW_RECEIVER_ZIPKIN), expected -, this server does not have the module
    module receiver-sharing-server is missing, expected a provider, receiver-register, receiver-trace, receiver-jvm, receiver-clr, receiver-profile, service-mesh, istio-telemetry, envoy-metric needs it
    module agent-analyzer is missing, expected a provider, receiver-trace needs it
    core.default.restPort is "http" (from SW_CORE_REST_PORT), expected a whole number from 0 to 65535
    core.default.gRPCPort is "65536" (from SW_CORE_GRPC_PORT), expected a whole number from 0 to 65535
    core.default.gRPCSslEnabled is "maybe" (from SW_CORE_GRPC_SSL_ENABLED), expected true or false
    core.default.recordDataTTL is "" (from SW_CORE_RECORD_DATA_TTL), expected a whole number from 1 to 2147483647
    storage.elasticsearch.clusterNodes is "localhost" (from SW_STORAGE_ES_CLUSTER_NODES), expected host:port, several with commas between, without scheme and user
    storage.elasticsearch.advanced is "[1]" (from SW_STORAGE_ES_ADVANCED), expected a JSON object of index settings
    "#);
}

#[test]
fn a_key_that_is_gone_has_the_default_of_the_code() {
    let text = "
cluster: {selector: standalone, standalone: }
core: {selector: default, default: {gRPCPort: 0, maxMessageSize: 1024, downsampling: [Hour]}}
storage: {selector: h2, h2: }
receiver-sharing-server: {default: {gRPCPort: 9}}
receiver-log: {selector: default, default: {a: 1}}
";
    let loaded = load(Some(text), &[]).unwrap();
    let core = &loaded.settings.core;
    assert_eq!((core.record_data_ttl, core.metrics_data_ttl), (7, 3));
    assert_eq!((core.grpc_port, core.max_message_size), (0, Some(1024)));
    assert_eq!(
        (core.downsampling_hour, core.downsampling_day),
        (true, false)
    );
    assert!(loaded.settings.agent_analyzer.is_none() && loaded.oal_scripts().is_empty());
    let sharing = loaded.settings.receiver_sharing.as_ref().unwrap();
    assert_eq!(sharing.grpc_port, 9);
    assert!(
        loaded
            .notices
            .contains(&Notice::UnknownModules(vec!["receiver-log".to_owned()]))
    );
    let source = &loaded.file("application.yml").unwrap().source;
    assert!(matches!(source, FileSource::Disk(_)), "{source}");
}

#[test]
fn files_that_make_no_sense_are_refused() {
    for (text, want) in [
        ("a: [", "is not valid YAML"),
        ("just text", "expected modules"),
        (
            "core: 1",
            "core is missing, expected a selector and providers",
        ),
        (
            "core: {selector: default, default: 1}",
            "core.default is missing, expected keys with values",
        ),
        ("core: {a: , b: }", "core.selector is missing"),
        (
            "core: {selector: \"${X:${Y:}}\", default: }",
            "core.selector is \"\"",
        ),
        ("", "module storage is missing"),
        (
            "core: {selector: default, default: {restHost: \"${restHost}\"}}",
            "refers to itself",
        ),
    ] {
        let error = load(Some(text), &[]).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn tls_needs_its_files() {
    let on = ("SW_CORE_GRPC_SSL_ENABLED", "true");
    let missing = problems(None, &[on]);
    assert_eq!(missing.len(), 2);
    // The original's file writes an empty text as two quotes.
    let is_said = |p: &String| p.contains("Path is \"\", expected the path of a PEM file");
    assert!(missing.iter().all(is_said), "{missing:?}");
    let s = settings(&[
        on,
        ("SW_CORE_GRPC_SSL_KEY_PATH", "/k"),
        ("SW_CORE_GRPC_SSL_CERT_CHAIN_PATH", "/c"),
    ]);
    let tls = s.core.grpc_ssl.unwrap();
    assert_eq!(
        (tls.key_path, tls.cert_chain_path),
        (PathBuf::from("/k"), PathBuf::from("/c"))
    );
}

#[test]
fn access_logs_are_analysed_on_demand() {
    let analysed = |names: &str| {
        let envoy = settings(&[("SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS", names)]);
        envoy.receivers.envoy.unwrap().als_http_analysis
    };
    assert!(!analysed(""));
    assert!(analysed("k8s-mesh"));
    assert!(analysed(" k8s-mesh , k8s-mesh,"));
    let unknown = problems(None, &[("SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS", "mx-mesh")]);
    let [problem] = &unknown[..] else {
        panic!("{unknown:?}");
    };
    assert!(problem.contains("k8s-mesh, or nothing"), "{problem}");
}

#[test]
fn a_rule_of_posix_is_a_zone_of_the_system_only() {
    for (zone, is_zone_of_java) in [("UTC+8", false), ("GMT+8", true), ("CTT", true)] {
        assert!(load(None, &[("TZ", zone)]).is_ok(), "{zone}");
        let options = format!("-Duser.timezone={zone}");
        let loaded = load(None, &[("JAVA_OPTS", &options)]);
        assert_eq!(loaded.is_ok(), is_zone_of_java, "{zone}");
    }
}

#[test]
fn nodes_are_addresses_and_nothing_else() {
    let nodes = |nodes: &str| {
        let variables = [
            ("SW_STORAGE", "elasticsearch7"),
            ("SW_STORAGE_ES_CLUSTER_NODES", nodes),
        ];
        load(None, &variables).map_err(|e| e.to_string())
    };
    for right in ["es_1.x-y:9200", "[::1]:9200/path", " a:1 , b:2,"] {
        assert!(nodes(right).is_ok(), "{right}");
    }
    for wrong in ["es", "es:9200;es2:9200", "::1:9200", "[x]:9200", "a b:1"] {
        assert!(nodes(wrong).is_err(), "{wrong}");
    }
    for (wrong, shown) in [
        ("elastic:secret@es:9200", "\"***@es:9200\""),
        (
            "https://elastic:secret@es:9200/x,b:1",
            "\"https://***@es:9200/x,b:1\"",
        ),
    ] {
        let error = nodes(wrong).unwrap_err();
        assert!(
            error.contains(shown) && !error.contains("secret"),
            "{error}"
        );
    }
    let loaded = load(
        None,
        &[
            ("SW_STORAGE_H2_URL", "x:me:secret@db"),
            ("JAVA_OPTS", "-Dstorage.h2.password=secret"),
        ],
    );
    let effective = loaded.unwrap().effective;
    assert!(!effective.iter().any(|s| s.value.contains("secret")));
}

#[test]
fn an_idle_time_of_nothing_closes_nothing() {
    for (millis, want) in [("2000", 2), ("0", 24 * 3600)] {
        let core = settings(&[("SW_CORE_REST_JETTY_IDLE_TIMEOUT", millis)]).core;
        assert_eq!(core.rest_idle_time_out, Duration::from_secs(want));
    }
}

#[test]
fn bounds_of_bulk_requests_are_those_of_the_original() {
    for (actions, requests, want) in [
        ("-1", "0", (usize::MAX, 1)),
        ("0", "1", (1, 1)),
        ("500", "4", (500, 4)),
    ] {
        let StorageSettings::Elasticsearch(es) = settings(&[
            ("SW_STORAGE", "elasticsearch7"),
            ("SW_STORAGE_ES_BULK_ACTIONS", actions),
            ("SW_STORAGE_ES_CONCURRENT_REQUESTS", requests),
        ])
        .storage
        else {
            panic!("not Elasticsearch");
        };
        assert_eq!((es.bulk_actions, es.concurrent_requests), want);
    }
}
