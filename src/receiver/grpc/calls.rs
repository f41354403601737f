//! What holds for every call, whatever its service: it ends when the server must end, and calls to what does not exist
//! are counted, and logged once per path.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};

/// Paths remembered as logged. Newer agents know a dozen services that we do not; the rest would be noise of scanners.
const MAX_PATHS: usize = 128;
/// Bytes of a path that are logged.
const MAX_PATH_BYTES: usize = 200;

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
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        () = calls.cut.cancelled() => {
            return Status::unavailable("the server is shutting down").into_http();
        }
    };
    let code = response.headers().get(Status::GRPC_STATUS);
    if code.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::Unimplemented) {
        calls.rejected.with_label_values(&["unimplemented"]).inc();
        let path = cut(uri.path());
        if calls.is_news(path) {
            tracing::warn!(?path, "call of something this server does not have");
        }
    }
    response
}

fn cut(path: &str) -> &str {
    path.split_at(path.floor_char_boundary(MAX_PATH_BYTES)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

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
        assert_eq!(cut(&"é".repeat(MAX_PATH_BYTES)).len(), MAX_PATH_BYTES);
    }
}
