//! Who is told about alarms: a web server and a gRPC service that remember what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use oap_proto::alarm::alarm_service_server::{AlarmService, AlarmServiceServer};
use oap_proto::alarm::{AlarmMessage, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, Streaming};

/// What came, in order.
#[derive(Debug)]
struct Came<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Came<T> {
    fn clone(&self) -> Came<T> {
        Came(Arc::clone(&self.0))
    }
}

impl<T: Clone> Came<T> {
    fn new() -> Came<T> {
        Came(Arc::default())
    }

    fn add(&self, value: T) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(value);
        all.len()
    }

    fn all(&self) -> Vec<T> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

/// A request to the web server.
#[derive(Debug, Clone)]
pub struct Posted {
    pub headers: HeaderMap,
    pub body: String,
}

/// A web server.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    came: Came<Posted>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// One that refuses the first requests.
    pub async fn refusing(first: usize) -> Result<Webhook> {
        Webhook::answering(first, StatusCode::SERVICE_UNAVAILABLE).await
    }

    /// One that answers the first requests with a status.
    pub async fn answering(first: usize, status: StatusCode) -> Result<Webhook> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let came = Came::new();
        let answer = move |State(came): State<Came<Posted>>, headers: HeaderMap, body: String| async move {
            match came.add(Posted { headers, body }) {
                number if number <= first => status,
                _ => StatusCode::OK,
            }
        };
        let router = Router::new()
            .route("/alarm", post(answer))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(came.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap_or_default();
        });
        Ok(Webhook {
            address,
            came,
            task,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/alarm", self.address)
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.came.all()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gRPC service.
#[derive(Debug)]
pub struct GrpcHook {
    address: SocketAddr,
    came: Came<AlarmMessage>,
    task: JoinHandle<()>,
}

struct Service(Came<AlarmMessage>);

#[tonic::async_trait]
impl AlarmService for Service {
    async fn do_alarm(
        &self,
        request: Request<Streaming<AlarmMessage>>,
    ) -> Result<tonic::Response<Response>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.next().await {
            self.0.add(message?);
        }
        Ok(tonic::Response::new(Response {}))
    }
}

impl GrpcHook {
    pub async fn start() -> Result<GrpcHook> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let came = Came::new();
        let service = AlarmServiceServer::new(Service(came.clone()));
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.unwrap_or_default() });
        Ok(GrpcHook {
            address,
            came,
            task,
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn messages(&self) -> Vec<AlarmMessage> {
        self.came.all()
    }
}

impl Drop for GrpcHook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The URL of a port that nobody listens on.
pub async fn dead_url() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(format!("http://{}/alarm", listener.local_addr()?))
}
