//! Serves the metrics over HTTP, at any path as the original does.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Registry;

/// Opens the port; 0 takes a free one.
pub async fn bind(host: &str, port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}

/// Answers until `stop` is cancelled.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new().fallback(get(metrics)).with_state(registry);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
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
    async fn metrics_are_served_at_any_path_until_the_stop() {
        let registry = Registry::new("h", 1);
        registry.gauge("uptime", "u").unwrap().set(5.0);
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, registry, stop.clone()));
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
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
