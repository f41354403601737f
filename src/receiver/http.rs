//! The HTTP twins of the gRPC services, on the port of the query API: protobuf messages as JSON.
//!
//! Answers are the original's, also where they look odd: a bad segment gets 200 with an empty body, a GET gets 500.

mod json;
mod room;
mod serve;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{Router, any};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prost::Message as _;
use tokio::sync::Semaphore;

use super::handover::{Handover, Protocol};
use super::{Enabled, ReceiveError};
use crate::journal::{Message, Refused};
use crate::model::message::kind;
pub use room::Room;
pub use serve::{Timeouts, serve, serve_within};

/// How the HTTP twins behave.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Of these, `trace` and `register` have HTTP twins.
    pub receivers: Enabled,
    /// What all paths begin with; `/` for nothing.
    pub context_path: String,
    /// Larger bodies are answered with 413. The original has no bound.
    pub max_body_bytes: usize,
    /// Requests whose body is in memory at one time; others wait. The original's counterpart are its 200 threads.
    pub max_requests: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            receivers: Enabled::ALL,
            context_path: "/".to_owned(),
            max_body_bytes: 8 * 1024 * 1024,
            max_requests: 64,
        }
    }
}

/// A client has this long to send its body, and to get its turn.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A body that is too large is read on, and thrown away, up to this many times the limit: a client that is cut off while it
/// sends does not see the answer.
const DRAINED: usize = 4;

/// What the paths have in common.
#[derive(Debug, Clone)]
struct Door {
    handover: Handover,
    turns: Arc<Semaphore>,
    max_body_bytes: usize,
}

/// The paths of 8.1.0.
#[derive(Debug, Clone, Copy)]
enum Twin {
    Segment,
    Segments,
    ReportProperties,
    KeepAlive,
}

impl Twin {
    fn path(self) -> &'static str {
        match self {
            Twin::Segment => "/v3/segment",
            Twin::Segments => "/v3/segments",
            Twin::ReportProperties => "/v3/management/reportProperties",
            Twin::KeepAlive => "/v3/management/keepAlive",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Twin::Segment | Twin::Segments => kind::SEGMENT,
            Twin::ReportProperties => kind::INSTANCE_PROPERTIES,
            Twin::KeepAlive => kind::KEEP_ALIVE,
        }
    }

    fn read(self, text: &str) -> Result<Vec<Message>, serde_json::Error> {
        Ok(match self {
            Twin::Segment => {
                let segment = json::segment(text)?.encode_to_vec();
                vec![Message::Segment(segment.into())]
            }
            Twin::Segments => json::segments(text)?
                .into_iter()
                .map(Message::Segment)
                .collect(),
            Twin::ReportProperties => {
                let properties = json::instance_properties(text)?.encode_to_vec();
                vec![Message::InstanceProperties(properties.into())]
            }
            Twin::KeepAlive => {
                let ping = json::instance_ping(text)?.encode_to_vec();
                vec![Message::KeepAlive(ping.into())]
            }
        })
    }
}

pub(super) fn router(handover: Handover, options: &HttpOptions) -> Result<Router, ReceiveError> {
    let prefix = prefix(&options.context_path)?;
    let enabled = options.receivers;
    let mut twins = Vec::new();
    if enabled.trace {
        twins.extend([Twin::Segment, Twin::Segments]);
    }
    if enabled.register {
        twins.extend([Twin::ReportProperties, Twin::KeepAlive]);
    }
    let door = Door {
        handover,
        turns: Arc::new(Semaphore::new(options.max_requests.max(1))),
        max_body_bytes: options.max_body_bytes,
    };
    Ok(twins
        .into_iter()
        .fold(Router::new(), |router, twin| {
            let handler = move |State(door): State<Door>, request: Request| async move {
                door.serve(twin, request).await
            };
            router.route(&format!("{prefix}{}", twin.path()), any(handler))
        })
        .with_state(door))
}

/// `/a/b` for `/a/b`, `a/b/` and the like; the empty text for `/`.
fn prefix(context_path: &str) -> Result<String, ReceiveError> {
    let segments = context_path
        .split('/')
        .filter(|segment| !segment.is_empty());
    let mut prefix = String::new();
    for segment in segments {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if !segment.chars().all(plain) {
            return Err(ReceiveError::ContextPath(context_path.to_owned()));
        }
        prefix.push('/');
        prefix.push_str(segment);
    }
    Ok(prefix)
}

impl Door {
    async fn serve(&self, twin: Twin, request: Request) -> Response {
        match *request.method() {
            Method::POST => {}
            Method::GET | Method::HEAD => return empty(StatusCode::INTERNAL_SERVER_ERROR),
            Method::OPTIONS => {
                let allowed = HeaderValue::from_static("POST, OPTIONS");
                return with_header(empty(StatusCode::OK), header::ALLOW, allowed);
            }
            _ => return empty(StatusCode::METHOD_NOT_ALLOWED),
        }
        let waiting = tokio::time::timeout(BODY_TIMEOUT, async {
            let turn = self.turns.acquire().await.ok()?;
            Some((turn, self.body(twin, request).await))
        });
        match waiting.await {
            Ok(Some((_turn, Ok(body)))) => self.take(twin, body).await,
            Ok(Some((_turn, Err(answer)))) => answer,
            Ok(None) | Err(_) => {
                self.handover.count_refused(twin.kind(), "timeout", 1);
                empty(StatusCode::REQUEST_TIMEOUT)
            }
        }
    }

    async fn body(&self, twin: Twin, request: Request) -> Result<Bytes, Response> {
        let mut body = BytesMut::new();
        let mut bytes = 0;
        let mut chunks = request.into_body().into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                self.handover.unreadable(twin.kind(), "broken_body", &error);
                empty(StatusCode::BAD_REQUEST)
            })?;
            bytes += chunk.len();
            if bytes <= self.max_body_bytes {
                body.extend_from_slice(&chunk);
            } else if bytes > DRAINED.saturating_mul(self.max_body_bytes) {
                break;
            }
        }
        if bytes > self.max_body_bytes {
            let limit = format_args!("the body has more than {} bytes", self.max_body_bytes);
            self.handover.unreadable(twin.kind(), "too_large", &limit);
            return Err(empty(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(body.freeze())
    }

    async fn take(&self, twin: Twin, body: Bytes) -> Response {
        let text = without_line_breaks(String::from_utf8_lossy(&body));
        let messages = match twin.read(&text) {
            Ok(messages) => messages,
            Err(error) => return self.bad_text(twin, &error),
        };
        match self.handover.deliver(Protocol::Http, messages).await {
            Ok(()) => accepted(twin),
            Err(Refused::Overloaded | Refused::Closed) => empty(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    fn bad_text(&self, twin: Twin, error: &serde_json::Error) -> Response {
        self.handover.unreadable(twin.kind(), "bad_json", error);
        match twin {
            Twin::Segment | Twin::Segments => {
                let errors = &self.handover.metrics.trace_analysis_errors;
                errors.with_label_values(&[Protocol::Http.name()]).inc();
                accepted(twin)
            }
            Twin::ReportProperties | Twin::KeepAlive => {
                let text = HeaderValue::from_str(&error.to_string()).unwrap_or(
                    HeaderValue::from_static("the body is not the JSON of this message"),
                );
                let name = HeaderName::from_static("error-message");
                with_header(empty(StatusCode::BAD_REQUEST), name, text)
            }
        }
    }
}

/// 200 as the original answers it: of the management calls with an empty object, of the segments with nothing.
fn accepted(twin: Twin) -> Response {
    let mut response = Response::new(match twin {
        Twin::Segment | Twin::Segments => Body::empty(),
        Twin::ReportProperties | Twin::KeepAlive => Body::from("{}"),
    });
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// The original reads the body line by line and joins the lines, so a line break inside a string vanishes, too.
fn without_line_breaks(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains(['\r', '\n']) {
        Cow::Owned(text.replace(['\r', '\n'], ""))
    } else {
        text
    }
}
