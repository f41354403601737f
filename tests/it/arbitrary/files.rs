//! Files and variables that operators write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::{Result, ensure};
use oap::analyzer::gateways::Gateways;
use oap::analyzer::grouping::EndpointGrouping;
use oap::analyzer::{Analyzer, AnalyzerSettings, Facts};
use oap::config::{Arguments, ConfigDirs, ConfigFile, Configuration, Environment, Problem};
use oap::model::message::Message;
use oap::model::time_bucket::Zone;
use oap::query::Components;
use oap::query::service::template_file;
use oap::stream::AddressBook;
use oap::util::clock::Clock;

use super::{Form, Target, text};
use crate::every_metric::compiled;
use crate::segments::{Served, bytes};

const NOW_MS: i64 = 1_600_167_570_000;

const PLACEHOLDERS: &[&str] = &[
    "${",
    "}",
    "${SW_STORAGE:h2}",
    "${A:${B:}}",
    "${A}",
    ":",
    "selector",
    "default",
    "- ",
    "\n  ",
    "*a",
    "&a ",
    "!!binary ",
    "<<: *a",
    "? ",
    "{",
    "[",
    "|\n",
    "%YAML 9.9\n",
    "---\n",
    "...\n",
    "core",
    "restPort",
    "-",
    "\"\\x00\"",
    "0x7fffffff",
    ".inf",
    "~",
];

/// Nobody reads longer messages; each names a value at most.
fn is_short(error: &impl std::fmt::Display, input: &[u8]) -> Result<()> {
    let shown = error.to_string();
    ensure!(
        shown.len() <= 20 * input.len() + 50_000,
        "{} bytes of error",
        shown.len()
    );
    Ok(())
}

fn load(application: Option<&[u8]>, environment: &Environment, input: &[u8]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    if let Some(text) = application {
        std::fs::write(folder.path().join("application.yml"), text)?;
    }
    let dirs = ConfigDirs::only(vec![folder.path().to_owned()]);
    match Configuration::load_from(&dirs, &Arguments::default(), environment) {
        Ok(configuration) => {
            let shown = format!("{:?}{:?}", configuration.settings, configuration.notices);
            // A placeholder with a long value may occur a few times.
            ensure!(
                shown.len() <= 20 * input.len() + 50_000,
                "{} bytes of settings",
                shown.len()
            );
            Ok(())
        }
        Err(error) => is_short(&error, input),
    }
}

#[test]
fn application_yml() -> Result<()> {
    let environment = [
        ("A", "${B}"),
        ("B", "<${A:x}>"),
        ("SW_STORAGE", "elasticsearch7"),
    ];
    let environment: Environment = environment.into_iter().collect();
    let small = "a: &a {selector: \"${X:b}\", b: {c: [1, *a], d: \"${A}\"}}\ncore: {default: {restPort: ${P:1}}}\n";
    Target::of(Form::Bytes, "application-yml")
        .seeds([include_str!("../../../config/application.yml"), small])
        .words(PLACEHOLDERS)
        .check(|input| load(Some(input), &environment, input))
}

#[test]
fn environment() -> Result<()> {
    let seed = "JAVA_OPTS=-Xmx2g -Dmode=no-init -Dcore.default.restPort=${A} -DA=1 -Duser.timezone=GMT+8\nSW_STORAGE=elasticsearch7
SW_STORAGE_ES_CLUSTER_NODES=a:9200,[::1]:9201\nSW_STORAGE_ES_ADVANCED={\"index.codec\":\"x\"}\nA=${B:${C}}\nB=x\nTZ=:Asia/Shanghai
SW_SLOW_DB_THRESHOLD=default:200,mongodb:100\nSW_CORE_RECORD_DATA_TTL=3\nSW_CORE_GRPC_SSL_ENABLED=true\nOAP_LOG=info,oap::x=debug
SW_CORE_REST_CONTEXT_PATH=/a/b\nSW_ES_PASSWORD='a''b'\nSW_NAMESPACE=Sky\nOAP_LOG_FORMAT=json\nSW_ES_SECRETS_MANAGEMENT_FILE=\n";
    Target::of(Form::Text, "environment")
        .seeds([seed])
        .words(&[
            "${A}",
            "${B}",
            "${",
            "}",
            "\nA=",
            "\nJAVA_OPTS=",
            " -D",
            " -Xmx",
            "99999999999g",
            "=",
            ":",
            ",",
            "UTC+25",
            "CST6CDT,M3.2.0,M11.1.0",
            "\nTZ=",
            "-Dcore.default.",
            "/../",
            "{\"a\":",
            "default:",
        ])
        .check(|input| {
            let lines = text(input)?.lines().filter_map(|line| line.split_once('='));
            // A file that is named would be read.
            let lines = lines.filter(|(name, _)| *name != "SW_ES_SECRETS_MANAGEMENT_FILE");
            let variables: BTreeMap<&str, &str> = lines.collect();
            load(None, &variables.into_iter().collect(), input)
        })
}

fn components(text: &str) -> Result<(Components, Vec<String>), Vec<Problem>> {
    Components::parse(&ConfigFile::built_in("component-libraries.yml", text))
}

#[test]
fn component_libraries() -> Result<()> {
    let small = "Tomcat: {id: 1, languages: Java}\nJedis: &j\n  id: 30\nComponent-Server-Mappings:\n  Jedis: Redis\n";
    Target::of(Form::Text, "component-libraries")
        .seeds([small])
        .words(PLACEHOLDERS)
        .check(|input| match components(text(input)?) {
            Ok((components, ignored)) => {
                for id in [0, 1, -1, 30, i64::MAX] {
                    let named = components.name(id).len() + components.server(id).len();
                    ensure!(named <= 2 * input.len() + 20);
                }
                are_few(ignored.len(), input)
            }
            Err(problems) => are_few(problems.len(), input),
        })
}

#[test]
fn ui_templates() -> Result<()> {
    let small = "templates:\n- name: A\n  type: DASHBOARD\n  configuration: |\n    [{\"a\":1}]\n  activated: true\n  disabled: false\n";
    Target::of(Form::Text, "ui-templates")
        .seeds([small])
        .words(PLACEHOLDERS)
        .check(|input| match template_file::parse(text(input)?) {
            Ok(templates) => {
                ensure!(
                    templates.len() <= input.len() / 10,
                    "{} templates",
                    templates.len()
                );
                Ok(())
            }
            Err(error) => is_short(&error, input),
        })
}

/// Mistakes and remarks, each about something in the file.
fn are_few(count: usize, input: &[u8]) -> Result<()> {
    ensure!(count <= input.len() + 10, "{count} messages");
    Ok(())
}

#[test]
fn endpoint_grouping() -> Result<()> {
    let small = "grouping:\n- service-name: shop\n  rules:\n  - endpoint-name: /order/{id}\n    regex: \\/order\\/\\d+
  - endpoint-name: /any\n    regex: (?:a+)+$|[\\w&&[^b]]*|(?<n>x)\\k<n>|\\p{Alpha}\n";
    let segment = Served::new("1", "shop", NOW_MS, 7).segment();
    Target::of(Form::Text, "endpoint-grouping")
        .seeds([
            small,
            include_str!("../../../config/endpoint-name-grouping.yml"),
        ])
        .words(&[
            "regex: ",
            "endpoint-name: ",
            "rules:\n  - ",
            "(",
            ")",
            "(?i)",
            "(?=",
            "(?<!",
            "(?>",
            "[",
            "[^",
            "]",
            "&&",
            "{2,}",
            "{1000}",
            "{",
            "}",
            "*+",
            "+?",
            "\\",
            "\\Q",
            "\\E",
            "\\b",
            "\\p{",
            "\\k<",
            "\\1",
            "\\x{10ffff}",
            "\\u0041",
            "|",
            "(a*)*",
            "^",
            "$",
            "\"",
        ])
        .check(|input| {
            let file = ConfigFile::built_in("endpoint-name-grouping.yml", text(input)?);
            let grouping = match EndpointGrouping::parse(&file) {
                Ok((grouping, ignored)) => {
                    are_few(ignored.len(), input)?;
                    grouping
                }
                Err(problems) => return are_few(problems.len(), input),
            };
            let settings = AnalyzerSettings {
                grouping: Arc::new(grouping),
                ..AnalyzerSettings::default()
            };
            let clock = Clock::Fixed(Arc::new(AtomicI64::new(NOW_MS)));
            let addresses = Arc::new(AddressBook::new(1));
            let mut analyzer = Analyzer::new(
                Arc::new(settings),
                &compiled()?.schema,
                Zone::utc(),
                clock,
                addresses,
            );
            for name in [
                "/order/12",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
                "",
                "\u{2028}💥\n",
                "/any",
            ] {
                let mut segment = segment.clone();
                segment.spans[0].operation_name = name.to_owned();
                let mut facts = Facts::new(1);
                analyzer.analyze(&Message::Segment(bytes(&segment)), &mut facts)?;
                ensure!(facts.len() < 20, "{} facts", facts.len());
            }
            Ok(())
        })
}

#[test]
fn gateways() -> Result<()> {
    let small =
        "gateways:\n- name: edge\n  instances:\n  - {host: 10.0.0.7, port: 8080}\n  - {host: b}\n";
    Target::of(Form::Text, "gateways")
        .seeds([small, include_str!("../../../config/gateways.yml")])
        .words(PLACEHOLDERS)
        .check(|input| {
            let file = ConfigFile::built_in("gateways.yml", text(input)?);
            match Gateways::parse(&file) {
                Ok((_, ignored)) => are_few(ignored.len(), input),
                Err(problems) => are_few(problems.len(), input),
            }
        })
}

/// Aliases that double at each level would be a billion texts.
#[test]
fn aliases_do_not_multiply_without_end() -> Result<()> {
    let mut yaml = "a0: &a0 [x, x]\n".to_owned();
    for i in 1..40 {
        yaml += &format!("a{i}: &a{i} [*a{j}, *a{j}]\n", j = i - 1);
    }
    load(
        Some(yaml.as_bytes()),
        &Environment::default(),
        yaml.as_bytes(),
    )?;
    ensure!(components(&yaml).is_err() && template_file::parse(&yaml).is_err());
    let deep = "[".repeat(100_000);
    load(
        Some(deep.as_bytes()),
        &Environment::default(),
        deep.as_bytes(),
    )?;
    ensure!(components(&deep).is_err() && template_file::parse(&deep).is_err());
    Ok(())
}
