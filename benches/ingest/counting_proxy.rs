//! Between a server and Elasticsearch: counts the requests that read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Target {
    client: reqwest::Client,
    /// `host:port`
    address: String,
    reads: Arc<AtomicUsize>,
}

/// Its own `host:port`, and the counter.
pub(crate) async fn start(address: String) -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let reads = Arc::new(AtomicUsize::new(0));
    let target = Target {
        client: reqwest::Client::builder().no_proxy().no_gzip().build()?,
        address,
        reads: Arc::clone(&reads),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = listener.local_addr()?.to_string();
    let router = Router::new().fallback(pass_on).with_state(target);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((own, reads))
}

async fn pass_on(
    State(target): State<Target>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    if ["_search", "_msearch", "_mget", "_count"]
        .iter()
        .any(|read| path.ends_with(read))
    {
        target.reads.fetch_add(1, Ordering::Relaxed);
    }
    headers.remove(header::HOST);
    let url = format!("http://{}{uri}", target.address);
    let asking = target
        .client
        .request(method, url)
        .headers(headers)
        .body(body);
    let answer = async {
        let answer = asking.send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
    };
    match answer.await {
        Ok(answer) => answer.into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
