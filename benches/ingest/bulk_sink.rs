//! Answers as an empty Elasticsearch would, and keeps nothing, so that what is left is the memory of the server.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use serde_json::json;
use tokio::net::TcpListener;

/// Its `host:port`. Every bulk request takes `delay`.
pub(crate) async fn start(delay: Duration) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = listener.local_addr()?.to_string();
    let router = Router::new().fallback(answer).with_state(delay);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(own)
}

async fn answer(State(delay): State<Duration>, uri: Uri, body: Bytes) -> String {
    let action = uri.path().rsplit('/').next().unwrap_or_default();
    match action {
        "_bulk" => {
            tokio::time::sleep(delay).await;
            // An action and a document each.
            let documents = body.iter().filter(|byte| **byte == b'\n').count() / 2;
            let items = vec![r#"{"index":{"status":201}}"#; documents];
            format!(r#"{{"errors":false,"items":[{}]}}"#, items.join(","))
        }
        "_mget" => {
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let docs = asked["docs"].as_array().map_or(0, Vec::len);
            json!({"docs": vec![json!({"found": false}); docs]}).to_string()
        }
        "_search" => {
            json!({"hits": {"total": {"value": 0, "relation": "eq"}, "hits": []}}).to_string()
        }
        _ => "{}".to_owned(),
    }
}
