//! Members of the cluster as Kubernetes knows them: the pods of the namespace with certain labels (8.1.0 spec, G.3; deploy A7).
//!
//! A list first, then a watch that goes on where the list ended. Whatever goes wrong with either, the last members stay,
//! and a new list comes after a pause.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::Config;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::{ClientHandle, KubernetesError, ask, connect, or_default, parse, role};
use crate::cluster::{ClusterMetrics, Membership};

/// How long the API server keeps a watch open. A connection that is dead without a word is noticed a little later.
const WATCH_SECONDS: u32 = 240;
const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const PAGE: u32 = 500;
/// Far more nodes than aggregation is divided among.
const MAX_PODS: usize = 1000;
const EXPIRED: u16 = 410;

/// Which pods are members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSelection {
    pub namespace: String,
    pub label_selector: String,
    /// `metadata.uid` of the own pod.
    pub uid: String,
    /// Core gRPC port: all members have that of this node.
    pub port: u16,
}

/// Watches them.
#[derive(Debug)]
pub struct MemberWatcher {
    selection: PodSelection,
    /// `None` finds it in the usual places.
    config: Option<Config>,
    pods: BTreeMap<String, MemberPod>,
    /// What was said last about a failure.
    said: Option<String>,
    metrics: Option<ClusterMetrics>,
}

#[derive(Debug, Deserialize)]
struct PodList {
    metadata: ListMeta,
    items: Option<Vec<MemberPod>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default, deserialize_with = "or_default")]
    resource_version: String,
    r#continue: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct MemberPod {
    metadata: PodMeta,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatus,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    uid: String,
    #[serde(default, deserialize_with = "or_default")]
    resource_version: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct PodStatus {
    #[serde(default, deserialize_with = "or_default")]
    phase: String,
    #[serde(default, rename = "podIP", deserialize_with = "or_default")]
    pod_ip: String,
}

/// The client would hide why it cannot read an event as a pod.
fn member_pod(object: &Value) -> Result<MemberPod, KubernetesError> {
    parse(&object.to_string(), "a pod in an event")
}

impl MemberPod {
    fn is_member(&self) -> bool {
        self.status.phase == "Running"
            && !self.status.pod_ip.is_empty()
            && self.metadata.deletion_timestamp.is_none()
    }

    fn address(&self, port: u16) -> String {
        match self.status.pod_ip.contains(':') {
            true => format!("[{}]:{port}", self.status.pod_ip),
            false => format!("{}:{port}", self.status.pod_ip),
        }
    }
}

impl MemberWatcher {
    /// With a configuration; `None` finds it in the usual places.
    pub fn new(selection: PodSelection, config: Option<Config>) -> MemberWatcher {
        MemberWatcher {
            selection,
            config,
            pods: BTreeMap::new(),
            said: None,
            metrics: None,
        }
    }

    /// Counts failures there.
    pub fn counting(mut self, metrics: ClusterMetrics) -> MemberWatcher {
        self.metrics = Some(metrics);
        self
    }

    /// Tells of every change; never ends.
    pub async fn keep(mut self, membership: watch::Sender<Option<Membership>>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.follow(&membership).await {
                // The server has forgotten where the watch was: a new list at once.
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.coordinator_failed("list");
                    }
                    let error = error.unless_may(|| role("pods", &self.selection.namespace));
                    let reason = error.to_string();
                    if self.said.as_ref() != Some(&reason) {
                        let known = self.pods.len();
                        tracing::warn!(reason, known, "members cannot be read, those known stay");
                        self.said = Some(reason);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Lists, then watches until a new list is needed.
    async fn follow(
        &mut self,
        membership: &watch::Sender<Option<Membership>>,
    ) -> Result<(), KubernetesError> {
        let client = connect(self.config.clone(), WATCH_TIMEOUT).await?;
        let client = ClientHandle(client);
        let mut version = self.list(&client).await?;
        self.tell(membership);
        self.said = None;
        loop {
            let selection = &self.selection;
            let path = format!("/api/v1/namespaces/{}/pods", selection.namespace);
            let watching = WatchParams::default()
                .labels(&selection.label_selector)
                .timeout(WATCH_SECONDS);
            let request = Request::new(path)
                .watch(&watching, &version)
                .map_err(|e| KubernetesError::Client(kube::Error::BuildRequest(e)))?;
            let events = client.0.request_events::<Value>(request).await;
            let events = events.map_err(KubernetesError::Api);
            let mut events = match events {
                Err(KubernetesError::Api(kube::Error::Api(status))) if status.code == EXPIRED => {
                    return Ok(());
                }
                events => Box::pin(events?),
            };
            while let Some(event) = events.try_next().await.map_err(KubernetesError::Api)? {
                match event {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                        let pod = member_pod(&pod)?;
                        version.clone_from(&pod.metadata.resource_version);
                        self.pods.insert(pod.metadata.uid.clone(), pod);
                    }
                    WatchEvent::Deleted(pod) => {
                        let pod = member_pod(&pod)?;
                        version.clone_from(&pod.metadata.resource_version);
                        self.pods.remove(&pod.metadata.uid);
                    }
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                    }
                    WatchEvent::Error(status) if status.code == EXPIRED => return Ok(()),
                    WatchEvent::Error(status) => {
                        return Err(KubernetesError::Api(kube::Error::Api(status)));
                    }
                }
                self.tell(membership);
            }
        }
    }

    /// Reads all pods; returns the version from which to watch.
    async fn list(&mut self, client: &ClientHandle) -> Result<String, KubernetesError> {
        let selection = &self.selection;
        let path = format!("/api/v1/namespaces/{}/pods", selection.namespace);
        let mut page = ListParams::default()
            .labels(&selection.label_selector)
            .limit(PAGE);
        let mut pods = BTreeMap::new();
        loop {
            let request = Request::new(path.as_str()).list(&page);
            let list: PodList = ask(&client.0, request, "a list of pods").await?;
            for pod in list.items.unwrap_or_default() {
                pods.insert(pod.metadata.uid.clone(), pod);
            }
            if pods.len() > MAX_PODS {
                return Err(KubernetesError::TooManyMembers);
            }
            match list.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => {
                    self.pods = pods;
                    return Ok(list.metadata.resource_version);
                }
            }
        }
    }

    fn tell(&self, membership: &watch::Sender<Option<Membership>>) {
        let port = self.selection.port;
        let members = self.pods.values().filter(|pod| pod.is_member());
        let own = self.pods.get(&self.selection.uid);
        let own = own.filter(|pod| pod.is_member());
        let now = Some(Membership {
            members: members.map(|pod| pod.address(port)).collect(),
            own: own.map(|pod| pod.address(port)),
        });
        membership.send_if_modified(|known| {
            let is_news = *known != now;
            *known = now;
            is_news
        });
    }
}
