//! Centres that refuse, or that make no sense: the server says what is wrong and what to do, and runs.

use anyhow::{Result, ensure};
use axum::Router;
use axum::http::StatusCode;
use oap::cluster::{ClusterMetrics, Coordinator};
use oap::config::{CoordinatorSettings, EtcdApi, OwnAddress, Secret};
use oap::telemetry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zookeeper_client::{Acls, Client, CreateMode};

use super::centers::Peer;
use crate::cluster::{free, has_logged};
use crate::oap_process::{OapCommand, few_metrics};
use crate::waiting::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_with_its_remedy() -> Result<()> {
    let consul = Peer::consul()?;
    let newer = Peer::etcd(false)?;
    let nacos = Peer::closed_nacos()?;
    let zookeeper = Peer::zookeeper(true)?;
    let client = Client::connector()
        .with_auth("digest", b"other:user")
        .connect(&zookeeper.address())
        .await?;
    let of_others = CreateMode::Persistent.with_acls(Acls::creator_all());
    client.create("/skywalking", b"", &of_others).await?;
    for (peer, name, value, wants) in [
        (
            Some(&consul),
            "SW_CLUSTER_CONSUL_ACLTOKEN",
            "t1ken",
            [
                "answered 403 ACL not found",
                "cluster.consul.aclToken must have",
            ],
        ),
        (
            Some(&newer),
            "SW_CLUSTER_ETCD_API",
            "v2",
            [
                "the v2 API is not served",
                "isSSL, trustedCAPath and api must fit",
            ],
        ),
        (
            Some(&zookeeper),
            "SW_ZK_EXPRESSION",
            "oap:wrong",
            [
                "/skywalking/remote: not authorized",
                "enableACL and expression",
            ],
        ),
        (
            Some(&nacos),
            "SW_CLUSTER_NACOS_NAMESPACE",
            "n-2",
            ["answered 403", "Nacos asks for a user"],
        ),
        (
            None,
            "SW_CLUSTER",
            "nacos",
            ["localhost:8848", "cluster.nacos.hostPort must name servers"],
        ),
    ] {
        let folder = tempfile::tempdir()?;
        few_metrics(&folder.path().join("config"))?;
        let addresses = free(&["127.0.0.1"])?;
        let command = OapCommand::new(folder.path())
            .env(
                "SW_CORE_GRPC_PORT",
                addresses[0].trim_start_matches("127.0.0.1:"),
            )
            .with_metrics();
        let command = match peer {
            Some(peer) => peer.set(command),
            None => command,
        };
        let process = command.env(name, value).start().await?;
        for want in wants {
            has_logged(&process, want).await?;
        }
        ensure!(
            !process.log().contains(value) || ["v2", "n-2", "nacos"].contains(&value),
            "{}",
            process.log()
        );
        process.terminate()?;
        let ended = process.ended().await?;
        ensure!(ended.status.success(), "{ended:?}");
    }
    Ok(())
}

/// The URL of a server that gives the same answer to everything.
async fn parrot(status: u16, body: &'static [u8]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let status = StatusCode::from_u16(status)?;
    let routes = Router::new().fallback(async move || (status, body));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

fn settings(provider: &str, url: String) -> CoordinatorSettings {
    let urls = vec![url];
    let service = "oap".to_owned();
    match provider {
        "consul" => CoordinatorSettings::Consul {
            urls,
            service,
            token: Secret::default(),
            checks_tls: false,
        },
        "nacos" => CoordinatorSettings::Nacos {
            urls,
            service,
            namespace: String::new(),
        },
        api => CoordinatorSettings::Etcd {
            trusted_ca_path: None,
            urls,
            service,
            api: if api == "v2" {
                EtcdApi::V2
            } else {
                EtcdApi::V3
            },
        },
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_counted_and_change_nothing() -> Result<()> {
    for (provider, status, body, failing) in [
        ("consul", 200, &b""[..], "list"),
        ("consul", 200, b"{}", "list"),
        ("consul", 301, b"", "register"),
        ("nacos", 200, b"ok", "list"),
        ("nacos", 200, br#"{"hosts": 7}"#, "list"),
        ("nacos", 404, b"no such page", "register"),
        ("nacos", 500, b"", "register"),
        (
            "v2",
            200,
            br#"{"node": {"key": "/oap", "dir": true, "nodes": [{"value": "{}"}]}}"#,
            "list",
        ),
        (
            "v2",
            401,
            br#"{"message": "Insufficient credentials"}"#,
            "register",
        ),
        ("v2", 404, b"404 page not found", "register"),
        ("v3", 200, b"[[[[", "register"),
        ("v3", 200, br#"{"ID": 7}"#, "register"),
        (
            "v3",
            200,
            br#"{"ID": "7", "kvs": [{"key": "b2FwL3g=", "value": "%"}]}"#,
            "list",
        ),
        (
            "v3",
            400,
            br#"{"error": "etcdserver: user name is empty"}"#,
            "register",
        ),
    ] {
        let registry = Registry::new("127.0.0.1", 11800);
        let metrics = ClusterMetrics::new(&registry)?;
        let own = Some(OwnAddress::new("10.0.0.1", 11800));
        let settings = settings(provider, parrot(status, body).await?);
        let coordinator = Coordinator::new(&settings, own, metrics)?;
        let (sender, membership) = watch::channel(None);
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(coordinator.keep(sender, stop.clone()));
        let want = format!(
            "cluster_coordinator_failures_total{{sw_backend_instance=\"127.0.0.1_11800\",call=\"{failing}\"}} "
        );
        let what = format!("{provider} {status} {}", String::from_utf8_lossy(body));
        wait_until(&what, std::time::Duration::from_secs(30), async || {
            let text = String::from_utf8(registry.text()?)?;
            let line = text.lines().find(|line| line.starts_with(&want));
            ensure!(line.is_some_and(|line| !line.ends_with(" 0")), "{text}");
            Ok(())
        })
        .await?;
        ensure!(membership.borrow().is_none(), "{what}");
        stop.cancel();
        keeping.await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_etcd_keeps_no_node_away() -> Result<()> {
    for serves_v2 in [true, false] {
        let peer = Peer::etcd(serves_v2)?;
        peer.put_junk().await?;
        let api = if serves_v2 { "v2" } else { "v3" };
        let CoordinatorSettings::Etcd { urls, api, .. } =
            settings(api, format!("http://{}", peer.address()))
        else {
            anyhow::bail!("other settings");
        };
        let settings = CoordinatorSettings::Etcd {
            trusted_ca_path: None,
            urls,
            service: "SkyWalking_OAP_Cluster".to_owned(),
            api,
        };
        let stop = CancellationToken::new();
        let mut nodes = tokio::task::JoinSet::new();
        let mut heard = vec![];
        for host in ["10.0.0.1", "10.0.0.2"] {
            let metrics = ClusterMetrics::new(&Registry::new(host, 11800))?;
            let own = Some(OwnAddress::new(host, 11800));
            let (sender, membership) = watch::channel(None);
            let node = Coordinator::new(&settings, own, metrics)?;
            nodes.spawn(node.keep(sender, stop.clone()));
            heard.push(membership);
        }
        wait_until("both", std::time::Duration::from_secs(60), async || {
            for membership in &heard {
                let known = membership.borrow().clone();
                let members = known.map(|known| known.members.len());
                ensure!(members == Some(2), "{members:?} {serves_v2}");
            }
            Ok(())
        })
        .await?;
        stop.cancel();
        while let Some(node) = nodes.join_next().await {
            node?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_node_is_named() -> Result<()> {
    let peer = Peer::etcd(true)?;
    peer.put_junk().await?;
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let addresses = free(&["127.0.0.1"])?;
    let port = addresses[0].trim_start_matches("127.0.0.1:");
    let command = OapCommand::new(folder.path()).env("SW_CORE_GRPC_PORT", port);
    let process = peer.set(command.with_metrics()).start().await?;
    has_logged(&process, "SkyWalking_OAP_Cluster/junk").await?;
    has_logged(&process, "cluster.etcd.serviceName").await?;
    has_logged(&process, "taken over").await?;
    process.terminate()?;
    let ended = process.ended().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

/// Whoever takes the port of something else for that of ZooKeeper hears of it before a call is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_centre_that_says_nothing_is_named_and_not_left() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    few_metrics(&folder.path().join("config"))?;
    let addresses = free(&["127.0.0.1"])?;
    let port = addresses[0].trim_start_matches("127.0.0.1:");
    let process = OapCommand::new(folder.path())
        .env("SW_CORE_GRPC_PORT", port)
        .env("SW_CLUSTER", "zookeeper")
        .env("SW_CLUSTER_ZK_HOST_PORT", &silent.local_addr()?.to_string())
        .start()
        .await?;
    has_logged(&process, "no answer for 4s").await?;
    has_logged(&process, "cluster.zookeeper.hostPort must name").await?;
    process.terminate()?;
    let ended = process.ended().await?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(!ended.stdout.contains("the list"), "{}", ended.stdout);
    Ok(())
}
