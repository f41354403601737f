//! GraphQL over HTTP, with the statuses of the original (query spec 2.1, correction 14).
//!
//! Errors of a question are part of the answer, with status 200. Only a request that carries no question is an error
//! of HTTP.

mod bodies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::routing::any;
use prometheus::Histogram;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{CompressionLayer, CompressionLevel};

use self::bodies::{Bodies, Bounds, NoBody};
use super::graphql::{Api, GraphqlRequest};
use super::{Cuts, QueryContext, Share};
use crate::storage::Backend;
use crate::telemetry::Stay;

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=utf-8");

/// Says `n/m` if only n of m segments are in the answer.
const TRUNCATED: HeaderName = HeaderName::from_static("oap-truncated");
/// Smaller answers are sent as they are.
const COMPRESS_ABOVE_BYTES: u16 = 1024;

/// Where and within which bounds questions are answered.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `restContextPath` of the core module.
    pub context_path: String,
    /// `path` of the query module.
    pub path: String,
    pub max_body_bytes: usize,
    /// Bytes of all larger bodies that are there at the same time.
    pub max_bodies_bytes: usize,
    /// Bodies that come in at the same time; of more the oldest gives way.
    pub max_bodies: usize,
    /// Questions that are answered at the same time; more wait.
    pub max_concurrent: usize,
    /// Questions that wait for their turn; more are refused.
    pub max_waiting: u64,
    /// From the first byte of the body to the answer, waiting included.
    pub timeout: Duration,
    /// Seconds that questions wait for their turn.
    pub stay: Option<Histogram>,
    /// Counts the questions that wait for their turn.
    pub waiting: Arc<AtomicU64>,
    /// Cancelled when the server leaves: questions that wait are refused then.
    pub stop: CancellationToken,
}

/// A question that is counted while it waits.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    /// `None` if as many wait as may.
    fn begin(all: &'a AtomicU64, bound: u64) -> Option<Waiting<'a>> {
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < bound).then_some(waiting + 1)
        })
        .is_ok()
        .then(|| Waiting(all))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            context_path: "/".to_owned(),
            path: "/graphql".to_owned(),
            max_body_bytes: 4 << 20,
            max_bodies_bytes: 16 << 20,
            max_bodies: 1024,
            max_concurrent: 64,
            max_waiting: 256,
            timeout: Duration::from_secs(30),
            stay: None,
            waiting: Arc::default(),
            stop: CancellationToken::new(),
        }
    }
}

impl HttpSettings {
    /// Both paths as one, with one slash in front of each part.
    fn route(&self, path: &str) -> String {
        let parts = [&self.context_path, path];
        let parts = parts.map(|p| p.trim_matches('/'));
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        format!("/{}", parts.join("/"))
    }
}

struct Endpoint<S> {
    api: Api,
    cx: Arc<QueryContext<S>>,
    settings: HttpSettings,
    bodies: Arc<Bodies>,
    permits: Semaphore,
}

/// Why a question gets no answer for want of room, or of time: the label of the counter, and what the client reads.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    Bodies,
    Waiting,
    Leaving,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Refusal::Bodies => "bodies",
            Refusal::Waiting => "waiting",
            Refusal::Leaving => "leaving",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Refusal::Bodies => "too many questions are being sent, ask again",
            Refusal::Waiting => "too many questions wait for an answer, ask again",
            Refusal::Leaving => "the server is shutting down, ask again",
        }
    }
}

/// The routes of the query protocol.
pub fn router<S: Backend + 'static>(
    api: Api,
    cx: Arc<QueryContext<S>>,
    settings: HttpSettings,
) -> Router {
    let route = settings.route(&settings.path);
    let gzip = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_ABOVE_BYTES));
    let endpoint = Endpoint {
        api,
        cx,
        permits: Semaphore::new(settings.max_concurrent),
        bodies: Bodies::new(Bounds {
            one_bytes: settings.max_body_bytes,
            all_bytes: settings.max_bodies_bytes,
            bodies: settings.max_bodies,
        }),
        settings,
    };
    Router::new()
        .route(&route, any(handle::<S>))
        .layer(gzip)
        .with_state(Arc::new(endpoint))
}

/// Answer on a path that nobody serves.
pub async fn fallback(method: Method) -> Response<Body> {
    match method {
        Method::GET | Method::HEAD => plain(StatusCode::NOT_FOUND, "nothing is here"),
        Method::OPTIONS => options(),
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, "nothing is here"),
    }
}

async fn handle<S: Backend + 'static>(
    State(endpoint): State<Arc<Endpoint<S>>>,
    request: Request,
) -> Response<Body> {
    match *request.method() {
        Method::POST => {
            let limit = endpoint.settings.timeout;
            match timeout(limit, endpoint.answer(request.into_body())).await {
                Ok(response) => response,
                Err(_) => {
                    endpoint.cx.metrics.timeouts.inc();
                    let message = format!("no answer within {} s", limit.as_secs_f64());
                    json_response(&json!({ "errors": [{ "message": message }] }))
                }
            }
        }
        Method::OPTIONS => options(),
        Method::GET | Method::HEAD => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "questions are sent with POST",
        ),
        _ => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "questions are sent with POST",
        ),
    }
}

impl<S: Backend> Endpoint<S> {
    /// Waits until fewer questions are being answered than may be.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let settings = &self.settings;
        let stay = Stay::begin(settings.stay.as_ref());
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::begin(&settings.waiting, settings.max_waiting);
        let Some(_waiting) = waiting else {
            return Err(Refusal::Waiting);
        };
        let _stay = stay;
        tokio::select! {
            biased;
            () = settings.stop.cancelled() => Err(Refusal::Leaving),
            // The semaphore is never closed before the server has left.
            permit = self.permits.acquire() => permit.map_err(|_| Refusal::Leaving),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let refused = &self.cx.metrics.refused_questions;
        refused.with_label_values(&[refusal.reason()]).inc();
        plain(StatusCode::SERVICE_UNAVAILABLE, refusal.text())
    }

    async fn answer(&self, body: Body) -> Response<Body> {
        let body = match self.bodies.read(body).await {
            Ok(body) => body,
            Err(NoBody::TooLargeOrCutOff) => {
                return plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body is too large or was cut off",
                );
            }
            Err(NoBody::NoRoom | NoBody::GaveWay) => return self.refuse(Refusal::Bodies),
        };
        let _permit = match self.turn().await {
            Ok(permit) => permit,
            Err(refusal) => return self.refuse(refusal),
        };
        let request = parse(&body.bytes);
        drop(body);
        match request {
            Some(request) => {
                let cuts = Cuts::default();
                let share = self.cx.answers.begin();
                let answer = self.api.execute(&self.cx, &cuts, &share, request).await;
                let text = answer.to_string();
                drop(answer);
                share.shrink(text.len());
                // The share is given back when the last byte was sent, or the client is gone.
                let body = Bytes::from_owner(Held {
                    text,
                    _share: share,
                });
                let mut response = respond(StatusCode::OK, JSON, body);
                if let Some((shown, total)) = cuts.sums()
                    && let Ok(value) = HeaderValue::from_str(&format!("{shown}/{total}"))
                {
                    response.headers_mut().insert(TRUNCATED, value);
                }
                response
            }
            None => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the body must be a JSON object with the text \"query\" and the object \"variables\"",
            ),
        }
    }
}

/// The text of an answer, with the room that it has among all answers.
struct Held {
    text: String,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// The question in a body; `None` if there is none.
fn parse(body: &[u8]) -> Option<GraphqlRequest> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
        return None;
    };
    let Some(Value::String(query)) = body.remove("query") else {
        return None;
    };
    let variables = match body.remove("variables") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return None,
    };
    let operation_name = match body.remove("operationName") {
        Some(Value::String(name)) => Some(name),
        _ => None,
    };
    Some(GraphqlRequest {
        query,
        variables,
        operation_name,
    })
}

fn json_response(value: &Value) -> Response<Body> {
    respond(StatusCode::OK, JSON, value.to_string().into())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

#[cfg(test)]
mod tests;
