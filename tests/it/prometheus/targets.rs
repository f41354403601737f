//! Prometheus targets that a test makes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a target does with a question.
#[derive(Debug, Clone)]
pub enum Answer {
    Page(String),
    Status(u16),
    Never,
}

/// A target on a port of its own until it is dropped.
#[derive(Debug)]
pub struct PageTarget {
    name: String,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

type Script = Arc<dyn Fn(usize) -> Answer + Send + Sync>;

impl PageTarget {
    /// `script` tells what to answer the first time, the second and so on, counted from 0.
    pub async fn start(
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Result<PageTarget> {
        let script: Script = Arc::new(script);
        let asked = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/metrics", get(answer))
            .with_state((script, Arc::clone(&asked)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(PageTarget {
            name: listener.local_addr()?.to_string(),
            asked,
            serving: tokio::spawn(async move {
                axum::serve(listener, router).await.unwrap_or_default();
            }),
        })
    }

    /// `host:port`
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for PageTarget {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State((script, asked)): State<(Script, Arc<AtomicUsize>)>) -> Response {
    match script(asked.fetch_add(1, Ordering::Relaxed)) {
        Answer::Page(page) => page.into_response(),
        Answer::Status(status) => StatusCode::from_u16(status)
            .unwrap_or(StatusCode::IM_A_TEAPOT)
            .into_response(),
        Answer::Never => std::future::pending().await,
    }
}

/// Address of a port that nobody has.
pub async fn absent() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}
