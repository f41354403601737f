//! The `application.yml` of 8.1.0, written down as a table of facts: it loads unchanged, and the shipped one has all of it.

use super::*;

/// A line: module, provider, key, variable, default.
fn table() -> Vec<[String; 5]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/settings-8.1.0.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    fields.map(|f| f.try_into().unwrap()).collect()
}

fn placeholder(variable: &str, default: &str) -> String {
    match variable {
        "" => default.to_owned(),
        name => format!("${{{name}:{default}}}"),
    }
}

/// The file that the table describes, in block style.
fn original() -> String {
    let mut text = String::new();
    let mut open = (String::new(), String::new(), String::new());
    for [module, provider, key, variable, default] in table() {
        if module != open.0 {
            text += &format!("{module}:\n");
            open = (module.clone(), String::new(), String::new());
        }
        if provider.is_empty() {
            text += &format!("  selector: {}\n", placeholder(&variable, &default));
            continue;
        }
        if provider != open.1 {
            text += &format!("  {provider}:\n");
            open.1.clone_from(&provider);
        }
        let value = placeholder(&variable, &default);
        match (key.split_once('.'), key.as_str()) {
            (_, "") => {}
            (_, "downsampling") => {
                text += "    downsampling:\n";
                default
                    .split(',')
                    .for_each(|step| text += &format!("      - {step}\n"));
            }
            (Some((outer, inner)), _) => {
                if open.2 != outer {
                    text += &format!("    {outer}:\n");
                    outer.clone_into(&mut open.2);
                }
                text += &format!("      {inner}: {value}\n");
            }
            (None, key) => text += &format!("    {key}: {value}\n"),
        }
    }
    text
}

#[test]
fn the_file_of_the_original_loads_unchanged() {
    assert!(table().len() > 190);
    for (storage, cluster) in [
        ("h2", "standalone"),
        ("elasticsearch", "zookeeper"),
        ("elasticsearch7", "etcd"),
        ("h2", "consul"),
        ("h2", "nacos"),
    ] {
        let variables = [
            ("SW_STORAGE", storage),
            ("SW_CLUSTER", cluster),
            ("SW_CORE_GRPC_HOST", "10.0.0.1"),
            ("SW_TELEMETRY", "prometheus"),
            ("SW_RECEIVER_METER", "default"),
        ];
        let loaded = load(Some(&original()), &variables).unwrap();
        let strange = loaded.notices.iter().find(|n| {
            matches!(
                n,
                Notice::UnknownKeys(_) | Notice::UnknownModules(_) | Notice::KeysWithoutEffect(_)
            )
        });
        assert_eq!(strange, None, "{storage}");
        let built_in = load(None, &variables).unwrap();
        assert_eq!(
            format!("{:?}", loaded.settings),
            format!("{:?}", built_in.settings),
            "{storage}"
        );
    }
}

#[test]
fn the_shipped_file_has_every_key_variable_and_default_of_the_original() {
    let shipped = ConfigDirs::only(vec![])
        .read(|name| name == "application.yml")
        .unwrap();
    let shipped: serde_norway::Value = serde_norway::from_str(&shipped[0].text).unwrap();
    let original: serde_norway::Value = serde_norway::from_str(&original()).unwrap();
    let mut lacking = Vec::new();
    compare("", &original, &shipped, &mut lacking);
    assert_eq!(lacking, [""; 0]);
}

/// Everything of the original must be in the other one with the same text.
fn compare(
    path: &str,
    original: &serde_norway::Value,
    other: &serde_norway::Value,
    lacking: &mut Vec<String>,
) {
    match (original, other) {
        (serde_norway::Value::Mapping(keys), serde_norway::Value::Mapping(others)) => {
            for (key, value) in keys {
                let name = key.as_str().unwrap();
                match others.get(key) {
                    Some(other) => compare(&format!("{path}.{name}"), value, other, lacking),
                    None => lacking.push(format!("{path}.{name} is not there")),
                }
            }
        }
        // Providers without keys of the original may have some here.
        (serde_norway::Value::Null, _) => {}
        _ if original == other => {}
        _ => lacking.push(format!("{path} is {other:?}, not {original:?}")),
    }
}

#[test]
fn a_selected_provider_that_is_not_there_ends_the_start_with_what_there_is() {
    for (variable, provider, want) in [
        (
            "SW_STORAGE",
            "mysql",
            "h2 or elasticsearch7 or elasticsearch, this server has no other",
        ),
        (
            "SW_STORAGE",
            "influxdb",
            "h2 or elasticsearch7 or elasticsearch",
        ),
        (
            "SW_STORAGE",
            "tape",
            "h2 or elasticsearch7 or elasticsearch",
        ),
        (
            "SW_KAFKA_FETCHER",
            "default",
            "expected -, this server does not have the module",
        ),
        (
            "SW_OC_RECEIVER",
            "default",
            "expected -, this server does not have the module",
        ),
        (
            "SW_RECEIVER_ZIPKIN",
            "default",
            "expected -, this server does not have the module",
        ),
        (
            "SW_RECEIVER_JAEGER",
            "default",
            "expected -, this server does not have the module",
        ),
    ] {
        let found = problems(Some(&original()), &[(variable, provider)]);
        let [problem] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(
            problem.contains(want) && problem.contains(variable),
            "{problem}"
        );
    }
    // Also if the file has nothing but the selector.
    for (text, want) in [
        (
            "storage: {selector: mysql}",
            "h2 or elasticsearch7 or elasticsearch, this server has no other",
        ),
        (
            "kafka-fetcher: {selector: default}",
            "-, this server does not have the module",
        ),
        (
            "storage: {selector: h2}",
            "a section storage.h2 in the file, be it empty",
        ),
    ] {
        let found = problems(Some(text), &[]);
        assert!(found.iter().any(|p| p.contains(want)), "{text}: {found:?}");
    }
}

#[test]
fn what_is_in_effect_is_said_with_its_origin_and_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    std::fs::write(&secrets, "password=of-the-file").unwrap();
    let secrets = secrets.to_str().unwrap();
    let loaded = load(
        Some(&original()),
        &[
            ("JAVA_OPTS", "-Xmx2g -DSW_CORE_REST_PORT=13000 -Dcore.default.gRPCPort=13001 -Dcore.default.persistentPeriod=5"),
            ("SW_STORAGE", "elasticsearch7"),
            ("SW_NAMESPACE", "skywalking"),
            ("SW_ES_USER", "elastic"),
            ("SW_ES_PASSWORD", "of-the-variable"),
            ("SW_ES_SECRETS_MANAGEMENT_FILE", secrets),
            ("SW_AUTHENTICATION", "the-token"),
            ("SW_EXPORTER", "-"),
            ("TZ", "Asia/Shanghai"),
            ("OAP_LOG", "warn"),
        ],
    )
    .unwrap();
    let lines: Vec<String> = loaded.effective.iter().map(Setting::to_string).collect();
    for want in [
        "time-zone = Asia/Shanghai  # variable TZ",
        "log = warn  # variable OAP_LOG",
        "memory-budget-bytes = 2147483648  # -Xmx in JAVA_OPTS",
        "storage.selector = elasticsearch7  # variable SW_STORAGE",
        "core.default.restPort = 13000  # -DSW_CORE_REST_PORT",
        "core.default.gRPCPort = 13001  # -Dcore.default.gRPCPort",
        "core.default.persistentPeriod = 5  # -Dcore.default.persistentPeriod",
        "core.default.gRPCHost = 0.0.0.0  # default in application.yml",
        "core.default.maxMessageSize = 0  # default",
        "core.default.restMinThreads = 1  # default in application.yml; no effect",
        "core.default.downsampling = Hour,Day  # application.yml",
        "storage.elasticsearch7.nameSpace = skywalking  # variable SW_NAMESPACE",
        "storage.elasticsearch7.user = elastic  # variable SW_ES_USER",
        "receiver-sharing-server.default.authentication = ***  # variable SW_AUTHENTICATION",
        "exporter.selector = -  # variable SW_EXPORTER",
        &format!("storage.elasticsearch7.password = ***  # {secrets}"),
    ] {
        assert!(lines.iter().any(|line| line == want), "{want}\n{lines:#?}");
    }
    let all = lines.join("\n");
    assert!(
        !all.contains("of-the-") && !all.contains("the-token"),
        "{all}"
    );
}

#[test]
fn what_the_operator_should_know_is_said_once() {
    let loaded = load(
        Some(&original()),
        &[(
            "JAVA_OPTS",
            " -Xms256M -Xmx512m -XX:+UseG1GC -Dmode=INIT -javaagent:/a.jar",
        )],
    )
    .unwrap();
    let said: Vec<String> = loaded.notices.iter().map(Notice::to_string).collect();
    for want in [
        "storage provider h2 is served by the embedded store",
        "the heap size of the java options is the memory budget, in bytes: 536870912",
        "java options have no effect in this server: -Xms256M -XX:+UseG1GC -javaagent:/a.jar",
    ] {
        assert_eq!(
            said.iter().filter(|s| *s == want).count(),
            1,
            "{want}: {said:?}"
        );
    }
    assert_eq!(said.len(), 3, "{said:?}");
}
