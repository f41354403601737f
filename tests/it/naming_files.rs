//! The files that change how callers and endpoints are called, seen from outside.

use anyhow::{Result, bail, ensure};
use serde_json::json;

use crate::graphql::GraphQl;
use crate::segments::{COLLECT, Served, bytes};
use crate::sender::{Calling, Sender};
use crate::server::{Store, TestServer};

/// 2020-09-15 10:59:30 UTC.
const AT_MS: i64 = 1_600_167_570_000;
const GROUPING: &str = r"
grouping:
  - service-name: shop
    rules:
      - endpoint-name: /orders/{id}
        regex: \/orders\/\d+
";
const GATEWAYS: &str = "gateways: [{name: edge, instances: [{host: edge, port: 8080}]}]";

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_grouped_and_gateways_are_seen() -> Result<()> {
    let config = tempfile::tempdir()?;
    std::fs::write(config.path().join("endpoint-name-grouping.yml"), GROUPING)?;
    std::fs::write(config.path().join("gateways.yml"), GATEWAYS)?;
    let server = TestServer::builder("naming_files", Store::Embedded)
        .config_dir(config.path())
        .env("TZ", "UTC")
        .env("SW_CORE_METRICS_DATA_TTL", "36500")
        .env("SW_CORE_RECORD_DATA_TTL", "36500")
        .start()
        .await?;
    let sender = Sender::connect(&server.grpc(), &server.http()).await?;
    let mut segments = vec![];
    for number in [1, 22, 333] {
        let mut segment = Served::new(number.to_string(), "shop", AT_MS, 100).segment();
        segment.spans[0].operation_name = format!("/orders/{number}");
        segments.push(bytes(&segment));
    }
    let behind = Served::new("4", "shop", AT_MS, 100).called_at("edge:8080");
    segments.push(bytes(&behind));
    let outcome = sender
        .call(COLLECT, Calling::ClientStream, segments)
        .await?;
    ensure!(outcome.is_ok(), "{outcome:?}");
    server.flush().await?;

    let graphql = GraphQl::new(&server.http())?;
    let query = "{ searchEndpoint(keyword: \"\", serviceId: \"c2hvcA==.1\", limit: 9) { name } }";
    let answer = graphql.ask(query, json!({})).await?;
    let mut endpoints: Vec<&str> = answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|endpoint| endpoint["name"].as_str())
        .collect();
    endpoints.sort_unstable();
    ensure!(endpoints == ["/order", "/orders/{id}"], "{answer}");

    let query =
        "query($d: Duration!) { getGlobalTopology(duration: $d) { calls { source target } } }";
    let day = json!({"start": "2020-09-15 1059", "end": "2020-09-15 1100", "step": "MINUTE"});
    let answer = graphql.ask(query, json!({"d": day})).await?;
    // The layer of the span is unknown, so the gateway counts as a real service.
    let mut callers: Vec<&str> = answer["calls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|call| call["source"].as_str())
        .collect();
    callers.sort_unstable();
    ensure!(callers == ["VXNlcg==.0", "ZWRnZTo4MDgw.1"], "{answer}");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_several_files_end_the_start_together() -> Result<()> {
    let config = tempfile::tempdir()?;
    for (name, text) in [
        (
            "endpoint-name-grouping.yml",
            "grouping: [{service-name: a, rules: [{endpoint-name: b, regex: '('}]}]",
        ),
        ("gateways.yml", "gateways: 7"),
        ("component-libraries.yml", "Tomcat: {name: x}"),
    ] {
        std::fs::write(config.path().join(name), text)?;
    }
    let server = TestServer::builder("naming_files_wrong", Store::Embedded);
    let error = match server.config_dir(config.path()).start().await {
        Ok(_) => bail!("it started"),
        Err(error) => format!("{error:#}"),
    };
    for part in [
        "3 problems",
        "grouping[0].rules[0].regex is \"(\"",
        "gateways is \"7\"",
        "Tomcat.id is missing",
    ] {
        ensure!(error.contains(part), "{part}: {error}");
    }
    let folder = config.path().display().to_string();
    ensure!(error.matches(&folder).count() == 3, "{error}");
    Ok(())
}
