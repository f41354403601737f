//! Members of a cluster from an API double that behaves as a real server was seen to: lists with versions, watches that end,
//! bookmarks, forgotten versions, tokens that change.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use oap::cluster::Membership;
use oap::cluster::kubernetes::{MemberWatcher, PodSelection};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::has_logged;
use crate::oap_process::OapCommand;
use crate::waiting::wait_until;

const LABELS: &str = "app=skywalking,release=skywalking,component=oap";
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Api {
    token: String,
    version: u64,
    /// Watches from before this version are answered with 410.
    oldest: u64,
    /// By uid.
    pods: BTreeMap<String, Value>,
    watches: Vec<mpsc::Sender<io::Result<Bytes>>>,
    /// Everything that happened, with its version, for watches that begin later.
    events: Vec<(u64, Bytes)>,
    /// What was asked with the right token: `list` or the version watched from.
    asked: Vec<String>,
    wrong: Vec<String>,
    /// Nobody has the right to read pods.
    forbids: bool,
}

impl Api {
    /// Changes a pod, or removes it, and tells who watches.
    fn set(&mut self, uid: &str, pod: Option<Value>) {
        self.version += 1;
        let (ty, mut pod) = match pod {
            Some(pod) if self.pods.contains_key(uid) => ("MODIFIED", pod),
            Some(pod) => ("ADDED", pod),
            None => ("DELETED", self.pods.remove(uid).unwrap_or_default()),
        };
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if ty != "DELETED" {
            self.pods.insert(uid.to_owned(), pod.clone());
        }
        self.send(&json!({"type": ty, "object": pod}));
    }

    fn bookmark(&mut self) {
        self.version += 10;
        let version = self.version.to_string();
        let metadata = json!({"resourceVersion": version, "creationTimestamp": null});
        let object = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": metadata,
            "spec": {"containers": null}, "status": {},
        });
        self.send(&json!({"type": "BOOKMARK", "object": object}));
    }

    fn send(&mut self, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.events.push((self.version, line.clone()));
        self.watches
            .retain(|watch| watch.try_send(Ok(line.clone())).is_ok());
    }

    /// Ends all watches in the middle of a line, as a server that is killed does.
    fn break_watches(&mut self) {
        for watch in self.watches.drain(..) {
            // Whoever has gone meanwhile needs no more.
            let half = Bytes::from_static(b"{\"type\":\"MODI");
            let broken = Err(io::ErrorKind::ConnectionReset.into());
            watch
                .try_send(Ok(half))
                .and_then(|()| watch.try_send(broken))
                .ok();
        }
    }

    fn answer(&mut self, query: &str) -> Option<Response> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('='));
        let asked: BTreeMap<&str, &str> = pairs.collect::<Option<_>>()?;
        let labels = LABELS.replace('=', "%3D").replace(',', "%2C");
        let has = |key: &str, value: &str| asked.get(key) == Some(&value);
        if !has("labelSelector", &labels) {
            return None;
        }
        let names: Vec<&str> = asked.keys().copied().collect();
        if names == ["labelSelector", "limit"] {
            self.asked.push("list".to_owned());
            let metadata = json!({"resourceVersion": self.version.to_string()});
            let items: Vec<&Value> = self.pods.values().collect();
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
            return Some(list.to_string().into_response());
        }
        let wanted = [
            "allowWatchBookmarks",
            "labelSelector",
            "resourceVersion",
            "timeoutSeconds",
            "watch",
        ];
        if names != wanted || !has("watch", "true") || !has("allowWatchBookmarks", "true") {
            return None;
        }
        let from: u64 = asked.get("resourceVersion")?.parse().ok()?;
        self.asked.push(from.to_string());
        let (sender, lines) = mpsc::channel(100);
        if from < self.oldest {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": format!("too old resource version: {from} ({})", self.oldest),
                "reason": "Expired", "code": 410,
            });
            let event = json!({"type": "ERROR", "object": status});
            sender
                .try_send(Ok(Bytes::from(format!("{event}\n"))))
                .ok()?;
        } else {
            let missed = self.events.iter().filter(|(version, _)| *version > from);
            for (_, line) in missed {
                sender.try_send(Ok(line.clone())).ok()?;
            }
            self.watches.push(sender);
        }
        Some(Body::from_stream(ReceiverStream::new(lines).map(|line| line)).into_response())
    }
}

#[derive(Debug, Clone)]
struct Double(Arc<Mutex<Api>>);

impl Double {
    fn api(&self) -> MutexGuard<'_, Api> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(token: &str) -> Result<(Double, String)> {
        let double = Double(Arc::new(Mutex::new(Api {
            token: token.to_owned(),
            version: 100,
            ..Api::default()
        })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let routes = Router::new().fallback(answer).with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok((double, url))
    }

    async fn asked(&self, what: &str) -> Result<()> {
        wait_until(what, DEADLINE, async || {
            let api = self.api();
            ensure!(
                api.asked.last().is_some_and(|last| last == what),
                "{:?}",
                api.asked
            );
            Ok(())
        })
        .await
    }
}

async fn answer(State(double): State<Double>, request: Request) -> Response {
    let mut api = double.api();
    let wanted = format!("Bearer {}", api.token);
    let given = request.headers().get(header::AUTHORIZATION);
    if given.and_then(|given| given.to_str().ok()) != Some(&wanted) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
        });
        return (StatusCode::UNAUTHORIZED, status.to_string()).into_response();
    }
    if api.forbids {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "pods is forbidden: User \"u\" cannot list resource \"pods\" in API group \"\" in the namespace \"shop\"",
            "reason": "Forbidden", "details": {"kind": "pods"}, "code": 403,
        });
        return (StatusCode::FORBIDDEN, status.to_string()).into_response();
    }
    let is_pods = request.uri().path() == "/api/v1/namespaces/shop/pods";
    let found = Some(request.uri().query().unwrap_or_default()).filter(|_| is_pods);
    match found.and_then(|query| api.answer(query)) {
        Some(response) => response,
        None => {
            api.wrong.push(request.uri().to_string());
            StatusCode::BAD_REQUEST.into_response()
        }
    }
}

fn pod(uid: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": format!("oap-{uid}"), "namespace": "shop", "uid": uid},
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIP": ip},
    })
}

async fn config(folder: &Path, url: &str) -> Result<Config> {
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"tokenFile": folder.join("token")}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, text.to_string())?;
    let file = Kubeconfig::read_from(&path)?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

async fn until(
    membership: &watch::Receiver<Option<Membership>>,
    members: &[&str],
    own: Option<&str>,
) -> Result<()> {
    let members: Vec<String> = members.iter().map(|m| (*m).to_owned()).collect();
    let want = Some(Membership::fixed(&members, own));
    wait_until("members", DEADLINE, async || {
        let known = membership.borrow().clone();
        ensure!(known == want, "{known:?} is not {want:?}");
        Ok(())
    })
    .await
}

const A: &str = "10.0.0.1:11800";
const B: &str = "10.0.0.2:11800";
const C: &str = "[fd00::3]:11800";

#[tokio::test(flavor = "multi_thread")]
async fn members_follow_the_pods_whatever_the_api_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), "first")?;
    let (double, url) = Double::start("first").await?;
    double.api().set("a", Some(pod("a", "10.0.0.1")));
    // Null is absent: such pods keep no other away, whether they are listed or told of.
    for (uid, status) in [
        ("m", json!({"phase": "Pending"})),
        ("n", json!({"phase": "Running", "podIP": null})),
        ("o", json!(null)),
    ] {
        let mut listed = pod(uid, "");
        listed["status"] = status;
        double.api().pods.insert(uid.to_owned(), listed);
    }
    let (sender, membership) = watch::channel(None);
    let selection = PodSelection {
        namespace: "shop".to_owned(),
        label_selector: LABELS.to_owned(),
        uid: "a".to_owned(),
        port: 11800,
    };
    let watcher = MemberWatcher::new(selection, Some(config(folder.path(), &url).await?));
    let keeping = tokio::spawn(watcher.keep(sender));
    until(&membership, &[A], Some(A)).await?;
    double.asked("101").await?;

    // A pod is a member when it runs and has an address, until it is to go.
    let mut new = pod("b", "");
    new["status"] = json!({"phase": "Running", "podIP": null});
    double.api().set("b", Some(new));
    double.api().set("c", Some(pod("c", "fd00::3")));
    until(&membership, &[A, C], Some(A)).await?;
    double.api().set("b", Some(pod("b", "10.0.0.2")));
    until(&membership, &[A, B, C], Some(A)).await?;
    let mut going = pod("c", "fd00::3");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-27T18:00:00Z");
    double.api().set("c", Some(going));
    until(&membership, &[A, B], Some(A)).await?;
    double.api().set("c", None);

    // A watch that ends goes on where it was; a bookmark says where that is.
    double.api().bookmark();
    double.api().watches.clear();
    double.asked("116").await?;
    double.api().set("b", None);
    until(&membership, &[A], Some(A)).await?;

    // So does one that breaks in the middle of a line.
    {
        let mut api = double.api();
        api.break_watches();
        api.set("b", Some(pod("b", "10.0.0.2")));
    }
    until(&membership, &[A, B], Some(A)).await?;
    double.asked("117").await?;
    double.api().set("b", None);
    until(&membership, &[A], Some(A)).await?;

    // A version that is forgotten needs a new list.
    double.api().watches.clear();
    double.asked("119").await?;
    {
        let mut api = double.api();
        api.oldest = 500;
        api.version = 500;
        api.pods.insert("b".to_owned(), pod("b", "10.0.0.2"));
        api.watches.clear();
    }
    until(&membership, &[A, B], Some(A)).await?;
    double.asked("500").await?;
    let asked = double.api().asked.clone();
    ensure!(
        asked.iter().filter(|what| *what == "list").count() == 2,
        "{asked:?}"
    );

    // Another token: what is known stays until the new one is there.
    {
        let mut api = double.api();
        api.token = "second".to_owned();
        api.pods.insert("d".to_owned(), pod("d", "10.0.0.4"));
        api.watches.clear();
    }
    until(&membership, &[A, B], Some(A)).await?;
    std::fs::write(folder.path().join("token"), "second")?;
    until(&membership, &[A, B, "10.0.0.4:11800"], Some(A)).await?;

    // The own pod is to go as well.
    let mut going = pod("a", "10.0.0.1");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-27T18:00:00Z");
    double.api().set("a", Some(going));
    until(&membership, &[B, "10.0.0.4:11800"], None).await?;
    ensure!(double.api().wrong.is_empty(), "{:?}", double.api().wrong);
    keeping.abort();
    keeping.await.err().context("it was ended")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), "t")?;
    let (double, url) = Double::start("t").await?;
    double.api().forbids = true;
    config(folder.path(), &url).await?;
    let process = OapCommand::new(folder.path())
        .env(
            "KUBECONFIG",
            &folder.path().join("kubeconfig").display().to_string(),
        )
        .env("SW_CLUSTER", "kubernetes")
        .env("SW_CLUSTER_K8S_NAMESPACE", "shop")
        .env("SW_CLUSTER_K8S_LABEL", LABELS)
        .env("SKYWALKING_COLLECTOR_UID", "a")
        .start()
        .await?;
    let needed = "the service account of this server needs a Role in namespace shop that lets it get, list and watch pods";
    has_logged(&process, needed).await?;
    double.api().set("a", Some(pod("a", "10.0.0.1")));
    double.api().forbids = false;
    has_logged(&process, "own=\"10.0.0.1").await?;
    // What the client of Kubernetes says of it itself is left out.
    ensure!(!process.log().contains("kube_client"), "{}", process.log());
    // What cannot be read is named, in an event and in a list.
    let mut odd = pod("b", "");
    odd["status"]["podIP"] = json!(7);
    double.api().set("b", Some(odd));
    let why = "something else than a pod in an event: invalid type: integer `7`, expected a string";
    has_logged(&process, why).await?;
    let why = "something else than a list of pods: invalid type: integer `7`, expected a string";
    has_logged(&process, why).await?;
    process.stop().await
}
