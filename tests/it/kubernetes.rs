//! A Kubernetes API server that knows pods and replica sets, as strict as a real one about what it is asked, and the reader
//! of pods against it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use oap::cluster::kubernetes::{PodReader, RunningPod};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What it knows, and what it was asked.
#[derive(Debug, Default)]
pub struct Cluster {
    pub token: String,
    pub pods: Vec<Value>,
    /// In namespace `default`. Asked for with `app=oap,release=sw` only.
    pub config_maps: Vec<Value>,
    /// By namespace and name; `None` is a server without the old API group.
    pub replica_sets: Option<BTreeMap<(String, String), Value>>,
    /// Without the right to read replica sets, which is asked before whether there are any.
    pub forbids_replica_sets: bool,
    /// Pods of a page, if fewer than asked for.
    pub page: Option<usize>,
    /// Answers everything with this status.
    pub failure: Option<StatusCode>,
    /// Paths of all requests that had the right token.
    pub asked: Vec<String>,
    /// What no client should ask.
    pub wrong: Vec<String>,
}

/// A running one.
#[derive(Debug)]
pub struct Double {
    cluster: Arc<Mutex<Cluster>>,
    address: SocketAddr,
    /// Ends it when dropped.
    stop: Option<oneshot::Sender<()>>,
}

impl Double {
    pub async fn start(cluster: Cluster) -> Result<Double> {
        let mut double = Double {
            cluster: Arc::new(Mutex::new(cluster)),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            stop: None,
        };
        double.resume().await?;
        Ok(double)
    }

    /// Closes its port and all connections.
    pub fn pause(&mut self) {
        self.stop = None;
    }

    /// Opens its port again.
    pub async fn resume(&mut self) -> Result<()> {
        let listener = tokio::net::TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.cluster));
        let serving = axum::serve(listener, routes).with_graceful_shutdown(async {
            stopped.await.ok();
        });
        tokio::spawn(async move { serving.await });
        self.stop = Some(stop);
        Ok(())
    }

    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a kubeconfig for it.
    pub fn write_kubeconfig(&self, path: &Path, token: &str) -> Result<()> {
        let server = format!("http://{}", self.address);
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        });
        Ok(std::fs::write(path, text.to_string())?)
    }
}

/// A pod that runs on node 10.9.9.9. Owners are `(kind, name)`.
pub fn pod(name: &str, ip: &str, owners: &[(&str, &str)]) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": "7", "labels": {"app": name},
            "ownerReferences": references(owners),
        },
        "spec": {"containers": [{"name": "c", "image": "x"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "10.9.9.9"},
    })
}

/// A map with the labels that are asked for.
pub fn config_map(name: &str, data: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": "8",
            "labels": {"app": "oap", "release": "sw"},
        },
        "data": data,
    })
}

fn references(owners: &[(&str, &str)]) -> Value {
    let owners = owners.iter().map(|(kind, name)| {
        json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true})
    });
    owners.collect()
}

/// Replica sets of namespace `default` with the names of the deployments that own them.
pub fn replica_sets(sets: &[(&str, Option<&str>)]) -> BTreeMap<(String, String), Value> {
    let sets = sets.iter().map(|(name, deployment)| {
        let owners: Vec<_> = deployment.iter().map(|d| ("Deployment", *d)).collect();
        let set = json!({
            "kind": "ReplicaSet", "apiVersion": "extensions/v1beta1", "spec": {"replicas": 1},
            "metadata": {"name": name, "namespace": "default", "ownerReferences": references(&owners)},
        });
        (("default".to_owned(), (*name).to_owned()), set)
    });
    sets.collect()
}

fn refuse(code: StatusCode, reason: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("double: {reason}"), "reason": reason, "code": code.as_u16(),
    });
    (code, body.to_string()).into_response()
}

async fn answer(State(cluster): State<Arc<Mutex<Cluster>>>, request: Request) -> Response {
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    let uri = request.uri().to_string();
    let wanted = format!("Bearer {}", cluster.token);
    let given = request.headers().get(header::AUTHORIZATION);
    if given.and_then(|g| g.to_str().ok()) != Some(&wanted) {
        return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    cluster.asked.push(request.uri().path().to_owned());
    if let Some(failure) = cluster.failure {
        return refuse(failure, "InternalError");
    }
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let query = request.uri().query().unwrap_or_default();
    let found = match (request.method().as_str(), &parts[..]) {
        ("GET", ["api", "v1", "pods"]) => cluster.list("PodList", &cluster.pods, query),
        ("GET", ["api", "v1", "namespaces", "default", "configmaps"]) => {
            // Encoded as it has to be in a URL.
            let labels = "labelSelector=app%3Doap%2Crelease%3Dsw";
            let rest: Vec<&str> = query.split('&').filter(|pair| *pair != labels).collect();
            let is_selected = rest.len() < query.split('&').count();
            let maps = &cluster.config_maps;
            is_selected
                .then(|| cluster.list("ConfigMapList", maps, &rest.join("&")))
                .flatten()
        }
        ("GET", ["api", "v1", "namespaces", _, "configmaps"]) => {
            return refuse(StatusCode::FORBIDDEN, "Forbidden");
        }
        (
            "GET",
            [
                "apis",
                "extensions",
                "v1beta1",
                "namespaces",
                namespace,
                "replicasets",
                name,
            ],
        ) => {
            if cluster.forbids_replica_sets {
                return refuse(StatusCode::FORBIDDEN, "Forbidden");
            }
            let key = ((*namespace).to_owned(), (*name).to_owned());
            match &cluster.replica_sets {
                None => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
                Some(sets) => match sets.get(&key) {
                    None => return refuse(StatusCode::NOT_FOUND, "NotFound"),
                    found => found.cloned(),
                },
            }
        }
        _ => None,
    };
    match found {
        Some(found) => found.to_string().into_response(),
        None => {
            cluster.wrong.push(uri);
            refuse(StatusCode::BAD_REQUEST, "BadRequest")
        }
    }
}

impl Cluster {
    /// A page of objects; `None` if the question makes no sense.
    fn list(&self, kind: &str, objects: &[Value], query: &str) -> Option<Value> {
        let (mut limit, mut from) = (usize::MAX, 0);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("limit", n) => limit = n.parse().ok()?,
                ("continue", token) => from = token.strip_prefix("after-")?.parse().ok()?,
                _ => return None,
            }
        }
        let size = self.page.unwrap_or(limit).min(limit);
        let rest = objects.get(from..)?;
        let items = &rest[..rest.len().min(size)];
        let mut metadata = json!({"resourceVersion": "42"});
        if items.len() < rest.len() {
            metadata["continue"] = json!(format!("after-{}", from + items.len()));
        }
        Some(json!({"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items}))
    }
}

async fn reader(double: &Double) -> Result<PodReader> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    double.write_kubeconfig(&path, "secret")?;
    let file = Kubeconfig::read_from(&path)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(PodReader::new(Some(config)))
}

fn named(ip: &str, service: &str, instance: &str) -> RunningPod {
    RunningPod {
        ip: ip.to_owned(),
        service: service.to_owned(),
        instance: instance.to_owned(),
    }
}

fn cluster(pods: Vec<Value>) -> Cluster {
    Cluster {
        token: "secret".to_owned(),
        pods,
        ..Cluster::default()
    }
}

#[tokio::test]
async fn services_are_named_after_owners() -> Result<()> {
    let mut double = Double::start(Cluster {
        replica_sets: Some(replica_sets(&[("shop-7d", Some("shop")), ("lone-1", None)])),
        page: Some(2),
        ..cluster(vec![
            pod(
                "shop-7d-x",
                "10.0.0.1",
                &[("Node", "n"), ("ReplicaSet", "shop-7d")],
            ),
            pod("shop-7d-y", "10.0.0.2", &[("ReplicaSet", "shop-7d")]),
            pod("lone-1-x", "10.0.0.3", &[("ReplicaSet", "lone-1")]),
            pod("gone-1-x", "10.0.0.4", &[("ReplicaSet", "gone-1")]),
            pod("db-0", "10.0.0.5", &[("StatefulSet", "db"), ("Other", "o")]),
            pod("bare", "10.0.0.6", &[]),
        ])
    })
    .await?;
    let mut reader = reader(&double).await?;
    let want = [
        named("10.0.0.1", "shop.default", "shop-7d-x.default"),
        named("10.0.0.2", "shop.default", "shop-7d-y.default"),
        named("10.0.0.3", "lone-1.default", "lone-1-x.default"),
        named("10.0.0.4", "gone-1.default", "gone-1-x.default"),
        named("10.0.0.5", "db.default", "db-0.default"),
        named("10.0.0.6", "bare.default", "bare.default"),
    ];
    ensure!(reader.pods().await? == want);
    let asked_for_sets = |double: &Double| {
        let asked = &double.cluster().asked;
        asked
            .iter()
            .filter(|path| path.contains("replicasets"))
            .count()
    };
    ensure!(asked_for_sets(&double) == 3, "{:?}", double.cluster().asked);
    // What a set belongs to does not change; one that was not found may be there now.
    ensure!(reader.pods().await? == want);
    ensure!(asked_for_sets(&double) == 4, "{:?}", double.cluster().asked);

    // A new server without the old group: names of replica sets become those of services, one question tells.
    double.cluster().replica_sets = None;
    let mut reader = self::reader(&double).await?;
    let services: Vec<String> = reader
        .pods()
        .await?
        .into_iter()
        .map(|p| p.service)
        .collect();
    ensure!(
        services[..2] == ["n.default", "shop-7d.default"],
        "{services:?}"
    );
    ensure!(services[2] == "lone-1.default", "{services:?}");
    ensure!(asked_for_sets(&double) == 5, "{:?}", double.cluster().asked);
    ensure!(double.cluster().wrong.is_empty(), "{:?}", double.cluster());

    // A server that is restarted is found again.
    double.pause();
    ensure!(reader.pods().await.is_err());
    double.resume().await?;
    ensure!(reader.pods().await?.len() == want.len());
    Ok(())
}

#[tokio::test]
async fn who_may_not_read_replica_sets_asks_once_and_names_services_after_them() -> Result<()> {
    let owner = [("ReplicaSet", "shop-7d")];
    let mut elsewhere = pod("shop-7d-z", "10.0.0.3", &owner);
    elsewhere["metadata"]["namespace"] = json!("other");
    let pods = vec![
        pod("shop-7d-x", "10.0.0.1", &owner),
        pod("shop-7d-y", "10.0.0.2", &owner),
        elsewhere,
    ];
    let double = Double::start(Cluster {
        forbids_replica_sets: true,
        ..cluster(pods)
    })
    .await?;
    let found = reader(&double).await?.pods().await?;
    let services: Vec<&str> = found.iter().map(|pod| pod.service.as_str()).collect();
    ensure!(services == ["shop-7d.default", "shop-7d.default", "shop-7d.other"]);
    let asked = double.cluster().asked.clone();
    let of_set = |namespace: &str| {
        format!("/apis/extensions/v1beta1/namespaces/{namespace}/replicasets/shop-7d")
    };
    ensure!(
        asked
            == [
                "/api/v1/pods".to_owned(),
                of_set("default"),
                of_set("other")
            ]
    );
    Ok(())
}

#[tokio::test]
async fn only_pods_that_run_with_an_address_of_their_own_count() -> Result<()> {
    let mut pending = pod("pending", "10.0.0.2", &[]);
    pending["status"]["phase"] = json!("Pending");
    let mut on_node = pod("on-node", "10.9.9.9", &[]);
    on_node["spec"]["hostNetwork"] = json!(true);
    let mut without_address = pod("without-address", "", &[]);
    without_address["status"] = json!({"phase": "Running"});
    let mut new = pod("new", "", &[]);
    new.as_object_mut().context("an object")?.remove("status");
    let mut null = pod("null", "", &[]);
    null["metadata"]["ownerReferences"] = Value::Null;
    null["status"] = json!({"phase": "Running", "podIP": null, "hostIP": null});
    let running = pod("running", "10.0.0.1", &[]);
    let pods = vec![pending, on_node, without_address, null, running, new];
    let double = Double::start(cluster(pods)).await?;
    let found = reader(&double).await?.pods().await?;
    ensure!(found == [named("10.0.0.1", "running.default", "running.default")]);
    double.cluster().pods.clear();
    ensure!(reader(&double).await?.pods().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_is_told() -> Result<()> {
    let sets = [("ReplicaSet", "shop-7d")];
    let double = Double::start(cluster(vec![pod("shop-7d-x", "10.0.0.1", &sets)])).await?;
    let mut reader = reader(&double).await?;
    double.cluster().token = "changed".to_owned();
    let denied = reader.pods().await.err().context("denied")?.to_string();
    ensure!(denied.contains("401 double: Unauthorized"), "{denied}");
    double.cluster().token = "secret".to_owned();
    double.cluster().failure = Some(StatusCode::INTERNAL_SERVER_ERROR);
    let failed = reader.pods().await.err().context("failed")?.to_string();
    ensure!(failed.contains("500 double: InternalError"), "{failed}");
    double.cluster().failure = None;
    double.cluster().pods = vec![json!({"metadata": {"name": 7}})];
    let odd = reader.pods().await.err().context("odd")?.to_string();
    let why = "something else than a list of pods: invalid type: integer `7`, expected a string";
    ensure!(odd.contains(why), "{odd}");
    Ok(())
}
