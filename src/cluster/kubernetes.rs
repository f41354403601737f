//! The Kubernetes API: which pods run where, and what they belong to.
//!
//! The client is the usual one: `KUBECONFIG` or `~/.kube/config`, else the service account of the own pod. Answers are read
//! into the few fields that are looked at, so a page of large pods needs little memory.

mod members;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::http;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::util::text;

pub use members::{MemberWatcher, PodSelection};

/// As long as the original waits for an answer.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pods of one answer.
const PAGE: u32 = 500;
/// Far more than a cluster is built for has (150,000 pods).
const MAX_PODS: usize = 200_000;
const FORBIDDEN: u16 = 403;
/// Bytes that are shown of what the API server says.
const MAX_SHOWN: usize = 300;
/// Bytes that are shown of an answer before and after the place that cannot be read.
const SHOWN_BEFORE: usize = 80;
const SHOWN_AFTER: usize = 20;

/// Why the API could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("{0}")]
    NoConfig(#[source] kube::config::InferConfigError),
    #[error("the client cannot be made: {}", reason(.0))]
    Client(#[source] kube::Error),
    #[error("the API server did not answer as expected: {}", reason(.0))]
    Api(#[source] kube::Error),
    #[error("{message}: the service account of this server needs {needed}")]
    Forbidden {
        /// In the words of the API server.
        message: String,
        /// The right that is missing.
        needed: String,
    },
    #[error("the API server answered something else than {what}: {reason}")]
    Answer {
        what: &'static str,
        /// What is wrong where.
        reason: String,
    },
    #[error("there are more than {MAX_PODS} pods")]
    TooMany,
    #[error("there are more than {0} ConfigMaps with these labels")]
    TooManyMaps(usize),
    #[error("more than a thousand pods have the labels of members")]
    TooManyMembers,
}

impl KubernetesError {
    /// If the API server refused it: with the right that whoever asks needs.
    pub(super) fn unless_may(self, needed: impl FnOnce() -> String) -> KubernetesError {
        match self {
            KubernetesError::Api(kube::Error::Api(status)) if status.code == FORBIDDEN => {
                KubernetesError::Forbidden {
                    message: text::head(&status.message, MAX_SHOWN).to_owned(),
                    needed: needed(),
                }
            }
            other => other,
        }
    }
}

/// The right to read objects of a namespace, as it is given.
pub(super) fn role(objects: &str, namespace: &str) -> String {
    format!("a Role in namespace {namespace} that lets it get, list and watch {objects}")
}

/// The innermost cause says what happened; what is around it only that it happened in a client.
fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        // The client takes every object for a status that is no event.
        if status.code == 0 && status.message.is_empty() {
            return "what came is neither an event nor a status".to_owned();
        }
        return format!("{} {}", status.code, text::head(&status.message, MAX_SHOWN));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    text::head(&cause.to_string(), MAX_SHOWN).to_owned()
}

/// What is `null` is what is absent.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads what was answered as `what`; an error says what is wrong and shows the text around it.
fn parse<T: DeserializeOwned>(answer: &str, what: &'static str) -> Result<T, KubernetesError> {
    serde_json::from_str(answer).map_err(|error| {
        let line = error.line().saturating_sub(1);
        let line = answer.split('\n').nth(line).unwrap_or_default();
        let (before, after) = line.split_at(line.floor_char_boundary(error.column()));
        let start = before.ceil_char_boundary(before.len().saturating_sub(SHOWN_BEFORE));
        let before = before.get(start..).unwrap_or_default();
        let after = text::head(after, SHOWN_AFTER);
        let place = format!(" at line {} column {}", error.line(), error.column());
        let wrong = error.to_string();
        let wrong = wrong.strip_suffix(&place).unwrap_or(&wrong);
        let wrong = text::head(wrong, MAX_SHOWN);
        KubernetesError::Answer {
            what,
            reason: format!("{wrong}{place}, after `{before}`, before `{after}`"),
        }
    })
}

/// A pod that can be told by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPod {
    pub ip: String,
    /// `OWNER.NAMESPACE`
    pub service: String,
    /// `POD.NAMESPACE`
    pub instance: String,
}

/// Reads pods, again and again.
#[derive(Debug, Default)]
pub struct PodReader {
    /// `None` finds it in the usual places.
    config: Option<Config>,
    /// Gone after a failure, so that a configuration that was changed is read anew.
    client: Option<ClientHandle>,
    /// What replica sets are called as services, by namespace and name.
    replica_sets: HashMap<(String, String), String>,
}

/// [`Client`] is not `Debug`.
#[derive(Clone)]
pub(super) struct ClientHandle(pub(super) Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodList {
    #[serde(default, deserialize_with = "or_default")]
    metadata: ListMeta,
    items: Option<Vec<Pod>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    /// Empty or absent on the last page.
    pub(super) r#continue: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(default, deserialize_with = "or_default")]
    phase: String,
    #[serde(default, rename = "podIP", deserialize_with = "or_default")]
    pod_ip: String,
    #[serde(default, rename = "hostIP", deserialize_with = "or_default")]
    host_ip: String,
}

/// An object of which only this is read.
#[derive(Debug, Deserialize)]
struct Described {
    metadata: ObjectMeta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMeta {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

impl ObjectMeta {
    /// Its first owner, or itself, in its namespace.
    fn service(&self) -> String {
        let owner = self.owner_references.first().map(|owner| &owner.name);
        format!("{}.{}", owner.unwrap_or(&self.name), self.namespace)
    }
}

impl PodReader {
    /// With a configuration; `None` finds it in the usual places.
    pub fn new(config: Option<Config>) -> PodReader {
        PodReader {
            config,
            ..PodReader::default()
        }
    }

    /// All pods that run with an address of their own, named as 8.1.0 names them (8.1.0 spec, A.9).
    ///
    /// A replica set that the API refuses to show (its old group `extensions/v1beta1` is gone from newer clusters) leaves
    /// the pod's own first owner. Any other failure fails the whole: names must not change because of a lost connection.
    pub async fn pods(&mut self) -> Result<Vec<RunningPod>, KubernetesError> {
        let client = match self.client.take() {
            Some(ClientHandle(client)) => client,
            None => connect(self.config.clone(), READ_TIMEOUT).await?,
        };
        let mut pods = Vec::new();
        let mut known = std::mem::take(&mut self.replica_sets);
        let mut names = Names {
            client: &client,
            known: &mut known,
            used: HashMap::new(),
            is_group_served: true,
            forbidden: HashSet::new(),
        };
        let needed = || "a ClusterRole that lets it list pods of all namespaces".to_owned();
        for pod in list(&client).await.map_err(|e| e.unless_may(needed))? {
            let status = pod.status;
            if status.phase == "Running"
                && !status.pod_ip.is_empty()
                && status.pod_ip != status.host_ip
            {
                pods.push(RunningPod {
                    ip: status.pod_ip,
                    service: names.service(&pod.metadata).await?,
                    instance: format!("{}.{}", pod.metadata.name, pod.metadata.namespace),
                });
            }
        }
        self.replica_sets = names.used;
        self.client = Some(ClientHandle(client));
        Ok(pods)
    }
}

pub(super) async fn connect(
    config: Option<Config>,
    read_timeout: Duration,
) -> Result<Client, KubernetesError> {
    let mut config = match config {
        Some(config) => config,
        None => Config::infer().await.map_err(KubernetesError::NoConfig)?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(read_timeout);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Client::try_from(config).map_err(KubernetesError::Client)
}

async fn list(client: &Client) -> Result<Vec<Pod>, KubernetesError> {
    let mut pods = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new("/api/v1/pods").list(&page);
        let list: PodList = ask(client, request, "a list of pods").await?;
        pods.extend(list.items.unwrap_or_default());
        if pods.len() > MAX_PODS {
            return Err(KubernetesError::TooMany);
        }
        match list.metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(pods),
        }
    }
}

/// What services are called, with the replica sets already known.
struct Names<'a> {
    client: &'a Client,
    known: &'a mut HashMap<(String, String), String>,
    used: HashMap<(String, String), String>,
    is_group_served: bool,
    /// Namespaces in which replica sets may not be read.
    forbidden: HashSet<String>,
}

impl Names<'_> {
    async fn service(&mut self, pod: &ObjectMeta) -> Result<String, KubernetesError> {
        let owners = &pod.owner_references;
        let Some(set) = owners.iter().find(|owner| owner.kind == "ReplicaSet") else {
            return Ok(pod.service());
        };
        let key = (pod.namespace.clone(), set.name.clone());
        if let Some(service) = self.used.get(&key) {
            return Ok(service.clone());
        }
        let service = match self.known.remove(&key) {
            Some(service) => service,
            None => match self.replica_set(&key.0, &key.1).await? {
                Some(set) => set.service(),
                None => return Ok(pod.service()),
            },
        };
        self.used.insert(key, service.clone());
        Ok(service)
    }

    /// `None` if the API does not show it.
    async fn replica_set(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectMeta>, KubernetesError> {
        if !self.is_group_served || self.forbidden.contains(namespace) {
            return Ok(None);
        }
        let path = format!("/apis/extensions/v1beta1/namespaces/{namespace}/replicasets");
        let request = Request::new(path).get(name, &GetParams::default());
        match ask::<Described>(self.client, request, "a replica set").await {
            Ok(set) => Ok(Some(set.metadata)),
            Err(KubernetesError::Api(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                // Whoever may not read one need not ask for the next; new servers say so of a group they do not have.
                if status.code == FORBIDDEN {
                    self.forbidden.insert(namespace.to_owned());
                }
                // A path that does not exist is answered without the reason that a missing object has.
                self.is_group_served = status.code != 404 || status.reason == "NotFound";
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    what: &'static str,
) -> Result<T, KubernetesError> {
    let request = request.map_err(|e| KubernetesError::Client(kube::Error::BuildRequest(e)))?;
    let text = client
        .request_text(request)
        .await
        .map_err(KubernetesError::Api)?;
    parse(&text, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_is_what_is_absent() {
        for text in [
            r#"{"metadata": {"name": "p"}}"#,
            r#"{"metadata": {"name": "p", "namespace": null, "ownerReferences": null}, "status": null}"#,
            r#"{"metadata": {"name": "p"}, "status": {"phase": null, "podIP": null, "hostIP": null}}"#,
        ] {
            let pod: Pod = parse(text, "a pod").unwrap();
            assert_eq!(pod.metadata.service(), "p.", "{text}");
            assert!(pod.status.pod_ip.is_empty(), "{text}");
        }
        for text in ["{}", r#"{"metadata": null, "items": null}"#] {
            let list: PodList = parse(text, "a list of pods").unwrap();
            assert!(list.items.is_none(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_text_around_it() {
        let reason = |text: &str| parse::<Pod>(text, "a pod").unwrap_err().to_string();
        let odd = "{\n\"metadata\": {\"name\": \"p\"},\n\"status\": {\"podIP\": 7, \"phase\": \"Running\"}}";
        assert_eq!(
            reason(odd),
            "the API server answered something else than a pod: invalid type: integer `7`, expected a string \
             at line 3 column 21, after `\"status\": {\"podIP\": 7`, before `, \"phase\": \"Running\"`"
        );
        assert!(reason("{\"metadata\": {}}").contains("missing field `name` at line 1 column 15"));
        assert!(reason("").contains("EOF"));
        let long = format!("{{\"metadata\": \"{}\"}}", "ä".repeat(5000));
        for text in [&*long, "<html>\u{e4}</html>", "ä", "\n\n"] {
            let reason = reason(text);
            assert!(reason.len() < 600 && reason.contains("line "), "{reason}");
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_told_as_such() {
        let api = |text: &str| {
            let status = serde_json::from_str(text).unwrap();
            KubernetesError::Api(kube::Error::Api(status)).to_string()
        };
        assert!(api("{}").ends_with("as expected: what came is neither an event nor a status"));
        let long = format!(r#"{{"code": 500, "message": "no {}"}}"#, "x".repeat(5000));
        let told = api(&long);
        assert!(
            told.contains("as expected: 500 no x") && told.len() < 400,
            "{told}"
        );
    }
}
