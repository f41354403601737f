//! What holds for every call, whatever its service: it ends when the server must end, and calls to what does not exist
//! are counted, and logged once per path.

use std::collections::HashSet;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::Response;
use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::lines::Line;
use crate::util::text::{SHOWN_BYTES, head};

/// Paths remembered as logged. Newer agents know a dozen services that we do not; the rest would be noise of scanners.
const MAX_PATHS: usize = 128;

/// State of the watch over all calls.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    rejected: IntCounterVec,
    cut: CancellationToken,
    unknown: Arc<Mutex<HashSet<String>>>,
}

impl Calls {
    /// Calls that still run when `cut` is cancelled are ended with UNAVAILABLE.
    pub(super) fn new(rejected: IntCounterVec, cut: CancellationToken) -> Self {
        Self {
            rejected,
            cut,
            unknown: Arc::default(),
        }
    }

    /// `routes`, watched.
    pub(super) fn watch(self, routes: Routes) -> Routes {
        routes
            .into_axum_router()
            .layer(middleware::from_fn_with_state(self, watch_call))
            .into()
    }

    /// Whether `path` is new, and should be logged.
    fn is_news(&self, path: &str) -> bool {
        let mut unknown = self
            .unknown
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        unknown.len() < MAX_PATHS && !unknown.contains(path) && unknown.insert(path.to_owned())
    }
}

async fn watch_call(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let line = request.extensions().get::<Arc<Line>>();
    let call = line.map(|line| line.call(uri.path()));
    let patience = patience(request.headers());
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        () = calls.cut.cancelled() => {
            return Status::unavailable("the server is shutting down").into_http();
        }
        () = elapsed(patience) => {
            return Status::deadline_exceeded("the time that the call gave is over").into_http();
        }
    };
    if let Some(call) = call {
        call.answering().await;
    }
    let code = response.headers().get(Status::GRPC_STATUS);
    if code.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::Unimplemented) {
        calls.rejected.with_label_values(&["unimplemented"]).inc();
        let path = head(uri.path(), SHOWN_BYTES);
        if calls.is_news(path) {
            tracing::warn!(?path, "call of something this server does not have");
        }
    }
    response
}

async fn elapsed(patience: Option<Duration>) {
    match patience {
        Some(patience) => tokio::time::sleep(patience).await,
        None => pending().await,
    }
}

/// What `grpc-timeout` says: at most eight digits and a unit. What cannot be read is no limit.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

    #[test]
    fn the_time_of_a_call_is_what_its_header_says() {
        for (text, want) in [
            ("30S", Some(Duration::from_secs(30))),
            ("29998765u", Some(Duration::from_micros(29_998_765))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("7n", Some(Duration::from_nanos(7))),
            ("100000000m", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1x", None),
        ] {
            let headers = HeaderMap::from_iter([(
                axum::http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            assert_eq!(patience(&headers), want, "{text:?}");
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }

    #[test]
    fn a_path_is_news_once_and_the_memory_is_bounded() {
        let counter = IntCounterVec::new(Opts::new("n", "h"), &["reason"]).unwrap();
        let calls = Calls::new(counter, CancellationToken::new());
        assert!(calls.is_news("/A/b"));
        assert!(!calls.is_news("/A/b"));
        for n in 0..1000 {
            calls.is_news(&format!("/{n}"));
        }
        assert!(!calls.is_news("/C/d"));
        assert_eq!(calls.unknown.lock().unwrap().len(), MAX_PATHS);
    }
}
