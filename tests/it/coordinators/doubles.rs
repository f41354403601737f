//! Consul and Nacos as far as nodes use them. What the real ones would refuse is refused, from their public interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oap_proto::health::HealthCheckRequest;
use oap_proto::health::health_client::HealthClient;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Which centre it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP API v1. Asks for the token `t0ken`.
    Consul,
    /// Open API 1.x.
    Nacos,
}

#[derive(Debug)]
struct Known {
    kind: Kind,
    /// By id.
    registered: BTreeMap<String, Registered>,
    wrong: Vec<String>,
}

#[derive(Debug, Clone)]
struct Registered {
    service: String,
    namespace: String,
    host: String,
    port: u16,
    beaten: Instant,
}

impl Registered {
    fn member(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

type Shared = Arc<Mutex<Known>>;

/// A running one.
#[derive(Debug)]
pub struct Double {
    known: Shared,
    address: SocketAddr,
    /// Ends it when dropped, and its task.
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Double {
    pub async fn start(kind: Kind) -> Result<Double> {
        let mut double = Double {
            known: Arc::new(Mutex::new(Known {
                kind,
                registered: BTreeMap::new(),
                wrong: Vec::new(),
            })),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            running: None,
        };
        double.resume().await?;
        Ok(double)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What no client should ask.
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.known).wrong.clone()
    }

    /// Id, service, namespace and address of who is announced and well.
    pub async fn listed(&self) -> BTreeSet<[String; 4]> {
        let kind = lock(&self.known).kind;
        let all = lock(&self.known).registered.clone();
        let mut listed = BTreeSet::new();
        for (id, one) in all {
            if is_well(kind, &one).await {
                let member = one.member();
                listed.insert([id, one.service, one.namespace, member]);
            }
        }
        listed
    }

    /// Closes its port and all connections, and forgets everything.
    pub async fn pause(&mut self) -> Result<()> {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            task.await?;
        }
        lock(&self.known).registered.clear();
        Ok(())
    }

    /// Opens its port again.
    pub async fn resume(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.known));
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stopped);
        let task = tokio::spawn(async move { serving.await.unwrap_or_default() });
        self.running = Some((stop, task));
        Ok(())
    }
}

fn lock(known: &Shared) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Consul asks the node, Nacos waits for beats.
async fn is_well(kind: Kind, one: &Registered) -> bool {
    match kind {
        Kind::Nacos => one.beaten.elapsed() < Duration::from_secs(15),
        Kind::Consul => {
            let asking = async {
                let url = format!("http://{}", one.member());
                let mut client = HealthClient::connect(url).await.ok()?;
                let whole = HealthCheckRequest::default();
                let answer = client.check(whole).await.ok()?;
                Some(answer.into_inner().status == 1)
            };
            let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
            answer.ok().flatten().unwrap_or_default()
        }
    }
}

async fn answer(State(known): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let what = format!("{} {}", parts.method, parts.uri);
    let url = reqwest::Url::parse(&format!("http://double{}", parts.uri));
    let (path, query): (String, BTreeMap<String, String>) = match url {
        Ok(url) => (
            url.path().to_owned(),
            url.query_pairs().into_owned().collect(),
        ),
        Err(_) => (String::new(), BTreeMap::new()),
    };
    let method = parts.method.as_str();
    let kind = lock(&known).kind;
    let answer = match kind {
        Kind::Consul => {
            let token = parts.headers.get("X-Consul-Token");
            if token.is_none_or(|token| token != "t0ken") {
                let refused = (StatusCode::FORBIDDEN, "Permission denied: ACL not found");
                return refused.into_response();
            }
            consul(&known, method, &path, &query, &body).await
        }
        Kind::Nacos => nacos(&known, method, &path, &query, &body),
    };
    answer.unwrap_or_else(|| {
        let body = String::from_utf8_lossy(&body).into_owned();
        lock(&known).wrong.push(format!("{what} {body}"));
        (StatusCode::BAD_REQUEST, "no such request").into_response()
    })
}

/// <https://developer.hashicorp.com/consul/api-docs/agent/service> "Register Service".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Registration {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    port: u16,
    check: Check,
}

/// <https://developer.hashicorp.com/consul/api-docs/agent/check> "Register Check".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Check {
    #[serde(rename = "GRPC")]
    grpc: String,
    interval: String,
    deregister_critical_service_after: String,
}

/// `None` if the question makes no sense.
async fn consul(
    known: &Shared,
    method: &str,
    path: &str,
    query: &BTreeMap<String, String>,
    body: &[u8],
) -> Option<Response> {
    if !query.is_empty() {
        return None;
    }
    if (method, path) == ("PUT", "/v1/agent/service/register") {
        let asked: Registration = serde_json::from_slice(body).ok()?;
        let address = format!("{}:{}", asked.address, asked.port);
        let check = asked.check;
        if check.grpc != address
            || check.interval != "5s"
            || check.deregister_critical_service_after != "10m"
        {
            return None;
        }
        let registered = Registered {
            service: asked.name,
            namespace: String::new(),
            host: asked.address,
            port: asked.port,
            beaten: Instant::now(),
        };
        lock(known).registered.insert(asked.id, registered);
        return Some(StatusCode::OK.into_response());
    }
    // "Deregister Service"
    if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
        if method != "PUT" || !body.is_empty() {
            return None;
        }
        let found = lock(known).registered.remove(id);
        let unknown = || (StatusCode::NOT_FOUND, format!("Unknown service ID {id:?}"));
        return Some(found.map_or_else(
            || unknown().into_response(),
            |_| StatusCode::OK.into_response(),
        ));
    }
    // <https://developer.hashicorp.com/consul/api-docs/health> "List Service Instances for Service"
    let service = path.strip_prefix("/v1/health/service/")?;
    if method != "GET" || !body.is_empty() {
        return None;
    }
    let all = lock(known).registered.clone();
    let mut entries = vec![];
    for (id, one) in all.iter().filter(|(_, one)| one.service == service) {
        let status = match is_well(Kind::Consul, one).await {
            true => "passing",
            false => "critical",
        };
        entries.push(json!({
            "Node": {"Node": "agent-1", "Address": "127.0.0.1", "Datacenter": "dc1"},
            "Service": {"ID": id, "Service": one.service, "Tags": [], "Address": one.host, "Port": one.port, "Meta": null},
            "Checks": [
                {"Node": "agent-1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
                {"Node": "agent-1", "CheckID": format!("service:{id}"), "Status": status, "ServiceID": id},
            ],
        }));
    }
    Some(Value::from(entries).to_string().into_response())
}

/// <https://nacos.io/en/docs/open-api/> "Service Discovery": register, deregister, beat and list of instances. A service is called
/// with its group in front; an instance without a beat for 30 s is forgotten, as the page about health checks says.
fn nacos(
    known: &Shared,
    method: &str,
    path: &str,
    query: &BTreeMap<String, String>,
    body: &[u8],
) -> Option<Response> {
    let mut known = lock(known);
    let forgotten = Duration::from_secs(30);
    known
        .registered
        .retain(|_, one| one.beaten.elapsed() < forgotten);
    let service = query.get("serviceName")?;
    let namespace = query.get("namespaceId")?;
    let is_grouped = service.starts_with("DEFAULT_GROUP@@");
    if !is_grouped || !body.is_empty() {
        return None;
    }
    let instance = || {
        let (host, port) = (query.get("ip")?, query.get("port")?.parse().ok()?);
        let is_ours = query.get("clusterName")? == "DEFAULT";
        let id = format!("{host}#{port}#DEFAULT#{service}");
        let one = Registered {
            service: service.clone(),
            namespace: namespace.clone(),
            host: host.clone(),
            port,
            beaten: Instant::now(),
        };
        is_ours.then_some((id, one))
    };
    let is_ephemeral = query.get("ephemeral").is_some_and(|is| is == "true");
    match (method, path) {
        ("POST", "/nacos/v1/ns/instance") if is_ephemeral => {
            let (id, one) = instance()?;
            known.registered.insert(id, one);
            Some("ok".into_response())
        }
        ("DELETE", "/nacos/v1/ns/instance") if is_ephemeral => {
            let (id, _) = instance()?;
            known.registered.remove(&id);
            Some("ok".into_response())
        }
        ("PUT", "/nacos/v1/ns/instance/beat") => {
            let (id, one) = instance()?;
            let beat: Value = serde_json::from_str(query.get("beat")?).ok()?;
            let is_same = beat["ip"] == one.host.as_str()
                && beat["port"] == one.port
                && beat["serviceName"] == one.service.as_str()
                && beat["cluster"] == "DEFAULT";
            if !is_same {
                return None;
            }
            let code = match known.registered.get_mut(&id) {
                Some(known) => {
                    known.beaten = one.beaten;
                    10200
                }
                None => 20404,
            };
            let beaten =
                json!({"clientBeatInterval": 5000, "code": code, "lightBeatEnabled": true});
            Some(beaten.to_string().into_response())
        }
        ("GET", "/nacos/v1/ns/instance/list") => {
            let of_service = known
                .registered
                .iter()
                .filter(|(_, one)| one.service == *service && one.namespace == *namespace);
            let hosts = of_service.map(|(id, one)| {
                let is_healthy = one.beaten.elapsed() < Duration::from_secs(15);
                json!({
                    "instanceId": id, "ip": one.host, "port": one.port, "healthy": is_healthy, "valid": is_healthy,
                    "enabled": true, "ephemeral": true, "weight": 1.0, "clusterName": "DEFAULT", "metadata": {},
                })
            });
            let all: Vec<Value> = hosts.collect();
            let list =
                json!({"name": service, "clusters": "DEFAULT", "cacheMillis": 10000, "hosts": all});
            Some(list.to_string().into_response())
        }
        _ => None,
    }
}
