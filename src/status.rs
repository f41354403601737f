//! What an operator looks at: one page that says how the server is and what holds it up, and whether it is ready.
//!
//! Everything shown is read from the metrics of the server, so that the page and a dashboard never disagree.

mod asked;
mod diagnosis;
mod figures;
mod format;
mod history;
mod page;
mod pulse;
mod readiness;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::storage::{Backend, Store};
use crate::telemetry::Registry;
use crate::util::clock::Clock;
use diagnosis::Situation;
use history::History;
use pulse::Pulse;

/// Between two looks at the figures.
const PERIOD: Duration = Duration::from_secs(5);

/// What does not change while the server runs.
#[derive(Debug, Clone)]
pub struct About {
    /// What the store is called.
    pub store: String,
    /// How nodes find each other.
    pub cluster: String,
    /// Bytes that queues, values and caches may take.
    pub budget: u64,
    pub cores: usize,
    /// What all paths begin with; `/` for nothing.
    pub context_path: String,
}

/// Answers about the state of the server.
#[derive(Debug)]
pub struct Status {
    about: About,
    registry: Registry,
    storage: Arc<Store>,
    history: History,
    pulse: Pulse,
    clock: Clock,
    /// Cancelled when the server leaves.
    stop: CancellationToken,
}

impl Status {
    pub fn new(
        about: About,
        registry: Registry,
        storage: Arc<Store>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Status {
        Status {
            about,
            registry,
            storage,
            history: History::default(),
            pulse: Pulse::default(),
            clock,
            stop,
        }
    }

    /// Looks at the figures again and again until the server leaves: rates need two looks.
    pub async fn watch(self: Arc<Self>) {
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        match self.registry.gather() {
            Ok(families) => self
                .history
                .add(figures::read(&families, self.registry.ledger().accounts())),
            Err(error) => tracing::debug!(%error, "the metrics of the server cannot be read"),
        }
    }

    /// The page, or whether the server is ready or its store answers; `None` if the request asks for none of them. The page is for browsers only: for all
    /// others there is nothing at its path, as in the original.
    pub async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let accepts = |kind: &str| asked::accepts(headers, kind);
        let is_head = *method == Method::HEAD;
        match asked::below(&self.about.context_path, path)? {
            "" if accepts("text/html") => Some(self.page(is_head).await),
            "healthcheck" => Some(self.health(is_head).await),
            "readiness" => Some(self.readiness(accepts("application/json"), is_head).await),
            _ => None,
        }
    }

    /// What is wrong with the store; `None` if it answers.
    async fn store_fault(&self) -> Option<String> {
        let storage = Arc::clone(&self.storage);
        let ping = || async move { storage.ping().await };
        self.pulse.fault(ping).await
    }

    /// Why the server is not ready; empty if it is.
    async fn reasons(&self) -> Vec<String> {
        let store = self.store_fault().await;
        readiness::reasons(self.stop.is_cancelled(), self.storage.is_installed(), store)
    }

    /// 200 if the store answers, else 503 with the reason.
    async fn health(&self, is_head: bool) -> Response<Body> {
        let fault = self.store_fault().await;
        let (status, body) = readiness::health(fault);
        let text = HeaderValue::from_static("text/plain;charset=utf-8");
        respond(status, text, if is_head { String::new() } else { body })
    }

    async fn readiness(&self, as_json: bool, is_head: bool) -> Response<Body> {
        let (status, content_type, body) = readiness::answer(&self.reasons().await, as_json);
        respond(
            status,
            content_type,
            if is_head { String::new() } else { body },
        )
    }

    async fn page(&self, is_head: bool) -> Response<Body> {
        let reasons = self.reasons().await;
        self.look();
        let mut body = String::new();
        if !is_head {
            let recent = self.history.recent();
            let situation = Situation::new(&self.about, &recent, reasons);
            let now_seconds = self.clock.now_ms() as f64 / 1000.0;
            body = page::render(&self.about, &recent, &situation, now_seconds);
        }
        let html = HeaderValue::from_static("text/html;charset=utf-8");
        let mut response = respond(StatusCode::OK, html, body);
        let headers = response.headers_mut();
        for (name, value) in [
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:",
            ),
            (REFERRER_POLICY, "no-referrer"),
            (VARY, "accept"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn respond(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
