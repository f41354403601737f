//! Nacos: nodes are ephemeral instances of a service, which a beat keeps healthy (8.1.0 spec, G.3).
//!
//! `/nacos/v1/ns/instance`, `…/beat` and `…/list` (Open API 1.x, "Service Discovery"), which servers of 2.x have as well.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::clients::{Answer, CenterError, Http, Question};
use super::center::{Listing, REQUEST_TIMEOUT};
use crate::config::OwnAddress;

/// Without a beat for 15 s an instance is not healthy, without one for 30 s it is gone.
pub(super) const BEAT: Duration = Duration::from_secs(5);
const GROUP: &str = "DEFAULT_GROUP";
const CLUSTER: &str = "DEFAULT";
/// What newer servers answer to a beat of an instance that they do not have.
const UNKNOWN_INSTANCE: u32 = 20404;

/// A client of the servers.
#[derive(Debug)]
pub(super) struct Nacos {
    http: Http,
    /// With the group in front.
    service: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Beaten {
    /// Older servers say nothing; they make the instance anew.
    code: Option<u32>,
}

#[derive(Deserialize)]
struct Instances {
    hosts: Vec<Value>,
}

#[derive(Deserialize)]
struct Instance {
    ip: String,
    port: u16,
    #[serde(default)]
    healthy: bool,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default = "one")]
    weight: f64,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Nacos {
    pub(super) fn new(
        urls: &[String],
        service: &str,
        namespace: &str,
    ) -> Result<Nacos, CenterError> {
        Ok(Nacos {
            http: Http::new(urls, REQUEST_TIMEOUT)?,
            service: format!("{GROUP}@@{service}"),
            namespace: namespace.to_owned(),
        })
    }

    pub(super) async fn register(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let state = [("weight", "1.0"), ("enabled", "true"), ("healthy", "true")];
        self.change(Method::POST, own, &state).await
    }

    pub(super) async fn renew(&mut self, own: &OwnAddress) -> Result<bool, CenterError> {
        let port = own.port.to_string();
        let beat = json!({
            "serviceName": self.service, "cluster": CLUSTER, "ip": own.host, "port": own.port,
            "weight": 1.0, "metadata": {}, "scheduled": true,
        });
        let beat = beat.to_string();
        let query = [
            ("ip", own.host.as_str()),
            ("port", &port),
            ("clusterName", CLUSTER),
            ("beat", &beat),
        ];
        let answer = self.ask(Method::PUT, Some("beat"), &query).await?;
        done(&answer)?;
        // The oldest servers answer a word.
        let code = answer.json::<Beaten>().ok().and_then(|beaten| beaten.code);
        Ok(code != Some(UNKNOWN_INSTANCE))
    }

    pub(super) async fn list(&mut self) -> Result<Listing, CenterError> {
        let query = [("clusters", CLUSTER), ("healthyOnly", "false")];
        let answer = self.ask(Method::GET, Some("list"), &query).await?;
        done(&answer)?;
        Ok(sift(&self.service, answer.json()?))
    }

    pub(super) async fn leave(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        self.change(Method::DELETE, own, &[]).await
    }

    /// Makes the instance of this node, or takes it away.
    async fn change(
        &mut self,
        method: Method,
        own: &OwnAddress,
        state: &[(&str, &str)],
    ) -> Result<(), CenterError> {
        let port = own.port.to_string();
        let mut query = vec![
            ("ip", own.host.as_str()),
            ("port", &port),
            ("clusterName", CLUSTER),
            ("groupName", GROUP),
            ("ephemeral", "true"),
        ];
        query.extend(state);
        let answer = self.ask(method, None, &query).await?;
        done(&answer)
    }

    async fn ask(
        &mut self,
        method: Method,
        what: Option<&str>,
        more: &[(&str, &str)],
    ) -> Result<Answer, CenterError> {
        let mut path = vec!["nacos", "v1", "ns", "instance"];
        path.extend(what);
        let mut query = vec![("serviceName", self.service.as_str())];
        if !self.namespace.is_empty() {
            query.push(("namespaceId", &self.namespace));
        }
        query.extend(more);
        let question = Question {
            method,
            path: &path,
            query: &query,
            ..Question::default()
        };
        self.http.ask(&question).await
    }
}

fn done(answer: &Answer) -> Result<(), CenterError> {
    match answer.status {
        200 => Ok(()),
        _ => Err(answer.refused()),
    }
}

fn sift(service: &str, instances: Instances) -> Listing {
    let mut listing = Listing::default();
    for found in instances.hosts {
        let name = format!("{service} {}:{}", found["ip"], found["port"]);
        match Instance::deserialize(&found) {
            Ok(instance) => {
                let is_well = instance.healthy && instance.enabled && instance.weight > 0.0;
                listing.add(&name, &instance.ip, instance.port, is_well);
            }
            Err(_) => listing.add_strange(&name),
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_that_are_no_nodes_are_passed_over() {
        let one = |ip: &str, port: i64, is_healthy: bool| json!({"ip": ip, "port": port, "healthy": is_healthy});
        let hosts = vec![
            one("10.0.0.1", 11800, true),
            one("10.0.0.2", 70_000, true),
            one("10.0.0.2", 0, true),
            one("10.0.0.3", 11800, false),
            json!({"ip": "10.0.0.5", "port": 11800, "healthy": true, "enabled": false}),
            json!({"ip": 7}),
            one("10.0.0.4", 11800, true),
        ];
        let listing = sift("oap", Instances { hosts });
        assert!(
            listing
                .members
                .iter()
                .eq(["10.0.0.1:11800", "10.0.0.4:11800"])
        );
        assert!(
            listing
                .unwell
                .iter()
                .eq(["10.0.0.3:11800", "10.0.0.5:11800"])
        );
        let strange = [
            r#"oap "10.0.0.2":0"#,
            r#"oap "10.0.0.2":70000"#,
            "oap 7:null",
        ];
        assert!(listing.strange.iter().eq(strange), "{:?}", listing.strange);
    }
}
