//! The same cases for every configuration centre: real ones where they can be had, else doubles.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oap::config::{CenterSettings, EtcdApi, Secret};
use oap::dynamic::{Center, Key, Values};
use serde_json::json;
use zookeeper_client::{Acls, Client, CreateMode};

use super::doubles::{Double, Kind};
use crate::peers::Restartable;
use crate::waiting::wait_until;

/// A centre that values can be written to.
pub enum Peer {
    Etcd {
        server: Restartable,
        /// Writes by the older interface.
        writes_v2: bool,
    },
    ZooKeeper(Restartable),
    Consul(Restartable),
    Nacos(Restartable),
    Double(Double, Kind),
}

const GROUP: &str = "team/skywalking";
const NODE: &str = "/team/skywalking";
const TOKEN: &str = "0f9f5a1c-2d5a-4f7e-9d0c-1a2b3c4d5e6f";
/// Group and namespace in Nacos.
const PLACE: [(&str, &str); 2] = [("group", "the_group"), ("tenant", "n-1")];

impl Peer {
    pub fn etcd(serves_v2: bool, writes_v2: bool) -> Result<Peer> {
        let server = Restartable::etcd(serves_v2)?;
        Ok(Peer::Etcd { server, writes_v2 })
    }

    fn zookeeper() -> Result<Peer> {
        Ok(Peer::ZooKeeper(Restartable::zookeeper()?))
    }

    pub fn consul() -> Result<Peer> {
        Ok(Peer::Consul(Restartable::consul(TOKEN)?))
    }

    pub fn nacos() -> Result<Peer> {
        Ok(Peer::Nacos(Restartable::nacos(false)?))
    }

    pub async fn double(kind: Kind) -> Result<Peer> {
        Ok(Peer::Double(Double::start(kind).await?, kind))
    }

    /// `host:port`
    pub fn address(&self) -> String {
        match self {
            Peer::Etcd { server, .. }
            | Peer::ZooKeeper(server)
            | Peer::Consul(server)
            | Peer::Nacos(server) => server.address().to_owned(),
            Peer::Double(double, _) => double.address().to_string(),
        }
    }

    /// Settings that lead to it, behind a server that nobody reaches where there can be several.
    pub fn settings(&self, api: EtcdApi) -> CenterSettings {
        let address = self.address();
        let urls = || vec!["http://127.0.0.1:1".to_owned(), format!("http://{address}")];
        match self {
            Peer::Etcd { .. } => CenterSettings::Etcd {
                trusted_ca_path: None,
                urls: urls(),
                group: GROUP.to_owned(),
                api,
            },
            Peer::ZooKeeper(_) => CenterSettings::ZooKeeper {
                servers: address,
                path: NODE.to_owned(),
            },
            Peer::Consul(_) => CenterSettings::Consul {
                urls: urls(),
                token: Secret::new(TOKEN),
            },
            Peer::Nacos(_) => CenterSettings::Nacos {
                urls: urls(),
                group: "the_group".to_owned(),
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
            Peer::ZooKeeper(server) => {
                let client = Client::connect(server.address()).await?;
                let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
                client.mkdir(NODE, &options).await?;
                let path = format!("{NODE}/{}", name()?);
                match client.check_stat(&path).await? {
                    Some(_) => drop(client.set_data(&path, bytes, None).await?),
                    None => drop(client.create(&path, bytes, &options).await?),
                }
            }
            Peer::Consul(server) => {
                let address = server.address();
                let put = http()?.put(format!("http://{address}/v1/kv/{}", name()?));
                let put = put.header("X-Consul-Token", "root").body(bytes.to_vec());
                put.send().await?.error_for_status()?;
            }
            Peer::Nacos(_) => {
                let form = [
                    ("dataId", name()?),
                    ("content", text()?),
                    PLACE[0],
                    PLACE[1],
                ];
                let post = http()?.post(self.configs()).form(&form);
                post.send().await?.error_for_status()?;
                self.until_nacos_has(name()?, Some(text()?)).await?;
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
            Peer::ZooKeeper(server) => {
                let client = Client::connect(server.address()).await?;
                client.delete(&format!("{NODE}/{key}"), None).await?;
            }
            Peer::Consul(server) => {
                let address = server.address();
                let delete = http()?.delete(format!("http://{address}/v1/kv/{key}"));
                let delete = delete.header("X-Consul-Token", "root");
                delete.send().await?.error_for_status()?;
            }
            Peer::Nacos(_) => {
                let query = [("dataId", key), PLACE[0], PLACE[1]];
                let delete = http()?.delete(self.configs()).query(&query);
                delete.send().await?.error_for_status()?;
                self.until_nacos_has(key, None).await?;
            }
            Peer::Double(double, _) => {
                double.known().values.remove(key).context("not there")?;
            }
        }
        Ok(())
    }

    fn configs(&self) -> String {
        format!("http://{}/nacos/v1/cs/configs", self.address())
    }

    /// It answers a change before it knows it.
    async fn until_nacos_has(&self, key: &str, value: Option<&str>) -> Result<()> {
        let query = [("dataId", key), PLACE[0], PLACE[1]];
        wait_until("what Nacos has", Duration::from_secs(60), async || {
            let found = http()?.get(self.configs()).query(&query).send().await?;
            let found = match found.status().as_u16() {
                404 => None,
                _ => Some(found.error_for_status()?.text().await?),
            };
            ensure!(found.as_deref() == value, "{found:?}");
            Ok(())
        })
        .await
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
            Peer::Etcd { server, .. }
            | Peer::ZooKeeper(server)
            | Peer::Consul(server)
            | Peer::Nacos(server) => server.pause(),
            Peer::Double(double, _) => double.pause().await?,
        }
        Ok(())
    }

    /// Starts it again at the same address.
    pub async fn resume(&mut self) -> Result<()> {
        match self {
            Peer::Etcd { server, .. }
            | Peer::ZooKeeper(server)
            | Peer::Consul(server)
            | Peer::Nacos(server) => server.resume(),
            Peer::Double(double, _) => double.resume().await,
        }
    }
}

fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

pub async fn failure(center: &mut Center) -> Result<String> {
    match center.read(&Key::ALL).await {
        Ok(values) => bail!("it was read: {values:?}"),
        Err(error) => Ok(error.to_string()),
    }
}

pub fn values<const N: usize>(values: [(Key, &str); N]) -> Values {
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
async fn consul() -> Result<()> {
    holds_values(Peer::consul()?, EtcdApi::Auto).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nacos() -> Result<()> {
    holds_values(Peer::nacos()?, EtcdApi::Auto).await
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_and_a_configuration_service() -> Result<()> {
    for kind in [Kind::Apollo, Kind::Dcs] {
        let case = holds_values(Peer::double(kind).await?, EtcdApi::Auto);
        case.await.with_context(|| format!("{kind:?}"))?;
    }
    Ok(())
}
