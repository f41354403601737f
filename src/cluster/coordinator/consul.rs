//! Consul: nodes are instances of a service, with a check that asks their gRPC health service; those that pass are members
//! (8.1.0 spec, G.3).
//!
//! `PUT /v1/agent/service/register`, `PUT /v1/agent/service/deregister/{id}` (HTTP API v1, "Service - Agent") and
//! `GET /v1/health/service/{name}` ("Health").

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

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
        let mut listing = Listing::default();
        for entry in answer.json::<Vec<Entry>>()? {
            let is_passing = entry.checks.iter().all(|check| check.status == "passing");
            listing.add(&entry.service.address, entry.service.port, is_passing);
        }
        Ok(listing)
    }

    pub(super) async fn leave(&mut self, own: &OwnAddress) -> Result<(), CenterError> {
        let path = ["v1", "agent", "service", "deregister", &own.id()];
        let answer = self.ask(Method::PUT, &path, Body::None).await?;
        match answer.status {
            // 404 is an agent that does not know it.
            200 | 404 => Ok(()),
            _ => Err(answer.refused()),
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
