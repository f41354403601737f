//! Centres to announce nodes at, looked into from outside.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use zookeeper_client::{Client, Error};

use crate::oap_process::OapCommand;
use crate::peers::Restartable;

/// What nodes have for Consul.
pub const TOKEN: &str = "0f9f5a1c-2d5a-4f7e-9d0c-1a2b3c4d5e6f";
const SERVICE: &str = "SkyWalking_OAP_Cluster";

/// A running one.
pub enum Peer {
    Etcd {
        server: Restartable,
        serves_v2: bool,
    },
    ZooKeeper {
        server: Restartable,
        /// Whether nodes log in.
        has_acl: bool,
    },
    Consul(Restartable),
    Nacos(Restartable),
}

impl Peer {
    pub fn etcd(serves_v2: bool) -> Result<Peer> {
        let server = Restartable::etcd(serves_v2)?;
        Ok(Peer::Etcd { server, serves_v2 })
    }

    pub fn zookeeper(has_acl: bool) -> Result<Peer> {
        let server = Restartable::zookeeper()?;
        Ok(Peer::ZooKeeper { server, has_acl })
    }

    /// One that asks for a token.
    pub fn consul() -> Result<Peer> {
        Ok(Peer::Consul(Restartable::consul(TOKEN)?))
    }

    pub fn nacos() -> Result<Peer> {
        Ok(Peer::Nacos(Restartable::nacos(false)?))
    }

    /// One that lets nobody in.
    pub fn closed_nacos() -> Result<Peer> {
        Ok(Peer::Nacos(Restartable::nacos(true)?))
    }

    fn server(&mut self) -> &mut Restartable {
        match self {
            Peer::Etcd { server, .. }
            | Peer::ZooKeeper { server, .. }
            | Peer::Consul(server)
            | Peer::Nacos(server) => server,
        }
    }

    /// `host:port`
    pub fn address(&self) -> String {
        match self {
            Peer::Etcd { server, .. }
            | Peer::ZooKeeper { server, .. }
            | Peer::Consul(server)
            | Peer::Nacos(server) => server.address().to_owned(),
        }
    }

    /// Settings that lead to it, behind a server that nobody reaches where there can be several.
    pub fn set(&self, command: OapCommand) -> OapCommand {
        let address = self.address();
        let addresses = format!("127.0.0.1:1,{address}");
        match self {
            Peer::Etcd { .. } => command
                .env("SW_CLUSTER", "etcd")
                .env("SW_CLUSTER_ETCD_HOST_PORT", &addresses),
            Peer::ZooKeeper { has_acl, .. } => command
                .env("SW_CLUSTER", "zookeeper")
                .env("SW_CLUSTER_ZK_HOST_PORT", &addresses)
                .env("SW_ZK_ENABLE_ACL", &has_acl.to_string())
                .env("SW_ZK_EXPRESSION", "oap:s3cret"),
            Peer::Consul(_) => command
                .env("SW_CLUSTER", "consul")
                .env("SW_CLUSTER_CONSUL_HOST_PORT", &addresses)
                .env("SW_CLUSTER_CONSUL_ACLTOKEN", TOKEN),
            Peer::Nacos(_) => command
                .env("SW_CLUSTER", "nacos")
                .env("SW_CLUSTER_NACOS_HOST_PORT", &addresses)
                .env("SW_CLUSTER_NACOS_NAMESPACE", "n-1"),
        }
    }

    /// Writes what is no node beside the nodes, in etcd.
    pub async fn put_junk(&self) -> Result<()> {
        let Peer::Etcd { serves_v2, .. } = self else {
            anyhow::bail!("no etcd");
        };
        let (address, key) = (self.address(), "SkyWalking_OAP_Cluster/junk");
        let asked = if *serves_v2 {
            let url = format!("http://{address}/v2/keys/{key}");
            http()?.put(url).form(&[("value", "hello")])
        } else {
            let value = BASE64_STANDARD.encode(b"\xff\x00");
            let put = json!({"key": BASE64_STANDARD.encode(key), "value": value});
            let url = format!("http://{address}/v3/kv/put");
            http()?.post(url).json(&put)
        };
        asked.send().await?.error_for_status()?;
        Ok(())
    }

    /// Ends it. Its data are lost, if it has a choice.
    pub async fn pause(&mut self) -> Result<()> {
        self.server().pause();
        self.server().forget()
    }

    /// Starts it again at the same address.
    pub async fn resume(&mut self) -> Result<()> {
        self.server().resume()
    }

    /// Addresses of who is announced, each in the form that nodes of the original write.
    pub async fn listed(&self) -> Result<BTreeSet<String>> {
        match self {
            Peer::Etcd { serves_v2, .. } => {
                let entries = match serves_v2 {
                    true => self.etcd_v2().await?,
                    false => self.etcd_v3().await?,
                };
                let mut listed = BTreeSet::new();
                for (key, value, service) in entries {
                    let (host, hash) = key.rsplit_once('_').context("no hash")?;
                    ensure!(hash.parse::<i64>().is_ok(), "{key}");
                    let value: Value = serde_json::from_str(&value)?;
                    let port = value["port"].as_u64().context("no port")?;
                    let want = json!({"serviceName": service, "host": host, "port": port});
                    ensure!(value == want, "{value}");
                    listed.insert(format!("{host}:{port}"));
                }
                Ok(listed)
            }
            Peer::ZooKeeper { server, has_acl } => of_zookeeper(server.address(), *has_acl).await,
            Peer::Consul(_) => self.of_consul().await,
            Peer::Nacos(_) => self.of_nacos().await,
        }
    }

    /// Those whose check passes.
    async fn of_consul(&self) -> Result<BTreeSet<String>> {
        let url = format!("http://{}/v1/health/service/{SERVICE}", self.address());
        let asked = http()?.get(url).query(&[("passing", "true")]);
        let asked = asked.header("X-Consul-Token", "root").send().await?;
        let entries: Vec<Value> = asked.error_for_status()?.json().await?;
        let mut listed = BTreeSet::new();
        for entry in &entries {
            let (service, checks) = (&entry["Service"], &entry["Checks"]);
            let host = service["Address"].as_str().context("no host")?;
            let port = service["Port"].as_u64().context("no port")?;
            ensure!(service["ID"] == format!("{host}_{port}"), "{entry}");
            ensure!(checks.as_array().is_some_and(|c| c.len() == 2), "{entry}");
            let kinds = [&checks[0]["Type"], &checks[1]["Type"]];
            ensure!(kinds.iter().any(|kind| **kind == "grpc"), "{entry}");
            ensure!(
                listed.insert(format!("{host}:{port}")),
                "twice: {entries:?}"
            );
        }
        Ok(listed)
    }

    /// Those that are healthy.
    async fn of_nacos(&self) -> Result<BTreeSet<String>> {
        let url = format!("http://{}/nacos/v1/ns/instance/list", self.address());
        let service = format!("DEFAULT_GROUP@@{SERVICE}");
        let asked = http()?.get(url).query(&[
            ("serviceName", service.as_str()),
            ("namespaceId", "n-1"),
            ("healthyOnly", "true"),
        ]);
        let list: Value = asked.send().await?.error_for_status()?.json().await?;
        let mut listed = BTreeSet::new();
        for one in list["hosts"].as_array().context("no hosts")? {
            let host = one["ip"].as_str().context("no host")?;
            let id = format!("{host}#{}#DEFAULT#{service}", one["port"]);
            ensure!(one["instanceId"] == id && one["ephemeral"] == true, "{one}");
            ensure!(
                listed.insert(format!("{host}:{}", one["port"])),
                "twice: {list}"
            );
        }
        Ok(listed)
    }

    /// Last part of the key, value, and name of the service in it.
    async fn etcd_v2(&self) -> Result<Vec<(String, String, &'static str)>> {
        let url = format!("http://{}/v2/keys/SkyWalking_OAP_Cluster", self.address());
        let answer = http()?.get(url).send().await?;
        if answer.status().as_u16() == 404 {
            return Ok(vec![]);
        }
        let folder: Value = answer.error_for_status()?.json().await?;
        let nodes = folder["node"]["nodes"].as_array();
        let mut entries = vec![];
        for node in nodes.into_iter().flatten() {
            let ttl = node["ttl"].as_i64().context("it has no time to live")?;
            ensure!((1..=45).contains(&ttl), "{node}");
            let key = node["key"].as_str().context("no key")?;
            let key = key
                .strip_prefix("/SkyWalking_OAP_Cluster/")
                .context("no name")?;
            let value = node["value"].as_str().context("no value")?;
            entries.push((key.to_owned(), value.to_owned(), "SkyWalking_OAP_Cluster"));
        }
        Ok(entries)
    }

    async fn etcd_v3(&self) -> Result<Vec<(String, String, &'static str)>> {
        let prefix = "SkyWalking_OAP_Cluster/";
        let body = json!({
            "key": BASE64_STANDARD.encode(prefix),
            "range_end": BASE64_STANDARD.encode("SkyWalking_OAP_Cluster0"),
        });
        let url = format!("http://{}/v3/kv/range", self.address());
        let answer = http()?.post(url).json(&body).send().await?;
        let range: Value = answer.error_for_status()?.json().await?;
        let text = |value: &Value| -> Result<String> {
            let text = value.as_str().context("no text")?;
            Ok(String::from_utf8(BASE64_STANDARD.decode(text)?)?)
        };
        let mut entries = vec![];
        for entry in range["kvs"].as_array().into_iter().flatten() {
            ensure!(entry["lease"].is_string(), "{entry}");
            let key = text(&entry["key"])?;
            let key = key.strip_prefix(prefix).context("no name")?.to_owned();
            entries.push((key, text(&entry["value"])?, prefix));
        }
        Ok(entries)
    }
}

/// Below the path that 8.1.0 uses without a name space.
async fn of_zookeeper(address: &str, has_acl: bool) -> Result<BTreeSet<String>> {
    let client = Client::connect(address).await?;
    let names = match client.list_children("/skywalking/remote").await {
        Err(Error::NoNode) => return Ok(BTreeSet::new()),
        names => names?,
    };
    let mut listed = BTreeSet::new();
    for name in names {
        let path = format!("/skywalking/remote/{name}");
        let (data, stat) = match client.get_data(&path).await {
            Err(Error::NoNode) => continue,
            found => found?,
        };
        ensure!(stat.ephemeral_owner != 0, "it stays for ever: {stat:?}");
        let (acl, _) = client.get_acl(&path).await?;
        let owners: Vec<&str> = acl.iter().map(|acl| acl.scheme()).collect();
        let want: &[&str] = if has_acl {
            &["digest", "world"]
        } else {
            &["world"]
        };
        ensure!(owners == want, "{acl:?}");
        let instance: Value = serde_json::from_slice(&data)?;
        let (host, port) = (&instance["address"], &instance["port"]);
        let time = &instance["registrationTimeUTC"];
        ensure!(
            time.as_i64().is_some_and(|ms| ms > 1_600_000_000_000),
            "{time}"
        );
        let want = json!({
            "name": "remote", "id": name, "address": host, "port": port,
            "payload": {"address": {"host": host, "port": port, "isSelf": true}},
            "registrationTimeUTC": time, "serviceType": "DYNAMIC",
        });
        ensure!(instance == want, "{instance}");
        let host = host.as_str().context("no host")?;
        ensure!(
            listed.insert(format!("{host}:{port}")),
            "{host}:{port} is there twice"
        );
    }
    Ok(listed)
}

fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
