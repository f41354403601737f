//! GraphQL over HTTP, with the statuses of the original (query spec 2.1, correction 14).
//!
//! Errors of a question are part of the answer, with status 200. Only a request that carries no question is an error
//! of HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::routing::any;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::QueryContext;
use super::graphql::{Api, GraphqlRequest};
use crate::storage::Backend;

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=utf-8");

/// Where and within which bounds questions are answered.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `restContextPath` of the core module.
    pub context_path: String,
    /// `path` of the query module.
    pub path: String,
    pub max_body_bytes: usize,
    /// Questions that are answered at the same time; more wait.
    pub max_concurrent: usize,
    /// From the first byte of the body to the answer, waiting included.
    pub timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            context_path: "/".to_owned(),
            path: "/graphql".to_owned(),
            max_body_bytes: 4 << 20,
            max_concurrent: 64,
            timeout: Duration::from_secs(30),
        }
    }
}

impl HttpSettings {
    /// Both paths as one, with one slash in front of each part.
    fn route(&self) -> String {
        let parts = [&self.context_path, &self.path];
        let parts = parts.map(|p| p.trim_matches('/'));
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        format!("/{}", parts.join("/"))
    }
}

struct Endpoint<S> {
    api: Api,
    cx: Arc<QueryContext<S>>,
    settings: HttpSettings,
    permits: Semaphore,
}

/// The routes of the query protocol.
pub fn router<S: Backend + 'static>(
    api: Api,
    cx: Arc<QueryContext<S>>,
    settings: HttpSettings,
) -> Router {
    let route = settings.route();
    let endpoint = Endpoint {
        api,
        cx,
        permits: Semaphore::new(settings.max_concurrent),
        settings,
    };
    Router::new()
        .route(&route, any(handle::<S>))
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
    async fn answer(&self, body: Body) -> Response<Body> {
        // The semaphore is never closed; if it were, there would be no limit to keep.
        let _permit = self.permits.acquire().await;
        let Ok(body) = to_bytes(body, self.settings.max_body_bytes).await else {
            return plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too large or was cut off",
            );
        };
        match parse(&body) {
            Some(request) => json_response(&self.api.execute(&self.cx, request).await),
            None => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the body must be a JSON object with the text \"query\" and the object \"variables\"",
            ),
        }
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
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::query::service::fake::{FakeStore, context};

    async fn send(
        settings: HttpSettings,
        store: FakeStore,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String, String) {
        let cx = Arc::new(context(store));
        let app = router(Api::build().unwrap(), cx, settings).fallback(fallback);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let content_type = content_type.map_or_else(String::new, |t| t.to_str().unwrap().into());
        (
            status,
            content_type,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn statuses_are_those_of_the_original() {
        let version = r#"{"query":"{ version }"}"#;
        for (method, path, body, status) in [
            ("GET", "/graphql", "", 500),
            ("POST", "/graphql", "not json", 500),
            ("POST", "/graphql", "", 500),
            ("POST", "/graphql", "{}", 500),
            ("POST", "/graphql", "[]", 500),
            ("POST", "/graphql", r#"{"query":null}"#, 500),
            (
                "POST",
                "/graphql",
                r#"{"query":"{version}","variables":[]}"#,
                500,
            ),
            ("POST", "/graphql", version, 200),
            ("POST", "/graphql", r#"{"query":"{ nope }"}"#, 200),
            ("PUT", "/graphql", version, 405),
            ("OPTIONS", "/graphql", "", 200),
            ("POST", "/graphql/", version, 405),
            ("POST", "/nothing", "{}", 405),
            ("GET", "/nothing", "", 404),
        ] {
            let (seen, _, _) = send(
                HttpSettings::default(),
                FakeStore::default(),
                method,
                path,
                body,
            )
            .await;
            assert_eq!(seen, status, "{method} {path} {body}");
        }
    }

    #[tokio::test]
    async fn answers_are_json_with_a_charset() {
        let body = r#"{"query":"{ version }","variables":null}"#;
        let (_, content_type, answer) = send(
            HttpSettings::default(),
            FakeStore::default(),
            "POST",
            "/graphql",
            body,
        )
        .await;
        assert_eq!(content_type, "application/json;charset=utf-8");
        assert_eq!(answer, r#"{"data":{"version":"8.0"}}"#);
    }

    #[tokio::test]
    async fn body_and_time_are_limited() {
        let small = HttpSettings {
            max_body_bytes: 10,
            ..HttpSettings::default()
        };
        let body = r#"{"query":"{ checkHealth { score } }"}"#;
        let (status, ..) = send(small, FakeStore::default(), "POST", "/graphql", body).await;
        assert_eq!(status, 413);

        let short = HttpSettings {
            timeout: Duration::from_millis(20),
            ..HttpSettings::default()
        };
        let stuck = FakeStore {
            is_stuck: true,
            ..FakeStore::default()
        };
        let (status, _, answer) = send(short, stuck, "POST", "/graphql", body).await;
        assert_eq!(status, 200);
        assert_eq!(
            answer,
            r#"{"errors":[{"message":"no answer within 0.02 s"}]}"#
        );
    }

    #[test]
    fn context_and_path_join_with_single_slashes() {
        for (context_path, path, want) in [
            ("/", "/graphql", "/graphql"),
            ("", "graphql", "/graphql"),
            ("/oap/", "/graphql", "/oap/graphql"),
        ] {
            let settings = HttpSettings {
                context_path: context_path.into(),
                path: path.into(),
                ..HttpSettings::default()
            };
            assert_eq!(settings.route(), want);
        }
    }
}
