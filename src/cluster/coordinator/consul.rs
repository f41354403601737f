//! Consul: nodes are instances of a service, with a check that asks their gRPC health service; those that pass are members
//! (8.1.0 spec, G.3).
//!
//! `PUT /v1/agent/service/register`, `PUT /v1/agent/service/deregister/{id}` (HTTP API v1, "Service - Agent") and
//! `GET /v1/health/service/{name}` ("Health").

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::clients::{Answer, Body, CenterError, Http, Question};
use super::center::{Listing, REQUEST_TIMEOUT};
use crate::config::{OwnAddress, Secret};

const CHECK_INTERVAL: &str = "5s";
/// Consul forgets a node whose check fails for so long; else every address that a node once had stays for ever.
const FORGOTTEN_AFTER: &str = "10m";

/// A client of the agents.
#[derive(Debug)]
pub(super) struct Consul {
    http: Http,
    service: String,
    token: Secret,
    checks_tls: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    address: String,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

impl Consul {
    pub(super) fn new(
        urls: &[String],
        service: &str,
        token: Secret,
        checks_tls: bool,
    ) -> Result<Consul, CenterError> {
        Ok(Consul {
            http: Http::new(urls, REQUEST_TIMEOUT)?,
            service: service.to_owned(),
            token,
            checks_tls,
        })
    }

    pub(super) async fn register(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let mut check = json!({
            "GRPC": own.member(),
            "Interval": CHECK_INTERVAL,
            "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
        });
        if self.checks_tls {
            check["GRPCUseTLS"] = json!(true);
            // It asks whether the node lives, not who it is.
            check["TLSSkipVerify"] = json!(true);
        }
        let registration = json!({
            "ID": own.id(),
            "Name": self.service,
            "Address": own.host,
            "Port": own.port,
            "Check": check,
        });
        let path = ["v1", "agent", "service", "register"];
        let answer = self
            .ask(Method::PUT, &path, Body::Json(registration))
            .await?;
        match answer.status {
            200 => Ok(()),
            _ => Err(answer.refused()),
        }
    }

    pub(super) async fn list(&mut self) -> Result<Listing, CenterError> {
        let service = self.service.clone();
        let path = ["v1", "health", "service", &service];
        let answer = self.ask(Method::GET, &path, Body::None).await?;
        if answer.status != 200 {
            return Err(answer.refused());
        }
        Ok(sift(&service, answer.json()?))
    }

    pub(super) async fn leave(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let path = ["v1", "agent", "service", "deregister", &own.id()];
        match self.ask(Method::PUT, &path, Body::None).await {
            // 404 is an agent that does not know it, which older ones call a failure of their own.
            Ok(answer) if matches!(answer.status, 200 | 404) => Ok(()),
            Ok(answer) => Err(answer.refused()),
            Err(error) if error.0.contains("Unknown service") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &[&str],
        body: Body<'_>,
    ) -> Result<Answer, CenterError> {
        let token = Some(self.token.expose()).filter(|token| !token.is_empty());
        let question = Question {
            method,
            path,
            secret: token.map(|token| ("X-Consul-Token", token)),
            body,
            ..Question::default()
        };
        self.http.ask(&question).await
    }
}

/// What is no node has an id too; more of it is not needed.
fn sift(service: &str, entries: Vec<Value>) -> Listing {
    let mut listing = Listing::default();
    for entry in entries {
        let id = entry["Service"]["ID"].as_str().unwrap_or("?");
        let name = format!("{service}/{id}");
        match Entry::deserialize(&entry) {
            Ok(entry) => {
                let is_passing = entry.checks.iter().all(|check| check.status == "passing");
                let (host, port) = (&entry.service.address, entry.service.port);
                listing.add(&name, host, port, is_passing);
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
    fn entries_that_are_no_nodes_are_passed_over() {
        let entry = |id: &str, host: &str, port: i64, status: &str| {
            json!({
                "Node": {"Node": "n", "Address": "10.1.1.1"},
                "Service": {"ID": id, "Service": "oap", "Address": host, "Port": port},
                "Checks": [{"Status": "passing"}, {"Status": status}],
            })
        };
        let entries = vec![
            entry("a", "10.0.0.1", 11800, "passing"),
            entry("far", "10.0.0.2", 70_000, "passing"),
            entry("below", "10.0.0.2", -1, "passing"),
            entry("none", "10.0.0.2", 0, "passing"),
            entry("nowhere", "", 11800, "passing"),
            entry("odd", "no such/host", 11800, "passing"),
            entry("ill", "10.0.0.3", 11800, "critical"),
            json!({"Service": {"ID": "text", "Port": "x"}}),
            json!("text"),
            entry("b", "10.0.0.4", 11800, "passing"),
        ];
        let listing = sift("oap", entries);
        assert!(
            listing
                .members
                .iter()
                .eq(["10.0.0.1:11800", "10.0.0.4:11800"])
        );
        assert!(listing.unwell.iter().eq(["10.0.0.3:11800"]));
        let strange = ["?", "below", "far", "none", "nowhere", "odd", "text"];
        let strange = strange.map(|id| format!("oap/{id}"));
        assert!(listing.strange.iter().eq(&strange), "{:?}", listing.strange);
    }
}
