//! Configuration centres that refuse what the real ones would refuse, written from their public interfaces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oap_proto::configuration::configuration_service_server::{
    ConfigurationService, ConfigurationServiceServer,
};
use oap_proto::configuration::{Config, ConfigurationRequest, ConfigurationResponse};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

/// Which centre it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Meta server and configuration service in one. Knows application `app`, cluster `c`.
    Apollo,
    /// Knows cluster `c`.
    Dcs,
}

/// What it knows, and what it was asked.
#[derive(Debug)]
pub struct Known {
    kind: Kind,
    address: SocketAddr,
    pub values: BTreeMap<String, String>,
    /// Answers everything with this status.
    pub failure: Option<StatusCode>,
    /// What no client should ask.
    pub wrong: Vec<String>,
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
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let known = Known {
            kind,
            address,
            values: BTreeMap::new(),
            failure: None,
            wrong: Vec::new(),
        };
        let mut double = Double {
            known: Arc::new(Mutex::new(known)),
            address,
            running: None,
        };
        double.resume().await?;
        Ok(double)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Closes its port and all connections.
    pub async fn pause(&mut self) -> Result<()> {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            task.await?;
        }
        Ok(())
    }

    /// Opens its port again.
    pub async fn resume(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.known().address = self.address;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let known = Arc::clone(&self.known);
        let is_dcs = self.known().kind == Kind::Dcs;
        let task = if is_dcs {
            let serving = tonic::transport::Server::builder()
                .add_service(ConfigurationServiceServer::new(Service(known)))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped);
            tokio::spawn(async move { serving.await.unwrap_or_default() })
        } else {
            let routes = Router::new().fallback(answer).with_state(known);
            let serving = axum::serve(listener, routes).with_graceful_shutdown(stopped);
            tokio::spawn(async move { serving.await.unwrap_or_default() })
        };
        self.running = Some((stop, task));
        Ok(())
    }
}

fn lock(known: &Shared) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(known): State<Shared>, request: Request) -> Response {
    let mut known = lock(&known);
    if let Some(failure) = known.failure {
        return (failure, "something is wrong").into_response();
    }
    let uri = format!("http://double{}", request.uri());
    let url = reqwest::Url::parse(&uri);
    let asked = url.ok().filter(|_| request.method() == "GET").map(|url| {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let path = url.path().trim_start_matches('/').to_owned();
        (path, pairs)
    });
    let found = asked.and_then(|(path, query)| known.find(&path, &query));
    found.unwrap_or_else(|| {
        known.wrong.push(format!("{} {uri}", request.method()));
        (StatusCode::BAD_REQUEST, "no such request").into_response()
    })
}

impl Known {
    /// `None` if the question makes no sense.
    fn find(&self, path: &str, query: &[(String, String)]) -> Option<Response> {
        match self.kind {
            Kind::Apollo => self.apollo(path, query),
            Kind::Dcs => None,
        }
    }

    /// <https://www.apolloconfig.com/#/en/client/other-language-client-user-guide> and the meta server's list of services:
    /// a release, or 404 if there is none of this application, cluster and namespace.
    fn apollo(&self, path: &str, query: &[(String, String)]) -> Option<Response> {
        if path == "services/config" {
            let dead = "http://127.0.0.1:1/";
            let own = format!("http://{}/", self.address);
            let service = |url: &str| json!({"appName": "APOLLO-CONFIGSERVICE", "instanceId": url, "homepageUrl": url});
            let is_right = query == [("appId".to_owned(), "app".to_owned())];
            let services = json!([service(dead), service(&own)]);
            return is_right.then(|| services.to_string().into_response());
        }
        let rest = path.strip_prefix("configs/").filter(|_| query.is_empty())?;
        if rest != "app/c/application" {
            return Some(StatusCode::NOT_FOUND.into_response());
        }
        let release = json!({
            "appId": "app", "cluster": "c", "namespaceName": "application",
            "configurations": self.values, "releaseKey": "20170430092936-dee2d58e74515ff3",
        });
        Some(release.to_string().into_response())
    }
}

struct Service(Shared);

#[tonic::async_trait]
impl ConfigurationService for Service {
    /// A client that sends the id of the current table hears nothing of its values.
    async fn call(
        &self,
        request: tonic::Request<ConfigurationRequest>,
    ) -> Result<tonic::Response<ConfigurationResponse>, Status> {
        let mut known = lock(&self.0);
        let request = request.into_inner();
        if known.failure.is_some() {
            return Err(Status::internal("something is wrong"));
        }
        if request.cluster_name != "c" {
            known.wrong.push(format!("{request:?}"));
            return Err(Status::invalid_argument("no such cluster"));
        }
        let table = known.values.iter().map(|(name, value)| Config {
            name: name.clone(),
            value: value.clone(),
        });
        Ok(tonic::Response::new(ConfigurationResponse {
            config_table: match request.uuid.as_str() {
                "table-1" => vec![],
                _ => table.collect(),
            },
            uuid: "table-1".to_owned(),
        }))
    }
}
