//! Answers with the metrics over HTTP, at any path as the original does. Serving is the business of whoever opens the ports.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::Registry;

/// Opens the port; 0 takes a free one.
pub async fn bind(host: &str, port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}

/// The metrics, at every path.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(get(metrics)).with_state(registry)
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match registry.text() {
        Ok(text) => {
            let content_type = (
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            );
            ([content_type], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_are_served_at_any_path() {
        let registry = Registry::new("h", 1);
        registry.gauge("uptime", "u").unwrap().set(5.0);
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, router(registry)).into_future());
        for path in ["", "metrics", "any/path"] {
            let answer = reqwest::get(format!("http://{address}/{path}"))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            let content_type = answer.headers()["content-type"].to_str().unwrap();
            assert!(content_type.starts_with("text/plain; version=0.0.4"));
            let text = answer.text().await.unwrap();
            assert!(
                text.contains("uptime{sw_backend_instance=\"h_1\"} 5\n"),
                "{text}"
            );
        }
        server.abort();
    }
}
