//! A file that is no YAML, or says what makes no sense, ends the start; the message names the file, the place and the remedy.

use anyhow::{Result, ensure};

use crate::server::{Store, TestServer};

/// No YAML from its third line on.
const BROKEN: &str = "a: 1\nb:\n  - c: [1, 2\n  - d: }\n";

/// A file, what it says, and what the message must have.
type Mistake = (&'static str, &'static str, &'static [&'static str]);

/// What the start says about a file.
async fn error_of(file: &str, text: &str) -> Result<String> {
    let config = tempfile::tempdir()?;
    let path = config.path().join(file);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)?;
    let server = TestServer::builder("broken_files", Store::Embedded)
        .config_dir(config.path())
        .env("SW_RECEIVER_METER", "default")
        .env("SW_PROMETHEUS_FETCHER_ACTIVE", "true");
    match server.start().await {
        Ok(_) => anyhow::bail!("it started with {file}: {text}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_that_is_no_yaml_is_named_with_the_line() -> Result<()> {
    for file in [
        "application.yml",
        "alarm-settings.yml",
        "component-libraries.yml",
        "endpoint-name-grouping.yml",
        "gateways.yml",
        "service-apdex-threshold.yml",
        "ui-initialized-templates.yml",
        "meter-receive-config/mine.yaml",
        "fetcher-prom-rules/mine.yaml",
    ] {
        let error = error_of(file, BROKEN).await?;
        ensure!(error.contains(file), "{file}: {error}");
        let has_line = [3, 4].iter().any(|line| {
            error.contains(&format!("line {line}")) || error.contains(&format!("{file}:{line}:"))
        });
        ensure!(has_line, "{file}: {error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_with_its_place_and_what_to_write() -> Result<()> {
    let mistakes: &[Mistake] = &[
        (
            "alarm-settings.yml",
            "rules:\n  a_rule:\n    metrics-name: service_sla\n    op: less\n    threshold: 1\n",
            &["alarm-settings.yml:4:9", "expected >, >=, <, <=, =="],
        ),
        (
            "component-libraries.yml",
            "Tomcat:\n  id: one\n",
            &["Tomcat", "expected"],
        ),
        (
            "endpoint-name-grouping.yml",
            "grouping:\n  - service-name: a\n    rules:\n      - {endpoint-name: b, regex: '('}\n",
            &["grouping[0].rules[0].regex", "expected"],
        ),
        (
            "gateways.yml",
            "gateways: [{name: edge, instances: [{host: edge, port: many}]}]\n",
            &["gateways[0].instances[0].port", "expected"],
        ),
        (
            "service-apdex-threshold.yml",
            "default: soon\n",
            &["default", "expected"],
        ),
        (
            "ui-initialized-templates.yml",
            "templates:\n  - name: a\n    type: DASHBORD\n    configuration: '[]'\n",
            &["\"DASHBORD\"", "DASHBOARD, TOPOLOGY_SERVICE"],
        ),
        (
            "meter-receive-config/mine.yaml",
            "meters:\n  - name: load\n    scope: {type: SERVIC}\n    meter: {operation: avg, value: 'meter[\"a\"]'}\n",
            &["meter-receive-config/mine.yaml:3:", "SERVICE"],
        ),
        (
            "fetcher-prom-rules/mine.yaml",
            "fetcherInterval: soon\nmetricsPath: /metrics\nstaticConfig: {targets: ['a:1'], labels: {service: a}}\nmetricsRules: []\n",
            &["fetcher-prom-rules/mine.yaml:1:", "PT"],
        ),
        (
            "oal/core.oal",
            "service_cpm = from(Service.*).cpm();\nservice_sla = from(Servic.*).percent(status == true);\n",
            &["oal/core.oal:2:", "Service"],
        ),
    ];
    for (file, text, parts) in mistakes {
        let error = error_of(file, text).await?;
        ensure!(error.contains(file), "{file}: {error}");
        for part in *parts {
            ensure!(error.contains(part), "{file}: {part}: {error}");
        }
    }
    Ok(())
}
