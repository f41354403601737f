//! The same cases for every configuration centre: real ones where they can be had, else doubles.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oap::config::{CenterSettings, EtcdApi, Secret};
use oap::dynamic::{Center, Key, Values};
use serde_json::json;
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode};

use super::doubles::{Double, Kind};
use crate::peers::{EtcdServer, ZooKeeperServer};

/// A centre that values can be written to.
pub enum Peer {
    Etcd {
        server: Option<EtcdServer>,
        data: TempDir,
        address: String,
        serves_v2: bool,
        /// Writes by the older interface.
        writes_v2: bool,
    },
    ZooKeeper {
        server: Option<ZooKeeperServer>,
        data: TempDir,
        address: String,
    },
    Double(Double, Kind),
}

const GROUP: &str = "team/skywalking";
const NODE: &str = "/team/skywalking";

impl Peer {
    pub fn etcd(serves_v2: bool, writes_v2: bool) -> Result<Peer> {
        let data = tempfile::tempdir()?;
        let server =
            tokio::task::block_in_place(|| EtcdServer::start(None, data.path(), serves_v2));
        Ok(Peer::Etcd {
            address: server.address(),
            server: Some(server),
            data,
            serves_v2,
            writes_v2,
        })
    }

    fn zookeeper() -> Result<Peer> {
        let data = tempfile::tempdir()?;
        let server = tokio::task::block_in_place(|| ZooKeeperServer::start(0, data.path()));
        Ok(Peer::ZooKeeper {
            address: server.address(),
            server: Some(server),
            data,
        })
    }

    async fn double(kind: Kind) -> Result<Peer> {
        Ok(Peer::Double(Double::start(kind).await?, kind))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        match self {
            Peer::Etcd { address, .. } | Peer::ZooKeeper { address, .. } => address.clone(),
            Peer::Double(double, _) => double.address().to_string(),
        }
    }

    /// Settings that lead to it, behind a server that nobody reaches where there can be several.
    fn settings(&self, api: EtcdApi) -> CenterSettings {
        let address = self.address();
        let urls = || vec!["http://127.0.0.1:1".to_owned(), format!("http://{address}")];
        match self {
            Peer::Etcd { .. } => CenterSettings::Etcd {
                urls: urls(),
                group: GROUP.to_owned(),
                api,
            },
            Peer::ZooKeeper { .. } => CenterSettings::ZooKeeper {
                servers: address,
                path: NODE.to_owned(),
            },
            Peer::Double(_, Kind::Consul) => CenterSettings::Consul {
                urls: urls(),
                token: Secret::new("t0ken"),
            },
            Peer::Double(_, Kind::Nacos) => CenterSettings::Nacos {
                urls: urls(),
                group: "the group".to_owned(),
                namespace: "n-1".to_owned(),
            },
            Peer::Double(_, Kind::Apollo) => CenterSettings::Apollo {
                meta_urls: urls(),
                cluster: "c".to_owned(),
                app_id: "app".to_owned(),
            },
            Peer::Double(double, Kind::Dcs) => CenterSettings::Grpc {
                host: double.address().ip().to_string(),
                port: double.address().port(),
                cluster: "c".to_owned(),
            },
        }
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<()> {
        self.put_bytes(key.as_bytes(), value.as_bytes()).await
    }

    /// Keys that are no text can be written by etcd's newer interface only; values also to ZooKeeper.
    async fn put_bytes(&self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let name = || str::from_utf8(key);
        let text = || str::from_utf8(bytes);
        match self {
            Peer::Etcd {
                writes_v2: true, ..
            } => {
                let key = name()?;
                let url = format!("http://{}/v2/keys/{GROUP}/{key}", self.address());
                let put = http()?.put(url).form(&[("value", text()?)]);
                put.send().await?.error_for_status()?;
            }
            Peer::Etcd { .. } => {
                let key = [format!("/{GROUP}/").as_bytes(), key].concat();
                let key = BASE64_STANDARD.encode(key);
                let body = json!({"key": key, "value": BASE64_STANDARD.encode(bytes)});
                self.post("put", &body).await?;
            }
            Peer::ZooKeeper { address, .. } => {
                let client = Client::connect(address).await?;
                let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
                client.mkdir(NODE, &options).await?;
                let path = format!("{NODE}/{}", name()?);
                match client.check_stat(&path).await? {
                    Some(_) => drop(client.set_data(&path, bytes, None).await?),
                    None => drop(client.create(&path, bytes, &options).await?),
                }
            }
            Peer::Double(double, _) => {
                let mut known = double.known();
                known.values.insert(name()?.to_owned(), text()?.to_owned());
            }
        }
        Ok(())
    }

    pub async fn delete(&self, key: &str) -> Result<()> {
        match self {
            Peer::Etcd {
                writes_v2: true, ..
            } => {
                let url = format!("http://{}/v2/keys/{GROUP}/{key}", self.address());
                http()?.delete(url).send().await?.error_for_status()?;
            }
            Peer::Etcd { .. } => {
                let key = BASE64_STANDARD.encode(format!("/{GROUP}/{key}"));
                self.post("deleterange", &json!({"key": key})).await?;
            }
            Peer::ZooKeeper { address, .. } => {
                let client = Client::connect(address).await?;
                client.delete(&format!("{NODE}/{key}"), None).await?;
            }
            Peer::Double(double, _) => {
                double.known().values.remove(key).context("not there")?;
            }
        }
        Ok(())
    }

    async fn post(&self, what: &str, body: &serde_json::Value) -> Result<()> {
        let url = format!("http://{}/v3/kv/{what}", self.address());
        http()?
            .post(url)
            .json(body)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Ends it; what it knows stays.
    pub async fn pause(&mut self) -> Result<()> {
        match self {
            Peer::Etcd { server, .. } => tokio::task::block_in_place(|| *server = None),
            Peer::ZooKeeper { server, .. } => tokio::task::block_in_place(|| *server = None),
            Peer::Double(double, _) => double.pause().await?,
        }
        Ok(())
    }

    /// Starts it again at the same address.
    pub async fn resume(&mut self) -> Result<()> {
        match self {
            Peer::Etcd {
                server,
                data,
                address,
                serves_v2,
                ..
            } => {
                let port = address.parse::<SocketAddr>()?.port();
                let start = || EtcdServer::start(Some(port), data.path(), *serves_v2);
                *server = Some(tokio::task::block_in_place(start));
            }
            Peer::ZooKeeper {
                server,
                data,
                address,
            } => {
                let port = address.parse::<SocketAddr>()?.port();
                let start = || ZooKeeperServer::start(port, data.path());
                *server = Some(tokio::task::block_in_place(start));
            }
            Peer::Double(double, _) => double.resume().await?,
        }
        Ok(())
    }
}

fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

async fn failure(center: &mut Center) -> Result<String> {
    match center.read(&Key::ALL).await {
        Ok(values) => bail!("it was read: {values:?}"),
        Err(error) => Ok(error.to_string()),
    }
}

fn values<const N: usize>(values: [(Key, &str); N]) -> Values {
    values.map(|(key, value)| (key, value.into())).into()
}

/// What every centre has to do.
async fn holds_values(mut peer: Peer, api: EtcdApi) -> Result<()> {
    let (rate, alarms) = (Key::SampleRate, Key::AlarmSettings);
    let mut center = Center::new(&peer.settings(api))?;
    ensure!(center.read(&Key::ALL).await? == values([]));
    // Other keys, also such as begin as one of ours, are not ours.
    peer.put("receiver.default.other", "1").await?;
    peer.put(&format!("{}.x", rate.name()), "2").await?;
    let text = format!(
        "rules:\n  a_rule: {{message: 'größer = 1 & 2 % + 😀'}}\n#{}",
        "x".repeat(100_000)
    );
    peer.put(alarms.name(), &text).await?;
    peer.put(rate.name(), "9000").await?;
    let both = values([(rate, "9000"), (alarms, &text)]);
    ensure!(center.read(&Key::ALL).await? == both);
    ensure!(center.read(&[rate]).await? == values([(rate, "9000")]));
    peer.put(rate.name(), "5000").await?;
    peer.delete(alarms.name()).await?;
    let one = values([(rate, "5000")]);
    ensure!(center.read(&Key::ALL).await? == one);

    peer.pause().await?;
    let away = failure(&mut center).await?;
    ensure!(!away.contains("makes no sense"), "{away}");
    // One that begins while the centre is away.
    let mut other = Center::new(&peer.settings(api))?;
    failure(&mut other).await?;
    peer.resume().await?;
    ensure!(center.read(&Key::ALL).await? == one);
    ensure!(other.read(&Key::ALL).await? == one);
    peer.delete(rate.name()).await?;
    ensure!(center.read(&Key::ALL).await? == values([]));
    if let Peer::Double(double, _) = &peer {
        ensure!(double.known().wrong.is_empty(), "{:?}", double.known());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_by_its_older_interface() -> Result<()> {
    holds_values(Peer::etcd(true, true)?, EtcdApi::V2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_by_its_newer_interface() -> Result<()> {
    holds_values(Peer::etcd(false, false)?, EtcdApi::V3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_asked_by_the_interface_that_knows_the_group() -> Result<()> {
    holds_values(Peer::etcd(true, true)?, EtcdApi::Auto).await?;
    holds_values(Peer::etcd(true, false)?, EtcdApi::Auto).await?;
    let newer = Peer::etcd(false, false)?;
    let mut center = Center::new(&newer.settings(EtcdApi::V2))?;
    let error = failure(&mut center).await?;
    ensure!(error.contains("--enable-v2"), "{error}");
    holds_values(newer, EtcdApi::Auto).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper() -> Result<()> {
    holds_values(Peer::zookeeper()?, EtcdApi::Auto).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_text_keeps_no_other() -> Result<()> {
    let (rate, apdex) = (Key::SampleRate, Key::ApdexThreshold);
    for (peer, is_etcd) in [
        (Peer::etcd(false, false)?, true),
        (Peer::zookeeper()?, false),
    ] {
        peer.put(apdex.name(), "default: 700").await?;
        peer.put_bytes(rate.name().as_bytes(), b"\xff").await?;
        peer.put_bytes(b"foreign", b"\xff").await?;
        if is_etcd {
            peer.put_bytes(b"f\xffreign", b"1").await?;
        }
        let mut center = Center::new(&peer.settings(EtcdApi::V3))?;
        let mut want = values([(apdex, "default: 700")]);
        want.insert(rate, b"\xff".into());
        let read = center.read(&Key::ALL).await?;
        ensure!(read == want, "{read:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_nacos_apollo_and_a_configuration_service() -> Result<()> {
    for kind in [Kind::Consul, Kind::Nacos, Kind::Apollo, Kind::Dcs] {
        let case = holds_values(Peer::double(kind).await?, EtcdApi::Auto);
        case.await.with_context(|| format!("{kind:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_an_error_that_says_what_was_refused() -> Result<()> {
    use axum::http::StatusCode;

    for kind in [Kind::Consul, Kind::Nacos, Kind::Apollo, Kind::Dcs] {
        let peer = Peer::double(kind).await?;
        let mut center = Center::new(&peer.settings(EtcdApi::Auto))?;
        let Peer::Double(double, _) = &peer else {
            bail!("a double")
        };
        for status in [StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE] {
            double.known().failure = Some(status);
            let error = failure(&mut center).await?;
            ensure!(error.contains("something is wrong"), "{kind:?} {error}");
        }
    }
    let consul = Peer::double(Kind::Consul).await?;
    let mut center = Center::new(&CenterSettings::Consul {
        urls: vec![format!("http://{}", consul.address())],
        token: Secret::new("t1ken"),
    })?;
    let error = failure(&mut center).await?;
    ensure!(error == "answered 403 ACL not found", "{error}");
    let apollo = Peer::double(Kind::Apollo).await?;
    let mut center = Center::new(&CenterSettings::Apollo {
        meta_urls: vec![format!("http://{}", apollo.address())],
        cluster: "other".to_owned(),
        app_id: "app".to_owned(),
    })?;
    let error = failure(&mut center).await?;
    ensure!(error == "answered 404", "{error}");
    Ok(())
}
